"""Prices are those of what is emitted."""

from __future__ import annotations

from graphopt.algebra.polynomial import new_index
from graphopt.algebra.pricing import Prices
from graphopt.profile import default

PRICES = Prices(default(), 4)


def test_a_batch_of_products_with_few_columns_costs_what_one_with_few_rows_does() -> None:
    """2 × 384 times 384 × 64 is emitted with the 2 as rows, whichever factor comes first: 18 µs, not 112."""
    batch, few, many, inner = map(new_index, (6, 2, 64, 384))
    a, b, out = (batch, few, inner), (batch, many, inner), (batch, few, many)
    assert PRICES.product(a, b, out) == PRICES.product(b, a, out)
    alone = PRICES.product((few, inner), (inner, many), (few, many))
    assert PRICES.product(b, a, out) < 6 * alone
