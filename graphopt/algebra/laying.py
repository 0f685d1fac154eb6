"""Values with a dimension for each index, and the nodes that rearrange, scale and add them up."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from graphopt.algebra.polynomial import Index
from graphopt.algebra.pricing import Prices
from graphopt.algebra.showing import NotEmitted
from graphopt.builder import Builder, Operand
from graphopt.draft import Draft
from graphopt.ir.graph import Node, Value
from graphopt.ir.operands import shape_of, type_of
from graphopt.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Laid:
    """A value with a dimension for each index."""

    value: Value
    order: tuple[Index, ...]


class Laying:
    """Makes nodes in the place of one after another."""

    build: Builder
    kind: TensorType
    prices: Prices

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._producers: dict[str, Node] = {}
        self._given_out: set[str] = set()
        self.exact: dict[float, Fraction] = {}
        """What the literals of all nodes are rounded from."""

    def begin(self, like: Node) -> None:
        """From here on in the place of another node, for a tensor of its type."""
        self.build, self.kind = Builder(self._draft, like), type_of(like.results[0])
        self.prices = self.prices_of(like.results[0])

    def prices_of(self, value: Value) -> Prices:
        """Those of tensors with elements like a value's."""
        return Prices(self._draft.costs.profile, type_of(value).dtype.itemsize)

    def op(self, op: str, *args: Operand, **kwargs: Operand) -> Value:
        """What an operator makes of operands."""
        value = self.build(op, *args, **kwargs)
        self._producers[value.name] = self.build.nodes[-1]
        return value

    def is_handed_on(self, value: Value) -> bool:
        """Whether it shows memory that was there before, or that was given out before."""
        while (node := self._producers.get(value.name)) is not None and node.op in _VIEWS:
            value = node.operands[0]
        if node is None or value.name in self._given_out:
            return True
        self._given_out.add(value.name)
        return False

    def elementwise(self, a: Laid, b: Laid, wanted: Sequence[Index]) -> Laid:
        """Two multiplied element by element, broadcast."""
        order = ordered((*a.order, *(i for i in b.order if i not in a.order)), wanted)
        return Laid(self.op("aten.mul.Tensor", self.spread(a, order), self.spread(b, order)), order)

    def expanded(self, laid: Laid, indices: Iterable[Index]) -> Laid:
        """With all of some indices, along which it is the same where it had not them."""
        value, order = laid.value, [*laid.order]
        for index in indices:
            if index not in order:
                value = self.op("aten.unsqueeze.default", value, len(order))
                value = self.op("aten.expand.default", value, [*shape_of(value)[:-1], index.size])
                order.append(index)
        return Laid(value, tuple(order))

    def filled(self, number: Fraction) -> Laid:
        """One number."""
        zero = self.op("aten.full.default", [], 0.0, dtype=self.kind.dtype, device=self.kind.device)
        return Laid(self.op("aten.add.Scalar", zero, self.number(number, zero)) if number else zero, ())

    def summed(self, laid: Laid, kept: Iterable[Index]) -> Laid:
        """Summed over all indices but some."""
        stay = set(kept)
        gone = [place for place, index in enumerate(laid.order) if index not in stay]
        if not gone:
            return laid
        value = self.op("aten.sum.dim_IntList", laid.value, gone)
        return Laid(value, tuple(index for index in laid.order if index in stay))

    def scaled(self, laid: Laid, by: Fraction) -> Laid:
        """A multiple."""
        if by == 1:
            return laid
        if by == -1:
            return Laid(self.op("aten.neg.default", laid.value), laid.order)
        return Laid(self.op("aten.mul.Scalar", laid.value, self.number(by, laid.value)), laid.order)

    def number(self, fraction: Fraction, value: Value) -> float:
        """The number nearest to a fraction, for a tensor. Raises NotEmitted where its dtype has no such
        number, for what overflows on the way may not in the order that was written; or where it is nearest
        to another fraction, too."""
        assert isinstance(value.type, TensorType)
        limits = torch.finfo(value.type.dtype)
        if not limits.smallest_normal <= abs(fraction) <= limits.max:
            raise NotEmitted
        number = float(fraction)
        if self.exact.setdefault(number, fraction) != fraction:
            raise NotEmitted
        return number

    def grouped(self, laid: Laid, *groups: Iterable[Index]) -> Value:
        """With one dimension for each group of indices."""
        parts = [list(group) for group in groups]
        sizes = [*map(size_of, parts)]
        wanted = [i for part in parts for i in part]
        if len(parts) == 2 and [*parts[1], *parts[0]] == [*laid.order] != wanted:
            return self.op("aten.t.default", self.reshaped(laid.value, sizes[::-1]))
        return self.reshaped(self.permuted(laid.value, laid.order, wanted), sizes)

    def spread(self, laid: Laid, order: Sequence[Index]) -> Value:
        """With a dimension for each index of an order, of size 1 where it has none."""
        value = self.permuted(laid.value, laid.order, [i for i in order if i in laid.order])
        for place, index in enumerate(order):
            if index not in laid.order:
                value = self.op("aten.unsqueeze.default", value, place)
        return value

    def permuted(self, value: Value, order: Sequence[Index], wanted: Sequence[Index]) -> Value:
        """With its dimensions, which are those of some indices, in another order."""
        places = [order.index(index) for index in wanted]
        if places == sorted(places):
            return value
        if len(places) == 2:
            return self.op("aten.t.default", value)
        return self.op("aten.permute.default", value, places)

    def row_major(self, value: Value) -> Value:
        """Laid out so that a convolution's result is, too: that of others follows no rule."""
        kind = type_of(value)
        pairs = zip(shape_of(value), kind.strides or (), strict=True)
        steps = [int(step) for size, step in pairs if size > 1]
        if kind.is_contiguous or steps == sorted(steps, reverse=True):
            return value
        return self.op("aten.clone.default", value, memory_format=torch.contiguous_format)

    def reshaped(self, value: Value, sizes: Sequence[int]) -> Value:
        """With dimensions of other sizes."""
        return value if shape_of(value) == tuple(sizes) else self.op("aten.reshape.default", value, [*sizes])


def size_of(indices: Iterable[Index]) -> int:
    """How many elements they run through."""
    return math.prod(index.size for index in indices)


def ordered(order: Sequence[Index], wanted: Sequence[Index]) -> tuple[Index, ...]:
    """As wanted, where all are."""
    return tuple(index for index in wanted if index in order) if {*order} <= {*wanted} else tuple(order)


_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "select.int", "slice.Tensor", "unflatten.int", "diagonal.default", "unsqueeze.default", "t.default",
        "expand.default", "permute.default", "reshape.default", "unfold.default",
        "squeeze.dims",
    )
)  # fmt: skip
