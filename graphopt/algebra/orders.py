"""In which order to multiply: the cheapest evaluation of one product of many tensors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from graphopt.algebra.pieces import Piece, Pieces
from graphopt.algebra.polynomial import Index
from graphopt.algebra.pricing import Prices

MOST_SUBSETS = 4096
"""Partial products that are looked at; beyond, the cheapest next product is taken."""


@dataclass(frozen=True)
class Plan:
    """A piece, and what each of the pieces that it takes costs, by key: what is needed twice is made once."""

    piece: Piece
    costs: Mapping[bytes, float]

    @cached_property
    def seconds(self) -> float:
        """What all takes together."""
        return sum(self.costs.values())

    def with_(self, piece: Piece, cost: float, other: "Plan | None" = None) -> "Plan":
        """The plan that makes one more piece, of those of another plan, too."""
        costs = {**self.costs, **(other.costs if other is not None else {})}
        costs.setdefault(piece.key, cost)
        return Plan(piece, costs)


class Orders:
    """Finds plans; pieces whose keys are in `done` cost nothing."""

    def __init__(self, pieces: Pieces, prices: Prices, done: Mapping[bytes, object]) -> None:
        self._pieces = pieces
        self._prices = prices
        self._done = done

    def start(self, piece: Piece) -> Plan:
        """The plan that makes a piece as it says."""
        return Plan(piece, {one.key: self.cost(one) for one in piece.everything()})

    def cost(self, piece: Piece) -> float:
        """What one piece takes when its operands are there."""
        return 0.0 if piece.key in self._done else self._prices.of(piece)

    def product(self, operands: Sequence[Plan], out: Iterable[Index], by: Fraction) -> Plan:
        """by · Σ Π operands over the indices that are not in `out`."""
        kept = frozenset(out)
        parts = self._connected(operands, kept)
        while len(parts) > 1:  # nothing in common: numbers and vectors first
            parts.sort(key=lambda plan: -plan.piece.elements)
            last, other = parts.pop(), parts.pop()
            parts.append(self._joined(last, other, kept, Fraction(1)))
        (plan,) = parts
        if by == 1 and set(plan.piece.indices) <= kept:
            return plan
        return self._finished(plan, kept, by)

    def _finished(self, plan: Plan, kept: frozenset[Index], by: Fraction) -> Plan:
        piece = self._pieces.reduced(plan.piece, kept, by)
        return plan.with_(piece, self.cost(piece))

    def _connected(self, operands: Sequence[Plan], kept: frozenset[Index]) -> list[Plan]:
        """One plan for each group of operands that have indices in common, directly or not."""
        groups: list[tuple[set[Index], list[Plan]]] = []
        for plan in operands:
            mine = set(plan.piece.indices), [plan]
            apart = []
            for indices, members in groups:
                if indices & mine[0]:
                    mine = indices | mine[0], [*members, *mine[1]]
                else:
                    apart.append((indices, members))
            groups = [*apart, mine]
        return [self._best(members, kept) for _, members in groups]

    def _best(self, operands: Sequence[Plan], kept: frozenset[Index]) -> Plan:
        """The cheapest plan for operands that hang together, by their subsets that do."""
        best: dict[int, Plan] = {1 << i: plan for i, plan in enumerate(operands)}
        by_size: list[list[int]] = [[], [*best]]
        for size in range(2, len(operands) + 1):
            by_size.append([])
            for small in range(1, size // 2 + 1):
                for a in by_size[small]:
                    for b in by_size[size - small]:
                        if a & b or (small * 2 == size and a > b):
                            continue
                        self._try(a, b, operands, kept, best, by_size[size])
            if len(best) > MOST_SUBSETS:
                return self._greedy(operands, kept)
        return best[(1 << len(operands)) - 1]

    def _try(
        self,
        a: int,
        b: int,
        operands: Sequence[Plan],
        kept: frozenset[Index],
        best: dict[int, Plan],
        found: list[int],
    ) -> None:
        left, right = best[a], best[b]
        if not set(left.piece.indices) & set(right.piece.indices):
            return
        both = a | b
        known = best.get(both)
        out = self._needed(operands, both, kept)
        if known is not None:
            least = sum(({**left.costs, **right.costs}).values())
            step = self._prices.product(left.piece.indices, right.piece.indices, known.piece.indices)
            if known.piece.key in self._done or least + (0.0 if known.piece.fixed else step) >= known.seconds:
                return
        plan = self._joined(left, right, out, Fraction(1))
        if known is None or plan.seconds < known.seconds:
            if known is None:
                found.append(both)
            best[both] = plan

    def _needed(self, operands: Sequence[Plan], mask: int, kept: frozenset[Index]) -> frozenset[Index]:
        """The indices that the rest, or the result, needs of a subset."""
        outside = (plan.piece.indices for i, plan in enumerate(operands) if not mask >> i & 1)
        return kept.union(*outside)

    def _joined(self, a: Plan, b: Plan, out: frozenset[Index], by: Fraction) -> Plan:
        piece = self._pieces.product(a.piece, b.piece, out, by)
        return a.with_(piece, self.cost(piece), b)

    def _greedy(self, operands: Sequence[Plan], kept: frozenset[Index]) -> Plan:
        plans = [*operands]
        while len(plans) > 1:
            best: tuple[float, int, int] | None = None
            for i, a in enumerate(plans):
                for j in range(i + 1, len(plans)):
                    b = plans[j]
                    if set(a.piece.indices) & set(b.piece.indices):
                        out = self._needed(plans, 1 << i | 1 << j, kept)
                        seconds = self._prices.product(a.piece.indices, b.piece.indices, out)
                        best = min(best or (seconds, i, j), (seconds, i, j))
            assert best is not None
            _, i, j = best
            out = self._needed(plans, 1 << i | 1 << j, kept)
            joined = self._joined(plans[i], plans[j], out, Fraction(1))
            plans = [plan for n, plan in enumerate(plans) if n not in (i, j)] + [joined]
        return plans[0]
