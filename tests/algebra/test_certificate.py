"""The certificate accepts what is the same polynomial, and nothing else."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction
from functools import reduce

import pytest
import torch

from graphopt.algebra.certificate import certificate
from graphopt.algebra.contraction import contracted, product
from graphopt.algebra.equality import equalities, on_diagonal, placed, resolved
from graphopt.algebra.fingerprint import PRIMES
from graphopt.algebra.polynomial import (
    Access,
    Factor,
    NoPolynomial,
    Polynomial,
    Term,
    along,
    leaf,
    new_index,
    number,
    plus,
    times,
)
from graphopt.algebra.views import rearranged
from graphopt.ir.graph import Value
from graphopt.ir.types import TensorType
from tests.algebra.evaluation import evaluated


def tensor(name: str, *shape: int) -> Polynomial:
    strides = torch.empty(shape, device="meta").stride()
    return leaf(Value(name, TensorType(torch.float64, shape, strides, torch.device("cpu"))), shape)


def t(p: Polynomial) -> Polynomial:
    return p.permuted((1, 0))


def trace(p: Polynomial) -> Polynomial:
    return contracted([p], ["ii"], "")


def minus(p: Polynomial, q: Polynomial) -> Polynomial:
    return plus(p, q.scaled(Fraction(-1)))


N = 50
A, B, C, D = (tensor(name, N, N) for name in "ABCD")
X, Y = (tensor(name, N) for name in "xy")
AB = product(A, B)

EQUAL: dict[str, tuple[Polynomial, Polynomial]] = {
    "another order": (product(AB, X), product(A, product(B, X))),
    "transposed": (t(AB), product(t(B), t(A))),
    "a repeat": (product(product(AB, C), AB), product(AB, product(C, AB))),
    "distributed": (plus(AB, product(A, C)), product(A, plus(B, C))),
    "the trace of a product turned around": (trace(product(AB, C)), trace(product(C, AB))),
    "scales": (product(A.scaled(Fraction(1, 3)), B.scaled(Fraction(3))), AB),
    "commuted": (times(A, B), times(B, A)),
    "cancelled": (minus(plus(AB, C), AB), C),
    "the sum of a product": (AB.summed((0, 1)), contracted([A.summed((0,)), B.summed((1,))], ["k", "k"], "")),
    "the mean of a constant": (
        plus(X.summed((0,)), number(Fraction(N))),
        plus(X, number(Fraction(1))).summed((0,)),
    ),
    "12 factors": (
        product(product(product(AB, AB), product(AB, AB)), product(AB, AB)),
        product(A, product(product(B, product(AB, product(AB, AB))), product(A, product(B, AB)))),
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_it_accepts(name: str) -> None:
    p, q = EQUAL[name]
    found = certificate(p, q)
    assert found.holds and found.bound < 1e-12


def part(p: Polynomial, dim: int, start: int, size: int) -> Polynomial:
    """A slice of a leaf."""
    (term,), (index,) = p.terms, p.dims[dim]
    fresh = new_index(size)
    dims = tuple((fresh,) if i == dim else indices for i, indices in enumerate(p.dims))
    return Polynomial(dims, (term.with_({index: Access(start, ((fresh, 1),))}),))


def cayley_hamilton(n: int) -> Polynomial:
    """(AB + BA − tr(A) B − tr(B) A) C + (tr(A) tr(B) − tr(AB)) C: zero for 2 × 2 matrices."""
    a, b, c = (tensor(name, n, n) for name in "ABC")
    ab = product(a, b)
    both = minus(minus(plus(ab, product(b, a)), times(trace(a), b)), times(trace(b), a))
    return plus(product(both, c), times(minus(times(trace(a), trace(b)), trace(ab)), c))


DIFFERENT: dict[str, Callable[[], tuple[Polynomial, Polynomial]]] = {
    "(AB)²C for ABCAB": lambda: (product(product(AB, C), AB), product(product(AB, AB), C)),
    "a lost transpose": lambda: (product(t(A), B), AB),
    "a moved relu": lambda: (product(tensor("relu(A)", N, N), B), tensor("relu(AB)", N, N)),
    "a scale of 0.5000001": lambda: (AB.scaled(Fraction(0.5)), AB.scaled(Fraction(0.5000001))),
    "a scale that is 1 in one of the fields": lambda: (AB, AB.scaled(Fraction(PRIMES[0] + 1))),
    "a scale that is 0 in one of the fields": lambda: (AB.scaled(Fraction(PRIMES[1])), number(Fraction(0))),
    "a scale of 2³¹": lambda: (AB, AB.scaled(Fraction(2**31))),
    "a sum over fewer elements": lambda: (
        product(part(A, 1, 0, 30), part(B, 0, 0, 30)),
        product(part(A, 1, 0, 40), part(B, 0, 0, 40)),
    ),
    "a sum over other elements": lambda: (part(X, 0, 0, 30).summed((0,)), part(X, 0, 1, 30).summed((0,))),
    "sums that cover the same first elements": lambda: (
        plus(part(X, 0, 0, 10).summed((0,)), part(X, 0, 2, 10).summed((0,))),
        plus(strided(X, 0, 10).summed((0,)), strided(X, 1, 10).summed((0,))),
    ),
    "a dropped term": lambda: (plus(AB, C), AB),
    "what 2 × 2 matrices obey": lambda: (cayley_hamilton(N), cayley_hamilton(N).scaled(Fraction(2))),
    "a mean over another count": lambda: (
        X.summed((0,)).scaled(Fraction(1, N)),
        X.summed((0,)).scaled(Fraction(1, N + 1)),
    ),
}


def joined(*parts: Polynomial, dim: int = 0) -> Polynomial:
    """One after the other, as a sum of what is zero elsewhere."""
    size, start, found = sum(p.shape[dim] for p in parts), 0, list[Polynomial]()
    for p in parts:
        found.append(placed(p, dim, start, size, A.terms[0].factors[0].leaf))
        start += p.shape[dim]
    return resolved(reduce(plus, found))


def in_blocks(p: Polynomial, q: Polynomial) -> Polynomial:
    """p and q on a diagonal."""
    zeros = [Polynomial(one.dims, ()) for one in (contracted([p, q], ["ab", "cd"], "ad"),) * 2]
    return joined(joined(p, zeros[0], dim=1), joined(t(zeros[1]), q, dim=1))


TALL = product(part(A, 0, 0, 20), B)
BLOCKS: dict[str, tuple[Polynomial, Polynomial]] = {
    "blocks of products": (joined(AB, TALL), product(joined(A, part(A, 0, 0, 20)), B)),
    "side by side": (joined(AB, product(A, C), dim=1), product(A, joined(B, C, dim=1))),
    "on a diagonal": (
        product(in_blocks(A, B), joined(C, D)), joined(product(A, C), product(B, D))
    ),
    "a diagonal that is left": (
        product(in_blocks(A, B), in_blocks(C, D)), in_blocks(product(A, C), product(B, D))
    ),
    "with a bias": (joined(plus(AB, X), plus(C, X)), plus(joined(AB, C), X)),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_it_accepts_results_put_together_of_blocks(name: str) -> None:
    p, q = BLOCKS[name]
    assert equalities(p)
    found = certificate(p, q)
    assert found.holds and found.bound < 1e-12


FALSE_BLOCKS: dict[str, tuple[Polynomial, Polynomial]] = {
    "exchanged": (joined(AB, C), joined(C, AB)),
    "cut one element earlier": (joined(part(A, 0, 0, 20), part(A, 0, 21, 20)), part(A, 0, 0, 40)),
    "cut elsewhere": (
        joined(part(A, 0, 0, 20), part(B, 0, 20, 20)), joined(part(A, 0, 0, 21), part(B, 0, 21, 19))
    ),
    "one element of one block": (
        joined(AB, part(C, 0, 0, 1), part(D, 0, 1, 49)), joined(AB, D)
    ),
    "something where zeros are": (in_blocks(A, B), joined(joined(A, C, dim=1), joined(D, B, dim=1))),
    "a lost transpose in the last": (joined(AB, t(C)), joined(AB, C)),
}  # fmt: skip


@pytest.mark.parametrize("name", FALSE_BLOCKS)
def test_it_rejects_other_blocks(name: str) -> None:
    assert not certificate(*FALSE_BLOCKS[name]).holds


def test_what_is_no_block_is_not_looked_at() -> None:
    """A diagonal has a block for each element."""
    p = on_diagonal(X, A.terms[0].factors[0].leaf)
    with pytest.raises(NoPolynomial):
        certificate(p, p)


def strided(p: Polynomial, start: int, size: int) -> Polynomial:
    (term,), ((index,),) = p.terms, p.dims
    fresh = new_index(size)
    return Polynomial(((fresh,),), (term.with_({index: Access(start, ((fresh, 2),))}),))


@pytest.mark.parametrize("name", DIFFERENT)
def test_it_rejects(name: str) -> None:
    assert not certificate(*DIFFERENT[name]()).holds


def test_of_two_by_two_matrices_it_accepts_what_these_obey() -> None:
    p = cayley_hamilton(2)
    assert certificate(p, p.scaled(Fraction(2))).holds


SQUARES = [tensor(name, 7, 7) for name in "ABC"]
ROWS = [tensor(name, 7) for name in "xy"]


def made(draw: random.Random) -> Polynomial:
    """A random polynomial with a matrix for a result: sums of scaled chains, some transposed."""
    found: Polynomial | None = None
    for _ in range(draw.randint(1, 3)):
        chain = draw.choice(SQUARES)
        for _ in range(draw.randint(1, 3)):
            other = draw.choice(SQUARES)
            match draw.randrange(5):
                case 0 | 1:
                    chain = product(chain, other)
                case 2:
                    chain = product(chain, t(other))
                case 3:
                    chain = times(chain, draw.choice(ROWS))
                case _:
                    chain = product(t(chain), other)
        chain = chain.scaled(Fraction(draw.choice((1, 2, -1, 0.5, 3))))
        found = chain if found is None else plus(found, chain)
    assert found is not None
    return found


def turned(draw: random.Random, p: Polynomial) -> Polynomial:
    """With the dimensions of one factor exchanged: a lost transpose."""
    return on_a_factor(draw, p, lambda f: Factor(f.leaf, tuple(reversed(f.accesses))), rank=2)


def shifted(draw: random.Random, p: Polynomial) -> Polynomial:
    """With another position in one factor."""

    def change(factor: Factor) -> Factor:
        where = draw.randrange(len(factor.accesses))
        access = factor.accesses[where]
        moved = Access(access.start + 1, access.steps)
        return Factor(factor.leaf, (*factor.accesses[:where], moved, *factor.accesses[where + 1 :]))

    return on_a_factor(draw, p, change)


def renamed(draw: random.Random, p: Polynomial) -> Polynomial:
    """With another of the term's indices in one place of a factor."""
    number_, term = draw.choice([*enumerate(p.terms)])
    places = [(i, j) for i, f in enumerate(term.factors) for j, a in enumerate(f.accesses) if a.steps]
    i, j = draw.choice(places)
    factor = term.factors[i]
    chosen = along(draw.choice(sorted(term.indices)))
    accesses = (*factor.accesses[:j], chosen, *factor.accesses[j + 1 :])
    factors = (*term.factors[:i], Factor(factor.leaf, accesses), *term.factors[i + 1 :])
    terms = (*p.terms[:number_], Term(term.coefficient, factors), *p.terms[number_ + 1 :])
    return Polynomial(p.dims, terms)


