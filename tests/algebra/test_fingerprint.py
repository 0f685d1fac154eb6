"""Fingerprints: what may be told apart is, and what is the same has the same."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest
import torch

from graphopt.algebra.fingerprint import PRIMES, Field, canonical, is_told, is_told_outside
from graphopt.algebra.polynomial import Access, Factor, Index
from graphopt.ir.graph import Value
from graphopt.ir.types import TensorType

LEAF = Value("a", TensorType(torch.float32, (3, 4), (4, 1), torch.device("cpu")))


def _number(field: Field, *position: int) -> int:
    return int(field.element(Factor(LEAF, tuple(map(Access, position))), ()))


def test_each_element_of_a_leaf_and_each_position_near_it_has_a_number_of_its_own() -> None:
    field = Field(longest=8)
    places = [*itertools.product(range(-12, 12), range(-16, 16))]
    assert len({_number(field, *place) for place in places}) == len(places)


def test_an_element_has_the_same_number_however_it_is_reached() -> None:
    field = Field(longest=8)
    for step, start in ((1, 0), (1, -2), (1, 3), (-1, 2), (2, -1), (-2, 5)):
        index = Index(0, 4)
        reached = field.element(Factor(LEAF, (Access(1), Access(start, ((index, step),)))), (index,))
        assert [*reached] == [_number(field, 1, start + step * i) for i in range(4)]


@pytest.mark.parametrize(
    "number, told",
    [
        (Fraction(0), True),
        (Fraction(-3, 7), True),
        (Fraction(1 << 2000), True),
        (Fraction(1 << 2048), False),
        (Fraction(1, 1 << 2048), False),
        (Fraction(PRIMES[0], 2), False),
        (Fraction(1, PRIMES[1]), False),
        (Fraction(3 * PRIMES[1]), False),
    ],
)
def test_a_scale_is_told_where_it_is_short_and_has_an_inverse(number: Fraction, told: bool) -> None:
    assert is_told(number) == told


@pytest.mark.parametrize(
    "access, last, told",
    [
        (Access(0), 1, True),
        (Access(-20), 4, True),
        (Access(-20), 5, False),
        (Access(-21), 4, False),
        (Access(19), 4, True),
        (Access(20), 4, False),
    ],
)
def test_places_outside_are_told_where_they_are_near_and_of_the_last_dimensions(
    access: Access, last: int, told: bool
) -> None:
    assert is_told_outside(access, 5, last) == told


def test_a_tensor_has_one_key_in_whatever_order_its_dimensions_stand() -> None:
    rng = random.Random(0)
    numbers = np.random.default_rng(0).integers(0, 100, (3, 2, 3, 3, 3, 2, 3))
    indices = [Index(name, size) for name, size in enumerate(numbers.shape)]
    key, order = canonical(numbers, indices)
    for _ in range(20):
        places = rng.sample(range(7), 7)
        assert canonical(numbers.transpose(places), [indices[i] for i in places]) == (key, order)
    assert canonical(numbers + 1, indices)[0] != key


def test_dimensions_that_look_alike_are_told_by_trying() -> None:
    turning = np.array([[0, 1, 2], [2, 0, 1], [1, 2, 0]])
    rows, columns = Index(0, 3), Index(1, 3)
    assert canonical(turning, [rows, columns]) == canonical(turning.T, [columns, rows])
    assert canonical(turning, [rows, columns])[0] == canonical(turning.T, [rows, columns])[0]
