"""Fingerprints: what tensors are at a random point of a finite field. Equal polynomials have equal ones.

Elements of a leaf are drawn by where they lie, so that the same element is the same number however it is
reached; so are those at positions outside of it, for what is equal whatever they are is equal where they
are 0. Indices run over some of their range only, and over the same part everywhere; where something is
summed over such a part, each position has a weight, drawn by the index's whole size: else a sum over 100
elements would look like one over 120.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from graphopt.algebra.polynomial import Access, Factor, Index

PRIMES = 2**31 - 19, 2**31 - 61
"""Of different fields. In that of the prime 2³¹ − 1, a scale of 2³¹ would be 1."""
MOST_BITS = 2048
"""Of a scale, numerator and denominator together: a product of some twenty numbers."""
_LEAF, _OUTSIDE = 36, 48
"""From which bit of a place on the leaf is told, and how many times its size outside of it the place is,
along each of its last dimensions."""
_SIDES, _DIMENSIONS = 8, 4
Numbers: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"


_NO_SIZES: tuple[int, ...] = ()


class Field:
    """One random point: a number for each element of each leaf, the leaves told apart by name."""

    def __init__(self, longest: int, seed: int = 0, by_size: Mapping[int, int] | None = None) -> None:
        """`longest`: how far indices run; `by_size`: how far those of a size do, where it is another."""
        self.prime = PRIMES[seed % len(PRIMES)]
        self._longest = longest
        self._by_size = by_size or {}
        self._seed = seed
        self._leaves: dict[str, int] = {}
        self._weights: dict[int, Numbers] = {}

    def size(self, index: Index) -> int:
        """How far an index runs here."""
        return min(index.size, self._by_size.get(index.size, self._longest))

    def ones(self) -> Numbers:
        """The number 1."""
        made: Numbers = np.ones(_NO_SIZES, dtype=np.int64)
        return made

    def element(self, factor: Factor, order: Sequence[Index]) -> Numbers:
        """A factor as a tensor with a dimension for each index."""
        leaf = 1 + self._leaves.setdefault(factor.leaf.name, len(self._leaves))
        place = np.zeros([self.size(i) for i in order], dtype=np.uint64) + self._origin(leaf)
        weight = 1
        dims = zip(reversed(factor.accesses), reversed(factor.sizes), strict=True)
        for number, (access, size) in enumerate(dims):
            position = np.full([1] * len(order), access.start, dtype=np.int64)
            for index, step in access.steps:
                position = position + self._along(index, order) * step
            if access.lowest < 0 or access.highest >= size:
                side = position // size % _SIDES * _SIDES**number
                place = place + (side << _OUTSIDE).astype(np.uint64)
                position = position % size
            place = place + (position * weight).astype(np.uint64)
            weight *= size
        return self._drawn(place)

    def drawn(self, origin: int, order: Sequence[Index]) -> Numbers:
        """A tensor like no other but those of the same origin."""
        place = np.zeros([self.size(i) for i in order], dtype=np.uint64)
        with np.errstate(over="ignore"):
            place = place + np.uint64(origin << 8 & (1 << 64) - 1) + np.uint64(self._seed << 60)
            weight = 1
            for index in reversed(order):
                place = place + (self._along(index, order) * weight).astype(np.uint64)
                weight *= self.size(index)
        return self._drawn(place)

    def summed(self, numbers: Numbers, axis: int, index: Index) -> Numbers:
        """The sum over an axis, which an index runs along."""
        if self.size(index) < index.size:
            shape = [1] * numbers.ndim
            shape[axis] = -1
            numbers = numbers * self._weights_of(index).reshape(shape) % self.prime
        total: Numbers = numbers.sum(axis=axis) % self.prime
        return total

    def _weights_of(self, index: Index) -> Numbers:
        if index.size not in self._weights:
            places = np.arange(self.size(index), dtype=np.uint64) + np.uint64(index.size << 8)
            self._weights[index.size] = self._drawn(places + self._origin(0))
        return self._weights[index.size]

    def _origin(self, leaf: int) -> np.uint64:
        """The first of the places of a leaf; those of the weights come before the first leaf's."""
        return np.uint64(self._seed << 60 | leaf << _LEAF)

    def _drawn(self, place: np.ndarray[tuple[int, ...], np.dtype[np.uint64]]) -> Numbers:
        return (_mixed(place) % np.uint64(self.prime)).astype(np.int64)

    def _along(self, index: Index, order: Sequence[Index]) -> Numbers:
        shape = [self.size(i) if i == index else 1 for i in order]
        return np.arange(self.size(index), dtype=np.int64).reshape(shape)


