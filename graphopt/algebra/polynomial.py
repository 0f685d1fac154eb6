"""Polynomials of tensors: sums of products of leaves, element by element, over indices.

    y[i, j] = Σ_k A[i, k] · B[k, j] + 1/2 · C[i, j]

has the dimensions (i,), (j,) and two terms; k is bound, for it is in no dimension. A dimension that was made
of others has several indices, the last of which moves fastest; one of size 1 has none.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from typing import NamedTuple, TypeAlias

from graphopt.ir.graph import Value

MAX_TERMS, MAX_FACTORS = 32, 16
"""What grows beyond is left as it is spelled."""
MAX_SUMMANDS = 160
"""Of a sum, which may turn out to be few terms: those of a loop are one."""

_numbers = count()


class NoPolynomial(Exception):
    """It is no polynomial, or one whose dimensions do not fit another's, or too large a one."""


class Index(NamedTuple):
    """A variable that runs from 0 to size − 1."""

    number: int
    size: int


def new_index(size: int) -> Index:
    """An index like no other."""
    return Index(next(_numbers), size)


class Access(NamedTuple):
    """A position along one dimension of a leaf: start + Σ step · index. No two entries share an index."""

    start: int = 0
    steps: tuple[tuple[Index, int], ...] = ()

    @property
    def lowest(self) -> int:
        """The lowest position that it can be."""
        start = self.start
        for index, step in self.steps:
            if step < 0:
                start += (index.size - 1) * step
        return start

    @property
    def highest(self) -> int:
        """The highest position that it can be."""
        start = self.start
        for index, step in self.steps:
            if step > 0:
                start += (index.size - 1) * step
        return start

    def with_(self, known: "Mapping[Index, Access]") -> "Access":
        """The position where indices are given by others."""
        if not any([index in known for index, _ in self.steps]):
            return self
        if len(self.steps) == 1 and self.steps[0][1] == 1:
            inner = known[self.steps[0][0]]
            return Access(self.start + inner.start, inner.steps) if self.start else inner
        start, steps = self.start, dict[Index, int]()
        for index, step in self.steps:
            inner = known.get(index) or Access(0, ((index, 1),))
            start += step * inner.start
            for other, by in inner.steps:
                steps[other] = steps.get(other, 0) + step * by
        return Access(start, tuple(sorted((i, s) for i, s in steps.items() if s)))


def along(index: Index) -> Access:
    """The position that an index is."""
    return Access(0, ((index, 1),))


