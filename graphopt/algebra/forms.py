"""What polynomials are but for the names of their leaves and indices: equal layers have one form.

What is found for a form holds for every region of it, with the leaves of that region in place of the form's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from graphopt.algebra.polynomial import Access, Factor, Index, Polynomial, Term
from graphopt.ir.graph import Value


@dataclass(frozen=True, slots=True)
class Form:
    """Polynomials over leaves that are named by number; `leaves` are those that stand for them. Forms are
    equal where the polynomials are."""

    polynomials: tuple[Polynomial, ...]
    fixed: frozenset[str]  # the names of the leaves that calls do not change
    leaves: Mapping[str, Value] = field(compare=False)


def form_of(polynomials: Iterable[Polynomial], fixed: Callable[[Value], bool]) -> Form:
    """The form of some polynomials. `fixed`: whether calls do not change a leaf."""
    naming = _Naming()
    named = tuple(map(naming.polynomial, polynomials))
    leaves = {new.name: old for old, new in naming.leaves.values()}
    return Form(named, frozenset(name for name, old in leaves.items() if fixed(old)), leaves)


class _Naming:
    """Numbers leaves and indices in the order in which they are met."""

    def __init__(self) -> None:
        self.leaves: dict[str, tuple[Value, Value]] = {}
        self._indices: dict[Index, Index] = {}

    def polynomial(self, p: Polynomial) -> Polynomial:
        dims = tuple(tuple(map(self._index, dim)) for dim in p.dims)
        return Polynomial(dims, tuple(map(self._term, p.terms)))

    def _term(self, term: Term) -> Term:
        return Term(term.coefficient, tuple(map(self._factor, term.factors)))

    def _factor(self, factor: Factor) -> Factor:
        name = factor.leaf.name
        if name not in self.leaves:
            self.leaves[name] = factor.leaf, Value(str(len(self.leaves)), factor.leaf.type)
        accesses = tuple(map(self._access, factor.accesses))
        return replace(factor, leaf=self.leaves[name][1], accesses=accesses)

    def _access(self, access: Access) -> Access:
        # The widest steps first: which index was made first says nothing.
        steps = access.steps
        if len(steps) > 1:
            steps = tuple(sorted(steps, key=lambda pair: (-pair[1], pair[0].size)))
        return Access(access.start, tuple(sorted((self._index(index), step) for index, step in steps)))

    def _index(self, index: Index) -> Index:
        # Below zero: no other index is called so.
        return self._indices.setdefault(index, Index(-1 - len(self._indices), index.size))