def swapped(draw: random.Random, p: Polynomial) -> Polynomial:
    """With another leaf in the place of one."""

    def change(factor: Factor) -> Factor:
        pool = SQUARES if len(factor.accesses) == 2 else ROWS
        leaves = [one.terms[0].factors[0].leaf for one in pool]
        return Factor(draw.choice([one for one in leaves if one != factor.leaf]), factor.accesses)

    return on_a_factor(draw, p, change)


def dropped(draw: random.Random, p: Polynomial) -> Polynomial:
    gone = draw.randrange(len(p.terms))
    return Polynomial(p.dims, (*p.terms[:gone], *p.terms[gone + 1 :]))


def scaled(draw: random.Random, p: Polynomial) -> Polynomial:
    at, by = draw.randrange(len(p.terms)), Fraction(draw.choice((1.0000002, 0.5, -1, 2.0**31, 1 + 2.0**-40)))
    terms = [Term(one.coefficient * (by if i == at else 1), one.factors) for i, one in enumerate(p.terms)]
    return Polynomial(p.dims, tuple(terms))


def doubled(draw: random.Random, p: Polynomial) -> Polynomial:
    return Polynomial(p.dims, (*p.terms, draw.choice(p.terms)))


def lost(draw: random.Random, p: Polynomial) -> Polynomial:
    """Without one factor."""
    at = draw.randrange(len(p.terms))
    term = p.terms[at]
    gone = draw.randrange(len(term.factors))
    factors = (*term.factors[:gone], *term.factors[gone + 1 :])
    return Polynomial(p.dims, (*p.terms[:at], Term(term.coefficient, factors), *p.terms[at + 1 :]))


