"""Other gradients are seen."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.verify import copy_arguments, difference, observe
from tests.verify.observed import Counter, seen


def test_a_gradient_that_no_longer_arrives_is_seen() -> None:
    def both(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x * w

    def one(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x * w.detach()

    x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    assert seen(both, both, x, w, backward=True) is None
    assert seen(both, one, x, w, backward=False) is None
    assert str(seen(both, one, x, w, backward=True)).startswith("gradient of args[1]")
    assert str(seen(one, both, x, w, backward=True)).startswith("gradient of args[1]")


def test_another_gradient_is_seen_within_a_stated_tolerance_only() -> None:
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * (1 + 2**-20)

    x = torch.ones(2, requires_grad=True)
    message = seen(lambda x: x * 1, Scaled.apply, x, backward=True)
    assert "8 ULP" in str(message)
    assert seen(lambda x: x * 1, Scaled.apply, x, backward=True, tolerance=1e-5) is None
    assert seen(lambda x: x * 1, Scaled.apply, x, backward=True, tolerance=1e-7)


def test_a_gradients_memory_layout_is_not_told_apart() -> None:
    def transposed(x: torch.Tensor) -> torch.Tensor:
        return x.t() @ torch.arange(4.0).reshape(2, 2)

    def plain(x: torch.Tensor) -> torch.Tensor:
        return (torch.arange(4.0).reshape(2, 2).t() @ x).t()

    x = torch.ones(2, 2, requires_grad=True)
    gradients = []
    for program in (transposed, plain):
        (copied,), _ = copy_arguments((x,))
        gradients.append(observe(program, (copied,), backward=True).gradients)
    assert gradients[0] == gradients[1]


def test_the_gradient_of_a_complex_output_is_seen() -> None:
    x = torch.ones(2, dtype=torch.complex64, requires_grad=True)
    message = seen(lambda x: x * 1j, lambda x: (x * 1j).detach() + x * 0, x, backward=True)
    assert "gradient of args[0]" in str(message)


def test_a_backward_that_no_longer_raises_is_seen() -> None:
    def spoiled(x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        z = y * 1
        y.mul_(2)
        return z + y * 0

    def fine(x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        return y * 1 + (y * 2) * 0

    message = seen(spoiled, fine, torch.ones(2, requires_grad=True), backward=True)
    assert str(message).startswith("backward: expected RuntimeError")


def test_the_gradient_of_a_parameter_is_seen() -> None:
    one, other = Counter(1.0), Counter(1.0)
    x = torch.ones(2)
    expected = observe(one, (x,), module=one, backward=True)
    with torch.no_grad():
        other.weight.copy_(one.weight)
    observed = observe(lambda x: other(x) * 1, (x * 1,), module=other, backward=True)
    assert difference(expected, observed) is None
    doubled = Counter(1.0)
    observed = observe(lambda x: doubled(x) + 0 * doubled.weight, (x,), module=doubled)
    assert str(difference(expected, observed)).startswith("gradient of parameter 'weight'")
