"""Equalities vanish where they give an index, and nowhere else: element by element it is the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

import graphopt
from graphopt.algebra.equality import Equal, equalities, resolved
from graphopt.algebra.polynomial import Access, Factor, Index, Polynomial, Term, along, new_index
from graphopt.ir.graph import Value
from graphopt.ir.types import TensorType
from tests.algebra.evaluation import evaluated


def _value(name: str, *shape: int) -> Value:
    strides = torch.empty(shape, device="meta").stride()
    return Value(name, TensorType(torch.float64, shape, strides, torch.device("cpu")))


_SIZE = 12
A = _value("a", _SIZE)


def equal(one: Access, other: Access, read: Access) -> Polynomial:
    """Σ [one = other] · a[read], along what is left of `_FREE`."""
    indices = {index for access in (one, other, read) for index, _ in access.steps}
    free = tuple((index,) for index in sorted(indices) if index in _FREE)
    return Polynomial(free, (Term(Fraction(1), (Equal(_value("e", 1), (one, other)), Factor(A, (read,)))),))


_FREE = [new_index(size) for size in (2, 3, 4)]
_BOUND = [new_index(size) for size in (2, 2, 3, 4)]


def _access(random_: random.Random, indices: list[Index], steps: tuple[int, ...]) -> Access:
    some = random_.sample(indices, random_.randint(0, 3))
    return Access(random_.randint(-1, 4), tuple((index, random_.choice(steps)) for index in sorted(some)))


def test_what_is_left_is_the_same_element_by_element() -> None:
    random_ = random.Random(0)
    values = {"a": torch.randint(1, 9, (_SIZE,))}
    fewer = 0
    for _ in range(3_000):
        one, other = (_access(random_, _FREE + _BOUND, (1, 1, 2, 3, 4, -1)) for _ in range(2))
        p = equal(one, other, _access(random_, _FREE + _BOUND, (1, 2)))
        found = resolved(p)
        fewer += not equalities(found)
        assert torch.equal(evaluated(found, values), evaluated(p, values)), p
    assert fewer > 1_000


I, J = new_index(3), new_index(5)  # noqa: E741
U, V = new_index(3), new_index(5)
WHOLE = new_index(6)
VANISH = {
    "digits": (Access(0, ((I, 5), (J, 1))), Access(0, ((U, 5), (V, 1)))),
    "digits of numbers further on": (Access(7, ((I, 5), (J, 1))), Access(7, ((U, 5), (V, 1)))),
}


@pytest.mark.parametrize("name", VANISH)
def test_equal_numbers_have_equal_digits(name: str) -> None:
    p = equal(*VANISH[name], Access(0, ((U, 1), (V, 1))))
    found = resolved(Polynomial(((I,), (J,)), p.terms))
    assert not equalities(found)
    (term,) = found.terms
    assert term.factors == (Factor(A, (Access(0, tuple(sorted(((I, 1), (J, 1))))),)),)


A1, A2 = new_index(2), new_index(3)
STAY = {
    "numbers with gaps": Access(0, ((A1, 4), (A2, 1))),
    "numbers from the second on": Access(1, ((A1, 3), (A2, 1))),
}


@pytest.mark.parametrize("name", STAY)
def test_what_gives_a_part_of_a_dimension_stays(name: str) -> None:
    whole = along(WHOLE)
    p = Polynomial(((WHOLE,),), equal(whole, STAY[name], Access(0, ((A1, 2), (A2, 1)))).terms)
    assert equalities(resolved(p))
    all_of_it = Access(0, ((A1, 3), (A2, 1)))
    p = Polynomial(((WHOLE,),), equal(whole, all_of_it, Access(0, ((A1, 2), (A2, 1)))).terms)
    assert not equalities(resolved(p))


X = torch.ones(300, 300)
COUNTED: dict[str, Callable[[Tensor], Tensor]] = {
    "an identity matrix": lambda x: torch.eye(300).sum() * x,
    "a multiple of it": lambda x: (x.sum() * torch.eye(300)).sum(),
    "a diagonal of ones": lambda x: (x.sum() * torch.diag(torch.ones(300))).sum(),
    "ones among zeros": lambda x: (x.sum() * torch.nn.functional.pad(torch.ones(300, 300), (300, 0))).sum(),
    "blocks of one number": lambda x: torch.block_diag(x.sum().expand(300, 300), x.sum().expand(9, 9)).sum(),
}


@pytest.mark.parametrize("name", COUNTED)
def test_ones_that_nothing_else_depends_on_are_counted(name: str) -> None:
    opt = graphopt.optimize(COUNTED[name], (X,), verify=False, measure=False)
    assert any(step.pass_name == "sum-product" for step in opt.report.steps)
    assert torch.equal(opt(X), COUNTED[name](X))
