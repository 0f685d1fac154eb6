"""Rewrites that look right and are wrong: each program stays what it is under all default passes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.sameness import assert_same

INTEGERS = torch.tensor([1, 2, 3])
SPECIAL = torch.tensor([0.0, -0.0, 1.5, -2.5, float("inf"), float("-inf"), float("nan"), 1e-45])


def ops(opt: Any) -> list[str]:
    return [node.op for node in opt.graph.nodes]


def kept(program: Callable[..., Any], *args: torch.Tensor, **options: Any) -> list[str]:
    """The operators after the passes, once the program was seen to do what it did."""
    with torch.no_grad():
        return ops(assert_same(program, *args, passes=None, **options))


def test_one_and_one_point_nought_are_two() -> None:
    assert kept(lambda x: (x + 1, x + 1.0), INTEGERS).count("aten.add.Tensor") == 2


def test_zero_and_minus_zero_are_two() -> None:
    assert kept(lambda x: (x * 0.0) / (x * -0.0 + 1e-30), SPECIAL).count("aten.mul.Tensor") == 2


def test_minus_one_and_minus_two_hash_alike_and_are_two() -> None:
    assert kept(lambda x: (x + -1) * (x + -2), SPECIAL).count("aten.add.Tensor") == 2


def test_true_and_one_are_two() -> None:
    assert kept(lambda x: (x * True, x * 1.0), INTEGERS).count("aten.mul.Tensor") >= 1


def test_two_draws_are_two() -> None:
    found = kept(lambda x: torch.rand_like(x) - torch.rand_like(x), SPECIAL)
    assert found.count("aten.rand_like.default") == 2


def test_a_draw_that_nothing_reads_moves_the_stream() -> None:
    found = kept(lambda x: (torch.rand_like(x), torch.rand_like(x))[1], SPECIAL)
    assert found.count("aten.rand_like.default") == 2


def test_dropout_in_training_draws() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    assert ops(assert_same(model, SPECIAL, passes=None)).count("aten.dropout.default") == 2
    assert kept(model.eval(), SPECIAL) == []


def test_a_write_between_two_equal_expressions() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        first = y.sin()
        y.add_(1)
        return first + y.sin()

    assert kept(program, SPECIAL).count("aten.sin.default") == 2


def test_a_write_through_a_view_between_two_equal_expressions() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        row, first = y[1:], y.sin()
        row.mul_(3)
        return first + y.sin()

    assert kept(program, SPECIAL).count("aten.sin.default") == 2


def test_a_view_sees_what_is_written_later() -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x * 2
        view, copy = y.view(-1), y.clone()
        y.add_(1)
        return view + 0.5, copy + 0.5

    assert "aten.clone.default" in kept(program, SPECIAL)


def test_batch_norm_in_training_updates_its_statistics_each_time() -> None:
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(norm, norm)
    x = torch.randn(3, 4)
    assert ops(assert_same(model, x, passes=None, backward=True)).count("aten.batch_norm.default") == 2

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x) + self.norm(x)

    assert ops(assert_same(Twice(), x, passes=None)).count("aten.batch_norm.default") == 2


def test_a_counter_counts_every_call() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            first = x * self.calls
            self.calls += 1
            return first + x * self.calls

    assert ops(assert_same(Counts(), SPECIAL, passes=None)).count("aten.add_.Tensor") == 2


def test_a_cast_that_rounds_is_no_no_op() -> None:
    x = torch.tensor([1.001, 3.14159])
    assert kept(lambda x: x.to(torch.bfloat16).to(torch.float32), x).count("aten.to.dtype") == 2


def test_nought_times_infinity_is_no_nought() -> None:
    assert kept(lambda x: x * 0, SPECIAL) == ["aten.mul.Tensor"]
    assert kept(lambda x: x - x, SPECIAL) == ["aten.sub.Tensor"]


def test_minus_zero_plus_zero_is_plus_zero() -> None:
    assert kept(lambda x: (x + 0) * 1, SPECIAL)[0] == "aten.add.Tensor"


@pytest.mark.parametrize("mode", ["floor", "trunc", None])
def test_integer_division_is_what_it_is(mode: str | None) -> None:
    x = torch.tensor([7, -7, 6, 1])
    assert kept(lambda x: torch.div(x, 1, rounding_mode=mode) + torch.div(x, 2, rounding_mode=mode), x)
    assert kept(lambda x: (x / 1, x // 1 * 1, x % 1), x)


def test_a_dead_cholesky_still_raises() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        torch.linalg.cholesky(x)
        return x + 1

    definite, indefinite = torch.eye(3), -torch.eye(3)
    found = kept(program, definite, other=(indefinite,))
    assert any("cholesky" in op for op in found)


def test_division_by_zero_still_raises() -> None:
    def program(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x // y
        return x + 1

    zero = torch.tensor([1, 0, 2])
    assert "aten.floor_divide.default" in kept(program, INTEGERS, INTEGERS.clone(), other=(INTEGERS, zero))
