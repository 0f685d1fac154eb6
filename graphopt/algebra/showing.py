"""Elements of a leaf as nodes: by views, by sums over windows, and under the kernel of a convolution."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphopt.algebra.equality import resolved
from graphopt.algebra.polynomial import Access, Index, Polynomial
from graphopt.algebra.reaches import windows
from graphopt.algebra.windows import Part, Sums, is_nested
from graphopt.ir.graph import Node, Value
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.operands import shape_of

Make = Callable[..., Value]
"""Makes a node: its operator and operands."""


class NotEmitted(Exception):
    """Operators cannot say it, or not so that it lies in memory as it has to."""


def along(make: Make, value: Value, dim: int, access: Access) -> tuple[Value, list[Index]]:
    """One dimension of a value, as the dimensions of the indices that run through it."""
    if not access.steps:
        return make("aten.select.int", value, dim, access.start), []
    if any(step < 0 for _, step in access.steps):
        value, access = _turned(make, value, dim, access)
    low, high = access.lowest, access.highest
    if low < 0 or high >= shape_of(value)[dim]:
        value = _reaching(make, value, dim, low, high)
        low, high = 0, high - low
    if is_nested(access):
        least = min(step for _, step in access.steps)
        value = sliced(make, value, dim, low, high + 1, least)
        indices = [index for index, _ in sorted(access.steps, key=lambda pair: -pair[1])]
        if len(indices) > 1:
            value = make("aten.unflatten.int", value, dim, [index.size for index in indices])
        return value, indices
    value = sliced(make, value, dim, low, high + 1, 1)
    (index, step), *rest = sorted(access.steps, key=lambda pair: (-pair[1], -pair[0].size))
    inner = Access(0, tuple(rest))
    value = make("aten.unfold.default", value, dim, inner.highest + 1, step)
    rank = len(shape_of(value))
    if dim + 1 < rank - 1:
        value = make("aten.permute.default", value, [*range(dim + 1), rank - 1, *range(dim + 1, rank - 1)])
    value, more = along(make, value, dim + 1, inner)
    return value, [index, *more]


def _turned(make: Make, value: Value, dim: int, access: Access) -> tuple[Value, Access]:
    """The same the other way round."""
    if any(step > 0 for _, step in access.steps):
        raise NotEmitted
    start = shape_of(value)[dim] - 1 - access.start
    turned = Access(start, tuple((index, -step) for index, step in access.steps))
    return make("aten.flip.default", value, [dim]), turned


def sliced(make: Make, value: Value, dim: int, start: int, end: int, step: int) -> Value:
    """Every `step`-th element from `start` to `end` of a dimension."""
    if (start, step) == (0, 1) and end >= shape_of(value)[dim]:
        return value
    return make("aten.slice.Tensor", value, dim, start, end, step)


def _reaching(make: Make, value: Value, dim: int, low: int, high: int) -> Value:
    """From one position to another, with zeros where there is nothing."""
    size = shape_of(value)[dim]
    value = sliced(make, value, dim, max(low, 0), min(high + 1, size), 1)
    return zeros_around(make, value, dim, max(-low, 0), max(high - size + 1, 0))


def zeros_around(make: Make, value: Value, dim: int, before: int, after: int) -> Value:
    """With zeros before and after a dimension."""
    if not before and not after:
        return value
    last = len(shape_of(value)) - 1 - dim
    return make("aten.constant_pad_nd.default", value, [*[0, 0] * last, before, after])


@dataclass(frozen=True, slots=True)
class Lemma:
    """That nodes, of which the last makes a value, sum another over windows, whatever that is: it is proven
    on its own."""

    source: Value
    dim: int
    sums: Sums
    nodes: tuple[Node, ...]

    def applied(self, p: Polynomial) -> Polynomial:
        """The sums of a polynomial. Raises NoPolynomial."""
        one = self.sums
        found = windows(p, self.dim, one.count, one.step, one.length, one.apart, one.start)
        return resolved(found.summed([len(p.dims)]))


def summed_by_parts(make: Make, value: Value, dim: int, parts: Sequence[Sequence[Part]]) -> Value:
    """Sums along a dimension, each put together of sums of parts that are made once."""
    made: dict[Part, Value] = {}

    def part(one: Part) -> Value:
        if one not in made:
            if one.length == 1:
                made[one] = make("aten.select.int", value, dim, one.first)
            else:
                shown = sliced(make, value, dim, one.first, one.last + 1, one.step)
                made[one] = make("aten.sum.dim_IntList", shown, [dim])
        return made[one]

    together: dict[tuple[Part, ...], Value] = {}

    def total(one: tuple[Part, ...]) -> Value:
        if one not in together:
            last = part(one[-1])
            together[one] = make("aten.add.Tensor", total(one[:-1]), last) if one[:-1] else last
        return together[one]

    return make("aten.stack.default", Items("list", tuple(total(tuple(one)) for one in parts)), dim)


def summed_by_windows(make: Make, value: Value, dim: int, sums: Sums) -> Value:
    """The same, each sum over its elements."""
    value = _reaching(make, value, dim, sums.start, sums.highest)
    shown = make("aten.unfold.default", value, dim, (sums.length - 1) * sums.apart + 1, sums.step)
    last = len(shape_of(shown)) - 1
    shown = sliced(make, shown, last, 0, (sums.length - 1) * sums.apart + 1, sums.apart)
    return make("aten.sum.dim_IntList", shown, [last])
