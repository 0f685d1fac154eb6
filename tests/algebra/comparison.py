"""What a caller could tell of a program whose sum-product regions were rewritten, whether it gains or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

import graphopt
from graphopt.algebra import improving
from graphopt.errors import Unsupported
from passes.sum_product import SumProduct
from tests.algebra.programs import LARGEST

BEFORE = ["redundant-view", "identity-operation", "common-subexpression"]
Arguments = Callable[[torch.dtype], tuple[torch.Tensor, ...]]


class Always(SumProduct):
    """Rewrites whatever it can, twice: the second time what it has made."""

    def __init__(self) -> None:
        self._left = 2

    def run(self, draft: Any) -> None:
        self._left -= 1
        if self._left >= 0:
            with patch.multiple(improving, WORTH=1e9, LEAST=-1.0):
                super().run(draft)


def called(function: Any, args: tuple[torch.Tensor, ...]) -> tuple[list[torch.Tensor], Exception | None]:
    """The arguments after a call, and the results; or what it raises."""
    try:
        made = function(*args)
    except Exception as error:
        return [*args], error
    return [*args, *(made if isinstance(made, tuple) else (made,))], None


def difference(function: Callable[..., Any], arguments: Arguments, dtype: torch.dtype) -> str | None:
    """What a caller could tell of the optimised program; None where nothing."""
    with torch.no_grad():
        try:
            optimized = optimized_always(function, arguments(dtype))
        except Unsupported:
            return None
        return difference_of_calls(function, optimized, arguments, dtype)


def optimized_always(
    function: Callable[..., Any], args: tuple[torch.Tensor, ...], dynamic_shapes: Any = None
) -> graphopt.Optimized:
    """Rewritten wherever it can be. Raises Unsupported."""
    passes = [*BEFORE, Always(), "dead-code"]
    return graphopt.optimize(function, args, passes=passes, verify=False, dynamic_shapes=dynamic_shapes)


def difference_of_calls(
    function: Callable[..., Any],
    optimized: Callable[..., Any],
    arguments: Arguments,
    dtype: torch.dtype,
    slack: float = 0.0,
) -> str | None:
    """What a caller could tell by one call of either, without gradients; None where nothing. `slack`: how far
    off float64 may be."""
    with torch.no_grad():
        ours, theirs = arguments(dtype), arguments(dtype)
        old, raised = called(function, theirs)
        new, raises = called(optimized, ours)
        truth, _ = called(function, arguments(torch.float64))
    if type(raised) is not type(raises):
        return f"raises {raised!r} → {raises!r}"
    for i, (a, b, exact) in enumerate(zip(old, new, truth, strict=True)):
        if (a.dtype, a.shape, _steps(a)) != (b.dtype, b.shape, _steps(b)):
            return f"tensor {i} is {b.dtype} {b.shape} {b.stride()}, not {a.dtype} {a.shape} {a.stride()}"
        # Results of cancellation are as far from the truth as the numbers that cancel are rounded.
        rounding = torch.finfo(dtype).eps * LARGEST
        allowed = (
            slack if dtype == torch.float64 else max(8 * float((a.double() - exact).abs().max()), rounding)
        )
        if not torch.all((b.double() - exact).abs() <= allowed):
            return f"tensor {i} is {b.tolist()}, not {exact.tolist()}"
    for i in range(len(old)):
        for j in range(i):
            if (old[i] is old[j]) != (new[i] is new[j]):
                return f"{i} is {j}: {old[i] is old[j]} → {new[i] is new[j]}"
            shares = _storage(old[i]) == _storage(old[j]), _storage(new[i]) == _storage(new[j])
            if shares[0] != shares[1]:
                return f"{i} shares memory with {j}: {shares[0]} → {shares[1]}"
    return None


def _steps(tensor: torch.Tensor) -> list[int]:
    """Strides; not where there is but one element, for there torch's shape functions tell of others than its
    kernels give, and a run with `verify` finds that."""
    return [step for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
