"""In which order to multiply: the cheapest evaluation of one product of many tensors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from graphopt.algebra.pieces import Piece, Pieces, Read
from graphopt.algebra.polynomial import Index
from graphopt.algebra.pricing import Prices
from graphopt.algebra.trees import Partial, Tree, batch_of, cheapest, pairs
from graphopt.algebra.windows import is_windowed

MOST_TRIES = 20_000
"""Pairs of partial products that are looked at by their sizes; beyond, the cheapest next product is taken."""
MOST_SHARED = 1_500
"""Pairs that are looked at for what is the same."""
MOST_WORK, PIECE = 20_000, 10
"""Prices that are asked for in all, and how many of them a piece that is made counts for; beyond, what was
found is taken, and the cheapest next product."""


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
    """Finds plans; pieces that are made by now cost nothing."""

    def __init__(self, pieces: Pieces, prices: Prices, work: int = MOST_WORK) -> None:
        self._pieces = pieces
        self._prices = prices
        self._left = work
        self._done: set[bytes] = set()  # the keys of what is made
        self._products: set[tuple[bytes, ...]] = set()  # and its factors

    def make(self, piece: Piece) -> None:
        """From now on, a piece is there, and all that it takes."""
        for one in piece.everything():
            self._done.add(one.key)
            self._products.add(one.factors)

    @property
    def is_spent(self) -> bool:
        """Whether no more should be looked at."""
        return self._left <= 0

    @property
    def left(self) -> int:
        """The work that may still be done."""
        return max(self._left, 0)

    def start(self, piece: Piece) -> Plan:
        """The plan that makes a piece as it says."""
        return Plan(piece, {one.key: self.cost(one) for one in piece.everything()})

    def cost(self, piece: Piece) -> float:
        """What one piece takes when its operands are there."""
        return 0.0 if piece.key in self._done else self._prices.of(piece)

    def product(self, operands: Sequence[Plan], out: Iterable[Index], by: Fraction) -> Plan:
        """by · Σ Π operands over the indices that are not in `out`."""
        kept = frozenset(out)
        parts = self._connected(self._shrunk(operands, kept), kept)
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

    def _shrunk(self, operands: Sequence[Plan], kept: frozenset[Index]) -> list[Plan]:
        """With elements of windows that overlap summed before anything else, over what is in no other
        operand: they are the leaf's, many times."""
        found = [*operands]
        for place, plan in enumerate(operands):
            match plan.piece.how:
                case Read(factor) if is_windowed(factor) and plan.piece.choice is None:
                    others = (one.piece.indices for i, one in enumerate(operands) if i != place)
                    needed = kept.union(*others)
                    if not needed.issuperset(plan.piece.indices):
                        found[place] = self._finished(plan, needed, Fraction(1))
        return found

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
        """The cheapest plan that is found for operands that hang together."""
        operands = self._mated(operands, kept)
        if len(operands) == 1:
            return operands[0]
        plan = self._grown(self._tree(operands, kept), operands, kept)[1]
        if len(operands) > 2 and len({one.piece.key for one in operands}) < len(operands):
            shared = self._sharing(operands, kept, plan.seconds)
            if shared is not None and shared.seconds < plan.seconds:
                return shared
        return plan

    def _mated(self, operands: Sequence[Plan], kept: frozenset[Index]) -> list[Plan]:
        """With all but two of those along the same indices multiplied element by element, in pairs: what is
        multiplied with itself is made once."""
        groups: dict[frozenset[Index], list[Plan]] = {}
        for plan in operands:
            groups.setdefault(frozenset(plan.piece.indices), []).append(plan)
        for indices, members in groups.items():
            members.sort(key=lambda plan: plan.piece.key)
            while len(members) > 2:
                members.append(self._joined(members.pop(0), members.pop(0), indices, Fraction(1)))
        return [plan for members in groups.values() for plan in members]

    def _tree(self, operands: Sequence[Plan], kept: frozenset[Index]) -> Tree:
        """The cheapest order by sizes alone: of all subsets that hang together, or of the next product."""
        sets = [frozenset(plan.piece.indices) for plan in operands]
        changing = sum(1 << i for i, plan in enumerate(operands) if not plan.piece.fixed)
        choices = {
            1 << i: found for i, plan in enumerate(operands) if (found := plan.piece.choice) is not None
        }
        done: dict[int, bool] = {}

        def step(a: Partial, b: Partial, out: frozenset[Index]) -> float:
            self._left -= 1
            mask = a.mask | b.mask
            if mask not in done:
                done[mask] = self._is_done((a.tree, b.tree), mask, operands, kept)
            if done[mask]:
                return 0.0
            if a.mask in choices or b.mask in choices:
                one, other = (choices.get(a.mask), a.indices), (choices.get(b.mask), b.indices)
                return self._prices.chosen(one, other, out)
            return (
                self._prices.product(a.indices, b.indices, out) if mask & changing else self._prices.held(out)
            )

        cheap = None if self.is_spent else cheapest(sets, kept, step, MOST_TRIES)
        return self._greedy(sets, kept) if cheap is None else cheap.tree

    def _is_done(self, tree: Tree, mask: int, operands: Sequence[Plan], kept: frozenset[Index]) -> bool:
        """Whether the product of a subset is made by now."""
        factors = (key for i, one in enumerate(operands) if mask >> i & 1 for key in one.piece.factors)
        if not self._products or tuple(sorted(factors)) not in self._products:
            return False
        self._left -= PIECE
        return self._grown(tree, operands, kept)[1].piece.key in self._done

    def _greedy(self, sets: Sequence[frozenset[Index]], kept: frozenset[Index]) -> Tree:
        parts: list[tuple[Tree, frozenset[Index]]] = [*enumerate(sets)]
        while len(parts) > 1:
            found: list[tuple[float, int, int, frozenset[Index]]] = []
            for i, (_, mine) in enumerate(parts):
                for j in range(i + 1, len(parts)):
                    theirs = parts[j][1]
                    if mine & theirs:
                        outside = (s for n, (_, s) in enumerate(parts) if n not in (i, j))
                        out = (mine | theirs) & kept.union(*outside)
                        found.append((self._prices.product(mine, theirs, out), i, j, out))
            _, i, j, out = min(found, key=lambda one: one[:3])
            joined = (parts[i][0], parts[j][0]), out
            parts = [part for n, part in enumerate(parts) if n not in (i, j)] + [joined]
        return parts[0][0]

    def _grown(self, tree: Tree, operands: Sequence[Plan], kept: frozenset[Index]) -> tuple[int, Plan]:
        """The plan of a tree, and which operands are in it."""
        if isinstance(tree, int):
            return 1 << tree, operands[tree]
        (a, left), (b, right) = (self._grown(part, operands, kept) for part in tree)
        out = self._needed(operands, a | b, kept)
        return a | b, self._joined(left, right, out, Fraction(1))

    def _sharing(self, operands: Sequence[Plan], kept: frozenset[Index], most: float) -> Plan | None:
        """The cheapest plan where what is the same is made once; None where none takes less than `most`
        seconds, or there is too much to look at."""
        best: dict[int, Plan] = {1 << i: plan for i, plan in enumerate(operands)}
        apart = batch_of([frozenset(plan.piece.indices) for plan in operands])
        by_size: list[list[int]] = [[], [*best]]
        tries = 0
        for size in range(2, len(operands) + 1):
            by_size.append([])
            for a, b in pairs(by_size, size):
                if apart.issuperset({*best[a].piece.indices} & {*best[b].piece.indices}):
                    continue
                tries += 1
                if tries > MOST_SHARED or self.is_spent:
                    return None
                self._left -= 1
                self._try(a, b, operands, kept, best, by_size[size], most)
        return best.get((1 << len(operands)) - 1)

    def _try(
        self,
        a: int,
        b: int,
        operands: Sequence[Plan],
        kept: frozenset[Index],
        best: dict[int, Plan],
        found: list[int],
        most: float,
    ) -> None:
        left, right = best[a], best[b]
        both = a | b
        known = best.get(both)
        least = sum(({**left.costs, **right.costs}).values())
        if least >= most:
            return
        out = self._needed(operands, both, kept)
        if known is not None:
            step = self._prices.product(left.piece.indices, right.piece.indices, known.piece.indices)
            if known.piece.key in self._done or least + (0.0 if known.piece.fixed else step) >= known.seconds:
                return
        self._left -= PIECE
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
