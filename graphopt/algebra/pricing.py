"""What it takes to make a piece of others, in seconds."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

from graphopt.algebra.choices import Choice
from graphopt.algebra.pieces import Piece, Product, Read, Reduced, Total
from graphopt.algebra.polynomial import Index
from graphopt.analysis.keeping import price
from graphopt.profile import Profile

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
            case Product(_, a, b):
                return self.product(a.indices, b.indices, piece.indices)
            case Reduced(_, of):
                rows = piece.elements
                return self._at("reduce", rows, max(of.elements // rows, 1))
            case Total(parts, number):
                return self.total([c for c, _ in parts], number, piece.indices)

    def chosen(self, one: "Chosen", other: "Chosen", out: Iterable[Index]) -> float:
        """To gather elements of one tensor where the other is a choice of them; there is no other use of
        choices. Each is given as what it is a choice of, if it is one, and its indices."""
        (mine, left), (theirs, right) = one, other
        choice, indices, others = (mine, left, right) if mine is not None else (theirs, right, left)
        if choice is None or (mine is not None and theirs is not None):
            return math.inf
        along = {index for index, _ in choice.accesses[-1].steps}
        if not along <= {*others} - {*out} or {*others} & ({*indices} - along):
            return math.inf
        kept, needed = {*out}, {*indices, *out}
        made = ({*indices} | {*others} & needed) - along
        seconds = (2 + choice.wraps) * self._at("view") + self._at("rows", 2 * _size(made) * self._itemsize)
        if not {*others} <= needed:  # summed before
            seconds += self._at("reduce", _size({*others} & needed), _size({*others} - needed))
        return seconds + (0.0 if made <= kept else self._at("reduce", _size(kept), _size(made - kept)))

    def held(self, out: Iterable[Index]) -> float:
        """To hold a tensor over some indices that calls do not change."""
        return price(_size(out) * self._itemsize, 1)

    def product(self, a: Iterable[Index], b: Iterable[Index], out: Iterable[Index]) -> float:
        """To multiply a tensor over indices a with one over indices b."""
        left, right, kept = set(a), set(b), set(out)
        batch = _size(left & right & kept)
        rows, columns = _size((left - right) & kept), _size((right - left) & kept)
        inner = _size((left & right) - kept)
        alone = sum(_size(one) for one, other in ((left, right), (right, left)) if (one - other) - kept)
        seconds = self._at("pointwise", alone * self._itemsize) if alone else 0.0
        if inner == 1:
            elements = _size(left) + _size(right) + batch * rows * columns
            return seconds + self._at("pointwise", elements * self._itemsize)
        if rows == columns == 1 and (batch > 1 or inner > self._longest_dot):
            multiplied = self._at("pointwise", 3 * batch * inner * self._itemsize)
            return seconds + multiplied + self._at("reduce", batch, inner)
        views = 2 * self._at("view")
        if batch == 1:
            return seconds + views + self._at("linear", rows, columns, inner)
        return seconds + views + self._at("bmm", batch, rows, columns, inner)

    def total(self, numbers: Sequence[Fraction], number: Fraction, out: Iterable[Index]) -> float:
        """To add multiples of tensors, and a number."""
        sums = len(numbers) - 1 + bool(number) + any(abs(c) != 1 for c in numbers)
        return sums * self._at("pointwise", 3 * _size(out) * self._itemsize)

    def relaid(self, elements: int) -> float:
        """To lay a result out as a part of larger memory."""
        return self._at("pointwise", 2 * elements * self._itemsize)

    def _at(self, table: str, *sizes: float) -> float:
        key = (table, *sizes)
        if key not in self._known:
            self._known[key] = self._tables[table].at(*sizes)
        return self._known[key]


def _size(indices: Iterable[Index]) -> int:
    return math.prod(index.size for index in indices)