def _mixed(
    place: np.ndarray[tuple[int, ...], np.dtype[np.uint64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """A number for each place, as if drawn (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        place = (place + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
        place = (place ^ (place >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return place ^ (place >> np.uint64(31))


def in_field(number: Fraction, prime: int) -> int:
    """A fraction in the field of a prime, which does not divide its denominator."""
    return number.numerator % prime * pow(number.denominator, -1, prime) % prime


def is_told(number: Fraction) -> bool:
    """Whether a fraction has few digits, and is neither 0 nor without an inverse in any field, unless it
    is 0."""
    product = number.numerator * number.denominator
    return product.bit_length() < MOST_BITS and (not product or math.gcd(product, math.prod(PRIMES)) == 1)


def is_told_outside(access: Access, size: int, last: int) -> bool:
    """Whether places outside of a leaf are told apart, along the `last` but one of its dimensions."""
    far = _SIDES // 2
    return last <= _DIMENSIONS and access.lowest >= -far * size and access.highest < far * size


def contraction(
    a: Numbers,
    of_a: Sequence[Index],
    b: Numbers,
    of_b: Sequence[Index],
    out: Sequence[Index],
    field: Field,
) -> Numbers:
    """Σ a · b over the indices that are not in `out`."""
    bound = [i for i in dict.fromkeys((*of_a, *of_b)) if i not in out]
    order = [*out, *bound]
    both = _spread(a, of_a, order) * _spread(b, of_b, order) % field.prime
    for index in reversed(bound):
        both = field.summed(both, both.ndim - 1, index)
    return both


def total(
    parts: Sequence[tuple[Fraction, Numbers, Sequence[Index]]], out: Sequence[Index], field: Field
) -> Numbers:
    """Σ number · tensor, broadcast over the indices that one does not have."""
    found = np.zeros([field.size(i) for i in out], dtype=np.int64)
    for coefficient, numbers, indices in parts:
        found = (found + _spread(numbers, indices, out) * in_field(coefficient, field.prime)) % field.prime
    return found


def _spread(numbers: Numbers, indices: Sequence[Index], order: Sequence[Index]) -> Numbers:
    """With a dimension for each index of an order, of size 1 where it has none."""
    kept = [i for i in order if i in indices]
    arranged = numbers.transpose([indices.index(i) for i in kept])
    sizes = dict(zip(kept, arranged.shape, strict=True))
    return arranged.reshape([sizes.get(i, 1) for i in order])


def canonical(numbers: Numbers, indices: Sequence[Index]) -> tuple[bytes, tuple[Index, ...]]:
    """A key that is equal for tensors which are the same but for the order and the names of their indices;
    and the indices in the order that the key speaks of."""
    if not indices:
        return b";" + numbers.tobytes(), ()
    sizes = [index.size for index in indices]
    marks = [(n, _mark(numbers, i) if sizes.count(n) > 1 else b"") for i, n in enumerate(sizes)]
    places = sorted(range(len(indices)), key=marks.__getitem__)
    tied = [[*members] for _, members in itertools.groupby(places, key=marks.__getitem__)]
    orders = itertools.product(
        *(itertools.permutations(one) if len(one) < 4 else [tuple(one)] for one in tied)
    )
    arranged = ([*itertools.chain.from_iterable(order)] for order in orders)
    found, best = min((numbers.transpose(order).tobytes(), order) for order in arranged)
    said = ",".join(str(sizes[i]) for i in best)
    return f"{said};".encode() + found, tuple(indices[i] for i in best)


def _mark(numbers: Numbers, axis: int) -> bytes:
    """What an axis looks like whatever the order of the others."""
    order = (axis, *(i for i in range(numbers.ndim) if i != axis))
    rows = numbers.transpose(order).reshape(numbers.shape[axis], -1)
    return np.sort(rows, axis=1).tobytes()
