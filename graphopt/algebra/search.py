"""The cheapest evaluation of a polynomial that was found: each term on its own, or with what terms have in
common taken out, and out of what is left again."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from graphopt.algebra.cutting import cut_of
from graphopt.algebra.orders import MOST_WORK, Orders, Plan
from graphopt.algebra.pieces import Piece, Pieces
from graphopt.algebra.polynomial import Index, Polynomial, Term, along, new_index
from graphopt.algebra.pricing import Prices

WIDEST = 8  # how many things are tried to be taken out, each time
STATES = 3  # from how many of the results it goes on
MOST_CANDIDATES = 250  # how many are looked at in all


@dataclass(frozen=True)
class Summand:
    """coefficient · Σ Π of what some plans make."""

    coefficient: Fraction
    plans: tuple[Plan, ...]

    @property
    def indices(self) -> frozenset[Index]:
        """The indices that it depends on."""
        return frozenset(index for plan in self.plans for index in plan.piece.indices)


@dataclass(frozen=True)
class _Sum:
    """Σ number · what a plan makes, and a number."""

    parts: tuple[tuple[Fraction, Plan], ...]
    constant: Fraction
    pieces: Pieces
    orders: Orders
    prices: Prices

    @property
    def _is_one(self) -> bool:
        return len(self.parts) == 1 and not self.constant and self.parts[0][0] == 1

    @cached_property
    def _costs(self) -> dict[bytes, float]:
        return {key: cost for _, plan in self.parts for key, cost in plan.costs.items()}

    @cached_property
    def seconds(self) -> float:
        """What it takes."""
        seconds = sum(self._costs.values())
        if self._is_one:
            return seconds
        indices = frozenset(index for _, plan in self.parts for index in plan.piece.indices)
        return seconds + self.prices.total([c for c, _ in self.parts], self.constant, indices)

    def plan(self) -> Plan:
        """The plan that makes it."""
        if self._is_one:
            return self.parts[0][1]
        piece = self.pieces.total([(c, plan.piece) for c, plan in self.parts], self.constant)
        costs = {**self._costs}
        costs.setdefault(piece.key, self.orders.cost(piece))
        return Plan(piece, costs)


class Search:
    """Looks for plans, for one polynomial after the other; what one makes the next ones have."""

    def __init__(self, pieces: Pieces, prices: Prices, work: int = MOST_WORK) -> None:
        """`work`: prices that may be asked for; then the best that was found is taken."""
        self._pieces = pieces
        self._prices = prices
        self._orders = Orders(pieces, prices, work)
        self._products: dict[object, Plan] = {}
        self._left = 0

    @property
    def left(self) -> int:
        """The work that may still be done."""
        return self._orders.left

    def plan(self, p: Polynomial, most: float = math.inf) -> Plan:
        """The best plan found, of those that take less than `most` seconds; or another one. What it makes is
        `done` from now on."""
        self._products.clear()
        self._left = MOST_CANDIDATES
        found = self._planned(p, most)
        self._orders.make(found.piece)
        return found

    def _planned(self, p: Polynomial, most: float) -> Plan:
        """A plan for a polynomial, or for each of its blocks, which are joined then."""
        cut = cut_of(p)
        if cut is None:
            return self._evaluated([self._summand(term, p) for term in p.terms], frozenset(p.free), most)
        blocks = [*cut.blocks(p)]
        plans = [self._planned(block, most) for block in blocks]
        dims = (block.dims for block in blocks)
        pieces = [plan.piece for plan in plans]
        whole = self._pieces.joined(cut.index, p.free, [*zip(pieces, dims, strict=True)])
        costs = {key: cost for plan in plans for key, cost in plan.costs.items()}
        costs.setdefault(whole.key, self._orders.cost(whole))
        return Plan(whole, costs)

    def _summand(self, term: Term, p: Polynomial) -> Summand:
        """A term whose bound indices are in no other: a tensor that is taken out of several has one name for
        each of its indices then, and must not meet another index of that name."""
        own = term.with_({i: along(new_index(i.size)) for i in sorted(p.bound(term))})
        plans = (self._orders.start(self._pieces.read(factor)) for factor in own.factors)
        return Summand(term.coefficient, tuple(plans))

    def _evaluated(self, summands: Sequence[Summand], free: frozenset[Index], most: float) -> Plan:
        """A plan for the sum of some summands, along `free` indices or some of them. What is taken out of
        takes its time whatever else is, so only what takes less than the best of all, and than `most`."""
        best = self._apart(summands, free)
        states: list[list[Summand]] = [[*summands]]
        while states and self._left > 0:
            found = []
            for state in states:
                for after in self._gathered(state, free, min(most, best.seconds)):
                    found.append((self._apart(after, free), after))
            found.sort(key=lambda one: one[0].seconds)
            # One thing taken out may gain nothing before another is.
            states = [after for _, after in found[:STATES]]
            if found and found[0][0].seconds < best.seconds:
                best = found[0][0]
        return best.plan()

    def _apart(self, summands: Sequence[Summand], free: frozenset[Index]) -> "_Sum":
        """Each summand on its own; equal ones are made once, and cancel where they do."""
        parts: dict[object, tuple[Fraction, Plan]] = {}
        constant = Fraction(0)
        for summand in summands:
            if not summand.plans:
                constant += summand.coefficient
                continue
            plan = self._product(summand.plans, free & summand.indices)
            place = plan.piece.key, plan.piece.indices
            before = parts.get(place, (Fraction(0), plan))[0]
            parts[place] = before + summand.coefficient, plan
        kept = tuple((c, plan) for c, plan in parts.values() if c)
        return _Sum(kept, constant, self._pieces, self._orders, self._prices)

    def _product(self, plans: tuple[Plan, ...], kept: frozenset[Index]) -> Plan:
        place = tuple((plan.piece.key, plan.piece.indices) for plan in plans), kept
        if place not in self._products:
            self._products[place] = self._orders.product(plans, kept, Fraction(1))
        return self._products[place]

    def _gathered(
        self, summands: Sequence[Summand], free: frozenset[Index], most: float
    ) -> Iterator[list[Summand]]:
        """The summands with a tensor taken out of several: a · b + a · c = a · (b + c); where making b + c
        takes less than `most` seconds."""
        groups: dict[object, dict[int, int]] = {}
        for number, summand in enumerate(summands):
            for place, plan in enumerate(summand.plans):
                groups.setdefault(_role(plan.piece, free), {}).setdefault(number, place)
        shared = [members for members in groups.values() if len(members) > 1]
        shared.sort(key=lambda members: -len(members))
        for members in shared[:WIDEST]:
            if self._left <= 0 or self._orders.is_spent:
                return
            self._left -= 1
            after = self._taken_out(summands, members, free, most)
            if after is not None and _taken(after) < most:
                yield after

    def _taken_out(
        self, summands: Sequence[Summand], members: Mapping[int, int], free: frozenset[Index], most: float
    ) -> list[Summand] | None:
        """The summands with one in the place of several, from which a tensor was taken out. `members`: where
        it stands in which. None where what is left is too large to be made in less than `most` seconds."""
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
            outside = free.union(common.piece.indices)
            if self._least(rest, outside) >= most:
                return None
            inner = self._evaluated(rest, outside, most)
            taken = Summand(Fraction(1), (common, inner))
        left = [summand for number, summand in enumerate(summands) if number not in members]
        return [taken, *left]

    def _least(self, summands: Sequence[Summand], free: frozenset[Index]) -> float:
        """What making the sum of some summands takes at least, however it is made, in seconds."""
        indices = free & frozenset[Index]().union(*(summand.indices for summand in summands))
        fixed = all(plan.piece.fixed for summand in summands for plan in summand.plans)
        return self._prices.held(indices) if fixed else self._prices.written(indices)


def _taken(summands: Iterable[Summand]) -> float:
    """What making all that is multiplied takes, in seconds."""
    every = (plan.costs for summand in summands for plan in summand.plans)
    return sum({key: cost for costs in every for key, cost in costs.items()}.values())


def _role(piece: Piece, free: Iterable[Index]) -> object:
    """Equal for pieces that are the same tensor along the same free indices, and bound ones elsewhere."""
    outside = set(free)
    return piece.key, tuple(index if index in outside else None for index in piece.indices)


def _renamed(plan: Plan, names: Mapping[Index, Index]) -> Plan:
    if all(old == new for old, new in names.items()):
        return plan
    return Plan(plan.piece.renamed(names), plan.costs)
