"""What one call did, in every respect that a caller can see, and where two calls differ.

This judge shares no code with graphopt's own verification: a mistake there must not pass here.
"""

from __future__ import annotations

import inspect
import random
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy
import torch
from torch import nn

from bench.architectures import Inputs

_INTEGER_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_NO_STORAGE = 0


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf below `value` with its path; containers yield their type as a leaf of their own.

    Walks into caches and other objects by their attributes, whatever torch's pytree knows of them.
    """
    if isinstance(value, (torch.Tensor, *_PLAIN)):
        yield path, value
        return
    yield f"{path}:type", type(value).__qualname__
    if isinstance(value, Mapping):
        children = [(f"{path}[{key!r}]", child) for key, child in value.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        children = [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    elif is_dataclass(value):
        children = [(f"{path}.{f.name}", getattr(value, f.name)) for f in fields(value)]
    elif isinstance(value, type | types.FunctionType | types.MethodType):
        children = []
    else:
        children = [(f"{path}.{name}", child) for name, child in getattr(value, "__dict__", {}).items()]
    for child_path, child in children:
        yield from leaves(child, child_path)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The elements as integers; every NaN becomes the same one, since its payload is no result."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if tensor.is_floating_point():
        tensor = torch.where(tensor.isnan(), torch.full_like(tensor, float("nan")), tensor)
    return tensor.contiguous().view(_INTEGER_OF_SIZE[tensor.element_size()])


def leaf_difference(expected: Any, actual: Any, tolerance: float = 0.0) -> str:
    """How two leaves differ; empty where they do not, or elements by no more than `tolerance`, a share of
    the largest."""
    if not isinstance(expected, torch.Tensor) or not isinstance(actual, torch.Tensor):
        alike = type(expected) is type(actual) and (expected == actual or expected != expected)
        return "" if alike else f"{expected!r} became {actual!r}"
    for name in ("dtype", "shape", "device", "layout", "requires_grad"):
        if getattr(expected, name) != getattr(actual, name):
            return f"{name} {getattr(expected, name)} became {getattr(actual, name)}"
    if expected.stride() != actual.stride() and expected.numel():
        return f"stride {expected.stride()} became {actual.stride()} (shape {tuple(expected.shape)})"
    unequal = bits(expected) != bits(actual)
    if not unequal.any():
        return ""
    wide = torch.complex128 if expected.is_complex() else torch.float64
    one, two = expected.detach().to(wide), actual.detach().to(wide)
    worst = (one - two).abs().max().item()
    if expected.is_floating_point() and worst <= tolerance * one.abs().max().item():
        return ""
    return f"{int(unequal.sum())} of {unequal.numel()} values differ, by {worst:.2g} at most"


def value_difference(expected: Any, actual: Any, tolerance: float = 0.0) -> str:
    """The first difference between two nested values, with its path; empty where they are alike.
    `tolerance`: of elements, as in `leaf_difference`."""
    one, two = list(leaves(expected)), list(leaves(actual))
    if [path for path, _ in one] != [path for path, _ in two]:
        missing = [path for path, _ in one if path not in {p for p, _ in two}]
        extra = [path for path, _ in two if path not in {p for p, _ in one}]
        return f"structure: missing {missing[:3]}, new {extra[:3]}"
    for (path, expected_leaf), (_, actual_leaf) in zip(one, two, strict=True):
        if difference := leaf_difference(expected_leaf, actual_leaf, tolerance):
            return f"{path}: {difference}"
    return ""


def _sharing(named: Iterator[tuple[str, Any]]) -> list[list[str]]:
    """The groups of names whose tensors live in one storage."""
    groups: dict[int, list[str]] = {}
    for name, value in named:
        if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() != _NO_STORAGE:
            groups.setdefault(value.untyped_storage().data_ptr(), []).append(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


@dataclass
class Observation:
    """All that one call did, as nested values that `value_difference` can compare."""

    outputs: Any = None
    inputs: Any = None
    raised: str = ""
    sharing: list[list[str]] = field(default_factory=list)
    gradients: dict[str, torch.Tensor | None] = field(default_factory=dict)
    buffers: dict[str, torch.Tensor] = field(default_factory=dict)
    random_state: Any = None
    ran_forward: bool = False

    def difference(self, actual: Observation, tolerance: float = 0.0) -> str:
        """The first difference of `actual` from this one, by aspect; empty where there is none, or where
        elements of floating tensors move by no more than `tolerance` of the largest."""
        for aspect in (
            "raised",
            "outputs",
            "inputs",
            "gradients",
            "buffers",
            "random_state",
            "sharing",
        ):
            if found := value_difference(getattr(self, aspect), getattr(actual, aspect), tolerance):
                return f"{aspect}{found}" if found[0] in ".[" else f"{aspect}: {found}"
        return ""


@contextmanager
def _watching(forward: types.CodeType, observation: Observation) -> Iterator[None]:
    """Notes whether the code object `forward` runs: whether the model ran, not its graph."""

    def note(frame: types.FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code is forward:
            observation.ran_forward = True

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def forward_code(model: nn.Module) -> types.CodeType:
    """The code of the model's own `forward`, below any decorators."""
    code: types.CodeType = inspect.unwrap(type(model).forward).__code__
    return code


def loss(outputs: Any) -> torch.Tensor | None:
    """A weighted sum of every differentiable output; None where there is none.

    Weights differ by position: the plain sum of a softmax or a norm has no gradient to speak of.
    """
    terms: list[torch.Tensor] = []
    for _, leaf in leaves(outputs):
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad:
            real = torch.view_as_real(leaf) if leaf.is_complex() else leaf
            weights = torch.linspace(0.5, 1.5, real.numel(), dtype=real.dtype)
            terms.append((real * weights.view(real.shape)).sum())
    return sum(terms[1:], terms[0]) if terms else None


def observe(
    module: nn.Module, inputs: Inputs, forward: types.CodeType, *, gradients: bool = False
) -> Observation:
    """Calls `module` once from a fixed random state and notes all that came of it.

    An exception is part of the observation; a guard's is too, and differs from eager's silence.
    """
    args, kwargs = inputs
    torch.manual_seed(1234)
    random.seed(1234)
    numpy.random.seed(1234)
    for parameter in module.parameters():
        parameter.grad = None
    seen = Observation(inputs=(args, kwargs))
    try:
        with _watching(forward, seen):
            seen.outputs = module(*args, **kwargs)
        total = loss(seen.outputs) if gradients else None
        if total is not None:
            torch.autograd.backward(total)
    except Exception as error:
        seen.raised = type(error).__name__
    if gradients:
        seen.gradients = {name: p.grad for name, p in module.named_parameters()}
    seen.buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    seen.random_state = (torch.get_rng_state(), random.getstate(), repr(numpy.random.get_state()))
    state = [*module.named_parameters(), *module.named_buffers()]
    everything = [*leaves(seen.outputs, "out"), *leaves((args, kwargs), "in"), *state]
    seen.sharing = _sharing(iter(everything))
    return seen
