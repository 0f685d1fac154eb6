"""How a product of two tensors over indices is one of matrices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.algebra.pieces import Product
from graphopt.algebra.polynomial import Index
from graphopt.analysis.seconds import NARROW


@dataclass(frozen=True, slots=True)
class Matrices:
    """The indices that both factors and the result have, those of one factor and the result, and those that
    are summed over."""

    batch: tuple[Index, ...]
    rows: tuple[Index, ...]
    columns: tuple[Index, ...]
    inner: tuple[Index, ...]
    turned: bool
    """Whether the rows are the second factor's."""

    @property
    def order(self) -> tuple[Index, ...]:
        """The indices of the result."""
        return (*self.batch, *self.rows, *self.columns)


def matrices(
    a: Sequence[Index], b: Sequence[Index], out: Sequence[Index], wanted: Sequence[Index]
) -> Matrices:
    """What a product of tensors over indices a and b is, none of which is in one alone but not in `out`."""
    kept = set(out)
    batch = tuple(i for i in a if i in b and i in kept)
    inner = tuple(i for i in a if i in b and i not in kept)
    rows, columns = tuple(i for i in a if i not in b), tuple(i for i in b if i not in a)
    # A batch of products with one column each takes 10 to 40 times as long as with one row.
    if _is_turned(rows, columns, wanted) if rows and columns else batch and rows:
        return Matrices(batch, columns, rows, inner, True)
    return Matrices(batch, rows, columns, inner, False)


def _is_turned(rows: Sequence[Index], columns: Sequence[Index], wanted: Sequence[Index]) -> bool:
    """Whether Bᵀ Aᵀ is the better way to say A B: few columns are slow to multiply by (MKL: 2 to 7 times),
    and few elements quickly turned; else the order that is wanted saves a copy."""
    height, width = (math.prod(index.size for index in group) for group in (rows, columns))
    if height != width and (min(height, width) <= NARROW or not wanted):
        return width < height
    places = {index: place for place, index in enumerate(wanted)}
    first, second = (min(places.get(i, len(places)) for i in group) for group in (rows, columns))
    return second < first


def is_added(how: Product, out: Sequence[Index], to: Sequence[Index]) -> bool:
    """Whether one operator adds a product to a tensor over the indices `to`: to a matrix, or to a row or a
    column that is the same for all others."""
    a, b = set(how.first.indices), set(how.second.indices)
    shared, rows, columns = a & b, (a - b) & set(out), (b - a) & set(out)
    groups = [group for group in (rows, columns) if group]
    whole = all(group <= {*to} or not group & {*to} for group in groups)
    if how.first.choice is not None or how.second.choice is not None:
        return False
    if shared & set(out) or not groups or not whole or not to or not {*to} <= rows | columns:
        return False
    return len(groups) == 2 or bool(shared)