def on_a_factor(
    draw: random.Random, p: Polynomial, change: Callable[[Factor], Factor], rank: int = 1
) -> Polynomial:
    at = draw.randrange(len(p.terms))
    term = p.terms[at]
    place = draw.choice([i for i, factor in enumerate(term.factors) if len(factor.accesses) >= rank])
    factors = tuple(change(f) if i == place else f for i, f in enumerate(term.factors))
    return Polynomial(p.dims, (*p.terms[:at], Term(term.coefficient, factors), *p.terms[at + 1 :]))


WRONG = (turned, shifted, renamed, swapped, dropped, scaled, doubled, lost)


def shuffled(draw: random.Random, p: Polynomial) -> Polynomial:
    """The same, spelled otherwise."""
    terms = [Term(term.coefficient, tuple(draw.sample(term.factors, len(term.factors)))) for term in p.terms]
    return Polynomial(p.dims, tuple(draw.sample(terms, len(terms)))).apart()


def test_a_thousand_false_rewrites_are_rejected_and_the_true_ones_accepted() -> None:
    draw = random.Random(0)
    rejected = 0
    while rejected < 1000:
        p = made(draw)
        assert certificate(p, shuffled(draw, p)).holds
        q = shuffled(draw, draw.choice(WRONG)(draw, p))
        if are_equal(p, q):
            continue  # such as A ∘ A, turned
        rejected += 1
        assert not certificate(p, q).holds, (p, q)


