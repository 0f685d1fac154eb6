"""Positions along a dimension as digits: which parts it must be taken apart into, so that an access is a
slice of each.

    7 + 12 i + j, i < 3, j < 5, of 36   =   36 as 3 × 12, then all of the first, and 7 to 11 of the second
"""

from dataclasses import dataclass

from graphopt.algebra.polynomial import Access, Index


@dataclass(frozen=True, slots=True)
class Digit:
    """Of numbers from 0 to radix − 1: `first` alone, or from there as many as the index runs over."""

    radix: int
    first: int
    index: Index | None = None


def digits(access: Access, size: int) -> list[Digit] | None:
    """The digits of an access to a dimension of a size, the slowest first; None where there are none such."""
    found: list[Digit] = []
    span, start = size, access.start
    for index, step in sorted(access.steps, key=lambda pair: -pair[1]):
        radix, over = divmod(span, step)
        first, start = divmod(start, step)
        if over or first + index.size > radix:
            return None
        found.append(Digit(radix, first, index))
        span = step
    return found if span == 1 else [*found, Digit(span, start)]
