"""Operators that multiply each channel by a number and add another, both the same in every call."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch

from graphopt.affine.operands import Fixed, fixed_if_given, is_fixed, number_of
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.operands import operands_of, shape_of, type_of
from graphopt.ir.ops import Effect, effect_of
from graphopt.ir.types import TensorType

Number: TypeAlias = Value | float
"""A number for each channel, or one for all."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """(u − mean) / sqrt(variance + eps) · weight + bias, by statistics that the model keeps."""

    mean: Value
    variance: Value
    weight: Value | None
    bias: Value | None
    eps: float


@dataclass(frozen=True, slots=True)
class Channelwise:
    """What a node does to its operand `u`: steps in order, each "mul", "div", "add" or "sub" by a number,
    or a normalization."""

    node: Node
    u: Value
    steps: tuple[tuple[str, Number] | Normalization, ...]

    @property
    def only_scales(self) -> bool:
        """Whether nothing is added."""
        return all(not isinstance(step, Normalization) and step[0] in ("mul", "div") for step in self.steps)


def channelwise(node: Node, u: Value, channel: int | None, fixed: Fixed) -> Channelwise | None:
    """What a node does to each channel of one of its operands; None where it does anything else. The
    channels lie along a dimension; for None, all elements are treated alike."""
    name = _STEPS.get(node.op)
    if name is None or effect_of(node) is not Effect.NONE or node.results[0].type != u.type:
        return None
    kind, given = type_of(u), operands_of(node)
    if name == "norm":
        found = _normalization(given, fixed) if channel == 1 else None
        return None if found is None else Channelwise(node, u, (found,))
    if name == "neg":
        return Channelwise(node, u, (("mul", -1.0),))
    if set(given) != {"self", "other"}:
        return None
    other = given["other"] if given["self"] == u else given["self"]
    number = _number(other, kind, channel, fixed)
    first = given["self"] == u
    if number is None or (name == "div" and (not first or number == 0.0)):
        return None
    if name not in ("mul", "div") and isinstance(number, float) and _rounds(number, kind):
        return None
    if name in ("sub", "rsub"):
        steps = (("sub", number),) if first is (name == "sub") else (("mul", -1.0), ("add", number))
        return Channelwise(node, u, steps)
    return Channelwise(node, u, ((name, number),))


_STEPS = {
    f"aten.{name}.{overload}": name
    for name in ("mul", "add", "sub", "div", "rsub")
    for overload in ("Tensor", "Scalar")
} | {"aten.neg.default": "neg", "aten.batch_norm.default": "norm"}


def _rounds(number: float, kind: TensorType) -> bool:
    """Whether to add a number takes half of the bits, or more, of what is near one: (u + 1.5·2²³) − 1.5·2²³
    rounds u to whole numbers, and is meant to."""
    return abs(number) >= 1 / math.sqrt(torch.finfo(kind.dtype).eps)


def _number(arg: Arg, kind: TensorType, channel: int | None, fixed: Fixed) -> Number | None:
    if not is_fixed(arg, fixed):
        return number_of(arg)
    shape = shape_of(arg)
    if all(size == 1 for size in shape):
        return arg
    if channel is None:
        return None
    place = channel - len(kind.shape) + len(shape)
    is_alone = all(size == 1 for i, size in enumerate(shape) if i != place)
    return arg if is_alone else None


def _normalization(given: Mapping[str, Arg], fixed: Fixed) -> Normalization | None:
    mean, variance, eps = (given.get(name) for name in ("running_mean", "running_var", "eps"))
    number = number_of(eps)
    if not is_fixed(mean, fixed) or not is_fixed(variance, fixed) or number is None:
        return None
    weight, bias = given.get("weight"), given.get("bias")
    if not all(fixed_if_given(given, name, fixed) for name in ("weight", "bias")):
        return None
    assert weight is None or isinstance(weight, Value)
    assert bias is None or isinstance(bias, Value)
    return Normalization(mean, variance, weight, bias, number)
