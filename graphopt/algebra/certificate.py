"""Proof that two polynomials are the same: at random points of finite fields they are.

Schwartz and Zippel: two polynomials of degree d that differ agree at a random point of a field of p elements
with a probability of at most d / p. Indices of one size run so far that all of a term may differ: matrices
that are smaller obey laws that larger ones do not, and whatever stands at such a place shows which indices
were there. Of results that are put together of blocks, each block is compared by itself.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graphopt.algebra.cutting import cut_of
from graphopt.algebra.equality import equalities
from graphopt.algebra.fingerprint import PRIMES, Field, Numbers, contraction, in_field
from graphopt.algebra.joining import joined
from graphopt.algebra.polynomial import Factor, Index, NoPolynomial, Polynomial, aligned

MOST_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whether two polynomials agreed at every point, and a bound on agreeing by chance."""

    holds: bool
    bound: float

    def with_(self, others: "Iterable[Certificate]") -> "Certificate":
        """Of all of them."""
        every = (self, *others)
        return Certificate(all(one.holds for one in every), sum(one.bound for one in every))


def certificate(p: Polynomial, q: Polynomial, *, seed: int = 1, whole: bool = False) -> Certificate:
    """Compares two polynomials, in each of several fields; `whole`: along the whole of the indices that are
    summed over, so that sums of parts are the sum of all. Raises NoPolynomial where their dimensions do not
    fit, or they are too large to look at."""
    mine, theirs = aligned(joined(p), joined(q))
    cut = cut_of(mine, theirs)
    if cut is not None:
        pairs = zip(cut.blocks(mine), cut.blocks(theirs), strict=True)
        first, *others = (certificate(one, other, seed=seed, whole=whole) for one, other in pairs)
        return first.with_(others)
    if equalities(mine) or equalities(theirs):
        raise NoPolynomial  # indices run over a part of their range only
    return _compared(mine, theirs, seed, whole)


def _compared(mine: Polynomial, theirs: Polynomial, seed: int, whole: bool) -> Certificate:
    """Of polynomials with the same free indices, which run over all of their range."""
    terms = (*mine.terms, *theirs.terms)
    # Sums over a part of an index's range have weights, which are drawn, too.
    degree = max([1, *(len(term.factors) + len(term.indices) for term in terms)])
    bound = math.prod(degree / prime for prime in PRIMES)
    runs: dict[int, int] = {}
    for term in terms:
        for size, count in Counter(index.size for index in term.indices).items():
            runs[size] = max(runs.get(size, 2), count)
        if whole:
            free = {*mine.free}
            runs.update((index.size, index.size) for index in term.indices if index not in free)
    order = sorted(mine.free)
    for point in range(len(PRIMES)):
        field = Field(2, seed + point, runs)
        if not np.array_equal(numbers_of(mine, order, field), numbers_of(theirs, order, field)):
            return Certificate(False, bound)
    return Certificate(True, bound)


def all_of(certificates: Iterable[Certificate]) -> Certificate:
    """That all of several hold."""
    found = [*certificates]
    return Certificate(all(one.holds for one in found), sum(one.bound for one in found))


def numbers_of(p: Polynomial, order: list[Index], field: Field) -> Numbers:
    """A polynomial at a point, with a dimension for each index of an order."""
    total = np.zeros([field.size(i) for i in order], dtype=np.int64)
    for term in p.terms:
        numbers, indices, left = field.ones(), list[Index](), [*term.factors]
        while left:
            at = _next(left, indices)
            factor = left.pop(at)
            mine = sorted(factor.indices)
            later = set(order).union(*(other.indices for other in left))
            out = [i for i in dict.fromkeys((*indices, *mine)) if i in later]
            if math.prod(field.size(index) for index in {*indices, *mine}) > MOST_ELEMENTS:
                raise NoPolynomial
            numbers = contraction(numbers, indices, field.element(factor, mine), mine, out, field)
            indices = out
        spread = numbers.transpose([indices.index(i) for i in order if i in indices])
        shape = [field.size(i) if i in indices else 1 for i in order]
        total = (total + spread.reshape(shape) * in_field(term.coefficient, field.prime)) % field.prime
    return total


def _next(left: list[Factor], indices: list[Index]) -> int:
    """The factor that shares most with what is there, and adds least, so that sums are taken early."""
    known = set(indices)
    marks = [(-len(factor.indices & known), len(factor.indices - known)) for factor in left]
    return marks.index(min(marks))
