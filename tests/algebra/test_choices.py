"""Gathers are told apart by what they gather by, and only integers that are read as they are say where."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from graphopt.algebra.choices import ALONG, GATHER, INDEX, Choice, chosen, gathered
from graphopt.algebra.equality import Equal
from graphopt.algebra.polynomial import Access, Index, NoPolynomial, Polynomial, Term, along, leaf, times
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


THREE, FOUR, OTHER = Index(0, 3), Index(1, 4), Index(2, 4)
EYE = Value("e", TensorType(torch.int64, (4, 4), (4, 1), torch.device("cpu")))
ONES = Equal(EYE, (along(FOUR), along(OTHER)))
ROWS, TABLE = _tensor("i", torch.int64, 4), _tensor("a", torch.float32, 5, 3)
NO_INDEX: dict[str, list[Polynomial]] = {
    "a multiple of integers": [ROWS.scaled(Fraction(2))],
    "a product of integers": [times(ROWS, ROWS)],
    "floats": [_tensor("x", torch.float32, 4)],
    "gathered integers": [chosen(_tensor("j", torch.int64, 9), (0,), [ROWS], 0, INDEX)],
    "three of them": [ROWS] * 3,
    "zeros and ones": [Polynomial(((FOUR,), (OTHER,)), (Term(Fraction(1), (ONES,)),))],
}


@pytest.mark.parametrize("name", NO_INDEX)
def test_what_says_where_is_not_known_of(name: str) -> None:
    assert chosen(TABLE, (0,), [ROWS], 0, INDEX).shape == (4, 3)
    with pytest.raises(NoPolynomial):
        chosen(TABLE, (0,), NO_INDEX[name], 0, INDEX)


@pytest.mark.parametrize(
    "shape, accesses, whole",
    [
        ((3, 4), (along(THREE), along(FOUR)), True),
        ((4, 3), (along(FOUR), along(THREE)), True),
        ((1, 4), (Access(), along(FOUR)), True),
        ((), (), True),
        ((1, 1), (Access(), Access()), True),
        ((4,), (Access(1, ((FOUR, 1),)),), False),
        ((3, 4), (along(THREE), Access()), False),
        ((5, 4), (along(THREE), along(FOUR)), False),
        ((4, 4), (along(FOUR), along(FOUR)), False),
        ((4, 4), (along(FOUR), along(OTHER)), True),
        ((5,), (Access(1, ((FOUR, 1),)),), False),
        ((7,), (Access(0, ((FOUR, 2),)),), False),
    ],
)
def test_only_an_index_that_is_read_as_a_whole_raises_by_each_of_its_elements(
    shape: tuple[int, ...], accesses: tuple[Access, ...], whole: bool
) -> None:
    cpu = torch.device("cpu")
    index = Value("i", TensorType(torch.int64, shape, None, cpu))
    value = Value("c", TensorType(torch.float32, (*shape, 9), None, cpu))
    assert Choice(value, (*accesses, Access(2)), index, GATHER).is_whole == whole


@pytest.mark.parametrize(
    "of, dim, index, gather, along_",
    [
        ((4, 5), 1, (4, 3), (4, 3), (4, 3)),
        ((4, 5), 0, (3, 5), (3, 5), (3, 5)),
        ((4, 5), 1, (1, 3), (1, 3), (4, 3)),
        ((4, 5), 1, (2, 3), (2, 3), (2, 3)),
        ((1, 5), 1, (1, 3), (1, 3), (1, 3)),
        ((1, 5), 1, (4, 3), (4, 3), (4, 3)),
        ((4, 1), 1, (4, 3), None, None),
    ],
)
def test_elements_are_gathered_from_the_places_that_the_index_has(
    of: tuple[int, ...],
    dim: int,
    index: tuple[int, ...],
    gather: tuple[int, ...] | None,
    along_: tuple[int, ...] | None,
) -> None:
    a, i = _tensor("a", torch.float32, *of), _tensor("i", torch.int64, *index)
    for by, shape in ((GATHER, gather), (ALONG, along_)):
        if shape is None:
            with pytest.raises(NoPolynomial):
                gathered(a, dim, i, by)
        else:
            assert gathered(a, dim, i, by).shape == shape