def are_equal(p: Polynomial, q: Polynomial) -> bool:
    """By definition, on integers; what is wrong at the edge of a leaf reads beyond, so leaves are larger."""
    generator = torch.Generator().manual_seed(0)
    values = {
        one.terms[0].factors[0].leaf.name: torch.randint(-9, 10, (8,) * len(one.dims), generator=generator)
        for one in (*SQUARES, *ROWS)
    }
    return torch.equal(evaluated(p, values), evaluated(q, values))


def test_what_does_not_fit_is_no_pair() -> None:
    with pytest.raises(NoPolynomial):
        certificate(tensor("A", 4, 6), tensor("A", 4, 5))


def split(p: Polynomial, *dims: tuple[int, ...]) -> Polynomial:
    """Each dimension of a tensor as several."""
    shape = [size for dim in dims for size in dim]
    return rearranged(p, lambda operand: operand.reshape(shape))


def test_a_sum_in_parts_is_the_sum() -> None:
    whole = product(A, X)
    parts = contracted([split(A, (N,), (5, 10)), split(X, (5, 10))], ["iab", "ab"], "i")
    assert certificate(whole, parts).holds
    turned = contracted([split(A, (N,), (5, 10)), split(X, (10, 5))], ["iab", "ba"], "i")
    assert not certificate(whole, turned).holds
    assert not certificate(
        whole, contracted([split(A, (N,), (5, 10)), split(X, (5, 10))], ["iab", "ac"], "i")
    ).holds
    one_alone = contracted([split(X, (5, 10)), split(Y, (5, 10))], ["ab", "ac"], "")
    assert not certificate(one_alone, product(X, Y)).holds


@pytest.mark.parametrize(
    "degree, p, q",
    [
        (2 + 3, AB, product(A, B)),
        (3 + 1, times(X, times(X, X)), times(times(X, X), X)),
        (1, number(Fraction(2)), number(Fraction(2))),
    ],
)
def test_the_bound_is_the_degree_by_the_elements_of_each_field(
    degree: int, p: Polynomial, q: Polynomial
) -> None:
    """Along each index sums may have weights, which are drawn as elements of leaves are."""
    found = certificate(p, q)
    assert found.holds and found.bound == pytest.approx(math.prod(degree / prime for prime in PRIMES))


def test_where_either_is_over_a_part_of_its_indices_there_is_no_proof() -> None:
    diagonal = on_diagonal(X, A.terms[0].factors[0].leaf)
    for pair in ((A, diagonal), (diagonal, A)):
        with pytest.raises(NoPolynomial):
            certificate(*pair)


def test_along_the_whole_means_of_what_is_summed_over() -> None:
    many = tensor("m", 2_000_003, 3).summed((1,))
    assert certificate(many, many.apart(), whole=True).holds
