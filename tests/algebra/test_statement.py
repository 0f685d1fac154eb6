"""Each step says what it does as a person would write it, in the user's own names."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphopt

N = 256
M, V = (N, N), (N,)

SAID: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "A·B·x = A·(B·x)": (lambda A, B, x: A @ B @ x, (M, M, V)),
    "Aᵀ·A·x = Aᵀ·(A·x)": (lambda A, x: A.t() @ A @ x, (M, V)),
    "A·B·C·A·B = A·B·(C·(A·B))": (lambda A, B, C: A @ B @ C @ A @ B, (M, M, M)),
    "A·B + A·C = A·(B + C)": (lambda A, B, C: A @ B + A @ C, (M, M, M)),
    "(A + B)·x - A·x = B·x": (lambda A, B, x: (A + B) @ x - A @ x, (M, M, V)),
    "(A·B)[2] = Bᵀ·A[2, :]": (lambda A, B: (A @ B)[2], (M, M)),
    "tr(A·B) = sum(A ∘ Bᵀ)": (lambda A, B: torch.trace(A @ B), (M, M)),
    "x·(W + B·A) = x·W + x·B·A": (lambda x, W, B, A: x @ (W + B @ A), ((4, N), M, (N, 8), (8, N))),
    "q·kᵀ·v = q·(kᵀ·v)": (lambda q, k, v: q @ k.t() @ v, ((2048, 32),) * 3),
    "kron(A, B)·x = A·x·Bᵀ": (lambda A, B, x: torch.kron(A, B) @ x, ((24, 24), (24, 24), (576,))),
    "A - outer(v, v) ∘ 2·A = A - 2·v·(Aᵀ·v)ᵀ": (lambda v, A: A - torch.outer(v, v) * 2 @ A, (V, M)),
}  # fmt: skip


def said(program: Any, args: tuple[Tensor, ...]) -> graphopt.Optimized:
    with torch.no_grad():
        return graphopt.optimize(program, args, passes=["sum-product", "dead-code"], verify=False)


@pytest.mark.parametrize("identity", SAID)
def test_a_step_says(identity: str) -> None:
    program, shapes = SAID[identity]
    opt = said(program, tuple(map(torch.randn, shapes)))
    steps = [step for step in opt.report.steps if step.pass_name == "sum-product"]
    assert [step.identity for step in steps] == [identity]
    assert identity in "\n".join(opt.report.findings()) and identity in str(opt.report)
    assert identity in {step["identity"] for step in json.loads(opt.report.to_json())["steps"]}


class Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(N, N, bias=False)

    def forward(self, a: Tensor, x: Tensor) -> Tensor:
        return a @ self.inner.weight @ x


def test_parameters_are_called_by_their_names() -> None:
    opt = said(Projected(), (torch.randn(M), torch.randn(V)))
    assert "a·inner.weight·x = a·(inner.weight·x)" in {s.identity for s in opt.report.steps}


def test_what_would_be_too_long_to_read_is_not_said() -> None:
    def program(a: Tensor, x: Tensor) -> Tensor:
        y = a
        for _ in range(4):
            y = y @ (y + y)  # twice as long each time, and more
        return y @ x

    opt = said(program, (torch.randn(M), torch.randn(V)))
    assert all(len(step.identity) <= 400 for step in opt.report.steps)


def test_the_chance_of_being_wrong_is_said_and_small() -> None:
    opt = said(SAID["A·B·x = A·(B·x)"][0], tuple(map(torch.randn, (M, M, V))))
    (step,) = opt.report.steps
    assert float(step.evidence.rsplit(" ", 1)[1]) < 1e-12
