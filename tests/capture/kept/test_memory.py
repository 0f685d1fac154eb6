"""Identity, sharing, strides and writes are eager's."""

from typing import Any

import torch

from tests.capture.kept.examples import X
from tests.sameness import assert_same


def test_outputs_that_are_inputs_stay_the_same_object(passes: Any) -> None:
    assert_same(lambda x: (x, x, x.view(-1)), X, passes=passes)


def test_outputs_that_are_views_of_each_other_share_storage(passes: Any) -> None:
    assert_same(lambda x: [(y := x * 2), y.t(), y[0], y[:, 1:], y.view(-1)], X, passes=passes)


def test_an_output_that_eager_copies_shares_nothing(passes: Any) -> None:
    assert_same(lambda x: ((y := x * 2), y.clone(), y.t().contiguous(), y.contiguous()), X, passes=passes)


def test_strides_are_kept(passes: Any) -> None:
    assert_same(lambda x: (x.t() + 1, x.t().clone(), torch.empty_like(x.t()).fill_(1)), X, passes=passes)


def test_writes_into_an_input_and_its_views_are_kept(passes: Any) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        before = x + 1
        x.add_(1)
        x.view(-1)[2:].mul_(2)
        x[0, 0] = 7
        return before * (x + 1)

    assert_same(program, X, passes=passes)


def test_a_write_through_one_of_two_inputs_that_share_storage_is_seen_in_the_other(passes: Any) -> None:
    base = X.clone()

    def program(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
        c = b * 2
        a.mul_(3)
        return c, b * 2

    assert_same(program, base[0], base.view(-1)[2:5], passes=passes)


def test_one_tensor_passed_twice_stays_one(passes: Any) -> None:
    x = X.clone()
    assert_same(lambda a, b: (a.add_(1), b * 2, a is b), x, x, passes=passes)


def test_the_out_argument_is_written_and_returned(passes: Any) -> None:
    assert_same(lambda x, y: torch.add(x, x, out=y), X, torch.empty(2, 4), passes=passes)
