"""Programs of linear algebra are kept: whatever sum-product regions make of them computes the same.

Every rewrite is taken that is found, whether it gains or not. On small integers float64 is exact in whatever
order. ``GRAPHOPT_FUZZ_EXAMPLES`` sets how many.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import graphopt
import passes.sum_product
from graphopt.errors import Unsupported
from passes.sum_product import SumProduct
from tests.algebra.programs import LARGEST, Program, grown

EXAMPLES = int(os.environ.get("GRAPHOPT_FUZZ_EXAMPLES", "300"))
SHARDS = 2
BEFORE = ["redundant-view", "identity-operation", "common-subexpression"]


class Always(SumProduct):
    """Rewrites whatever it can, twice: the second time what it has made."""

    def __init__(self) -> None:
        self._left = 2

    def run(self, draft: Any) -> None:
        self._left -= 1
        if self._left >= 0:
            super().run(draft)


@pytest.fixture(autouse=True)
def _whatever_it_gains(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(passes.sum_product, "WORTH", 1e9)
    monkeypatch.setattr(passes.sum_product, "LEAST", -1.0)
    yield


def called(function: Any, args: tuple[torch.Tensor, ...]) -> tuple[list[torch.Tensor], Exception | None]:
    """The arguments after a call, and the results; or what it raises."""
    try:
        made = function(*args)
    except Exception as error:
        return [*args], error
    return [*args, *(made if isinstance(made, tuple) else (made,))], None


def difference(program: Program, dtype: torch.dtype) -> str | None:
    """What a caller could tell of the optimised program; None where nothing."""
    function = program.function()
    with torch.no_grad():
        try:
            optimized = graphopt.optimize(
                function, program.arguments(dtype), passes=[*BEFORE, Always(), "dead-code"], verify=False
            )
        except Unsupported:
            return None
        ours, theirs = program.arguments(dtype), program.arguments(dtype)
        old, raised = called(function, theirs)
        new, raises = called(optimized, ours)
        truth, _ = called(function, program.arguments(torch.float64))
    if type(raised) is not type(raises):
        return f"raises {raised!r} → {raises!r}"
    for i, (a, b, exact) in enumerate(zip(old, new, truth, strict=True)):
        if (a.dtype, a.shape, _steps(a)) != (b.dtype, b.shape, _steps(b)):
            return f"tensor {i} is {b.dtype} {b.shape} {b.stride()}, not {a.dtype} {a.shape} {a.stride()}"
        # Results of cancellation are as far from the truth as the numbers that cancel are rounded.
        rounding = torch.finfo(dtype).eps * LARGEST
        allowed = (
            0.0 if dtype == torch.float64 else max(8 * float((a.double() - exact).abs().max()), rounding)
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


class _Draw:
    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def below(self, count: int) -> int:
        return self._draw(st.integers(0, count - 1)) if count > 1 else 0


@st.composite
def programs(draw: st.DrawFn) -> Program:
    return grown(_Draw(draw))


@pytest.mark.parametrize("shard", range(SHARDS))
def test_programs_of_linear_algebra_are_kept(shard: int) -> None:
    @seed(shard)
    @settings(
        max_examples=EXAMPLES // SHARDS,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(), st.sampled_from([torch.float64, torch.float64, torch.float32]))
    def run(program: Program, dtype: torch.dtype) -> None:
        found = difference(program, dtype)
        assert found is None, f"{found}\n{program.text}"

    run()
