"""What evaluating polynomials takes at least, whatever is shared: searching for less is no use.

A plan for x W + x V makes x W if V is zero; one for x W + x W V makes x W V if only the terms with the
most factors are kept of each sum, and x W if those with the fewest are. So a polynomial takes what such a
term does. And several take what they do together, but for products of leaves that one before them has as
well, which may be there:

    x W,  x W V        at least x W, and x W V where x W costs nothing
"""

from collections.abc import Iterable, Iterator, Sequence

from graphopt.algebra.choices import Choice
from graphopt.algebra.equality import Equal
from graphopt.algebra.polynomial import Factor, Index, Polynomial, Term
from graphopt.algebra.pricing import Prices
from graphopt.algebra.trees import Partial, cheapest
from graphopt.algebra.windows import is_windowed

MOST_PAIRS = 1_500
"""Partial products that are looked at for one term; of larger ones, nothing is known."""


def least(polynomials: Iterable[Polynomial], fixed: frozenset[str], prices: Prices) -> list[float]:
    """Seconds that each takes at least, besides those before it. `fixed`: the leaves that calls do not
    change."""
    before, found = list[frozenset[str]](), list[float]()
    for p in polynomials:
        kept = frozenset(p.free)
        alone = (_product(term.factors, kept, before, fixed, prices) for term in _outermost(p))
        found.append(max(alone, default=0.0))
        before.append(frozenset[str]().union(*map(_leaves, p.terms)))
    return found


def _outermost(p: Polynomial) -> Iterator[Term]:
    """The terms that alone have the most factors, or the fewest, of those of their leaves; with no leaf
    twice, of which products could be shared."""
    leaves = [*map(_leaves, p.terms)]
    for term, mine in zip(p.terms, leaves, strict=True):
        count = len(term.factors)
        if (count == 2 or count == len(mine) > 2) and not any(map(_is_special, term.factors)):
            inside = [len(one.factors) for one, its in zip(p.terms, leaves, strict=True) if its <= mine]
            if inside.count(count) == 1 and count in (min(inside), max(inside)):
                yield term


def _product(
    factors: Sequence[Factor],
    kept: frozenset[Index],
    before: Sequence[frozenset[str]],
    fixed: frozenset[str],
    prices: Prices,
) -> float:
    """What multiplying factors takes at least, but for what may be there."""
    names = [factor.leaf.name for factor in factors]

    def step(a: Partial, b: Partial, out: frozenset[Index]) -> float:
        members = {name for i, name in enumerate(names) if (a.mask | b.mask) >> i & 1}
        if any(members <= there for there in before):
            return 0.0
        return prices.held(out) if members <= fixed else prices.product(a.indices, b.indices, out)

    found = cheapest([factor.indices for factor in factors], kept, step, MOST_PAIRS)
    return 0.0 if found is None else found.seconds


def _leaves(term: Term) -> frozenset[str]:
    return frozenset(factor.leaf.name for factor in term.factors)


def _is_special(factor: Factor) -> bool:
    """Whether multiplying with it may have another price."""
    return isinstance(factor, Choice | Equal) or is_windowed(factor)
