"""What must stay as it is, or is right only with care: nothing may be wrong, nothing slower."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from bench.algebra.expression import Shape, Tensors

N = 768
_V, _A = (N,), (N, N)


@dataclass(frozen=True)
class Negative:
    """A program, random inputs of some shapes, and what may be done to those before it is called."""

    name: str
    program: Callable[..., Any]
    inputs: tuple[Shape, ...]
    dtype: torch.dtype = torch.float32
    prepared: Callable[..., Tensors] | None = None

    def tensors(self) -> Tensors:
        """Random inputs; a matrix has singular values near one."""
        generator = torch.Generator().manual_seed(0)
        drawn = tuple(
            (torch.randn(shape, generator=generator) * (shape[-1] ** -0.5 if len(shape) > 1 else 1.0)).to(
                self.dtype
            )
            for shape in self.inputs
        )
        return drawn if self.prepared is None else self.prepared(*drawn)


class Program(nn.Module):
    """A program as a module."""

    def __init__(self, program: Callable[..., Any]) -> None:
        super().__init__()
        self._program = program

    def forward(self, *inputs: Tensor) -> Any:
        """What the program returns."""
        return self._program(*inputs)


def _written_between(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    first = a @ b @ c
    a.add_(1)
    return first + a @ b @ c


def _result_written(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    first = a @ b
    second = first @ c
    first.mul_(2)
    return second + first @ c


def _aliased(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    first = a @ c
    b.mul_(0.5)
    return first + a @ c


def _view_written(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    a[0].zero_()
    return (a @ b) @ c


def _returned_view(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    t = a @ b
    return t, t[2:9] @ c


def _random(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return a @ torch.randn(N, N) + b @ torch.randn(N, N) @ c


def _dropped(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return dropout(a @ b, 0.5, True) @ c + dropout(a @ b, 0.5, True) @ c


def _overflow(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return (a * 1e-3) @ b @ (c * 1e-3)


def _scaled_late(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return ((a / 300.0) @ b) @ c


def _eager_check(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.linalg.inv(torch.zeros(N, N) * a) @ b @ c


CATALOGUE = (
    Negative("random factors", _random, (_A,) * 3),
    Negative("dropout of equal products", _dropped, (_A,) * 3),
    Negative(
        "bernoulli mask drawn twice",
        lambda a, b: torch.bernoulli(a.abs().clamp(0, 1)) @ b + torch.bernoulli(a.abs().clamp(0, 1)) @ b,
        (_A, _A),
    ),
    Negative("an operand written between equal products", _written_between, (_A,) * 3),
    Negative("a product written between its uses", _result_written, (_A,) * 3),
    Negative(
        "inputs that share memory, one written", _aliased, (_A, _A, _A), prepared=lambda a, b, c: (a, a, c)
    ),
    Negative(
        "an input that shows another's transpose, written",
        _aliased,
        (_A, _A, _A),
        prepared=lambda a, b, c: (a, a.t(), c),
    ),
    Negative("a row written before a chain", _view_written, (_A,) * 3),
    Negative("a product returned beside a part of it", _returned_view, (_A,) * 3),
    Negative("a chain in its best order", lambda a, b, x: a @ (b @ x), (_A, _A, (N, 64))),
    Negative("a chain of equal sizes", lambda a, b, c: a @ b @ c, (_A,) * 3),
    Negative("A B + C D, nothing in common", lambda a, b, c, d: a @ b + c @ d, (_A,) * 4),
    Negative("A B − B A", lambda a, b: a @ b - b @ a, (_A, _A)),
    Negative("A x + B x, best apart", lambda a, b, x: a @ x + b @ x, ((3000, 3000), (3000, 3000), (3000,))),
    Negative(
        "low rank, not to be folded",
        lambda x, w, a, b: x @ w + (x @ a) @ b,
        ((64, 1024), (1024, 1024), (1024, 8), (8, 1024)),
    ),
    Negative(
        "factored already, U (Vᵀ X)",
        lambda u, v, x: u @ (v.t() @ x),
        ((20_000, 16), (20_000, 16), (20_000, 64)),
    ),
    Negative("a Kronecker product that is wanted", lambda a, b: torch.kron(a, b) * 2, ((48, 48), (48, 48))),
    Negative("(A ⊗ B) x done by hand", lambda a, b, x: a @ x @ b.t(), ((384, 384), (384, 384), (384, 384))),
    Negative(
        "linear attention of a short sequence",
        lambda q, k, v: (q @ k.transpose(1, 2)) @ v,
        ((32, 32, 256),) * 3,
    ),
    Negative(
        "attention with its softmax",
        lambda q, k, v: torch.softmax(q @ k.transpose(1, 2), -1) @ v,
        ((8, 128, 64),) * 3,
    ),
    Negative("relu between products", lambda a, b, x: torch.relu(a @ b) @ x, (_A, _A, _V)),
    Negative("max of a product is no sum", lambda a, b: (a @ b).amax(1), (_A, _A)),
    Negative("cumulative sum of a product", lambda a, b: (a @ b).cumsum(0), (_A, _A)),
    Negative("floats of two widths", lambda a, b, x: (a @ b).double() @ x.double(), (_A, _A, _V)),
    Negative("integers that promote", lambda a, b, x: (a @ b + torch.arange(N)) @ x, (_A, _A, _V)),
    Negative("a sum in another dtype", lambda a, b: (a @ b).sum(dtype=torch.float64), (_A, _A)),
    Negative(
        "float16 that overflows in another order",
        _overflow,
        (_A,) * 3,
        torch.float16,
        lambda a, b, c: (a * 1000, b * 1000, c * 1000),
    ),
    Negative("bfloat16, a scale moved", _scaled_late, (_A, _A, (N, 8)), torch.bfloat16),
    Negative(
        "float16, A B + A C with large summands",
        lambda a, b, c: a @ b + a @ c,
        (_A,) * 3,
        torch.float16,
        lambda a, b, c: (a / 64, b * 6e5, -b * 6e5),
    ),
    Negative(
        "cancellation in ‖a − b‖²",
        lambda a, b: ((a - b) ** 2).sum(1),
        ((20_000, 64), (20_000, 64)),
        torch.float32,
        lambda a, b: (a + 1e4, a + 1e4 + b * 1e-2),
    ),
    Negative(
        "cancellation in (A + B) x − A x",
        lambda a, b, x: ((a + b) @ x - a @ x) * 1.0,
        (_A, _A, (N, 64)),
        torch.float32,
        lambda a, b, x: (a * 1e6, b, x),
    ),
    Negative(
        "NaN and infinities in the operands",
        lambda a, b, x: torch.nan_to_num(a @ b, 0.0, 1.0, -1.0) @ x,
        (_A, _A, (N, 16)),
        torch.float32,
        lambda a, b, x: (a.index_fill(0, torch.tensor([3]), float("inf")), b, x),
    ),
    Negative(
        "an infinite factor in a chain that is best already",
        lambda a, b, x: a @ (b @ x),
        (_A, _A, (N, 64)),
        torch.float32,
        lambda a, b, x: (a.index_fill(0, torch.tensor([3]), float("inf")), b, x),
    ),
    Negative("negative zeros", lambda a, b: torch.copysign(torch.ones(()), -0.0 * (a @ b)), (_A, _A)),
    Negative("a singular matrix that must raise", _eager_check, (_A,) * 3),
    Negative("a linear layer with a bias", lambda x, w, b: linear(x, w, b), ((128, N), _A, _V)),
    Negative(
        "layer norm between linear layers",
        lambda x, w, v: linear(torch.nn.functional.layer_norm(linear(x, w), (N,)), v),
        ((128, N), _A, _A),
    ),
    Negative("rounding between products", lambda a, b, x: torch.round((a @ b) * 8) @ x, (_A, _A, (N, 16))),
    Negative(
        "complex numbers",
        lambda a, b: torch.view_as_real(torch.complex(a, b) @ torch.complex(b, a)),
        (_A, _A),
    ),
)
