"""Gathers are told apart by what they gather by, and only integers that are read as they are say where."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from graphopt.algebra.choices import chosen
from graphopt.algebra.polynomial import NoPolynomial, Polynomial, leaf, times
from graphopt.ir.graph import Value
from graphopt.ir.types import TensorType
from tests.passes.test_sum_product import M, N, optimized

I, J = torch.tensor([3, 14, 3, -1]), torch.tensor([0, 14, 7, 2])  # noqa: E741
TWO: dict[str, Callable[..., Tensor]] = {
    "a difference": lambda a, b: (a @ b)[I] - (a @ b)[J],
    "a product": lambda a, b: (a @ b)[I] * (a @ b)[J],
    "rows and columns": lambda a, b: (a @ b)[I][:, J],
    "a table": lambda a, b: F.embedding(J, a @ b) - F.embedding(J + 1, a @ b),
    "both ends counted from": lambda a, b: (a @ b)[J] - F.embedding(J, a) @ b,
}


@pytest.mark.parametrize("name", TWO)
def test_gathers_by_two_tensors_are_two(name: str) -> None:
    opt = optimized(TWO[name], (M, M))
    a, b = torch.randn(M), torch.randn(M)
    torch.testing.assert_close(opt(a, b), TWO[name](a, b), rtol=1e-4, atol=1e-4 * N**0.5)


def _tensor(name: str, dtype: torch.dtype, *shape: int) -> Polynomial:
    strides = torch.empty(shape, device="meta").stride()
    return leaf(Value(name, TensorType(dtype, shape, strides, torch.device("cpu"))), shape)


ROWS, TABLE = _tensor("i", torch.int64, 4), _tensor("a", torch.float32, 5, 3)
NO_INDEX: dict[str, list[Polynomial]] = {
    "a multiple of integers": [ROWS.scaled(Fraction(2))],
    "a product of integers": [times(ROWS, ROWS)],
    "floats": [_tensor("x", torch.float32, 4)],
    "gathered integers": [chosen(_tensor("j", torch.int64, 9), (0,), [ROWS], 0, True)],
    "three of them": [ROWS] * 3,
}


@pytest.mark.parametrize("name", NO_INDEX)
def test_what_says_where_is_not_known_of(name: str) -> None:
    assert chosen(TABLE, (0,), [ROWS], 0, True).shape == (4, 3)
    with pytest.raises(NoPolynomial):
        chosen(TABLE, (0,), NO_INDEX[name], 0, True)
