"""The arithmetic of intervals: what results of all their elements lie between, and no more."""

import math
import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import pytest
import torch

from graphopt.analysis.intervals import (
    ANY,
    Number,
    Range,
    absolute,
    added,
    any_of,
    divided,
    larger,
    multiplied,
    negated,
    ordered,
    rounded,
    smaller,
    squared,
    union,
)

INF = math.inf
ENDS = (-INF, -4.0, -1.0, -0.0, 0.0, 1.0, 2.0, INF)
RANGES = [
    Range(low, high, nan)
    for low, high in product(ENDS, ENDS)
    for nan in (False, True)
    if ordered(low) <= ordered(high) and not low == high in (INF, -INF)
]


def elements(one: Range) -> list[float]:
    inside = [number for number in ENDS if ordered(one.low) <= ordered(number) <= ordered(one.high)]
    return [*inside, *([math.nan] if one.nan else [])]


def bits(one: Range) -> tuple[object, ...]:
    return ordered(one.low), ordered(one.high), one.nan


def spanned(numbers: list[float]) -> Range:
    """The least range of some numbers."""
    real = [number for number in numbers if not math.isnan(number)]
    return Range(min(real, key=ordered), max(real, key=ordered), len(real) < len(numbers))


PAIRS: dict[str, tuple[Callable[[Range, Range], Range], Callable[[float, float], float]]] = {
    "a sum": (added, lambda x, y: x + y),
    "a product": (multiplied, lambda x, y: x * y),
    "a quotient": (divided, operator.truediv),
}


@pytest.mark.parametrize("name", PAIRS)
def test_of_two_ranges_it_is_the_least_range_that_holds_all_results(name: str) -> None:
    function, applied = PAIRS[name]
    for a, b in product(RANGES, RANGES):
        if name == "a quotient" and b.may_be_zero:
            assert function(a, b) == ANY
            continue
        expected = spanned([applied(x, y) for x, y in product(elements(a), elements(b))])
        assert bits(function(a, b)) == bits(expected), (a, b)


@pytest.mark.parametrize("function, pick", [(larger, max), (smaller, min)])
def test_the_larger_or_smaller_of_two_is_either_zero_where_both_are_zeros(
    function: Callable[[Range, Range], Range], pick: Callable[[float, float], float]
) -> None:
    for a, b in product(RANGES, RANGES):
        results = [
            math.nan if math.isnan(x) or math.isnan(y) else pick(x, y)
            for x, y in product(elements(a), elements(b))
        ]
        results += [y for x, y in product(elements(a), elements(b)) if x == y == 0]
        expected, found = spanned(results), function(a, b)
        assert (found.low, found.high, found.nan) == (expected.low, expected.high, expected.nan)
        assert ordered(found.low) <= ordered(expected.low) and ordered(expected.high) <= ordered(found.high)
        if a.is_positive and b.is_positive:
            assert found.is_positive


ALONE: dict[str, tuple[Callable[[Range], Range], Callable[[float], float]]] = {
    "the negative": (negated, lambda x: -x),
    "the size": (absolute, abs),
    "the square": (squared, lambda x: x * x),
}


@pytest.mark.parametrize("name", ALONE)
def test_of_one_range_it_is_the_least_range_that_holds_all_results(name: str) -> None:
    function, applied = ALONE[name]
    for one in RANGES:
        found = spanned([applied(x) for x in elements(one)])
        assert bits(function(one)) == bits(found), one


def test_a_union_spans_its_parts() -> None:
    for a, b in product(RANGES, RANGES):
        assert bits(union([a, b])) == bits(spanned(elements(a) + elements(b)))


def test_what_is_asked_of_a_range_is_asked_of_each_of_its_elements() -> None:
    for one in RANGES:
        inside = elements(one)
        numbers = [x for x in inside if not math.isnan(x)]
        assert one.is_finite == all(map(math.isfinite, inside))
        assert one.may_be_infinite == any(map(math.isinf, inside))
        assert one.may_be_zero == (0 in inside)
        assert one.is_positive == all(math.copysign(1.0, x) > 0 for x in numbers)
        assert one.with_nan(False) == one and one.with_nan(True).nan


