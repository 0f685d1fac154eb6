"""An access taken apart into digits shows the elements that it says."""

from __future__ import annotations

import pytest
import torch

from graphopt.algebra.digits import digits
from graphopt.algebra.polynomial import Access, new_index

ROW, COLUMN, PAIR = new_index(3), new_index(5), new_index(2)


def shown(access: Access, size: int) -> list[int]:
    """The positions of an access, in order, the slowest index first."""
    at = torch.tensor([access.start])
    for index, step in sorted(access.steps, key=lambda pair: -pair[1]):
        at = (at[:, None] + torch.arange(index.size) * step).flatten()
    return at.tolist()


@pytest.mark.parametrize(
    ("access", "size"),
    [
        (Access(7, ((ROW, 12), (COLUMN, 1))), 36),
        (Access(0, ((ROW, 12), (COLUMN, 2))), 36),
        (Access(13, ((ROW, 12), (COLUMN, 2))), 60),
        (Access(24, ((PAIR, 12), (COLUMN, 1))), 48),
        (Access(5, ((PAIR, 30), (ROW, 10), (COLUMN, 1))), 60),
        (Access(3, ((COLUMN, 4),)), 20),
    ],
)
def test_the_digits_of_an_access_show_its_elements(access: Access, size: int) -> None:
    found = digits(access, size)
    assert found is not None
    parts = torch.arange(size).reshape([digit.radix for digit in found])
    for dim, digit in enumerate(found):
        parts = parts.narrow(dim, digit.first, 1 if digit.index is None else digit.index.size)
    assert parts.flatten().tolist() == shown(access, size)


@pytest.mark.parametrize(
    ("access", "size"),
    [
        (Access(0, ((ROW, 12), (COLUMN, 1))), 35),  # no whole number of twelves
        (Access(8, ((ROW, 12), (COLUMN, 1))), 36),  # 8 + 4 is the next twelve
        (Access(12, ((ROW, 12), (COLUMN, 1))), 36),  # beyond the end
        (Access(0, ((COLUMN, 4), (ROW, 3))), 60),
    ],
)
def test_what_overlaps_or_leaves_its_part_has_none(access: Access, size: int) -> None:
    assert digits(access, size) is None
