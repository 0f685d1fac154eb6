"""The cheapest evaluation of a polynomial that was found: each term on its own, or with what terms have in
common taken out, and out of what is left again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from graphopt.algebra.orders import Orders, Plan
from graphopt.algebra.pieces import Piece, Pieces
from graphopt.algebra.polynomial import Index, Polynomial
from graphopt.algebra.pricing import Prices

DEEPEST = 4  # how often something is taken out of a polynomial, one after the other
WIDEST = 8  # how many things are tried each time
MOST = 40  # how many sums are looked at for one polynomial


@dataclass(frozen=True)
class Summand:
    """coefficient · Σ Π of what some plans make."""

    coefficient: Fraction
    plans: tuple[Plan, ...]

    @property
    def indices(self) -> frozenset[Index]:
        """The indices that it depends on."""
        return frozenset(index for plan in self.plans for index in plan.piece.indices)


class Search:
    """Looks for plans, for one polynomial after the other; what one makes the next ones have."""

    def __init__(self, pieces: Pieces, prices: Prices) -> None:
        self.done: dict[bytes, Piece] = {}
        """Pieces that are made by now, by key."""
        self._pieces = pieces
        self._orders = Orders(pieces, prices, self.done)
        self._left = 0

    def plan(self, p: Polynomial) -> Plan:
        """The best plan found; what it makes is `done` from now on."""
        read: dict[object, Plan] = {}
        summands = []
        for term in p.terms:
            plans = []
            for factor in term.factors:
                if factor not in read:
                    read[factor] = self._orders.start(self._pieces.read(factor))
                plans.append(read[factor])
            summands.append(Summand(term.coefficient, tuple(plans)))
        self._left = MOST
        found = self._evaluated(summands, frozenset(p.free), DEEPEST)
        self.done.update((piece.key, piece) for piece in found.piece.everything())
        return found

    def _evaluated(self, summands: Sequence[Summand], free: frozenset[Index], depth: int) -> Plan:
        """A plan for the sum of some summands, along `free` indices or some of them."""
        self._left -= 1
        best = self._apart(summands, free)
        if depth and len(summands) > 1 and self._left > 0:
            for candidate in self._gathered(summands, free, depth):
                if candidate.seconds < best.seconds:
                    best = candidate
        return best

    def _apart(self, summands: Sequence[Summand], free: frozenset[Index]) -> Plan:
        """Each summand on its own; equal ones are made once, and cancel where they do."""
        parts: dict[bytes, tuple[Fraction, Plan]] = {}
        constant = Fraction(0)
        for summand in summands:
            if not summand.plans:
                constant += summand.coefficient
                continue
            plan = self._orders.product(summand.plans, free & summand.indices, Fraction(1))
            place = plan.piece.key + repr([i.number for i in plan.piece.indices]).encode()
            before = parts.get(place, (Fraction(0), plan))[0]
            parts[place] = before + summand.coefficient, plan
        kept = [(c, plan) for c, plan in parts.values() if c]
        if len(kept) == 1 and not constant and kept[0][0] == 1:
            return kept[0][1]
        piece = self._pieces.total([(c, plan.piece) for c, plan in kept], constant)
        costs: dict[bytes, float] = {}
        for _, plan in kept:
            costs.update(plan.costs)
        costs.setdefault(piece.key, self._orders.cost(piece))
        return Plan(piece, costs)

    def _gathered(self, summands: Sequence[Summand], free: frozenset[Index], depth: int) -> Iterator[Plan]:
        """Plans with a tensor taken out of several summands: a · b + a · c = a · (b + c)."""
        groups: dict[object, dict[int, int]] = {}
        for number, summand in enumerate(summands):
            for place, plan in enumerate(summand.plans):
                groups.setdefault(_role(plan.piece, free), {}).setdefault(number, place)
        shared = [members for members in groups.values() if len(members) > 1]
        shared.sort(key=lambda members: -len(members))
        for members in shared[:WIDEST]:
            if self._left <= 0:
                return
            yield self._evaluated(self._taken_out(summands, members, free, depth), free, depth - 1)

    def _taken_out(
        self, summands: Sequence[Summand], members: Mapping[int, int], free: frozenset[Index], depth: int
    ) -> list[Summand]:
        """The summands with one in the place of several, from which a tensor was taken out. `members`: where
        it stands in which."""
        first = next(iter(members))
        common = summands[first].plans[members[first]]
        rest = []
        for number, place in members.items():
            summand = summands[number]
            names = dict(zip(summand.plans[place].piece.indices, common.piece.indices, strict=True))
            others = [plan for i, plan in enumerate(summand.plans) if i != place]
            rest.append(Summand(summand.coefficient, tuple(_renamed(plan, names) for plan in others)))
        if not any(summand.plans for summand in rest):
            taken = Summand(sum((one.coefficient for one in rest), Fraction(0)), (common,))
        else:
            inner = self._evaluated(rest, free | frozenset(common.piece.indices), depth - 1)
            taken = Summand(Fraction(1), (common, inner))
        left = [summand for number, summand in enumerate(summands) if number not in members]
        return [taken, *left]


def _role(piece: Piece, free: Iterable[Index]) -> object:
    """Equal for pieces that are the same tensor along the same free indices, and bound ones elsewhere."""
    outside = set(free)
    return piece.key, tuple(index if index in outside else None for index in piece.indices)


def _renamed(plan: Plan, names: Mapping[Index, Index]) -> Plan:
    if all(old == new for old, new in names.items()):
        return plan
    return Plan(plan.piece.renamed(names), plan.costs)