@dataclass(frozen=True, slots=True)
class Factor:
    """An element of a leaf: a value of the graph, at a position along each of its dimensions; 0 where a
    position is not in the leaf."""

    leaf: Value
    accesses: tuple[Access, ...]

    @property
    def indices(self) -> frozenset[Index]:
        """The indices that it depends on."""
        return frozenset([index for access in self.accesses for index, _ in access.steps])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those of the leaf."""
        shape: Sequence[int] = self.leaf.type.shape  # type: ignore[union-attr]
        return tuple(shape)

    def with_(self, known: Mapping[Index, Access]) -> "Factor":
        """The element where indices are given by others."""
        return self.at(tuple([access.with_(known) for access in self.accesses]))

    def at(self, accesses: tuple[Access, ...]) -> "Factor":
        """The element at other positions."""
        return type(self)(self.leaf, accesses)

    def of(self, value: Value) -> "Factor":
        """The same of another value."""
        return type(self)(value, self.accesses)


class Term(NamedTuple):
    """coefficient · Π factors, summed over all indices that are in no dimension of the whole."""

    coefficient: Fraction
    factors: tuple[Factor, ...]

    @property
    def indices(self) -> frozenset[Index]:
        """The indices that it depends on."""
        return frozenset[Index]().union(*[factor.indices for factor in self.factors])

    def with_(self, known: Mapping[Index, Access]) -> "Term":
        """The term where indices are given by others."""
        return Term(self.coefficient, tuple([factor.with_(known) for factor in self.factors]))


Dims: TypeAlias = tuple[tuple[Index, ...], ...]


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A tensor with the dimensions `dims`: the sum of its terms."""

    dims: Dims
    terms: tuple[Term, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(math.prod(index.size for index in dim) for dim in self.dims)

    @property
    def free(self) -> tuple[Index, ...]:
        """The indices of its dimensions, in order."""
        return tuple([index for dim in self.dims for index in dim])

    @property
    def indices(self) -> frozenset[Index]:
        """All its indices."""
        return frozenset(self.free).union(*[term.indices for term in self.terms])

    def bound(self, term: Term) -> frozenset[Index]:
        """The indices that a term is summed over."""
        return term.indices - set(self.free)

    def scaled(self, by: Fraction) -> "Polynomial":
        """A multiple of it."""
        terms = (Term(term.coefficient * by, term.factors) for term in self.terms)
        return Polynomial(self.dims, tuple(term for term in terms if term.coefficient))

    def with_(self, known: Mapping[Index, Access], dims: Dims) -> "Polynomial":
        """The same where indices of its dimensions are given by those of others."""
        if not known:
            return Polynomial(dims, self.terms)
        return Polynomial(dims, tuple([term.with_(known) for term in self.terms]))

    def apart(self) -> "Polynomial":
        """The same, with no index that another polynomial has."""
        fresh = {index: along(new_index(index.size)) for index in self.free}
        dims = tuple(tuple(fresh[index].steps[0][0] for index in dim) for dim in self.dims)
        terms = []
        for term in self.terms:
            bound = {index: along(new_index(index.size)) for index in sorted(self.bound(term))}
            terms.append(term.with_(fresh | bound))
        return Polynomial(dims, tuple(terms))

    def permuted(self, order: Iterable[int]) -> "Polynomial":
        """With its dimensions in another order."""
        return Polynomial(tuple(self.dims[i] for i in order), self.terms)

    def summed(self, dims: Iterable[int]) -> "Polynomial":
        """Summed over some dimensions, which are gone then."""
        gone = set(dims)
        indices = {index for i in gone for index in self.dims[i]}
        kept = tuple(dim for i, dim in enumerate(self.dims) if i not in gone)
        terms = []
        for term in self.terms:
            repeats = math.prod(index.size for index in indices - term.indices)
            terms.append(Term(term.coefficient * repeats, term.factors))
        return Polynomial(kept, tuple(term for term in terms if term.coefficient))


def leaf(value: Value, shape: Iterable[int]) -> Polynomial:
    """A value as it is."""
    dims = tuple((new_index(size),) if size != 1 else () for size in shape)
    accesses = tuple(along(*dim) if dim else Access() for dim in dims)
    return Polynomial(dims, (Term(Fraction(1), (Factor(value, accesses),)),))


def number(value: Fraction) -> Polynomial:
    """A number, as a tensor without dimensions."""
    return Polynomial((), (Term(value, ()),) if value else ())


def plus(a: Polynomial, b: Polynomial) -> Polynomial:
    """a + b, broadcast. Raises NoPolynomial where their dimensions are made of indices that do not fit."""
    one, other = aligned(a, b)
    if len(one.terms) + len(other.terms) > MAX_SUMMANDS:
        raise NoPolynomial
    return Polynomial(one.dims, (*one.terms, *other.terms))


def times(a: Polynomial, b: Polynomial) -> Polynomial:
    """a · b, element by element, broadcast. Raises NoPolynomial where their dimensions do not fit."""
    one, other = aligned(a, b)
    if len(one.terms) * len(other.terms) > MAX_TERMS:
        raise NoPolynomial
    terms = []
    for left in one.terms:
        for right in other.terms:
            bound = {i: along(new_index(i.size)) for i in sorted(other.bound(right))}
            if len(left.factors) + len(right.factors) > MAX_FACTORS:
                raise NoPolynomial
            factors = left.factors + right.with_(bound).factors
            terms.append(Term(left.coefficient * right.coefficient, factors))
    return Polynomial(one.dims, tuple(terms))


def aligned(a: Polynomial, b: Polynomial) -> tuple[Polynomial, Polynomial]:
    """The two with the very same dimensions, and no other index in common; those of size 1 are broadcast."""
    if not a.indices.isdisjoint(b.indices):
        a, b = a.apart(), b.apart()
    rank = max(len(a.dims), len(b.dims))
    pairs = zip(*(((),) * (rank - len(p.dims)) + p.dims for p in (a, b)), strict=True)
    dims: list[tuple[Index, ...]] = []
    known: tuple[dict[Index, Access], dict[Index, Access]] = ({}, {})
    for mine, theirs in pairs:
        dims.append(_refined(mine, theirs, known) if mine and theirs else mine or theirs)
    return a.with_(known[0], tuple(dims)), b.with_(known[1], tuple(dims))


def _refined(
    mine: tuple[Index, ...], theirs: tuple[Index, ...], known: tuple[dict[Index, Access], dict[Index, Access]]
) -> tuple[Index, ...]:
    """Indices that both are made of; notes what the indices of each are in terms of them."""
    found: list[Index] = []
    rows: tuple[list[Index], list[Index]] = [*mine], [*theirs]
    groups: tuple[list[tuple[Index, list[Index]]], ...] = ([], [])
    left: list[int] = [0, 0]
    while rows[0] or rows[1] or left[0] > 1 or left[1] > 1:
        for side in (0, 1):
            if left[side] <= 1:
                if not rows[side]:
                    raise NoPolynomial
                index = rows[side].pop(0)
                groups[side].append((index, []))
                left[side] = index.size
        # The slowest parts come first: they must divide one another.
        small = min(left)
        if max(left) % small:
            raise NoPolynomial
        part = new_index(small)
        found.append(part)
        for side in (0, 1):
            groups[side][-1][1].append(part)
            left[side] //= small
    for side in (0, 1):
        for index, parts in groups[side]:
            known[side][index] = mixed(parts)
    return tuple(found)


def mixed(parts: Iterable[Index]) -> Access:
    """The position that several indices make together, the last of which moves fastest."""
    steps: list[tuple[Index, int]] = []
    step = 1
    for part in reversed(tuple(parts)):
        steps.append((part, step))
        step *= part.size
    return Access(0, tuple(sorted(steps)))
