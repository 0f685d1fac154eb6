"""Linear maps: operators that multiply an argument by a weight which calls do not change.

The weight is seen as (outputs, inputs / groups, *kernel), however the operator wants it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from graphopt.affine.operands import Fixed, fixed_if_given, is_fixed
from graphopt.ir.graph import Arg, Node, Sequence, Value
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of, shape_of, type_of


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution's kernel slides: a number for each spatial dimension; none for a matrix product."""

    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True, slots=True)
class LinearMap:
    """y = weight · x + bias, along dimension `channel` of x and of y, counted from the front.

    `order` names the weight's dimensions: where the outputs and the inputs lie in it.
    """

    node: Node
    x: Value
    weight: Value
    bias: Value | None
    channel: int
    order: tuple[int, int] = (0, 1)
    window: Window | None = Window()  # None where it slides in a way that is not followed

    @property
    def kernel(self) -> tuple[int, ...]:
        """The sizes of a convolution's kernel."""
        return shape_of(self.weight)[2:]

    @property
    def groups(self) -> int:
        """How many parts of the channels do not see each other."""
        return 1 if self.window is None else self.window.groups

    @property
    def outputs(self) -> int:
        """How many channels it makes."""
        return shape_of(self.weight)[self.order[0]]

    @property
    def inputs(self) -> int:
        """How many channels it reads."""
        return shape_of(self.weight)[self.order[1]] * self.groups

    @property
    def has_room(self) -> bool:
        """Whether its type holds any product of two usual weights: float16 ends at 65504 and at 6e-8."""
        return torch.finfo(type_of(self.weight).dtype).max > 1e9


# The parameters for the argument, the weight and the bias; the weight's dimensions of outputs and inputs.
_MAPS = {
    "aten.linear.default": ("input", "weight", "bias", (0, 1)),
    "aten.mm.default": ("self", "mat2", "", (1, 0)),
    "aten.matmul.default": ("self", "other", "", (1, 0)),
    "aten.addmm.default": ("mat1", "mat2", "self", (1, 0)),
    **{
        f"aten.conv{n}d.{overload}": ("input", "weight", "bias", (0, 1))
        for n in (1, 2, 3)
        for overload in ("default", "padding")
    },
    "aten.conv_transpose1d.default": ("input", "weight", "bias", (1, 0)),
    "aten.conv_transpose2d.input": ("input", "weight", "bias", (1, 0)),
    "aten.conv_transpose3d.input": ("input", "weight", "bias", (1, 0)),
}


def linear_map(node: Node, fixed: Fixed) -> LinearMap | None:
    """What linear map a node is; None where it is none."""
    if node.op not in _MAPS:
        return None
    argument, weight_name, bias_name, order = _MAPS[node.op]
    given = operands_of(node)
    x, weight, bias = given[argument], given[weight_name], given.get(bias_name)
    if not is_fixed(weight, fixed) or not fixed_if_given(given, bias_name, fixed):
        return None
    assert isinstance(x, Value)
    if fixed(x) or {"beta", "alpha"} & set(given):
        return None
    result, kind = type_of(node.results[0]), type_of(x)
    if not result.dtype == kind.dtype == type_of(weight).dtype:
        return None  # autocast casts the weight, and may keep that
    added = bias if isinstance(bias, Value) else None
    spatial = len(shape_of(weight)) - 2
    slides = "conv" in node.op
    channel = len(result.shape) - spatial - 1
    if not slides and (spatial or not channel):
        return None  # products of vectors and of batches
    if added is not None and shape_of(added) != (result.shape[channel],):
        return None
    window = _window(given, spatial) if slides else Window()
    if node.op.startswith("aten.conv_transpose"):
        window = None
        if given.get("groups", Lit(1)) != Lit(1):
            return None
    elif window is None and "groups" in given:
        return None
    return LinearMap(node, x, weight, added, channel, order, window)


def _window(given: Mapping[str, Arg], spatial: int) -> Window | None:
    stride = _numbers(given.get("stride", Lit(1)), spatial)
    padding = _numbers(given.get("padding", Lit(0)), spatial)
    dilation = _numbers(given.get("dilation", Lit(1)), spatial)
    groups = _numbers(given.get("groups", Lit(1)), 1)
    return (
        Window(stride, padding, dilation, groups[0]) if stride and padding and dilation and groups else None
    )


def _numbers(arg: Arg, count: int) -> tuple[int, ...]:
    """So many numbers, or one for all; none where they are no integers that the graph knows."""
    items = arg.items if isinstance(arg, Sequence) else (arg,)
    found = tuple(i.value for i in items if isinstance(i, Lit) and isinstance(i.value, int))
    if len(found) != len(items):
        return ()
    return found * count if len(found) == 1 else found
