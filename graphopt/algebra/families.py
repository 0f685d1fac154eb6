"""Terms that are the same but for where they read, step by step: one term, over an index more.

    A[i, k] · x[k, 0] + A[i, k] · x[k, 1] + A[i, k] · x[k, 2]  =  Σ_c A[i, k] · x[k, c]        c: 3

So a Python loop over vectors becomes a product of matrices again.
"""

from collections.abc import Iterator, Sequence

from graphopt.algebra.polynomial import Access, Index, Polynomial, Term, new_index

FEWEST = 3
"""Terms that are worth an index."""


def united(p: Polynomial) -> Polynomial:
    """The same polynomial with one term for each family of terms."""
    if len(p.terms) < FEWEST:
        return p
    free = frozenset(p.free)
    families: dict[object, list[Term]] = {}
    for term in p.terms:
        families.setdefault(_pattern(term, free), []).append(term)
    return Polynomial(p.dims, tuple(term for family in families.values() for term in _united(family)))


def _united(family: Sequence[Term]) -> Iterator[Term]:
    """One term where all of a family follow one another in equal steps; else what there is."""
    ordered = sorted(family, key=_starts)
    starts = [*map(_starts, ordered)]
    steps = [after - before for before, after in zip(starts[0], starts[min(1, len(starts) - 1)], strict=True)]
    even = all(
        now == tuple(first + number * step for first, step in zip(starts[0], steps, strict=True))
        for number, now in enumerate(starts)
    )
    if len(family) < FEWEST or not even or not any(steps) or min(steps) < 0:
        yield from family
        return
    index, left = new_index(len(family)), iter(steps)

    def moved(access: Access) -> Access:
        step = next(left)
        return Access(access.start, tuple(sorted((*access.steps, (index, step))))) if step else access

    factors = tuple(factor.at(tuple(map(moved, factor.accesses))) for factor in ordered[0].factors)
    yield Term(ordered[0].coefficient, factors)


def _starts(term: Term) -> tuple[int, ...]:
    return tuple(access.start for factor in term.factors for access in factor.accesses)


def _pattern(term: Term, free: frozenset[Index]) -> object:
    """Equal for terms that differ in where accesses start and in the names of what they are summed over."""
    names: dict[Index, object] = {}

    def named(index: Index) -> object:
        return index if index in free else names.setdefault(index, (len(names), index.size))

    def along(access: Access) -> object:
        # By step first: names are given in the order in which indices are met, whatever their numbers.
        steps = sorted(access.steps, key=lambda pair: (pair[1], pair[0] not in free, pair[0].size, pair[0]))
        return tuple((step, named(index)) for index, step in steps)

    factors = tuple((type(f), f.leaf, tuple(map(along, f.accesses))) for f in term.factors)
    return term.coefficient, factors
