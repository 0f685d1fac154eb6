"""Accesses that reach out of a leaf, where it is zero.

Σ_k w[k] · x[k − 1]  =  Σ_j w[j + 1] · x[j]          j: one less than k
"""

from collections.abc import Iterator, Set

from graphopt.algebra.fingerprint import is_told_outside
from graphopt.algebra.joining import term_joined
from graphopt.algebra.polynomial import (
    Access,
    Factor,
    Index,
    NoPolynomial,
    Polynomial,
    Term,
    new_index,
)


def extended(p: Polynomial, dim: int, before: int, after: int) -> Polynomial:
    """With zeros before and after a dimension. Raises NoPolynomial where what is read there would be of
    the leaf still, or of no leaf."""
    if not before and not after:
        return p
    index = _only(p.dims[dim])
    fresh = new_index(before + index.size + after)
    dims = tuple((fresh,) if i == dim else indices for i, indices in enumerate(p.dims))
    return _zero_outside(p, index, before > 0, after > 0).with_({index: Access(-before, ((fresh, 1),))}, dims)


def windows(
    p: Polynomial, dim: int, count: int, step: int, length: int, apart: int, start: int = 0
) -> Polynomial:
    """A dimension as `count` windows, each of which starts `step` after the last, and shows `length`
    elements that are `apart`; the first starts at `start`. Zeros outside. They become a dimension at the end.
    Raises NoPolynomial as `extended` does."""
    size = p.shape[dim]
    end = start + (count - 1) * step + (length - 1) * apart
    if (start, end, length) == (0, size - 1, 1) and (step == 1 or size == 1):
        return Polynomial((*p.dims, ()), p.terms)
    index = _only(p.dims[dim])
    p = _zero_outside(p, index, start < 0, end >= size)
    one, other = (((new_index(n),) if n > 1 else ()) for n in (count, length))
    steps = [(i, by) for indices, by in ((one, step), (other, apart)) for i in indices]
    dims = (*p.dims[:dim], one, *p.dims[dim + 1 :], other)
    return p.with_({index: Access(start, tuple(sorted(steps)))}, dims)


def sampled(p: Polynomial, dim: int, start: int, step: int, length: int) -> Polynomial:
    """Some elements along a dimension, all of which there are, in either direction."""
    if (start, step, length) == (0, 1, p.shape[dim]) or p.shape[dim] == 1:
        return p
    index, fresh = _only(p.dims[dim]), new_index(length)
    dims = tuple((fresh,) if i == dim and length > 1 else () if i == dim else d for i, d in enumerate(p.dims))
    return p.with_({index: Access(start, ((fresh, step),) if length > 1 else ())}, dims)


def _only(indices: tuple[Index, ...]) -> Index:
    """The only index of a dimension. Raises NoPolynomial where it is made of others."""
    if len(indices) != 1:
        raise NoPolynomial
    return indices[0]


def _zero_outside(p: Polynomial, index: Index, below: bool, above: bool) -> Polynomial:
    """A polynomial that is 0 where an index is below, or above, its range. Raises NoPolynomial where it may
    not be."""
    for term in p.terms:
        ends = [end for factor in term.factors for end in _ends(factor, index)]
        if (below and not any(one for one, _ in ends)) or (above and not any(one for _, one in ends)):
            raise NoPolynomial
    return p


def _ends(factor: Factor, index: Index) -> Iterator[tuple[bool, bool]]:
    """Whether a factor is outside of its leaf wherever an index is below its range, and above."""
    for access, size in _reaches(factor):
        match access.steps:
            case ((of, step),) if of == index and step > 0:
                yield access.start < step, access.start + step * index.size >= size


def narrowed(term: Term, free: Set[Index]) -> Term | None:
    """A term where indices that are summed over run only where leaves are; None where it is zero. Raises
    NoPolynomial where one reaches too far."""
    for factor in term.factors:
        for place, (access, size) in enumerate(_reaches(factor)):
            if access.lowest >= 0 and access.highest < size:
                continue
            if access.highest < 0 or access.lowest >= size:
                return None
            match access.steps:
                case ((index, step),) if index not in free:
                    inside = [i for i in range(index.size) if 0 <= access.start + step * i < size]
                    if not inside:
                        return None
                    fresh = new_index(len(inside))
                    steps = ((fresh, 1),) if len(inside) > 1 else ()
                    return narrowed(term.with_({index: Access(inside[0], steps)}), free)
            together = term_joined(term, free)
            if together is not term:
                return narrowed(together, free)
            if not is_told_outside(access, size, len(factor.accesses) - place):
                raise NoPolynomial
    return term


def _reaches(factor: Factor) -> Iterator[tuple[Access, int]]:
    if type(factor) is Factor:
        yield from zip(factor.accesses, factor.sizes, strict=True)
