"""Programs that were once told apart from eager, shrunk: each must be kept, or be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bench.sweep.trial import Trial, judge


def assert_kept(
    program: Callable[..., Any],
    args: tuple[torch.Tensor, ...],
    other_args: tuple[torch.Tensor, ...] | None = None,
) -> None:
    backward = any(arg.requires_grad for arg in args)
    trial = Trial("counter-example", "fuzz", program, args, other_args, backward=backward)
    for outcome in judge(trial, ask_export=False):
        sentence = f"[{outcome.passes}] {outcome.verdict}: {outcome.reason}"
        assert outcome.verdict in ("ok", "refused"), sentence


def test_grad_mode_comes_back_where_a_region_raises() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            torch.linalg.cholesky(x)
        return x + 1

    assert_kept(program, (torch.eye(2),), (-torch.eye(2),))


def test_a_region_around_a_cond_stays_without_gradients() -> None:
    """torch.export (2.13) drops the region: what it computes requires grad."""

    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))
            y = x * 2
        return y

    assert_kept(program, (torch.ones(2, requires_grad=True),))


def test_a_write_in_a_region_around_a_cond_stays_without_gradients() -> None:
    class Program(torch.nn.Module):
        mean: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.0, -2.5, 0.5]))

        def forward(self, x: torch.Tensor) -> None:
            with torch.no_grad():
                torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))
                torch.add(self.mean.sum(), x, out=self.mean)

    assert_kept(Program(), (torch.ones(3, requires_grad=True),))


def test_three_equal_views_of_which_two_are_returned_stay_two() -> None:
    def program(x: torch.Tensor) -> Any:
        x[0]
        return x[0], x[0]

    assert_kept(program, (torch.tensor([2, 2, 1]),))


def test_three_equal_tensors_of_which_two_reach_the_caller_stay_two() -> None:
    def program(x: torch.Tensor) -> Any:
        torch.eye(3)
        second = torch.eye(3)
        kept = torch.nn.functional.dropout(second, 0.5, training=False)
        third = torch.eye(3)
        return kept.diagonal(), third, second, third.all(-1), third

    assert_kept(program, (torch.ones(1),))


def test_a_dead_index_that_is_out_of_bounds_still_raises() -> None:
    def program(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        x[index]
        return x + 1

    assert_kept(program, (torch.ones(2, 3), torch.tensor(1)), (torch.ones(2, 3), torch.tensor(2)))


def test_a_dead_index_into_a_buffer_that_is_out_of_bounds_still_raises() -> None:
    class Program(torch.nn.Module):
        count: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.tensor(2))

        def forward(self, x: torch.Tensor) -> None:
            x[self.count]

    assert_kept(Program(), (torch.ones(2, 3),))


def test_a_dead_operator_that_has_no_kernel_for_the_dtype_still_raises() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        torch.linalg.det(x @ x.mT)
        return x + 1

    assert_kept(program, (torch.ones(1, 2, 3, dtype=torch.bfloat16),))


def test_a_mask_that_broadcasts_may_select_more_elements_than_there_are() -> None:
    """torch.export (2.13) asserts at most as many as the unbroadcast tensor has."""

    def program(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.masked_select(x, mask).sum()

    mask = torch.tensor([[True], [True]])
    assert_kept(program, (torch.ones(3), mask), (torch.ones(3), ~mask))


def test_an_out_argument_that_resizes_a_buffer_is_kept() -> None:
    class Program(torch.nn.Module):
        count: torch.Tensor
        spread: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.tensor(2))
            self.register_buffer("spread", torch.tensor([3.25, 0.0, 0.001]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.max(self.spread, -1, out=(self.spread, self.count))
            return x + self.count

    assert_kept(Program(), (torch.ones(2),))
