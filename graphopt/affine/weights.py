"""The weight and the bias with which one linear map does a whole affine form: nodes that compute them.

In float64, rounded once at the end: rounding at every node would add up, the more the narrower the type.
"""

import math
from dataclasses import dataclass

import torch

from graphopt.affine.channelwise import Channelwise, Normalization, Number
from graphopt.affine.forms import Applied, Form, Itself, Scaled, Total, margins, widest
from graphopt.affine.maps import LinearMap
from graphopt.builder import Builder
from graphopt.ir.graph import Value
from graphopt.ir.operands import shape_of
from graphopt.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Weights:
    """The operands of a linear map, in its own type; the weight as the operator wants it."""

    weight: Value
    bias: Value | None


def weights_of(form: Form, build: Builder) -> Weights:
    """Adds the nodes for the map that the form is done as, `widest(form)`."""
    wide = widest(form)
    kind = wide.weight.type
    assert isinstance(kind, TensorType)
    maker = _Maker(wide, build, kind.device)
    weight, shift = maker.of(form)
    if wide.order != (0, 1) and "conv" in wide.node.op:
        weight = build("aten.transpose.int", weight, 0, 1)
    bias = None if shift is None else maker.vector(shift, wide.outputs)
    return Weights(
        build("aten._to_copy.default", weight, dtype=kind.dtype),
        None if bias is None else build("aten._to_copy.default", bias, dtype=kind.dtype),
    )


