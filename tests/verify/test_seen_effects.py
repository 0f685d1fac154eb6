"""Random draws, modes and exceptions are seen."""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphopt.verify import difference, observe
from tests.verify.observed import seen


def test_a_random_draw_more_is_seen_though_no_value_changed() -> None:
    def draw(x: torch.Tensor) -> torch.Tensor:
        torch.rand(1)
        return x * 1

    assert str(seen(lambda x: x * 1, draw, torch.ones(2))).startswith("random state")


def test_the_seed_decides_what_is_drawn_and_the_callers_stream_stays() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second, other = (observe(torch.rand, (3,), seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert difference(first, second) is None
    assert difference(first, other) is not None


def test_a_grad_mode_left_behind_is_seen_and_undone() -> None:
    def switch_off(x: torch.Tensor) -> torch.Tensor:
        torch.set_grad_enabled(False)
        return x

    assert "grad mode" in str(seen(lambda x: x, switch_off, torch.ones(1)))
    assert torch.is_grad_enabled()


def test_another_exception_type_is_seen() -> None:
    def fail(kind: type[Exception]) -> Callable[[torch.Tensor], None]:
        def raising(x: torch.Tensor) -> None:
            raise kind("no")

        return raising

    x = torch.ones(1)
    assert seen(fail(ValueError), fail(ValueError), x) is None
    assert "ValueError (no)" in str(seen(fail(ValueError), fail(TypeError), x))
    assert "no exception" in str(seen(fail(ValueError), lambda x: None, x))


def test_a_write_before_an_exception_is_seen() -> None:
    def write_then_fail(x: torch.Tensor) -> None:
        x.add_(1)
        torch.linalg.cholesky(-torch.eye(2))

    def fail(x: torch.Tensor) -> None:
        torch.linalg.cholesky(-torch.eye(2))

    assert str(seen(write_then_fail, fail, torch.zeros(1))).startswith("args[0]")