@pytest.mark.parametrize("infinite", [INF, -INF])
@pytest.mark.parametrize("name", PAIRS)
def test_ranges_of_nothing_but_an_infinity_hold_all_results(name: str, infinite: float) -> None:
    function, applied = PAIRS[name]
    one = Range(infinite, infinite)
    for a, b in (pair for other in (*RANGES, one, negated(one)) for pair in ((one, other), (other, one))):
        found = function(a, b)
        for result in (
            applied(x, y) for x, y in product(elements(a), elements(b)) if y or name != "a quotient"
        ):
            assert found.nan if math.isnan(result) else found.low <= result <= found.high, (a, b)


HUGE: list[Number] = [10**400, Fraction(10) ** 400, 2**63 - 1, 2**53 + 1, Fraction(1, 3)]


@pytest.mark.parametrize("number", HUGE)
def test_numbers_that_floats_do_not_have_stay_exact(number: Number) -> None:
    one, zero = Range(number, number), Range(0, 0)
    assert (
        added(one, zero) == added(zero, one) == multiplied(one, Range(1, 1)) == absolute(negated(one)) == one
    )
    assert added(one, Range(-INF, INF)) == Range(-INF, INF)
    assert union([one, Range(-1.0, 0.0)]) == Range(-1.0, number)


def test_a_difference_of_equal_numbers_is_no_negative_zero_and_the_negative_of_an_integer_zero_is_one() -> (
    None
):
    for one in (Range(1, 1), Range(1.5, 1.5)):
        assert bits(added(one, negated(one))) == bits(Range(0.0, 0.0))
        assert bits(negated(added(one, negated(one)))) == bits(Range(-0.0, -0.0))
    assert bits(negated(Range(0, 0))) == bits(Range(-0.0, -0.0))


def numbers_of(dtype: torch.dtype) -> list[float]:
    """Those of a 16-bit dtype that are no NaN, none of them subnormal, in order, −0.0 before 0.0."""
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16).view(dtype).double()
    normal = (every == 0) | (every.abs() >= torch.finfo(dtype).smallest_normal)
    return sorted(every[normal].tolist(), key=ordered)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_is_to_the_next_number_on_either_side(dtype: torch.dtype) -> None:
    known = numbers_of(dtype)
    limits = torch.finfo(dtype)
    close = Fraction(1, 2**60)
    tried = [sign * 2.0**e for sign in (-1, 1) for e in range(-150, 140)] + [
        limits.max,
        -limits.max,
        0.1,
        70.3,
    ]
    for number in tried:
        for exact in (Fraction(number), Fraction(number) * (1 - close), Fraction(number) * (1 + close)):
            below = known[bisect_right(known, exact) - 1]
            above = known[bisect_left(known, exact)]
            found = rounded(Range(exact, exact), dtype)
            assert bits(found) == bits(Range(below, above)), exact


def test_rounding_keeps_infinities_zeros_and_nan() -> None:
    for one in RANGES:
        assert bits(rounded(one, torch.float32)) == bits(one)
    assert bits(rounded(Range(0, 0), torch.float32)) == bits(Range(0.0, 0.0))
    assert rounded(Range(-(10**400), 10**400), torch.float64) == Range(-INF, INF)


@pytest.mark.parametrize(
    "given, expected",
    [
        (Range(-3, 5), Range(-3, 5)),
        (Range(-0.5, 2.5), Range(-1, 3)),
        (Range(-129, 0), Range(-128, 127)),
        (Range(0, 128), Range(-128, 127)),
        (Range(0, 1, True), Range(-128, 127)),
        (Range(-128, 127), Range(-128, 127)),
    ],
)
def test_integers_that_leave_their_range_or_were_nan_are_anything(given: Range, expected: Range) -> None:
    assert rounded(given, torch.int8) == expected


def test_of_what_is_not_real_nothing_is_known() -> None:
    assert any_of(torch.complex64) is None
    assert any_of(torch.bool) == Range(0, 1) and any_of(torch.uint8) == Range(0, 255)
