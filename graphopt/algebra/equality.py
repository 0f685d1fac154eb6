"""Tensors of zeros and ones that say where elements come from, and how they vanish.

An identity matrix is [i = j]; a concatenation puts a tensor in place of some elements:

    cat(A, B)[j] = Σ_k [j = k] · A[k] + Σ_k [j = 3 + k] · B[k]        A: [3]

Where j is summed over, as in a product, it is given by k, and the blocks multiply what they meet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.algebra.polynomial import (
    Access,
    Factor,
    Index,
    Polynomial,
    Term,
    along,
    mixed,
    new_index,
)
from graphopt.algebra.reaches import narrowed
from graphopt.ir.graph import Value


@dataclass(frozen=True, slots=True)
class Equal(Factor):
    """1 where its two accesses are the same number, else 0. `leaf`: the value that it is read from."""


def equalities(p: Polynomial) -> frozenset[str]:
    """The names of the values whose zeros and ones are left."""
    return frozenset(f.leaf.name for term in p.terms for f in term.factors if isinstance(f, Equal))


def placed(p: Polynomial, dim: int, start: int, size: int, value: Value, step: int = 1) -> Polynomial:
    """A polynomial in place of every `step`-th element from `start` along a dimension of a size; zeros
    elsewhere."""
    index = new_index(size)
    inner = mixed(p.dims[dim])
    inner = Access(0, tuple((i, by * step) for i, by in inner.steps))
    factor = Equal(value, (along(index), Access(start + inner.start, inner.steps)))
    dims = (*p.dims[:dim], (index,), *p.dims[dim + 1 :])
    return Polynomial(dims, tuple(Term(term.coefficient, (*term.factors, factor)) for term in p.terms))


def on_diagonal(p: Polynomial, value: Value) -> Polynomial:
    """A matrix with the elements of the last dimension on its diagonal, zeros elsewhere."""
    twin = tuple(new_index(index.size) for index in p.dims[-1])
    pairs = zip(p.dims[-1], twin, strict=True)
    factors = tuple(Equal(value, (along(one), along(other))) for one, other in pairs)
    terms = tuple(Term(term.coefficient, (*term.factors, *factors)) for term in p.terms)
    return Polynomial((*p.dims, twin), terms)


def resolved(p: Polynomial) -> Polynomial:
    """The same without the equalities that give an index which is summed over, or that give all of a
    dimension by several; and without what is zero."""
    free, terms = frozenset(p.free), p.terms
    if equalities(p):
        terms = tuple(filter(None, (_resolved(term, free) for term in terms)))
        for factor in (f for term in terms for f in term.factors if isinstance(f, Equal)):
            for whole, by in (factor.accesses, factor.accesses[::-1]):
                if parts := _whole(whole, by, free):
                    return resolved(_split(Polynomial(p.dims, terms), whole.steps[0][0], parts))
    found = (narrowed(term, free) for term in terms)
    return Polynomial(p.dims, tuple(term for term in found if term is not None))


def _whole(whole: Access, by: Access, free: frozenset[Index]) -> Sequence[Index]:
    """The indices that are summed over and together are a free one, slowest first; else none."""
    parts = [index for index, _ in sorted(by.steps, key=lambda pair: -pair[1])]
    match whole.steps:
        case ((index, 1),) if index in free and len(parts) > 1 and free.isdisjoint(parts):
            same = by == Access(whole.start, mixed(parts).steps)
            return parts if same and math.prod(part.size for part in parts) == index.size else ()
        case _:
            return ()


def _split(p: Polynomial, index: Index, like: Sequence[Index]) -> Polynomial:
    """The same with several indices of the sizes of others in the place of one."""
    parts = tuple(new_index(one.size) for one in like)
    dims = tuple(tuple(i for one in dim for i in (parts if one == index else (one,))) for dim in p.dims)
    return p.with_({index: mixed(parts)}, dims)


def _resolved(term: Term, free: frozenset[Index]) -> Term | None:
    """A term with fewer equalities; None where it is zero."""
    for place, factor in enumerate(term.factors):
        if not isinstance(factor, Equal):
            continue
        one, other = factor.accesses
        rest = Term(term.coefficient, (*term.factors[:place], *term.factors[place + 1 :]))
        if one == other:
            return _resolved(_repeated(rest, factor.indices - free), free)
        if one.highest < other.lowest or other.highest < one.lowest:
            return None
        for given, by in ((one, other), (other, one)):
            match given.steps:
                case ((index, step),) if index not in free and all(i != index for i, _ in by.steps):
                    if any(way % step for _, way in by.steps):
                        continue
                    start, over = divmod(by.start - given.start, step)
                    if over:
                        return None  # it is always between two
                    inside = given.lowest <= by.lowest and by.highest <= given.highest
                    if inside:
                        steps = tuple((i, way // step) for i, way in by.steps)
                        found = rest.with_({index: Access(start, steps)})
                        return _resolved(_repeated(found, factor.indices - free - {index}), free)
        least = min(one.lowest, other.lowest)
        one, other = (Access(access.start - least, access.steps) for access in (one, other))
        for step in sorted({step for access in (one, other) for _, step in access.steps if step > 1}):
            low, high = zip(_digits(one, step), _digits(other, step), strict=True)
            if all(access.lowest >= 0 and access.highest < step for access in low):
                equal = (Equal(factor.leaf, low), Equal(factor.leaf, high))
                return _resolved(Term(rest.coefficient, (*rest.factors, *equal)), free)
    return term


def _repeated(term: Term, summed: frozenset[Index]) -> Term:
    """A term that is summed over some indices, whether it depends on them or not."""
    repeats = math.prod(index.size for index in summed - term.indices)
    return Term(term.coefficient * repeats, term.factors)


def _digits(access: Access, base: int) -> tuple[Access, Access]:
    """Two accesses, of which the second counts times the base."""
    high = tuple((index, step // base) for index, step in access.steps if step % base == 0)
    low = tuple((index, step) for index, step in access.steps if step % base)
    return Access(access.start % base, low), Access(access.start // base, high)


def filled(shape: Sequence[int], terms: tuple[Term, ...]) -> Polynomial:
    """One number, everywhere."""
    return Polynomial(tuple((new_index(size),) if size != 1 else () for size in shape), terms)
