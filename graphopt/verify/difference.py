"""The first difference between two observations that a caller would notice, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from graphopt.verify.facts import Fact, Literal, TensorFact
from graphopt.verify.observation import Observation


def difference(expected: Observation, actual: Observation, *, tolerance: float = 0.0) -> str | None:
    """None where a caller cannot tell the two calls apart; else one sentence on the first thing
    that differs.

    ``tolerance`` lets the elements of outputs, written tensors and gradients move by that share of the
    largest magnitude in the expected tensor; an infinite one leaves them aside. Which tensors there are,
    what they share, which leaves get a gradient, dtypes and shapes stay exact, and so does all else; but that
    a result may start elsewhere in its memory, as on memory of its own.
    """
    if expected.exception != actual.exception:
        return (
            f"exception: expected {_raised(expected.exception, expected.message)}, "
            f"got {_raised(actual.exception, actual.message)}"
        )
    for mine, theirs in (
        (expected.outputs, actual.outputs),
        (expected.arguments, actual.arguments),
        (expected.state, actual.state),
    ):
        found = _first_difference(mine, theirs, tolerance)
        if found is not None:
            return found
    if expected.random_state != actual.random_state:
        return "random state: the generators stand elsewhere after the call"
    found = _first_difference(expected.modes, actual.modes, 0.0)
    if found is not None:
        return f"after the call, {found}"
    if expected.backward_exception != actual.backward_exception:
        return (
            f"backward: expected {_raised(expected.backward_exception)}, "
            f"got {_raised(actual.backward_exception)}"
        )
    return _first_difference(expected.gradients, actual.gradients, tolerance)


def _raised(exception: str | None, message: str = "") -> str:
    if exception is None:
        return "no exception"
    return f"{exception} ({message.splitlines()[0][:120]})" if message else exception


def _first_difference(expected: Sequence[Fact], actual: Sequence[Fact], tolerance: float) -> str | None:
    for mine, theirs in zip(expected, actual, strict=False):
        found = _fact_difference(mine, theirs, tolerance)
        if found is not None:
            return found
    if len(expected) == len(actual):
        return None
    longer, what = (expected, "missing") if len(expected) > len(actual) else (actual, "not expected")
    return f"{longer[min(len(expected), len(actual))].path}: {what}"


def _shown(fact: Fact) -> str:
    if isinstance(fact, TensorFact):
        return f"a {str(fact.dtype).removeprefix('torch.')} tensor of shape {list(fact.shape)}"
    if isinstance(fact, Literal):
        return f"{fact.type} {fact.text}"
    return f"{fact.type} with members {', '.join(fact.members) or 'none'}"


def _fact_difference(expected: Fact, actual: Fact, tolerance: float) -> str | None:
    if expected == actual:
        return None
    if expected.path != actual.path:
        return f"{expected.path}: expected here, got {actual.path}"
    if not isinstance(expected, TensorFact) or not isinstance(actual, TensorFact):
        return f"{expected.path}: expected {_shown(expected)}, got {_shown(actual)}"
    for name, what in _TENSOR_FIELDS:
        mine, theirs = getattr(expected, name), getattr(actual, name)
        if mine != theirs and not (tolerance > 0 and name == "offset"):
            return f"{expected.path}: {what} differs, expected {_plain(mine)}, got {_plain(theirs)}"
    if expected.parts != actual.parts:
        return _first_difference(expected.parts, actual.parts, tolerance)
    return _content_difference(expected, actual, tolerance)


_TENSOR_FIELDS = (
    ("type", "type"),
    ("dtype", "dtype"),
    ("layout", "layout"),
    ("device", "device"),
    ("shape", "shape"),
    ("requires_grad", "requires_grad"),
    ("is_leaf", "is_leaf"),
    ("identity", "which tensor object it is (numbered by first sight)"),
    ("storage", "whose memory it shares (numbered by first sight)"),
    ("strides", "strides"),
    ("offset", "storage offset"),
    ("conjugate", "conjugate bit"),
    ("negative", "negative bit"),
)


def _plain(value: object) -> str:
    return repr(list(value)) if isinstance(value, tuple) else str(value)


def _content_difference(expected: TensorFact, actual: TensorFact, tolerance: float) -> str | None:
    """Where the elements differ and by how much; None where ``tolerance`` allows it."""
    assert expected.content is not None and actual.content is not None
    if tolerance == math.inf:
        return None
    mine, theirs = (_elements(fact) for fact in (expected, actual))
    width = 2 if expected.dtype.is_complex else 1
    integers = _integers(mine), _integers(theirs)
    unequal = (integers[0] != integers[1]).reshape(-1, width).any(dim=1)
    positions = unequal.nonzero().reshape(-1)
    exact_mine, exact_theirs = mine.double(), theirs.double()
    gap = (exact_mine - exact_theirs).abs()
    both_equal = (exact_mine == exact_theirs) | (exact_mine.isnan() & exact_theirs.isnan())
    gap = torch.where(both_equal, torch.zeros((), dtype=torch.float64), gap)
    finite_scale = exact_mine[exact_mine.isfinite()].abs()
    scale = float(finite_scale.max()) if finite_scale.numel() else 0.0
    if tolerance > 0 and bool((gap <= tolerance * max(scale, torch.finfo(torch.float32).tiny)).all()):
        return None
    first = int(positions[0])
    index = [int(i) for i in np.unravel_index(first, expected.shape)] if expected.shape else []
    ulps = _largest_ulps(*integers) if mine.is_floating_point() else None
    largest = f"{float(gap.max()):.3g}"
    if bool((gap == 0).all()):
        largest = "0, by signed zeros"
    return (
        f"{expected.path}: {len(positions)} of {unequal.numel()} elements differ, "
        f"first at {index}: expected "
        f"{_element(mine, first, width)}, got {_element(theirs, first, width)} "
        f"(largest absolute difference {largest}{'' if ulps is None else f', {ulps} ULP'})"
    )


def _elements(fact: TensorFact) -> torch.Tensor:
    """The recorded elements as a flat real tensor; a complex number is two of them."""
    real = fact.dtype.to_real() if fact.dtype.is_complex else fact.dtype
    return torch.frombuffer(bytearray(fact.content or b""), dtype=torch.uint8).view(real)


def _integers(values: torch.Tensor) -> torch.Tensor:
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    return values.view(width)


def _element(values: torch.Tensor, index: int, width: int) -> str:
    if width == 1:
        return repr(values[index].item())
    return repr(complex(values[2 * index].item(), values[2 * index + 1].item()))


def _largest_ulps(mine: torch.Tensor, theirs: torch.Tensor) -> int:
    """The largest distance in steps between neighbouring floating-point numbers, over at most
    100,000 unequal elements.
    """
    unequal = (mine != theirs).nonzero().reshape(-1)[:100_000]
    bits = 8 * mine.element_size()

    def steps(value: int) -> int:
        value &= (1 << bits) - 1
        sign = 1 << (bits - 1)
        return value if value < sign else sign - value  # -0.0 and 0.0 both at 0

    return max(
        abs(steps(a) - steps(b))
        for a, b in zip(mine[unequal].tolist(), theirs[unequal].tolist(), strict=True)
    )
