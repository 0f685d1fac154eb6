"""Calls that end midway: what forward does before it raises is done, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import graphopt

GOOD, BAD = torch.eye(3) * 2, -torch.eye(3)


class Keeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("before", torch.zeros(3, 3))
        self.register_buffer("after", torch.zeros(3, 3))
        self.twice = torch.zeros(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.before = x + 1
        self.twice = x + 2
        drawn = torch.rand(3, 3)
        factor = torch.linalg.cholesky(x)
        self.twice = (factor + drawn).contiguous()
        self.after = (factor * drawn).contiguous()
        return factor


def outcome(program: Any, x: torch.Tensor) -> tuple[str, torch.Tensor]:
    """The exception of a call, and the random state after it."""
    torch.manual_seed(0)
    try:
        program(x)
    except Exception as error:
        return type(error).__name__, torch.get_rng_state()
    return "", torch.get_rng_state()


def test_attributes_assigned_before_a_raise_are_assigned_and_later_ones_not() -> None:
    eager, model = Keeps(), Keeps()
    opt = graphopt.optimize(model, (GOOD,), verify=False, on_guard="error")
    for x in (GOOD, BAD, GOOD):
        seen = [outcome(eager, x), outcome(opt, x)]
        assert [raised for raised, _ in seen] == ["" if x is GOOD else "_LinAlgError"] * 2
        assert torch.equal(seen[0][1], seen[1][1])
        for name in ("before", "after", "twice"):
            assert torch.equal(getattr(model, name), getattr(eager, name)), name


def test_an_argument_filled_before_a_raise_is_filled_as_far() -> None:
    def program(x: torch.Tensor, out: list[torch.Tensor]) -> torch.Tensor:
        out.append(x + 1)
        out.append(torch.linalg.cholesky(x))
        return x

    opt = graphopt.optimize(program, (GOOD, []), verify=False, on_guard="error")
    for call in (program, opt):
        out: list[torch.Tensor] = []
        with pytest.raises(torch.linalg.LinAlgError):
            call(BAD, out)
        assert len(out) == 1
        assert torch.equal(out[0], BAD + 1)


class Writes(nn.Module):
    """Assigns an attribute, writes in place, and raises on bad values."""

    def __init__(self, raises: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(3, 3))
        self.register_buffer("count", torch.zeros(()))
        self.raises = raises

    def forward(self, x: torch.Tensor) -> Any:
        self.count.add_(1)
        self.seen = x + 1
        return self.raises(x)


def test_what_can_neither_be_undone_nor_told_is_refused() -> None:
    with pytest.raises(graphopt.Unsupported, match=r"assigns seen and writes in place .*add_.*cholesky"):
        graphopt.optimize(Writes(torch.linalg.cholesky), (GOOD,), measure=False)


def test_it_is_taken_where_nothing_raises() -> None:
    model = Writes(torch.exp)
    opt = graphopt.optimize(model, (GOOD,), verify=False, on_guard="error")
    opt(GOOD)
    assert model.count == 1
    assert torch.equal(model.seen, GOOD + 1)


def test_a_call_that_raises_is_not_taken_for_a_broken_guard() -> None:
    opt = graphopt.optimize(Keeps(), (GOOD,), verify=False, on_guard="error")
    with pytest.raises(torch.linalg.LinAlgError):
        opt(BAD)
    opt(GOOD)
