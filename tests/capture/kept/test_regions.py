"""Regions of grad mode and autocast, and torch.cond, are eager's."""

from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from tests.capture.kept.examples import X
from tests.sameness import assert_same


def test_no_grad_and_autocast_regions_are_kept(passes: Any) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            y = x * 2
        with torch.autocast("cpu", torch.bfloat16):
            z = x @ x.t()
        return x * y, z

    assert_same(program, X.clone().requires_grad_(), backward=True, passes=passes)


def test_regions_that_hold_item_are_kept(passes: Any) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16):
            y = x @ x.t() * x.sum().item()
        with torch.no_grad():
            z = x * x.max().item()
        return y, x * z

    assert_same(program, X.clone().requires_grad_(), backward=True, passes=passes)


def test_regions_inside_and_beside_torch_cond_are_kept(passes: Any) -> None:
    def without(a: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return a + 1

    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = x * 3
        return x * y * torch.cond(x.sum() > 0, without, lambda a: a - 1, (x,))

    assert_same(program, X.clone().requires_grad_(), backward=True, passes=passes)


def test_no_grad_around_torch_cond_is_kept(passes: Any) -> None:
    def enabling(a: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            return (a * 3).detach() + a

    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            y = torch.cond(x.sum() > 0, enabling, lambda a: a - 1, (x,))
            with torch.enable_grad():
                z = x * y
        return x * y * z, y

    assert_same(program, X.clone().requires_grad_(), backward=True, passes=passes)
    with torch.no_grad():
        assert_same(program, X.clone().requires_grad_(), passes=passes)


def test_autocast_regions_around_torch_cond_are_kept(passes: Any) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16):
            y = x @ x.t()
            z = torch.cond(x.sum() > 0, lambda a: a @ a.t(), lambda a: a @ a.t() - 1, (x,))
            with torch.autocast("cpu", enabled=False):
                w = x @ x.t()
            first, _ = y.split(1)
        return z + (w @ x).sum(), first, y

    assert_same(program, X.clone().requires_grad_(), backward=True, passes=passes)


def test_no_grad_inside_an_autocast_region_is_kept(passes: Any) -> None:
    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    y = super().forward(x)
                return y * super().forward(x * 3)

    assert_same(Model(4, 4), X, backward=True, passes=passes)


@pytest.mark.parametrize("cache", [None, True, False])
def test_gradients_of_a_weight_used_twice_under_autocast_round_as_eagers(
    passes: Any, cache: bool | None
) -> None:
    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
                return super().forward(x) + super().forward(x * 3) + super().forward(x * 7)

    torch.manual_seed(0)
    assert_same(Model(4, 16), torch.randn(8, 4), backward=True, passes=passes)


def test_a_region_with_gradients_is_kept_for_calls_without() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            return x * 2

    leaf = X.clone().requires_grad_()
    opt = graphopt.optimize(program, (leaf,), measure=False)
    with torch.no_grad(), pytest.warns(UserWarning, match="grad mode"):
        assert opt(leaf).requires_grad
    with torch.no_grad():
        assert_same(program, leaf)


def test_branches_of_torch_cond_are_kept(passes: Any) -> None:
    def program(x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda a: a + 1, lambda a: a - 1, (x,))

    assert_same(program, X, other=(X + 100,), passes=passes)
