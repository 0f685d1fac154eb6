"""What it takes to make a piece of others, in seconds."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from graphopt.algebra.pieces import Piece, Product, Read, Reduced, Total
from graphopt.algebra.polynomial import Index
from graphopt.analysis.costs import Costs
from graphopt.analysis.keeping import price
from graphopt.profile import Profile

LONGEST_DOT, LONGEST_COLUMN = 4096, 2048
"""Elements of the longest running sums, in registers and in memory; longer ones are taken in parts."""


class Prices:
    """Seconds on one machine, for elements of some bytes."""

    def __init__(self, profile: Profile, itemsize: int) -> None:
        self._tables = profile.tables
        self._itemsize = itemsize
        self._known: dict[tuple[object, ...], float] = {}

    def of(self, piece: Piece) -> float:
        """To make a piece when its operands are there; of what calls do not change, to hold it."""
        match piece.how:
            case Read():
                return 0.0
            case _ if piece.fixed:
                return self.held(piece.indices)
            case Product(_, a, b):
                return self.product(a.indices, b.indices, piece.indices)
            case Reduced(_, of):
                rows = piece.elements
                return self._at("reduce", rows, max(of.elements // rows, 1))
            case Total(parts, number):
                return self.total([c for c, _ in parts], number, piece.indices)

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
        if rows == columns == 1 and (batch > 1 or inner > LONGEST_DOT):
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

    def relaid(self, elements: int, span: int) -> float:
        """To lay a result out as a part of larger memory that reaches over `span` elements."""
        return 0.0 if span == elements else self._at("pointwise", 4 * span * self._itemsize)

    def _at(self, table: str, *sizes: float) -> float:
        key = (table, *sizes)
        if key not in self._known:
            self._known[key] = self._tables[table].at(*sizes)
        return self._known[key]


def prices_of(costs: Costs, itemsize: int) -> Prices:
    """The prices of a machine, looked up once."""
    known: Prices = costs.known.setdefault((Prices, itemsize), Prices(costs.profile, itemsize))
    return known


def _size(indices: Iterable[Index]) -> int:
    return math.prod(index.size for index in indices)
