"""Convolutions and means over windows are read as what they compute, compared on small integers."""

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from graphopt.algebra.polynomial import NoPolynomial
from tests.algebra.evaluation import evaluated
from tests.algebra.test_reading import captured, integers, polynomial

Program = Callable[..., Tensor]
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def is_read(program: Program, *shapes: tuple[int, ...]) -> bool:
    """Whether it is, and to what it computes."""
    args = integers(*shapes)
    graph = captured(program, args)
    p = polynomial(graph)
    values = {entry.value.name: arg for entry, arg in zip(graph.inputs, args, strict=True)}
    return torch.equal(evaluated(p, values), program(*(arg.double() for arg in args)))


SETTINGS = [
    one
    for one in itertools.product((1, 2, 3), (0, 1, 2), (1, 2), (1, 2), (1, 2, 3, 4))
    if one[2] * (one[4] - 1) < 7 + 2 * one[1]
][::5]


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups", "kernel"), SETTINGS)
def test_a_convolution_is(stride: int, padding: int, dilation: int, groups: int, kernel: int) -> None:
    def program(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv1d(x, w, b, stride, padding, dilation, groups)

    assert is_read(program, (2, 4, 7), (2, 4 // groups, kernel), (2,))


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups", "kernel"), SETTINGS)
@pytest.mark.parametrize("more", [0, 1])
def test_the_sum_of_a_transposed_convolution_is(
    stride: int, padding: int, dilation: int, groups: int, kernel: int, more: int
) -> None:
    if more >= max(stride, dilation):
        pytest.skip("torch takes none")

    def transposed(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv_transpose1d(x, w, b, stride, padding, more, groups, dilation)

    shapes = (2, 4, 5), (4, 2, kernel), (2 * groups,)
    assert is_read(transposed, *shapes)
    assert is_read(lambda *args: transposed(*args).sum(2), *shapes)
    assert is_read(lambda *args: transposed(*args)[:, :, 0], *shapes)
    assert is_read(lambda *args: transposed(*args)[:, :, ::stride].sum(0), *shapes)


PROGRAMS: dict[str, tuple[Program, tuple[tuple[int, ...], ...]]] = {
    "in 2 dimensions": (
        lambda x, w, b: F.conv2d(x, w, b, (2, 1), (0, 2), (1, 2), 2), ((2, 4, 5, 6), (6, 2, 3, 2), (6,)),
    ),
    "in 3 dimensions": (lambda x, w: F.conv3d(x, w, None, 2, 1), ((1, 2, 3, 4, 3), (2, 2, 2, 3, 1))),
    "transposed in 2": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, (2, 1), (1, 0), (1, 0), 2, 1),
        ((2, 4, 3, 4), (4, 2, 3, 2), (4,)),
    ),
    "transposed in 3": (
        lambda x, w: F.conv_transpose3d(x, w, None, 2).sum((2, 3)), ((1, 2, 2, 3, 2), (2, 2, 2, 3, 2))
    ),
    "of all channels": (lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 3), ((2, 3, 4, 4), (3, 1, 3, 3))),
    "of one image": (lambda x, w, b: F.conv2d(x, w, b, padding=1), ((3, 4, 4), (2, 3, 3, 3), (2,))),
    "of one channel": (lambda x, w: F.conv2d(x, w), ((2, 1, 4, 4), (2, 1, 3, 3))),
    "as large as its input": (
        lambda x, w: F.conv2d(x, w, None, 1, "same", (1, 2)), ((2, 2, 5, 6), (2, 2, 3, 2))
    ),
    "with no zeros by name": (lambda x, w: F.conv1d(x, w, None, 2, "valid"), ((2, 2, 6), (2, 2, 3))),
    "a kernel as large as the image": (lambda x, w: F.conv2d(x, w), ((2, 3, 4, 5), (2, 3, 4, 5))),
    "of a transpose": (lambda x, w: F.conv1d(x.mT, w, padding=1), ((2, 5, 3), (2, 3, 3))),
    "of zeros at the sides": (lambda x, w: F.conv1d(F.pad(x, (2, 1)), w, padding=1), ((2, 2, 5), (2, 2, 3))),
    "of a 1 × 1 convolution": (
        lambda x, w, v: F.conv2d(F.conv2d(x, w), v, padding=1), ((1, 2, 3, 3), (3, 2, 1, 1), (2, 3, 2, 2))
    ),
    "of a convolution": (
        lambda x, w, v: F.conv1d(F.conv1d(x, w), v), ((1, 2, 7), (3, 2, 3), (2, 3, 2)),
    ),
    "of channels that are made of two": (
        lambda x, w: F.conv1d(x.flatten(1, 2), w, groups=2), ((2, 2, 3, 4), (4, 3, 2))
    ),
    "one corner": (lambda x, w: F.conv2d(x, w, padding=1)[:, :, 0, -1], ((2, 2, 4, 4), (2, 2, 3, 3))),
    "its first row": (lambda x, w: F.conv2d(x, w, padding=2)[:, :, 0], ((2, 2, 4, 4), (2, 2, 3, 3))),
    "the mean of it": (
        lambda x, w, b: F.conv2d(x, w, b, 2, 1).mean((2, 3)), ((2, 2, 8, 4), (2, 2, 3, 3), (2,))
    ),
    "the sum of a slice of it": (
        lambda x, w: F.conv2d(x, w, None, 1, 1)[:, :, 1:, :3].sum((2, 3)), ((2, 2, 5, 4), (2, 2, 3, 3))
    ),
    "zeros at the sides": (lambda x: F.pad(x, (1, 2, 3, 0)), ((2, 3, 4),)),
    "means over windows": (lambda x: F.avg_pool2d(x, (2, 4), (1, 2), (0, 1)), ((2, 2, 4, 6),)),
    "means over windows, a sum": (lambda x: F.avg_pool1d(x, 4, 2, 1).sum(-1), ((2, 2, 8),)),
    "means over windows by another number": (lambda x: F.avg_pool2d(x, 3, divisor_override=2), ((2, 6, 6),)),
    "means over windows that end within": (
        lambda x: F.avg_pool2d(x, 2, count_include_pad=False), ((2, 4, 6),)
    ),
    "a mean of means": (lambda x: F.avg_pool3d(x, 2).mean((2, 3, 4)), ((2, 2, 4, 2, 4),)),
    "means over all": (lambda x: F.adaptive_avg_pool2d(x, 1), ((2, 2, 4, 4),)),
    "means over equal parts": (lambda x: F.adaptive_avg_pool1d(x, 2), ((2, 2, 8),)),
    "means over rows": (lambda x: F.adaptive_avg_pool2d(x, (None, 1)), ((2, 2, 3, 4),)),
    "patches": (lambda x: F.unfold(x, (2, 3), padding=1, stride=(2, 1)), ((2, 2, 4, 5),)),
    "patches that are weighed": (
        lambda x, w: w @ F.unfold(x, 2, dilation=2), ((2, 2, 4, 5), (3, 8))
    ),
    "what is flipped": (lambda x, w: x.flip(0, 1) @ w, ((3, 4), (4, 2))),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is(name: str) -> None:
    program, shapes = PROGRAMS[name]
    assert is_read(program, *shapes)


UNREAD: dict[str, tuple[Program, tuple[tuple[int, ...], ...]]] = {
    "means of fewer at the edges": (
        lambda x: F.avg_pool1d(x, 2, 2, 1, count_include_pad=False), ((2, 2, 4),)
    ),
    "means of fewer at some edges": (
        lambda x: F.avg_pool2d(x, 2, 2, (1, 0), count_include_pad=False), ((2, 2, 4, 4),)
    ),
    "a last window of fewer": (lambda x: F.avg_pool1d(x, 2, 2, ceil_mode=True), ((2, 2, 5),)),
    "parts that are not equal": (lambda x: F.adaptive_avg_pool1d(x, 2), ((2, 2, 5),)),
    "a bias that ends at an edge": (
        lambda x, b, w: F.conv1d(x + b[:, None], w, padding=1), ((2, 2, 5), (2,), (2, 2, 3))
    ),
    "a part of a tensor": (lambda x, w: F.conv1d(x[..., 1:], w, padding=1), ((2, 2, 5), (2, 2, 3))),
    "zeros that reach too far": (lambda x, w: F.conv1d(x, w, padding=19), ((2, 2, 2), (2, 2, 3))),
    "zeros between": (lambda x, w: F.conv1d(F.conv1d(x, w, padding=1), w, padding=1), ((2, 2, 5), (2, 2, 3))),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_it_is_not(name: str) -> None:
    program, shapes = UNREAD[name]
    graph = captured(program, integers(*shapes))
    with pytest.raises(NoPolynomial):
        polynomial(graph)
