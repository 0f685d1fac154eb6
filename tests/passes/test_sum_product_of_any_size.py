"""Sum-product regions with symbolic sizes: rewritten where the same holds for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import graphopt
from bench.sweep.slow import slow
from passes import sum_product
from tests.passes.test_sum_product import PASSES

Shapes = tuple[tuple[int, ...], ...]


def optimized(program: Callable[..., Any], shapes: Shapes) -> graphopt.Optimized:
    """As on a machine on which even small tensors are work."""
    args = tuple(torch.randn(shape) for shape in shapes)
    with torch.no_grad():
        return graphopt.optimize(
            program,
            args,
            passes=PASSES,
            dynamic_shapes="auto",
            verify=False,
            on_guard="error",
            profile=slow(),
        )


def assert_same_at(opt: graphopt.Optimized, program: Callable[..., Any], shapes: Shapes) -> None:
    args = tuple(torch.randn(shape, dtype=torch.float32) for shape in shapes)
    with torch.no_grad():
        expected = program(*(arg.double() for arg in args))
        largest = expected.abs().max().item()
        torch.testing.assert_close(opt(*args).double(), expected, rtol=0, atol=1e-5 * largest)


def operators(opt: graphopt.Optimized) -> list[str]:
    return [node.op.split(".")[1] for node in opt.graph.nodes]


def identities(opt: graphopt.Optimized) -> list[str]:
    return [step.identity for step in opt.report.steps if step.pass_name == "sum-product"]


FOUND: dict[str, tuple[Callable[..., Any], Shapes, Shapes, str]] = {
    "a chain": (
        lambda a, b, x: a @ b @ x,
        ((6, 7), (7, 8), (8,)), ((9, 4), (4, 30), (30,)), "a·b·x = a·(b·x)",
    ),
    "the last of a sequence": (
        lambda x, w: (x @ w)[:, -1],
        ((3, 6, 8), (8, 9)), ((5, 11, 8), (8, 9)), "[:, -1] = x[:, s1 - 1, :]·w",
    ),
    "linear attention": (
        lambda q, k, v: q @ k.mT @ v,
        ((2, 900, 4), (2, 900, 4), (2, 900, 4)), ((3, 9, 4), (3, 9, 4), (3, 9, 4)), "q·kᵀ·v = q·(kᵀ·v)",
    ),
    "heads": (
        lambda x, w, y: (x @ w).unflatten(-1, (4, 8)).transpose(1, 2) @ y,
        ((2, 6, 5), (5, 32), (8, 1)), ((4, 9, 5), (5, 32), (8, 1)), "",
    ),
    "a mean beside a sum": (
        lambda a, b, x: (a @ x).mean(0) + (b @ x).sum(0),
        ((6, 4), (6, 4), (4, 3)), ((9, 4), (8, 4), (4, 3)), "xᵀ·(1/s0·sum(a, over s0) + sum(b, over s2))",
    ),
    "a covariance": (
        lambda a, y: (a.t() @ a / (2 * a.shape[0])) @ y,
        ((600, 40), (40,)), ((9, 40), (40,)), "",
    ),
    "a share that is whole at some sizes": (
        lambda a, b, x: a @ b @ x * (7 * 11 * 13 * 17 * 19) / a.shape[0],
        ((6, 7), (7, 8), (8,)), ((9, 4), (4, 30), (30,)), "",
    ),
    "a product with a size": (
        lambda a, b, x: a @ b @ x * a.shape[0], ((6, 7), (7, 8), (8,)), ((9, 4), (4, 30), (30,)), "a·(b·x)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_it_is_rewritten_and_right_at_other_sizes(name: str) -> None:
    program, shapes, others, identity = FOUND[name]
    opt = optimized(program, shapes)
    assert opt.graph.symbols
    assert identities(opt)
    assert identity in "; ".join(identities(opt))
    assert_same_at(opt, program, shapes)
    assert_same_at(opt, program, others)


LEFT: dict[str, tuple[Callable[..., Any], Shapes, Shapes]] = {
    "the trace of what may be wider or taller": (
        lambda a, b: (a @ b).trace(), ((6, 3), (3, 9)), ((9, 3), (3, 6)),
    ),
    "a slice that may be cut short": (
        lambda a, x: (a @ x)[:5].sum(0), ((8, 4), (4, 3)), ((5, 4), (4, 3)),
    ),
    "every other row": (lambda a, x: (a @ x)[::2].sum(0), ((8, 4), (4, 3)), ((9, 4), (4, 3))),
    "the mean over a convolution": (
        lambda x, w: torch.nn.functional.conv2d(x, w, padding=3).mean((2, 3)),
        ((2, 3, 20, 20), (4, 3, 7, 7)), ((2, 3, 2, 2), (4, 3, 7, 7)),
    ),
    "a token in front": (
        lambda c, x, w: (torch.cat([c, x], 1) @ w)[:, 0],
        ((2, 1, 8), (2, 6, 8), (8, 3)), ((3, 1, 8), (3, 9, 8), (8, 3)),
    ),
    "a division by less than a size": (
        lambda a, b, x: a @ b @ x / (a.shape[0] - 1), ((6, 4), (4, 5), (5,)), ((9, 4), (4, 5), (5,)),
    ),
    "a scale by a size": (
        lambda a, b: (a @ b).mean(0) * a.shape[0], ((6, 4), (4, 5)), ((9, 4), (4, 5)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_what_depends_on_how_large_a_size_is_is_right_wherever_it_leads(name: str) -> None:
    program, shapes, others = LEFT[name]
    opt = optimized(program, shapes)
    assert opt.graph.symbols
    assert_same_at(opt, program, shapes)
    assert_same_at(opt, program, others)


@pytest.mark.parametrize("name", list(LEFT)[:3])
def test_of_what_may_be_cut_short_nothing_is_rewritten(name: str) -> None:
    program, shapes, _ = LEFT[name]
    assert not any("trace" in said or "[" in said for said in identities(optimized(program, shapes)))


def test_without_the_second_look_a_number_would_stand_for_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(a: Tensor, x: Tensor) -> Tensor:
        return (a @ x).mean(0)

    opt = optimized(program, ((6, 4), (4, 3)))
    assert_same_at(opt, program, ((11, 4), (4, 3)))
    literals = [arg for node in opt.graph.nodes for arg in node.args if "0.16" in str(arg)]
    assert not literals


def test_a_number_that_callers_pass_is_a_size() -> None:
    def program(x: Tensor, w: Tensor, n: int) -> Tensor:
        return (x.reshape(n, -1, 4) @ w)[:, -1]

    args = torch.randn(12, 4), torch.randn(4, 5), 3
    with torch.no_grad():
        opt = graphopt.optimize(
            program, args, passes=PASSES, dynamic_shapes="auto", verify=False, profile=slow()
        )
        for n in (3, 2):
            x = torch.randn(12, 4)
            torch.testing.assert_close(opt(x, args[1], n), program(x, args[1], n), rtol=1e-4, atol=1e-4)


def test_what_is_missed_at_either_size_is_said_once_beside_what_others_miss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    def missed(draft: Any, apart: Any, done: Any) -> bool:
        sizes.append(apart.first.graph)
        draft.miss(draft.graph.nodes[-1], "it is not cheaper")
        return True

    monkeypatch.setattr(sum_product, "_rewritten_for_all", missed)
    report = optimized(lambda x: (x @ x.t(), x.sin(), x.sin()), ((6, 4),)).report
    found = [(one.pass_name, one.why_not) for one in report.missed]
    assert len(sizes) > 1 and found.count(("sum-product", "it is not cheaper")) == 1
    assert ("common-subexpression", "like %sin, but the caller gets both") in found
