"""Where the cheaper way depends on a size, both are there, and each call takes the one for its sizes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

import graphopt
from graphopt.module import serving_of

WIDTH, RANK = 768, 16
AUTO = torch.export.Dim.AUTO


class LoRA(torch.nn.Module):
    """Weights that callers hold: nothing is kept from call to call."""

    def forward(self, x: Tensor, w: Tensor, b: Tensor, a: Tensor) -> Tensor:
        return x @ (w + b @ a).mT


def weights() -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    return torch.randn(WIDTH, WIDTH) / 28, torch.randn(WIDTH, RANK) / 28, torch.randn(RANK, WIDTH)


def optimized(tokens: int, **options: Any) -> graphopt.Optimized:
    shapes = {"x": {0: AUTO}, "w": None, "b": None, "a": None}
    given = {"measure": False, "profile": graphopt.profile.default(), "on_guard": "error"} | options
    with torch.no_grad():
        return graphopt.optimize(
            LoRA(), (torch.randn(tokens, WIDTH), *weights()), dynamic_shapes=shapes, **given
        )


@pytest.fixture(scope="module")
def many() -> graphopt.Optimized:
    return optimized(2_000)


def ran(opt: graphopt.Optimized, tokens: int) -> int:
    """Which of the variants serves a call."""
    served = serving_of(opt.module).variants
    call = torch.randn(tokens, WIDTH), *weights()
    with torch.no_grad():
        return next(i for i, one in enumerate(served) if one.gradients(call, {}) is not None)


def crossing_of(opt: graphopt.Optimized) -> int:
    (said,) = opt.report.alternatives
    return int(said.split("<= ")[1].split(":")[0])


def test_the_report_says_when_another_graph_runs(many: graphopt.Optimized) -> None:
    (said,) = many.report.alternatives
    assert said.startswith("when x.shape[0] <= ")
    assert "x·(w + b·a)ᵀ = x·wᵀ + x·aᵀ·bᵀ" in said
    assert f"another graph {said}" in str(many.report)


def test_each_side_of_the_crossing_runs_its_graph(many: graphopt.Optimized) -> None:
    turn = crossing_of(many)
    assert 50 < turn < 1_500
    assert ran(many, turn) == 0
    assert ran(many, turn + 1) == 1


@pytest.mark.parametrize("far", [-100, -1, 0, 1, 100])
def test_both_sides_compute_what_eager_does(many: graphopt.Optimized, far: int) -> None:
    call = torch.randn(crossing_of(many) + far, WIDTH), *weights()
    with torch.no_grad():
        torch.testing.assert_close(many(*call), LoRA()(*call), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tokens", [8, 2_000])
def test_where_gradients_are_wanted_the_bits_are_eagers(many: graphopt.Optimized, tokens: int) -> None:
    def gradients(model: Any) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        x, given = torch.randn(tokens, WIDTH), [one.requires_grad_() for one in weights()]
        made = model(x, *given)
        return made, *torch.autograd.grad(made.square().sum(), given)

    for ours, eagers in zip(gradients(many), gradients(LoRA()), strict=True):
        assert torch.equal(ours, eagers)


def test_the_other_graph_is_found_from_either_side() -> None:
    few = optimized(16)
    assert not few.report.alternatives or "x.shape[0] >= " in few.report.alternatives[0]


def test_copies_and_pickles_choose_too(many: graphopt.Optimized) -> None:
    call = torch.randn(8, WIDTH), *weights()
    for made in (copy.deepcopy(many.module), pickle.loads(pickle.dumps(many.module))):
        assert len(serving_of(made).variants) == 2
        with torch.no_grad():
            assert torch.equal(made(*call), many(*call))


def test_without_symbolic_sizes_there_is_no_other_graph() -> None:
    with torch.no_grad():
        opt = graphopt.optimize(LoRA(), (torch.randn(64, WIDTH), *weights()), measure=False)
    assert opt.report.alternatives == ()
    assert len(serving_of(opt.module).variants) == 1


def test_the_choice_survives_torch_compile(many: graphopt.Optimized) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(many.module, backend="eager", dynamic=True)
    with torch.no_grad():
        for tokens in (8, 2_000):
            call = torch.randn(tokens, WIDTH), *weights()
            torch.testing.assert_close(compiled(*call), many(*call), rtol=1e-4, atol=1e-4)
