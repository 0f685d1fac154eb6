"""What it takes to make a piece of others, in seconds."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

from graphopt.algebra.choices import ALONG, GATHER, SELECT, Choice
from graphopt.algebra.pieces import Joined, Piece, Product, Read, Reduced, Total
from graphopt.algebra.polynomial import Access, Index
from graphopt.algebra.windows import Schedule, Stage, Sums, is_window, schedule
from graphopt.analysis.contractions import Product as Contraction
from graphopt.analysis.costs import Costs
from graphopt.analysis.keeping import price
from graphopt.analysis.seconds import NARROW, convolution_seconds
from graphopt.profile import Profile

SCATTERED = {GATHER: 2.5, ALONG: 6.5}
"""What gathers element by element, and how many times what a gather of that many elements takes, for the
index is expanded, and what is read lies otherwise."""
Chosen: TypeAlias = tuple[Choice | None, Iterable[Index]]
LONGEST_DOT, LONGEST_COLUMN = 4096, 2048
"""Elements of the longest running sums, in registers and in memory; longer ones are taken in parts. In
registers, as long ones as there were before are taken as well."""


class Prices:
    """Seconds on one machine, for elements of some bytes."""

    def __init__(self, profile: Profile, itemsize: int, longest_dot: int = LONGEST_DOT) -> None:
        """`longest_dot`: elements of the longest running sum."""
        self._longest_dot = longest_dot
        self._tables = profile.tables
        self._itemsize = itemsize
        self._known: dict[tuple[object, ...], float] = {}

    def of(self, piece: Piece) -> float:
        """To make a piece when its operands are there; of what calls do not change, to hold it."""
        match piece.how:
            case Read():
                return 0.0
            case Product(_, a, b) if a.choice is not None or b.choice is not None:
                return self.chosen((a.choice, a.indices), (b.choice, b.indices), piece.indices)
            case _ if any(one.choice is not None for one in piece.operands):
                return math.inf
            case _ if piece.fixed:
                return self.held(piece.indices)
            case Product(_, a, b) if windows := windows_of(a):
                return self.convolution(a.indices, b.indices, piece.indices, windows)
            case Product(_, b, a) if windows := windows_of(a):
                return self.convolution(a.indices, b.indices, piece.indices, windows)
            case Product(_, a, b):
                return self.product(a.indices, b.indices, piece.indices)
            case Reduced(_, Piece(how=Read(factor))) if plan := schedule(factor, {*piece.indices}):
                return self.windows(plan)
            case Reduced(_, of):
                rows = piece.elements
                return self._reduced(rows, max(of.elements // rows, 1))
            case Total(parts, number):
                return self.total([c for c, _ in parts], number, piece.indices)
            case Joined():
                return self._at("copy", 2 * piece.elements * self._itemsize)

    def chosen(self, one: "Chosen", other: "Chosen", out: Iterable[Index]) -> float:
        """To gather elements of one tensor where the other is a choice of them; there is no other use of
        choices. Each is given as what it is a choice of, if it is one, and its indices."""
        (mine, left), (theirs, right) = one, other
        choice, indices, others = (mine, left, right) if mine is not None else (theirs, right, left)
        if choice is None or (mine is not None and theirs is not None):
            return math.inf
        along = {index for index, _ in choice.accesses[-1].steps}
        shared = {*others} & ({*indices} - along)
        if not along <= {*others} - {*out} or (shared and choice.by not in SCATTERED):
            return math.inf
        kept, needed = {*out}, {*indices, *out}
        made = ({*indices} | {*others} & needed) - along
        seconds = (2 + (choice.by != SELECT)) * self._at("view")
        if choice.by in SCATTERED:
            seconds += SCATTERED[choice.by] * self._at("gather", _size(made))
        else:
            seconds += self._at("rows", 2 * _size(made) * self._itemsize)
        if not {*others} <= needed:  # summed before
            seconds += self._reduced(_size({*others} & needed), _size({*others} - needed))
        return seconds + (0.0 if made <= kept else self._reduced(_size(kept), _size(made - kept)))

    def written(self, out: Iterable[Index]) -> float:
        """To write a tensor over some indices, which making it takes at least."""
        return self._at("pointwise", _size(out) * self._itemsize)

    def held(self, out: Iterable[Index]) -> float:
        """To hold a tensor over some indices that calls do not change."""
        return price(_size(out) * self._itemsize, 1)

    def product(self, a: Iterable[Index], b: Iterable[Index], out: Iterable[Index]) -> float:
        """To multiply a tensor over indices a with one over indices b."""
        left, right, kept = frozenset(a), frozenset(b), frozenset(out)
        both, mine, theirs = left & right, left - right, right - left
        batch, inner = _size(both & kept), _size(both - kept)
        rows, columns = _size(mine & kept), _size(theirs & kept)
        alone = (0 if mine <= kept else _size(left)) + (0 if theirs <= kept else _size(right))
        seconds = self._at("pointwise", alone * self._itemsize) if alone else 0.0
        if inner == 1:
            elements = _size(left) + _size(right) + batch * rows * columns
            return seconds + self._at("pointwise", elements * self._itemsize)
        if rows == columns == 1 and (batch > 1 or inner > self._longest_dot):
            multiplied = self._at("pointwise", 3 * batch * inner * self._itemsize)
            return seconds + multiplied + self._reduced(batch, inner)
        views = 2 * self._at("view")
        if min(rows, columns) <= NARROW:  # few rows are multiplied faster than few columns
            rows, columns = sorted((rows, columns))
        if batch == 1:
            return seconds + views + self._at("linear", rows, columns, inner)
        # The way round that is emitted: few columns take several times as long as few rows.
        return seconds + views + self._at("bmm", batch, *sorted((rows, columns)), inner)

    def convolution(
        self, a: Iterable[Index], b: Iterable[Index], out: Iterable[Index], windows: Sequence[Access]
    ) -> float:
        """To multiply elements under windows, over indices a, with a tensor over indices b."""
        left, right, kept = set(a), set(b), set(out)
        pixels, made = _size(left - right), _size((right - left) & kept)
        inner, batch = _size((left & right) - kept), _size(left & right & kept)
        taps = {index for access in windows for index, _ in access.steps} & (right - kept)
        return convolution_seconds(Contraction(batch, pixels, made, inner), _size(taps), self._tables)

    def windows(self, plan: Schedule) -> float:
        """To sum over windows."""
        seconds = 0.0
        if plan.elements > plan.left:
            seconds = self._reduced(plan.left, plan.elements // plan.left)
        return seconds + sum(min(self._by_parts(one), self._by_windows(one)) for one in plan.stages)

    def is_by_parts(self, sums: Sums, rows: int) -> bool:
        """Whether sums over windows are rather put together of parts, than each made on its own."""
        stage = Stage(0, sums, rows)
        return self._by_parts(stage) < self._by_windows(stage)

    def _by_parts(self, stage: Stage) -> float:
        parts = stage.sums.parts()
        if parts is None:
            return math.inf
        every = {part for one in parts for part in one}
        together = {one[:end] for one in parts for end in range(2, len(one) + 1)}
        seconds = sum(self._reduced(stage.rows, part.length) for part in every if part.length > 1)
        seconds += len(together) * self._at("pointwise", 3 * stage.rows * self._itemsize)
        return seconds + self._at("copy", 2 * len(parts) * stage.rows * self._itemsize)

    def _by_windows(self, stage: Stage) -> float:
        sums = stage.sums
        seconds = self._reduced(stage.rows * sums.count, sums.length)
        if sums.start < 0 or sums.highest >= sums.size:
            elements = (sums.highest + 1 - sums.start + sums.size) * stage.rows
            seconds += self._at("pad", elements * self._itemsize)
        return seconds

    def total(self, numbers: Sequence[Fraction], number: Fraction, out: Iterable[Index]) -> float:
        """To add multiples of tensors, and a number."""
        sums = len(numbers) - 1 + bool(number) + any(abs(c) != 1 for c in numbers)
        return sums * self._at("pointwise", 3 * _size(out) * self._itemsize)

    def is_better_spread(
        self,
        lead: Iterable[Index],
        rows: Iterable[Index],
        trail: Iterable[Index],
        inner: Iterable[Index],
        copied: Sequence[Iterable[Index]],
    ) -> bool:
        """Whether a matrix is better multiplied with each of many than with all of them at once, for which
        tensors over some indices have to be copied."""
        batch, m, n, k = map(_size, (lead, rows, trail, inner))
        copies = sum(self._at("transpose", 2 * _size(one) * self._itemsize) for one in copied)
        return self._at("bmm", batch, m, n, k) < self._at("linear", m, batch * n, k) + copies

    def relaid(self, elements: int) -> float:
        """To lay a result out as a part of larger memory."""
        return self._at("pointwise", 2 * elements * self._itemsize)

    def _reduced(self, rows: float, columns: float) -> float:
        return self._tables["reduce"].by_rows(rows, columns)

    def _at(self, table: str, *sizes: float) -> float:
        key = (table, *sizes)
        if key not in self._known:
            self._known[key] = self._tables[table].at(*sizes)
        return self._known[key]


def windows_of(piece: Piece) -> Sequence[Access]:
    """The windows that a piece shows of a leaf, or of the sums of one."""
    match piece.how:
        case Read(factor) if piece.choice is None:
            pairs = zip(factor.accesses, factor.sizes, strict=True)
            return [access for access, size in pairs if is_window(access, size)]
        case Reduced(_, Piece(how=Read(factor))):
            plan = schedule(factor, {*piece.indices})
            return plan.windows if plan is not None else ()
    return ()


def prices_of(costs: Costs, itemsize: int, longest_dot: int = LONGEST_DOT) -> Prices:
    """The prices of a machine, looked up once."""
    place = Prices, itemsize, longest_dot
    known: Prices = costs.known.setdefault(place, Prices(costs.profile, itemsize, longest_dot))
    return known


def _size(indices: Iterable[Index]) -> int:
    found = 1
    for index in indices:
        found *= index.size
    return found
