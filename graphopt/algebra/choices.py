"""Gathered elements: products with tensors of zeros and ones, one 1 in each row, at the place an index says.

    X[index][j, n]  =  Σ_i [i = index[j]] · X[i, n]

so that rows may be gathered before or behind a product, as is cheaper. To the search, and to the proof, it is
a tensor like any other. It is never made: only elements of what it multiplies are, by the operator that
raises for an index out of range as the one did that was written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from graphopt.algebra.polynomial import (
    MAX_FACTORS,
    Access,
    Factor,
    Index,
    NoPolynomial,
    Polynomial,
    Term,
    aligned,
    along,
    mixed,
    new_index,
)
from graphopt.ir.graph import Value
from graphopt.ir.operands import shape_of, type_of
from graphopt.ir.types import TensorType, contiguous_strides


@dataclass(frozen=True, slots=True)
class Choice(Factor):
    """1 where the last access is the element of `index` at the other accesses, else 0. `by` gathers: the
    operator that raises for positions out of range as the one does that was written."""

    index: Value
    by: str

    def at(self, accesses: tuple[Access, ...]) -> "Choice":
        """The element at other positions."""
        return Choice(self.leaf, accesses, self.index, self.by)

    @property
    def is_whole(self) -> bool:
        """Whether all of the index is read, so that each of its elements raises that is out of range."""
        accesses = self.accesses[:-1]
        read = [access.steps[0][0] if access.steps else None for access in accesses]
        met = [index for index in read if index is not None]
        whole = tuple(Access() if index is None else along(index) for index in read)
        sizes = tuple(1 if index is None else index.size for index in read)
        return len(met) == len({*met}) and accesses == whole and sizes == shape_of(self.index)

    def of(self, value: Value) -> "Choice":
        """The same of another index of that type."""
        name = _called(value, shape_of(self.leaf)[-1], self.by)
        return Choice(Value(name, self.leaf.type), self.accesses, value, self.by)


def read_by(factor: Factor) -> Value:
    """The value of the graph that a factor depends on."""
    return factor.index if isinstance(factor, Choice) else factor.leaf


INDEX, SELECT = "aten.index.Tensor", "aten.index_select.default"
GATHER, ALONG = "aten.gather.default", "aten.take_along_dim.default"
"""What choices are made by. INDEX counts negative positions from the end, to ALONG each position is one; for
the others they are out of range. GATHER and ALONG have others for each place in the other dimensions."""


def _called(index: Value, size: int, by: str) -> str:
    return f"{index.name}?{size}{by}"


def chosen(p: Polynomial, dims: Sequence[int], indices: Sequence[Polynomial], at: int, by: str) -> Polynomial:
    """A polynomial whose dimensions, some of them, are given by integers, broadcast; theirs stand at `at`.
    Raises NoPolynomial where it is not known where the integers are."""
    if len(indices) > 2:
        raise NoPolynomial
    fitted = aligned(*indices) if len(indices) == 2 else (indices[0].apart(),)
    made = fitted[0].dims
    choices = []
    for dim, index in zip(dims, fitted, strict=True):
        if not p.dims[dim]:
            raise NoPolynomial  # it might raise, and nothing would be left of it
        choices.append((p.dims[dim], _choice(index, p.dims[dim], p.shape[dim], by)))
    terms = tuple(given(term, choices) for term in p.terms)
    left = [dim for place, dim in enumerate(p.dims) if place not in dims]
    return Polynomial((*left[:at], *made, *left[at:]), terms)


def gathered(p: Polynomial, dim: int, index: Polynomial, by: str) -> Polynomial:
    """A polynomial whose positions along a dimension are given by integers, others for each place in the
    other dimensions. Of these there may be fewer for GATHER; for ALONG, one stands for all. Raises
    NoPolynomial where it is not known where the integers are."""
    index, dims = index.apart(), []
    known: dict[Index, Access] = {}
    for place, (mine, theirs) in enumerate(zip(p.dims, index.dims, strict=True)):
        if place == dim or not mine:
            dims.append(theirs)
        elif by == ALONG and not theirs:
            dims.append(mine)
        elif len(mine) == 1:
            dims.append(theirs)
            known[mine[0]] = mixed(theirs)
        else:
            raise NoPolynomial
    if not p.dims[dim]:
        raise NoPolynomial
    choice = _choice(index, p.dims[dim], p.shape[dim], by)
    terms = (Term(one.coefficient, tuple(f.with_(known) for f in one.factors)) for one in p.terms)
    return Polynomial(tuple(dims), tuple(given(term, [(p.dims[dim], choice)]) for term in terms))


def _choice(index: Polynomial, dim: Sequence[Index], size: int, by: str) -> Choice:
    """What says where along a dimension of a size. Raises NoPolynomial where it is not known where the
    integers are."""
    match index.terms:
        case (Term(coefficient, (factor,)),) if coefficient == 1 and type(factor) is Factor:
            leaf = factor.leaf
        case _:
            raise NoPolynomial
    if type_of(leaf).dtype not in (torch.int64, torch.int32):
        raise NoPolynomial
    shape = (*shape_of(leaf), size)
    kind = TensorType(torch.float32, shape, contiguous_strides(shape), type_of(leaf).device)
    value = Value(_called(leaf, size, by), kind)
    return Choice(value, (*factor.accesses, mixed(dim)), leaf, by)


def given(term: Term, choices: Sequence[tuple[Sequence[Index], Choice]]) -> Term:
    """A term where the indices of dimensions are given by choices along these: for each factor on its own,
    for they are the same for all. Raises NoPolynomial where there are too many."""
    factors: list[Factor] = []
    for factor in term.factors:
        for dim, choice in choices:
            if factor.indices & {*dim}:
                own = {index: new_index(index.size) for index in dim}
                position = mixed(own[index] for index in dim)
                factors.append(choice.at((*choice.accesses[:-1], position)))
                factor = factor.with_({index: along(one) for index, one in own.items()})
        factors.append(factor)
    if len(factors) > MAX_FACTORS:
        raise NoPolynomial
    return Term(term.coefficient, tuple(factors))
