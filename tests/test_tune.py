"""With `tune` near ties are settled by timing, whatever the prices say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

import graphopt
from graphopt.profile import Profile, Table, default

N = 512
M, V = (N, N), (N,)


def common(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return a @ b + a @ c


def taken(profile: Profile, **options: Any) -> bool:
    torch.manual_seed(0)
    args = tuple(map(torch.randn, (M, M, M)))
    with torch.no_grad():
        opt = graphopt.optimize(
            common, args, passes=["sum-product"], profile=profile, verify=False, **options
        )
    return bool(opt.report.steps)


def planted() -> Profile:
    """A machine on which a product is said to take a fifth of a sum: A (B + C) saves 14 % of A B + A C then,
    and not half of it."""
    known = default()
    table = known.tables["linear"]
    price = 0.2 * known.tables["pointwise"].at(3 * N * N * 4) / table.at(N, N, N)
    cheap = Table(table.axes, tuple(price * seconds for seconds in table.seconds))
    return replace(known, tables={**known.tables, "linear": cheap})


def test_a_wrong_price_hides_a_rewrite_and_timing_finds_it() -> None:
    assert not taken(planted())
    assert taken(planted(), tune=True)


def test_without_it_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def raced(first: Any, second: Any) -> float:
        raise AssertionError

    monkeypatch.setattr("graphopt.optimizer.raced", raced)
    assert taken(default())


@pytest.mark.parametrize("ratio, expected", [(1.9, True), (0.9, False), (None, True)])
def test_the_timing_decides_and_else_the_price(
    monkeypatch: pytest.MonkeyPatch, ratio: float | None, expected: bool
) -> None:
    monkeypatch.setattr("graphopt.optimizer.raced", lambda first, second: ratio)
    assert taken(default(), tune=True) == expected


def test_what_is_far_apart_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[str] = []

    def raced(first: Any, second: Any) -> None:
        timed.extend(node.op for node in first)

    monkeypatch.setattr("graphopt.optimizer.raced", raced)
    args = torch.randn(512, 512), torch.randn(512, 512), torch.randn(512)
    with torch.no_grad():
        opt = graphopt.optimize(
            lambda a, b, x: a @ b @ x, args, passes=["sum-product"], measure=False, verify=False, tune=True
        )
    assert opt.report.steps and "aten.matmul.default" not in timed


def timed(program: Callable[..., Any], *shapes: tuple[int, ...]) -> list[list[str]]:
    """The operators of what is timed."""
    found: list[list[str]] = []

    def raced(first: Any, second: Any) -> None:
        found.append([node.op.split(".")[1] for node in first])

    args = tuple(torch.randn(shape) for shape in shapes)
    with torch.no_grad(), patch("graphopt.optimizer.raced", raced):
        graphopt.optimize(
            program, args, passes=["sum-product"], measure=False, verify=False, tune=True, profile=planted()
        )
    return found


def test_what_is_alike_is_timed_once() -> None:
    found = timed(lambda a, b, c, d: (a @ b + a @ c, torch.tanh(d), d @ b + d @ c), *[M] * 4)
    assert found == [["matmul", "matmul", "add"]]


def test_what_would_be_done_as_it_is_is_not_timed() -> None:
    assert not timed(lambda a, b, x: a @ (b @ x), M, M, V)
    assert not timed(lambda a, b, c: (a @ b) @ c, M, M, M)
    assert not timed(lambda a, b, c: a @ (b + c), M, M, M)
    assert not timed(lambda a, b: (a * b).sum(1), M, M)


def test_what_is_run_again_is_not_timed_for_it_is_in_no_form() -> None:
    found = timed(lambda a, b, c: (a @ b + a @ c)[:, :400].cumsum(0), *[M] * 3)
    assert found == [["slice", "slice", "add", "mm"]]
