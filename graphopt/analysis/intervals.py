"""Closed intervals of numbers, in the order where −0.0 is below 0.0, and their arithmetic."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import TypeAlias

import torch

from graphopt.ir.laws import kind_of

Number: TypeAlias = "int | float | Fraction"


def ordered(number: Number) -> tuple[Number, int]:
    """A key by which −0.0 is below 0.0."""
    return number, -1 if number == 0 and math.copysign(1.0, number) < 0 else 1


@dataclass(frozen=True, slots=True)
class Range:
    """What each element of a tensor lies between, both included, and whether it may be NaN instead."""

    low: Number
    high: Number
    nan: bool = False

    @property
    def is_finite(self) -> bool:
        """Whether no element is infinite or NaN."""
        return not self.nan and self.low != -math.inf and self.high != math.inf

    @property
    def may_be_infinite(self) -> bool:
        """Whether an element may be infinite."""
        return self.low == -math.inf or self.high == math.inf

    @property
    def may_be_zero(self) -> bool:
        """Whether an element may be a zero of either sign."""
        return self.low <= 0 <= self.high

    @property
    def is_positive(self) -> bool:
        """Whether no number's sign bit is set: neither a negative number's nor −0.0's."""
        return ordered(self.low) >= ordered(0.0)

    def with_nan(self, nan: bool) -> "Range":
        """The same numbers, or NaN."""
        return Range(self.low, self.high, self.nan or nan)


ANY = Range(-math.inf, math.inf, True)


def any_of(dtype: torch.dtype) -> Range | None:
    """What elements of a real dtype lie between; None for others."""
    match kind_of(dtype):
        case "f":
            return ANY
        case "i":
            return Range(torch.iinfo(dtype).min, torch.iinfo(dtype).max)
        case "b":
            return Range(0, 1)
    return None


def rounded(one: Range, dtype: torch.dtype) -> Range:
    """The numbers of a dtype that a range's are rounded to, once or over wider types: outward to the next
    number, past the largest to infinity; below the smallest normal one, which may be flushed, to zero.
    Integers that leave their range wrap around, to anything."""
    every = any_of(dtype)
    assert every is not None
    if kind_of(dtype) == "f":
        return Range(_down(one.low, dtype), -_down(_minus(one.high), dtype), one.nan)
    if one.nan or one.low < every.low or one.high > every.high:
        return every
    return Range(math.floor(one.low), math.ceil(one.high))


def _down(number: Number, dtype: torch.dtype) -> float:
    """The next number of a floating dtype that is not above."""
    if number in (0, math.inf, -math.inf):
        return float(number)
    limits = torch.finfo(dtype)
    size = _size(number)
    if size > limits.max:
        return limits.max if number > 0 else -math.inf
    if size < limits.smallest_normal:
        return 0.0 if number > 0 else -limits.smallest_normal
    exact = Fraction(number)
    power = math.frexp(_magnitude(exact))[1]  # numbers between two powers of two are equally far apart
    step = Fraction(limits.eps) * Fraction(2) ** (power - 1)
    return float(math.floor(exact / step) * step)


def _magnitude(exact: Fraction) -> float:
    """A number between the same two powers of two."""
    near = abs(float(exact))
    return math.nextafter(near, 0.0) if Fraction(near) > abs(exact) else near


def union(ranges: Iterable[Range]) -> Range:
    """What lies in one of several."""
    found = list(ranges)
    low = min((one.low for one in found), key=ordered)
    return Range(low, max((one.high for one in found), key=ordered), any(one.nan for one in found))


def negated(one: Range) -> Range:
    """−x."""
    return Range(_minus(one.high), _minus(one.low), one.nan)


def added(a: Range, b: Range) -> Range:
    """a + b. A sum of zeros is −0.0 only where both are."""
    opposite = (-math.inf, math.inf) in ((a.low, b.high), (b.low, a.high))
    low, high = _plus(a.low, b.low, -math.inf), _plus(a.high, b.high, math.inf)
    return Range(low, high, a.nan or b.nan or opposite)


def multiplied(a: Range, b: Range) -> Range:
    """a · b."""
    nan = (a.may_be_zero and b.may_be_infinite) or (b.may_be_zero and a.may_be_infinite)
    return _over_corners(a, b, _times, a.nan or b.nan or nan)


def divided(a: Range, b: Range) -> Range:
    """a / b."""
    if b.may_be_zero:
        return ANY
    both = a.may_be_infinite and b.may_be_infinite
    return _over_corners(a, b, _over, a.nan or b.nan or both)


def larger(a: Range, b: Range) -> Range:
    """The larger of two; of two zeros either."""
    low = max(a.low, b.low)
    if low == 0 and not (a.is_positive and b.is_positive):
        low = -0.0
    return Range(low, max(a.high, b.high, key=ordered), a.nan or b.nan)


def smaller(a: Range, b: Range) -> Range:
    """The smaller of two; of two zeros either."""
    high = min(a.high, b.high)
    return Range(min(a.low, b.low, key=ordered), high if high else 0.0, a.nan or b.nan)


def absolute(one: Range) -> Range:
    """|x|."""
    if one.is_positive:
        return one
    low, high = _size(one.low), _size(one.high)
    return Range(0.0 if one.may_be_zero else min(low, high), max(low, high), one.nan)


def squared(one: Range) -> Range:
    """x · x, both the same."""
    size = absolute(one)
    return Range(_times(size.low, size.low), _times(size.high, size.high), one.nan)


def _size(number: Number) -> Number:
    return -number if number < 0 else number or 0.0


def _minus(number: Number) -> Number:
    return -(number or float(number))  # of an integer 0, too, −0.0


def _plus(a: Number, b: Number, outermost: float) -> Number:
    for end in (outermost, -outermost):  # ∞ − ∞ is NaN, next to which other sums are that infinite
        if end in (a, b):
            return end
    return float(a) + float(b) if a == b == 0 else Fraction(a) + Fraction(b)


def _times(a: Number, b: Number) -> Number:
    if not a or not b:
        return math.copysign(0.0, _sign(a) * _sign(b))
    if abs(a) == math.inf or abs(b) == math.inf:
        return math.inf if (a > 0) == (b > 0) else -math.inf
    return Fraction(a) * Fraction(b)


def _over(a: Number, b: Number) -> Number:
    if not a or abs(b) == math.inf:
        return math.copysign(0.0, _sign(a) * _sign(b))
    if abs(a) == math.inf:
        return math.inf if (a > 0) == (b > 0) else -math.inf
    return Fraction(a) / Fraction(b)


def _sign(number: Number) -> int:
    return ordered(number)[1] if not number else 1 if number > 0 else -1


def _over_corners(a: Range, b: Range, f: Callable[[Number, Number], Number], nan: bool) -> Range:
    corners = [f(x, y) for x, y in product((a.low, a.high), (b.low, b.high))]
    return Range(min(corners, key=ordered), max(corners, key=ordered), nan)
