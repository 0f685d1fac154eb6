"""Sums over windows that overlap: how an access that some of its indices are summed over is done in one
pass over the leaf.

    s[m] = Σ_p x[m + p]       the windows m = 0, 1, 2 of x: [5]
         = core + what is left of it + what is right of it         core = x[2]
"""

import math
from collections.abc import Set
from dataclasses import dataclass

from graphopt.algebra.polynomial import Access, Factor, Index

MOST_WINDOWS = 10
"""That are put together of parts."""


def is_nested(access: Access) -> bool:
    """Whether its indices run through one another's steps: as the dimensions of a reshaped one."""
    least = count = 1
    for place, (index, step) in enumerate(sorted(access.steps, key=lambda pair: pair[1])):
        least = least if place else step
        if step != least * count:
            return False
        count *= index.size
    return True


def is_window(access: Access, size: int) -> bool:
    """Whether elements overlap, or are left out between blocks, or reach out of a dimension of a size."""
    return access.lowest < 0 or access.highest >= size or not is_nested(access)


def is_windowed(factor: Factor) -> bool:
    """Whether any of its accesses is so."""
    return any(map(is_window, factor.accesses, factor.sizes))


@dataclass(frozen=True, slots=True)
class Part:
    """Elements from `first` to `last`, `step` apart."""

    first: int
    last: int
    step: int

    @property
    def length(self) -> int:
        """How many they are."""
        return (self.last - self.first) // self.step + 1


@dataclass(frozen=True, slots=True)
class Sums:
    """Along a dimension of a size: sums over `length` elements that are `apart`, `count` of them, which start
    `step` after one another, the first at `start`; elements outside are 0."""

    size: int
    start: int
    count: int
    step: int
    length: int
    apart: int

    @property
    def highest(self) -> int:
        """The last element of all."""
        return self.start + (self.count - 1) * self.step + (self.length - 1) * self.apart

    def windows(self) -> tuple[Part | None, ...]:
        """The elements of each sum that are there."""
        return tuple(self._inside(self.start + number * self.step) for number in range(self.count))

    def _inside(self, start: int) -> Part | None:
        first = start % self.apart if start < 0 else start
        end = min(start + (self.length - 1) * self.apart, self.size - 1)
        last = first + (end - first) // self.apart * self.apart
        return Part(first, last, self.apart) if last >= first else None

    def parts(self) -> tuple[tuple[Part, ...], ...] | None:
        """The sums that each one is put together of, the first of which many have in common; None where
        that is too much, or one has no elements."""
        windows = self.windows()
        if len(windows) > MOST_WINDOWS:
            return None
        families: dict[int, list[Part]] = {}
        for window in windows:
            if window is None:
                return None
            families.setdefault(window.first % self.apart, []).append(window)
        found = []
        for window in windows:
            assert window is not None
            family = families[window.first % self.apart]
            first, last = max(one.first for one in family), min(one.last for one in family)
            if first > last:
                return None
            parts = [Part(first, last, self.apart)]
            if window.first < first:
                parts.append(Part(window.first, first - self.apart, self.apart))
            if window.last > last:
                parts.append(Part(last + self.apart, window.last, self.apart))
            found.append(tuple(parts))
        return tuple(found)


def sums_of(access: Access, kept: Set[Index], size: int) -> tuple[Sums, Access] | None:
    """What is summed first of an access, over the longest of the indices that are not kept, and the access to
    that; None where there are none, or some run backwards."""
    gone = [(index, step) for index, step in access.steps if index not in kept]
    rest = list(access.steps)
    if not gone or any(step < 0 for _, step in rest):
        return None
    longest = max(gone, key=lambda pair: (pair[0].size, pair))
    rest.remove(longest)
    step = math.gcd(*(by for _, by in rest)) or 1
    count = sum((index.size - 1) * by // step for index, by in rest) + 1
    sums = Sums(size, access.start, count, step, longest[0].size, longest[1])
    return sums, Access(0, tuple((index, by // step) for index, by in rest))


@dataclass(frozen=True, slots=True)
class Stage:
    """Sums along one dimension of a leaf, of which so many rows are left by then."""

    dim: int
    sums: Sums
    rows: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the elements of a leaf are summed: first over the indices that run through it plainly, which leaves
    `left` of so many elements, then stage by stage. What each dimension is accessed by then, None for those
    that indices run through plainly; and the accesses among these that are windows still."""

    elements: int
    left: int
    stages: tuple[Stage, ...]
    after: tuple[Access | None, ...]
    windows: tuple[Access, ...]


def schedule(factor: Factor, kept: Set[Index]) -> Schedule | None:
    """None where it has no windows, or nothing is summed, or one index runs through two dimensions."""
    steps = [index for access in factor.accesses for index, _ in access.steps]
    if not is_windowed(factor) or all(index in kept for index in steps) or len({*steps}) < len(steps):
        return None
    after: list[Access | None] = []
    found: list[tuple[int, Sums]] = []
    windows: list[Access] = []
    left: list[int] = []
    elements = 1
    for dim, (access, size) in enumerate(zip(factor.accesses, factor.sizes, strict=True)):
        sums = sums_of(access, kept, size) if is_window(access, size) else None
        if not is_window(access, size):
            elements *= math.prod(index.size for index, _ in access.steps)
            left.append(math.prod(index.size for index, _ in access.steps if index in kept))
            after.append(None)
        elif sums is None:
            elements *= size
            left.append(size)
            after.append(access)
            windows.append(access)
        else:
            elements *= size
            left.append(size)
            found.append((dim, sums[0]))
            after.append(sums[1])
            windows += [sums[1]] if is_window(sums[1], sums[0].count) else []
    first, stages = math.prod(left), list[Stage]()
    for dim, one in found:
        left[dim] = one.count
        stages.append(Stage(dim, one, math.prod(left) // one.count))
    return Schedule(elements, first, tuple(stages), tuple(after), tuple(windows))
