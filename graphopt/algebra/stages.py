"""Values that are needed in part, and computed there only.

    gelu(X Wᵀ + b)[:, -1]  =  gelu(v)      v[b, j] = Σ_k X[b, -1, k] · W[j, k] + b[j]

What reads a value says at which places: its *pattern*. From the results backwards, the pattern of what an
operator makes is one of its operands', where it works element by element, or row by row.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import TypeAlias

from graphopt.algebra.choices import Choice, given
from graphopt.algebra.functions import Function
from graphopt.algebra.polynomial import Access, Dims, Factor, Index, Polynomial, Term, along, new_index
from graphopt.ir.graph import Value
from graphopt.ir.operands import shape_of, type_of
from graphopt.ir.types import TensorType, contiguous_strides

Key: TypeAlias = object


Place: TypeAlias = "Access | Choice | None"


@dataclass(frozen=True)
class Pattern:
    """Places of a tensor: where in each dimension, by indices of its own, or as integers say. Of a dimension
    that is needed whole, by rows, there is none. `order`: the indices, from the slowest."""

    accesses: tuple[Place, ...]
    order: tuple[Index, ...]

    @property
    def elements(self) -> int:
        """How many places there are, apart from what is whole."""
        return prod(index.size for index in self.order)


@dataclass(frozen=True)
class Stage:
    """`value` holds what another one holds at the places of a pattern: a polynomial, or a function of values
    that hold `operands`, each along the indices of the pattern and then whole dimensions."""

    of: Value
    value: Value
    pattern: Pattern
    polynomial: Polynomial | None
    function: Function | None
    operands: tuple[tuple[Value, Polynomial], ...]

    @property
    def polynomials(self) -> tuple[Polynomial, ...]:
        """All that have to be evaluated for it."""
        return (self.polynomial,) if self.polynomial is not None else tuple(p for _, p in self.operands)

    def read(self, pattern: Pattern, factor: Factor) -> Factor:
        """What a factor reads that asks for the places of a pattern, equal to the stage's own."""
        rest = [one for one, at in zip(factor.accesses, pattern.accesses, strict=True) if at is None]
        return Factor(self.value, (*map(_along, pattern.order), *rest))


def pattern_of(accesses: Sequence[Place]) -> Pattern:
    """Places by indices as they are read."""
    order: list[Index] = []
    for place in accesses:
        for access in _positions(place):
            for index, _ in sorted(access.steps, key=lambda pair: -pair[1]):
                if index not in order:
                    order.append(index)
    return Pattern(tuple(accesses), tuple(order))


def _positions(place: Place) -> tuple[Access, ...]:
    """Where it is, or where the integers are that say it."""
    match place:
        case Choice(_, accesses):
            return accesses[:-1]
        case Access():
            return (place,)
        case _:
            return ()


def key_of(pattern: Pattern) -> Key:
    """Equal for patterns that name the same places in the same order."""
    numbers = {index: (number, index.size) for number, index in enumerate(pattern.order)}
    return tuple(
        (
            place is None,
            place.leaf.name if isinstance(place, Choice) else "",
            *((one.start, tuple(sorted((numbers[i], s) for i, s in one.steps))) for one in _positions(place)),
        )
        for place in pattern.accesses
    )


def asked_of(function: Function | None, factor: Factor, term: Term) -> Pattern:
    """The places of a value that a factor of a term asks for: of what is computed by rows, the whole rows."""
    ends = function.ends if function is not None else ()
    shape = shape_of(factor.leaf)
    return pattern_of(
        [
            None if dim in ends else _chosen(one, shape[dim], factor, term) or one
            for dim, one in enumerate(factor.accesses)
        ]
    )


def _chosen(access: Access, size: int, factor: Factor, term: Term) -> Choice | None:
    """The choice that gives a position, alone in its term to do so."""
    for other in term.factors:
        if isinstance(other, Choice) and other.accesses[-1] == access and access.steps:
            indices = {index for index, _ in access.steps}
            inside = [one for one in (*term.factors,) if one.indices & indices]
            alone = sum(bool({i for i, _ in one.steps} & indices) for one in factor.accesses) == 1
            if len(inside) == 2 and alone and shape_of(other.leaf)[-1] == size:
                return other
    return None