class _Maker:
    """Makes weights, seen as (outputs, inputs / groups, *kernel), and shifts: a vector, one number, or None.

    No shift is not the same as 0.0, which an infinite scale makes NaN.
    """

    def __init__(self, wide: LinearMap, build: Builder, device: torch.device) -> None:
        self._wide = wide
        self._build = build
        self._device = device

    def of(self, form: Form) -> tuple[Value, Number | None]:
        """The weight and the shift of a form."""
        match form:
            case Itself():
                return self._padded(self._identity(), margins(None, self._wide)), None
            case LinearMap():
                return self._of_map(form)
            case Scaled(inner, by):
                weight, shift = self.of(inner)
                scale, added = self._scale_and_shift(by)
                if scale != 1.0:
                    weight = self._times(weight, self._down(scale, weight))
                return weight, self._plus(self._scaled(shift, scale), added)
            case Total(_, first, second, sign):
                (weight, shift), (other, moved) = self.of(first), self.of(second)
                if sign < 0:
                    other, moved = self._times(other, -1.0), self._scaled(moved, -1.0)
                return self._build("aten.add.Tensor", weight, other), self._plus(shift, moved)
            case Applied(map, inner):
                return self._after(map, inner)

    def vector(self, number: Number, size: int) -> Value:
        """A number for each of `size` channels."""
        if isinstance(number, Value):
            return self._build("aten.expand.default", number, [size])
        return self._build("aten.full.default", [size], number, dtype=torch.float64, device=self._device)

    def _of_map(self, map: LinearMap) -> tuple[Value, Number | None]:
        weight = self._wide_copy(map.weight)
        if map.order != (0, 1):
            weight = self._build("aten.transpose.int", weight, 0, 1)
        shift = None if map.bias is None else self._wide_copy(map.bias)
        return (weight if map is self._wide else self._padded(weight, margins(map, self._wide))), shift

    def _after(self, map: LinearMap, inner: Form) -> tuple[Value, Number | None]:
        """A map of what a form of `Itself` gives: weight · (x · scale + shift)."""
        scale, shift = self._composed(inner)
        weight, moved = self._of_map(map)
        rows, columns, *kernel = shape_of(weight)
        groups = map.groups
        grouped = [groups, rows // groups, columns, *kernel]

        def times_inputs(number: Number) -> Value:
            if isinstance(number, float) or not shape_of(number):
                return self._times(weight, number)
            facing = self._build("aten.reshape.default", number, [groups, 1, columns, *(1 for _ in kernel)])
            product = self._times(self._build("aten.reshape.default", weight, grouped), facing)
            return self._build("aten.reshape.default", product, [rows, columns, *kernel])

        if shift is not None:
            dims = list(range(1, 2 + len(kernel)))
            moved = self._plus(moved, self._build("aten.sum.dim_IntList", times_inputs(shift), dims))
        return (weight if scale == 1.0 else times_inputs(scale)), moved

    def _composed(self, form: Form) -> tuple[Number, Number | None]:
        if not isinstance(form, Scaled):
            return 1.0, None
        scale, shift = self._composed(form.form)
        factor, added = self._scale_and_shift(form.by)
        return self._product(scale, factor), self._plus(self._scaled(shift, factor), added)

    def _identity(self) -> Value:
        columns, groups = self._wide.inputs // self._wide.groups, self._wide.groups
        eye = self._build("aten.eye.default", columns, dtype=torch.float64, device=self._device)
        if groups > 1:
            eye = self._build("aten.repeat.default", eye, [groups, 1])
        ones = [1 for _ in self._wide.kernel]
        return self._build("aten.reshape.default", eye, [groups * columns, columns, *ones]) if ones else eye

    def _padded(self, weight: Value, zeros: tuple[int, ...] | None) -> Value:
        assert zeros is not None
        if not any(zeros):
            return weight
        around = [number for one in reversed(zeros) for number in (one, one)]
        return self._build("aten.constant_pad_nd.default", weight, around)

    def _scale_and_shift(self, by: Channelwise) -> tuple[Number, Number | None]:
        scale: Number = 1.0
        shift: Number | None = None
        for step in by.steps:
            if isinstance(step, Normalization):
                factor, added = self._normalization(step)
                scale, shift = self._product(scale, factor), self._plus(self._scaled(shift, factor), added)
                continue
            what, number = step[0], self._flat(step[1])
            if what == "div":
                number = 1.0 / number if isinstance(number, float) else self._reciprocal(number)
            if what in ("mul", "div"):
                scale, shift = self._product(scale, number), self._scaled(shift, number)
            else:
                shift = self._plus(shift, number if what == "add" else self._product(number, -1.0))
        return scale, shift

    def _normalization(self, norm: Normalization) -> tuple[Number, Number | None]:
        spread = self._build("aten.add.Scalar", self._wide_copy(norm.variance), norm.eps)
        scale: Number = self._build("aten.rsqrt.default", spread)
        if norm.weight is not None:
            scale = self._product(scale, self._wide_copy(norm.weight))
        shift: Number | None = self._product(self._product(self._wide_copy(norm.mean), scale), -1.0)
        return scale, shift if norm.bias is None else self._plus(shift, self._wide_copy(norm.bias))

    def _flat(self, number: Number) -> Number:
        if isinstance(number, float):
            return number
        size = math.prod(shape_of(number))
        return self._build("aten.reshape.default", self._wide_copy(number), [] if size == 1 else [size])

    def _wide_copy(self, value: Value) -> Value:
        return self._build("aten._to_copy.default", value, dtype=torch.float64)

    def _reciprocal(self, number: Value) -> Value:
        return self._build("aten.reciprocal.default", number)

    def _down(self, number: Number, weight: Value) -> Number:
        """A vector, laid along the outputs of a weight."""
        if isinstance(number, float):
            return number
        return self._build("aten.reshape.default", number, [-1] + [1] * (len(shape_of(weight)) - 1))

    def _times(self, weight: Value, number: Number) -> Value:
        kind = "Scalar" if isinstance(number, float) else "Tensor"
        return self._build(f"aten.mul.{kind}", weight, number)

    def _product(self, a: Number, b: Number) -> Number:
        if isinstance(a, float) and isinstance(b, float):
            return a * b
        if isinstance(a, float):
            a, b = b, a
        assert isinstance(a, Value)
        return a if b == 1.0 else self._times(a, b)

    def _scaled(self, shift: Number | None, scale: Number) -> Number | None:
        return None if shift is None else self._product(shift, scale)

    def _plus(self, a: Number | None, b: Number | None) -> Number | None:
        if a is None or b is None:
            return b if a is None else a
        if isinstance(a, float) and isinstance(b, float):
            return a + b
        if isinstance(a, float):
            a, b = b, a
        assert isinstance(a, Value)
        return self._build(f"aten.add.{'Scalar' if isinstance(b, float) else 'Tensor'}", a, b)
