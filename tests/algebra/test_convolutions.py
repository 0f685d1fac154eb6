"""Sums, means and parts of convolutions compute what is asked, with edges right, and are proven."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import graphopt
from graphopt.algebra import improving
from graphopt.algebra.certificate import certificate
from graphopt.algebra.polynomial import NoPolynomial, Polynomial, leaf
from graphopt.algebra.pricing import Prices
from graphopt.algebra.reaches import windows
from graphopt.algebra.rewriting import proven
from graphopt.algebra.showing import Lemma
from graphopt.algebra.windows import Sums
from graphopt.ir.graph import Value
from graphopt.ir.types import TensorType
from passes.sum_product import SumProduct
from tests.algebra.test_reading import captured

PASSES = ("redundant-view", "common-subexpression", "sum-product", "dead-code")
X, W, B = (2, 16, 28, 28), (16, 16, 3, 3), (16,)


def optimized(program: Callable[..., Any], *shapes: tuple[int, ...]) -> graphopt.Optimized:
    torch.manual_seed(0)
    args = tuple(torch.randn(shape) * shape[-1] ** -0.5 for shape in shapes)
    with torch.no_grad():
        found = graphopt.optimize(program, args, passes=PASSES, measure=False)
        assert found.report.equivalent is True
        assert not found.report.rolled_back
        torch.testing.assert_close(found(*args), program(*args), atol=1e-4, rtol=1e-4)
    return found


def operators(found: graphopt.Optimized) -> set[str]:
    return {node.op.split(".")[1] for node in found.graph.nodes}


WITHOUT: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "the mean of all positions": (lambda x, w, b: F.conv2d(x, w, b).mean((2, 3)), (X, W, B)),
    "padded": (lambda x, w, b: F.conv2d(x, w, b, padding=1).mean((2, 3), keepdim=True), (X, W, B)),
    "strides and dilation": (
        lambda x, w, b: F.conv2d(x, w, b, (2, 3), (2, 0), (2, 1)).sum((2, 3)),
        ((8, 64, 56, 56), (64, 64, 3, 3), (64,)),
    ),
    "a large kernel": (
        lambda x, w, b: F.conv2d(x, w, b, 2, 3).mean((2, 3)), ((2, 3, 96, 96), (32, 3, 7, 7), (32,))
    ),
    "groups": (lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 4).sum((2, 3)), ((8, 64, 56, 56), (64, 16, 3, 3))),
    "one dimension": (lambda x, w: F.conv1d(x, w, padding="same").sum(-1), ((8, 64, 500), (64, 64, 5))),
    "three": (
        lambda x, w, b: F.conv3d(x, w, b, 1, 1).mean((2, 3, 4)), ((2, 8, 12, 12, 12), (16, 8, 3, 3, 3), (16,))
    ),
    "the mean over everything": (
        lambda x, w, b: F.conv2d(x, w, b, padding=1).mean(), ((8, 16, 56, 56), W, B)
    ),
    "global pooling": (
        lambda x, w, b: F.adaptive_avg_pool2d(F.conv2d(x, w, b), 1).flatten(1), (X, (64, 16, 1, 1), (64,))
    ),
    "one window over everything": (
        lambda x, w, b: F.avg_pool2d(F.conv2d(x, w, b, padding=1), 28).flatten(1), (X, W, B)
    ),
    "transposed": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1).mean((2, 3)),
        ((4, 64, 28, 28), (64, 64, 3, 3), (64,)),
    ),
    "transposed into tiles": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2).mean((2, 3)), ((4, 64, 28, 28), (64, 64, 2, 2), (64,))
    ),
    "one position": (lambda x, w, b: F.conv2d(x, w, b, padding=1)[:, :, 0, -1] * 2, (X, W, B)),
    "the last of a causal one": (
        lambda x, w: F.conv1d(F.pad(x, (4, 0)), w, dilation=2)[..., -1] + 1, ((8, 64, 500), (64, 64, 3))
    ),
    "patches": (
        lambda x, w, b: F.conv2d(x, w, b, stride=8).flatten(2).mean(2),
        ((4, 32, 56, 56), (64, 32, 8, 8), (64,)),
    ),
    "patches as columns": (
        lambda x, w: (w @ F.unfold(x, 3, padding=1)).mean(2), ((4, 32, 32, 32), (64, 288))
    ),
    "a convolution and a linear layer": (
        lambda x, w, b, v: F.linear(F.conv2d(x, w, b, padding=1).mean((2, 3)), v), (X, W, B, (10, 16))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT)
def test_no_convolution_is_left_of(name: str) -> None:
    program, shapes = WITHOUT[name]
    found = optimized(program, *shapes)
    assert not any("conv" in one or "col" in one for one in operators(found))


SMALLER: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], tuple[int, ...]]] = {
    "a row": (lambda x, w, b: F.conv2d(x, w, b, padding=1)[:, :, 5] * 2, (X, W, B), (2, 16, 28)),
    "a slice of rows": (
        lambda x, w, b: F.conv2d(x, w, b, padding=1)[:, :, 5:10] * 2, (X, W, B), (2, 16, 5, 28)
    ),
    "some channels": (lambda x, w: F.conv2d(x, w, padding=1)[:, 3:5] * 2, (X, W), (2, 2, 28, 28)),
    "the mean over rows": (lambda x, w, b: F.conv2d(x, w, b, padding=1).mean(2), (X, W, B), (2, 16, 28)),
    "the mean over a batch": (
        lambda x, w, b: F.conv2d(x, w, b, padding=1).mean(0), ((8, 16, 28, 28), W, B), (1, 16, 28, 28)
    ),
    "what is multiplied by the same": (
        lambda x, w, v: F.conv2d(x, w, padding=1) + F.conv2d(x, v, padding=1), (X, W, W), (2, 16, 28, 28)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALLER)
def test_one_small_convolution_is_left_of(name: str) -> None:
    program, shapes, made = SMALLER[name]
    found = optimized(program, *shapes)
    left = [node for node in found.graph.nodes if "conv" in node.op]
    assert [node.results[0].type.shape for node in left] == [made]  # type: ignore[union-attr]


def test_1_by_1_convolutions_in_a_row_are_one_product() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(16, 128, 1), torch.nn.Conv2d(128, 16, 1)).requires_grad_(
        False
    )
    x = torch.randn(X)
    with torch.no_grad():
        found = graphopt.optimize(model, (x,), passes=[*PASSES, "derived-parameter"], measure=False)
        torch.testing.assert_close(found(x), model(x), atol=1e-5, rtol=1e-4)
    assert not {(2, 128, 28, 28), (128, 1568)} & {
        tuple(node.results[0].type.shape)  # type: ignore[union-attr]
        for node in found.graph.nodes
    }


def test_a_mean_of_means_is_one_mean() -> None:
    found = optimized(lambda x: F.avg_pool2d(x, 2).mean((2, 3)), (8, 64, 56, 56))
    assert operators(found) == {"sum", "mul"}


LEFT: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "a convolution": (lambda x, w, b: F.conv2d(x, w, b, padding=1), (X, W, B)),
    "with something added": (lambda x, w, b: F.conv2d(x, w, b, padding=1) + x, (X, W, B)),
    "in a row": (lambda x, w, v: F.conv2d(F.conv2d(x, w, padding=1).relu(), v), (X, W, W)),
    "transposed": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2) * 2, (X, (16, 16, 2, 2), B)),
    "means that are unequal at the edges": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False).mean((2, 3)), (X,)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left(name: str) -> None:
    program, shapes = LEFT[name]
    assert "sum-product" not in {step.pass_name for step in optimized(program, *shapes).report.steps}


def test_what_is_around_a_convolution_is_still_found() -> None:
    def program(x: Tensor, w: Tensor, a: Tensor, b: Tensor, v: Tensor) -> Tensor:
        return F.conv2d(x, w, padding=1) + (a @ b @ v)[:, None, None]

    found = optimized(program, X, W, (16, 400), (400, 400), (400,))
    assert "conv2d" in operators(found)
    assert "mm" not in operators(found)


def test_a_tensor_that_is_laid_out_by_channels_is_kept_so() -> None:
    x, w = torch.randn(X).to(memory_format=torch.channels_last), torch.randn(W)
    with torch.no_grad():
        program = lambda x, w: F.conv2d(x, w, padding=1)[:, :, 5:10] * 2  # noqa: E731
        found = graphopt.optimize(program, (x, w), passes=PASSES, measure=False)
        assert found(x, w).stride() == program(x, w).stride()
        torch.testing.assert_close(found(x, w), program(x, w), atol=1e-4, rtol=1e-4)


class _All(SumProduct):
    """Rewrites whatever it can, whatever it costs."""

    def run(self, draft: Any) -> None:
        seconds_of = improving.seconds_of
        with patch.multiple(
            improving,
            seconds_of=lambda nodes, *rest: 1e3 if isinstance(nodes, tuple) else seconds_of(nodes, *rest),
        ):
            super().run(draft)


EDGES = [
    (size, kernel, stride, padding, dilation)
    for size in (5, 6)
    for kernel in (1, 2, 3)
    for stride in (1, 2, 3)
    for padding in (0, 1, 2)
    for dilation in (1, 2)
    if dilation * (kernel - 1) + stride < size + 2 * padding  # two positions at least
][::8]


@pytest.mark.parametrize("by_parts", [True, False])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation"), EDGES)
def test_edges_are_right(
    size: int, kernel: int, stride: int, padding: int, dilation: int, by_parts: bool
) -> None:
    """To the last bit: these are small integers."""

    def program(x: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        y = F.conv1d(x, w, None, stride, padding, dilation)
        z = F.conv_transpose1d(x, v, None, stride, padding, 0, 1, dilation) if kernel > padding else x
        return y.sum(2), y[:, :, -1] * 2, y[:, :, 1:].sum(2), z.sum(2), z[..., 0] * 2

    generator = torch.Generator().manual_seed(0)
    shapes = (2, 2, size), (3, 2, kernel), (2, 3, kernel)
    args = tuple(torch.randint(-3, 4, shape, generator=generator).double() for shape in shapes)
    chosen = patch.object(
        Prices, "is_by_parts", lambda self, sums, rows: by_parts and sums.parts() is not None
    )
    with torch.no_grad(), chosen:
        found = graphopt.optimize(program, args, passes=[_All(), "dead-code"], verify=False)
        assert any(step.pass_name == "sum-product" for step in found.report.steps)
        for one, other in zip(found(*args), program(*args), strict=True):
            assert torch.equal(one, other)
            assert one.stride() == other.stride()


SUMS = Sums(size=9, start=-1, count=3, step=1, length=9, apart=1)
SOURCE = Value("x", TensorType(torch.float64, (2, 9), (9, 1), torch.device("cpu")))


def lemma(program: Callable[[Tensor], Tensor], sums: Sums = SUMS) -> Lemma:
    """That a program computes sums over windows."""
    graph = captured(program, (torch.randn(2, sums.size, dtype=torch.float64),))
    (entry,) = graph.inputs
    return Lemma(entry.value, 1, sums, tuple(graph.nodes))


def of_three(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    return torch.stack([first, second, third], 1)


def RIGHT(x):
    return of_three((core := x[:, 1:8].sum(1)) + x[:, 0], core + x[:, 0] + x[:, 8], core + x[:, 8])


WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "an edge on the other side": lambda x: of_three(
        (core := x[:, 1:8].sum(1)) + x[:, 8], core + x[:, 0] + x[:, 8], core + x[:, 0]
    ),
    "an edge less": lambda x: of_three((c := x[:, 1:8].sum(1)) + x[:, 0], c + x[:, 0], c + x[:, 8]),
    "an edge twice": lambda x: of_three((c := x[:, :8].sum(1)) + x[:, 0], c + x[:, 8], x[:, 1:].sum(1)),
    "one element less": lambda x: of_three(x[:, :8].sum(1), x.sum(1), x[:, 2:].sum(1)),
    "one at the far end less": lambda x: of_three(x[:, :8].sum(1), x[:, :8].sum(1), x[:, 1:].sum(1)),
    "another in its place": lambda x: of_three(x[:, :8].sum(1), x.sum(1), x[:, 1:8].sum(1) + x[:, 7]),
    "no edges": lambda x: of_three(x.sum(1), x.sum(1), x.sum(1)),
}  # fmt: skip


def test_sums_of_parts_are_proven() -> None:
    found = proven(lemma(RIGHT), {})
    assert found.holds and found.bound < 1e-12


@pytest.mark.parametrize("name", WRONG)
def test_the_proof_rejects(name: str) -> None:
    assert not proven(lemma(WRONG[name]), {}).holds


def tensor(name: str, *shape: int) -> Polynomial:
    strides = torch.empty(shape, device="meta").stride()
    return leaf(Value(name, TensorType(torch.float64, shape, strides, torch.device("cpu"))), shape)


def test_windows_that_differ_at_an_edge_alone_are_told_apart() -> None:
    """Though indices run over their first two or three elements only, all of which are outside here."""
    x = tensor("x", 4, 50)
    wanted = windows(x, 1, 50, 1, 7, 1, -3)
    for start, count, length in ((-2, 50, 7), (-4, 50, 7), (-3, 49, 7), (-3, 50, 6)):
        other = windows(x, 1, count, 1, length, 1, start)
        if other.shape == wanted.shape:
            assert not certificate(wanted, other).holds
        assert not certificate(wanted.summed((1, 2)), other.summed((1, 2))).holds
    assert certificate(wanted, windows(x, 1, 50, 1, 7, 1, -3)).holds


def test_an_element_outside_is_no_other_element() -> None:
    x = tensor("x", 4, 50)
    one = windows(x, 1, 2, 1, 1, 1, -1).permuted((0, 2, 1))
    other = windows(x, 1, 2, 1, 1, 1, 49).permuted((0, 2, 1))
    assert not certificate(one, other).holds


def test_windows_of_what_does_not_end_at_an_edge_are_none() -> None:
    with pytest.raises(NoPolynomial):
        windows(windows(tensor("x", 4, 50), 1, 40, 1, 1, 1, 3), 1, 42, 1, 1, 1, -1)


def test_a_step_whose_sums_are_not_proven_is_not_taken() -> None:
    def wrong(make: Any, value: Value, dim: int, parts: Any) -> Value:
        from graphopt.algebra.showing import summed_by_parts

        return summed_by_parts(make, value, dim, parts[::-1])

    x, w = torch.randn(X), torch.randn(W)
    with torch.no_grad(), patch("graphopt.algebra.convolving.summed_by_parts", wrong):
        found = graphopt.optimize(
            lambda x, w: F.conv2d(x, w, padding=1).mean((2, 3)), (x, w), passes=PASSES, verify=False
        )
    assert not found.report.steps
    assert "the rewritten form is not the same polynomial" in {one.why_not for one in found.report.missed}


def test_the_model_is_whole() -> None:
    """A classifier that pools what a convolution makes, and a few positions beside it."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 32, 7, 2, 3)
            self.last = torch.nn.Conv2d(32, 64, 3, padding=1)
            self.up = torch.nn.ConvTranspose2d(32, 16, 4, 2, 1)
            self.head = torch.nn.Linear(64, 10)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            x = self.stem(x).relu()
            return self.head(self.last(x).mean((2, 3))), self.up(x).mean((2, 3)), self.last(x)[:, :, 0]

    model, x = Model(), torch.randn(2, 3, 64, 64)
    found = graphopt.optimize(model, (x,), passes=PASSES, measure=False)
    assert found.report.equivalent is True
    assert any(step.pass_name == "sum-product" for step in found.report.steps)
    for one, other in zip(found(x), model(x), strict=True):  # with gradients it is as written
        assert torch.equal(one, other)
    with torch.no_grad():
        for one, other in zip(found(x), model(x), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
            assert one.stride() == other.stride()
