"""Indices that always move together, as one.

Σ_a Σ_b A[i, 500 a + b] · x[500 a + b]  =  Σ_k A[i, k] · x[k]        a: 6, b: 500, k: 3000
"""

from collections.abc import Set
from itertools import permutations

from graphopt.algebra.polynomial import Access, Index, Polynomial, Term, new_index


def joined(p: Polynomial) -> Polynomial:
    """The same polynomial, what is summed over along as few indices as say it."""
    free = frozenset(p.free)
    return Polynomial(p.dims, tuple(term_joined(term, free) for term in p.terms))


def term_joined(term: Term, free: Set[Index]) -> Term:
    """A term with as few indices as say it."""
    bound = sorted(term.indices - free)
    for outer, inner in permutations(bound, 2):
        if all(_moves(access, outer, inner) for factor in term.factors for access in factor.accesses):
            index = new_index(outer.size * inner.size)
            factors = (
                factor.at(tuple(_along(access, outer, inner, index) for access in factor.accesses))
                for factor in term.factors
            )
            return term_joined(Term(term.coefficient, tuple(factors)), free)
    return term


def _moves(access: Access, outer: Index, inner: Index) -> bool:
    """Whether one goes on where the other ends, or neither is here."""
    steps = dict(access.steps)
    return steps.get(outer, 0) == inner.size * steps.get(inner, 0)


def _along(access: Access, outer: Index, inner: Index, index: Index) -> Access:
    steps = dict(access.steps)
    step = steps.pop(inner, 0)
    steps.pop(outer, 0)
    return Access(access.start, tuple(sorted((steps | ({index: step} if step else {})).items())))
