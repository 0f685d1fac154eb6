"""Polynomials whose results are put together of blocks, each of which is a polynomial without equalities.

    cat(A x, B x)[j] = Σ_k [j = k] · (A x)[k] + Σ_k [j = 3 + k] · (B x)[k]        j: 7

is A x for j from 0 to 2, and B x for j from 3 to 6: it is cut where an equality begins or ends to hold, along
one index after the other, as long as equalities are left.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from graphopt.algebra.equality import Equal, equalities, resolved
from graphopt.algebra.polynomial import Access, Index, NoPolynomial, Polynomial, along, new_index

MOST_BLOCKS = 64
"""Results that are put together of more are left as they are spelled."""


@dataclass(frozen=True)
class Cut:
    """A free index of a polynomial, and where its blocks begin; last where they end."""

    index: Index
    places: tuple[int, ...]

    def blocks(self, p: Polynomial) -> Iterator[Polynomial]:
        """The blocks of a polynomial: with a dimension for each of its free indices, made of those that the
        block has in its place."""
        for start, stop in pairwise(self.places):
            part = (new_index(stop - start),) if stop - start > 1 else ()
            access = Access(start, tuple((index, 1) for index in part))
            dims = tuple(part if index == self.index else (index,) for index in p.free)
            yield resolved(p.with_({self.index: access}, dims))


def cut_of(*polynomials: Polynomial) -> Cut | None:
    """Where polynomials with the same free indices fall into blocks, along the first index that they do;
    None where they are whole."""
    places: dict[Index, set[int]] = {}
    for p in polynomials:
        free = frozenset(p.free)
        for factor in (f for term in p.terms for f in term.factors if isinstance(f, Equal)):
            for one, other in (factor.accesses, factor.accesses[::-1]):
                match one.steps:
                    case ((index, 1),) if index in free and one == along(index):
                        last = other.start + sum((i.size - 1) * step for i, step in other.steps)
                        ends = {0, index.size, max(other.start, 0), min(last + 1, index.size)}
                        places.setdefault(index, set()).update(ends)
    for index in polynomials[0].free:
        if len(places.get(index, ())) > 2:
            return Cut(index, tuple(sorted(places[index])))
    return None


def count(p: Polynomial) -> int:
    """How many blocks a polynomial has. Raises NoPolynomial where equalities are left in one, or where there
    are more than can be looked at."""
    if not equalities(p):
        return 1
    cut = cut_of(p)
    if cut is None or len(cut.places) > MOST_BLOCKS:
        raise NoPolynomial
    found = sum(map(count, cut.blocks(p)))
    if found > MOST_BLOCKS:
        raise NoPolynomial
    return found


def is_whole_in_blocks(p: Polynomial) -> bool:
    """Whether no block has equalities left."""
    try:
        return count(p) > 0
    except NoPolynomial:
        return False