def _along(index: Index) -> Access:
    return along(index) if index.size != 1 else Access()


def operand_term(function: Function, operand: Value, pattern: Pattern) -> tuple[Term, Dims]:
    """What a function needs of an operand for the places of a pattern: as a term, and the dimensions of
    that: the indices of the pattern, size 1 where it depends on none, and then whole ones."""
    shape, dims, choices = shape_of(operand), list[tuple[Index, ...]](), list[Factor]()

    def position(place: Place, size: int) -> Access:
        if not isinstance(place, Choice):
            return _given(place)
        inner = along(new_index(size))
        choices.append(Choice(place.leaf, (*place.accesses[:-1], inner), place.index, place.by))
        return inner

    if function.rows:
        others = iter(function.places)
        whole = {dim: new_index(shape[dim]) for dim in function.rows if shape[dim] != 1}
        accesses = [
            (along(whole[dim]) if dim in whole else Access())
            if dim in function.rows
            else position(pattern.accesses[next(others)], shape[dim])
            for dim in range(len(shape))
        ]
        dims = [(whole[dim],) if dim in whole else () for dim in function.rows]
    else:
        last = pattern.accesses[len(pattern.accesses) - len(shape) :]
        accesses = [
            Access() if size == 1 else position(one, size) for size, one in zip(shape, last, strict=True)
        ]
    term = Term(Fraction(1), (Factor(operand, tuple(accesses)), *choices))
    mine = tuple((index,) if index in term.indices else () for index in pattern.order)
    return term, (*mine, *dims)


def _given(access: Place) -> Access:
    assert isinstance(access, Access)
    return access


def held(of: Value, pattern: Pattern, name: str) -> Value:
    """A value that holds the places of a pattern of another one, and then whole dimensions."""
    kind, shape = type_of(of), shape_of(of)
    whole = [size for size, access in zip(shape, pattern.accesses, strict=True) if access is None]
    sizes = (*(index.size for index in pattern.order), *whole)
    return Value(name, TensorType(kind.dtype, sizes, contiguous_strides(sizes), kind.device))


def put(p: Polynomial, pattern: Pattern) -> Polynomial:
    """A polynomial at the places of a pattern, along its indices."""
    known: dict[Index, Access] = {}
    choices: list[tuple[tuple[Index, ...], Choice]] = []
    for dim, place in zip(p.dims, pattern.accesses, strict=True):
        if isinstance(place, Choice):
            choices.append((dim, place))
        else:
            known.update(parted(dim, _given(place)))
    dims = tuple((index,) if index.size != 1 else () for index in pattern.order)
    terms = tuple(given(term, choices) for term in p.with_(known, dims).terms)
    return Polynomial(dims, terms)


def parted(dim: Sequence[Index], access: Access) -> Mapping[Index, Access]:
    """The positions of the indices that a dimension is made of, for a position along it. Raises NotParted
    where these are no positions of single indices."""
    if access.lowest < access.start:
        raise NotParted
    found: dict[Index, Access] = {}
    weight = prod(index.size for index in dim)
    left, start = [*access.steps], access.start
    for index in dim:
        weight //= index.size
        at, start = divmod(start, weight)
        mine = [(i, step // weight) for i, step in left if step >= weight]
        if any(step % weight for _, step in left if step >= weight):
            raise NotParted
        left = [(i, step) for i, step in left if step < weight]
        # What is left must not run over into this index.
        reach = start + sum((i.size - 1) * step for i, step in left)
        if reach >= weight or at + sum((i.size - 1) * step for i, step in mine) >= index.size:
            raise NotParted
        found[index] = Access(at, tuple(sorted(mine)))
    return found


class NotParted(Exception):
    """A position along a dimension says nothing of the indices that it is made of, one by one."""


def factors_of(p: Polynomial) -> Iterator[Factor]:
    """All factors of all terms."""
    return (factor for term in p.terms for factor in term.factors)
