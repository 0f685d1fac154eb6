"""Products under windows that are convolutions."""

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.algebra.polynomial import Access, Factor, Index
from graphopt.algebra.showing import Make, sliced, zeros_around
from graphopt.algebra.windows import is_nested, is_window
from graphopt.ir.graph import Value

MOST_SPATIAL = 3


@dataclass(frozen=True, slots=True)
class Spatial:
    """One dimension that a kernel moves along: element `start` + `stride` · position + `apart` · tap. `pad`
    zeros are added on both sides by the convolution itself, `before` and `after` apart from it."""

    position: Index
    tap: Index | None
    stride: int
    apart: int
    first: int
    end: int
    pad: int
    before: int = 0
    after: int = 0

    def shown(self, make: Make, value: Value, dim: int) -> Value:
        """What of a dimension the convolution gets."""
        value = sliced(make, value, dim, self.first, self.end, 1)
        return zeros_around(make, value, dim, self.before, self.after)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A convolution of a leaf: each of its dimensions in order, as it is or moved along; the indices of its
    batch, of groups, of channels that are summed over and of those that are made."""

    leaf: Value
    dims: tuple[tuple[Access, Spatial | None], ...]
    batch: tuple[Index, ...]
    groups: tuple[Index, ...]
    channels: tuple[Index, ...]
    made: tuple[Index, ...]

    @property
    def spatial(self) -> tuple[Spatial, ...]:
        """The dimensions that the kernel moves along."""
        return tuple(one for _, one in self.dims if one is not None)


def kernel_of(factor: Factor, weight: Sequence[Index], out: Sequence[Index]) -> Kernel | None:
    """The convolution that a product of a leaf's elements with a weight is; None where it is none."""
    kept, theirs = set(out), set(weight)
    dims: list[tuple[Access, Spatial | None]] = []
    batch, groups, channels = list[Index](), list[Index](), list[Index]()
    for access, size in zip(factor.accesses, factor.sizes, strict=True):
        mine = [index for index, _ in access.steps]
        is_moved = bool(channels) and len(mine) == 1 and mine[0] in kept and mine[0] not in theirs
        if is_window(access, size) or is_moved:
            spatial = _spatial(access, size, kept - theirs, theirs - kept)
            if spatial is None:
                return None
            dims.append((access, spatial))
            continue
        if not is_nested(access) or any(index not in kept | theirs for index in mine):
            return None
        dims.append((access, None))
        for index in mine:
            place = batch if index not in theirs else groups if index in kept else channels
            place.append(index)
    everything = [*batch, *groups, *channels]
    moved = [one for _, one in dims if one is not None]
    taps = {index for one in moved for index in (one.position, one.tap) if index is not None}
    if len({*everything}) < len(everything) or taps & {*everything} or not 0 < len(moved) <= MOST_SPATIAL:
        return None
    if len(taps) < sum(1 + (one.tap is not None) for one in moved):
        return None
    made = tuple(index for index in weight if index in kept and index not in groups)
    summed = theirs - kept
    if summed != {*channels} | {one.tap for one in moved if one.tap is not None}:
        return None
    return Kernel(factor.leaf, tuple(dims), tuple(batch), tuple(groups), tuple(channels), made)


def _spatial(access: Access, size: int, positions: set[Index], taps: set[Index]) -> Spatial | None:
    position = [pair for pair in access.steps if pair[0] in positions]
    tap = [pair for pair in access.steps if pair[0] in taps]
    if len(position) != 1 or len(tap) > 1 or len(access.steps) != len(position) + len(tap):
        return None
    (index, stride), (other, apart) = position[0], tap[0] if tap else (None, 1)
    if stride < 0 or apart < 0:
        return None
    low, high = access.lowest, access.highest
    span = apart * (other.size - 1) if other is not None else 0
    first, before = max(low, 0), max(-low, 0)
    for end in (size, min(high + 1, size)):
        if (end - first + 2 * before - span - 1) // stride + 1 == index.size and high < end + before:
            return Spatial(index, other, stride, apart, first, end, before)
    after = max(high + 1 - size, 0)
    return Spatial(index, other, stride, apart, first, min(high + 1, size), 0, before, after)
