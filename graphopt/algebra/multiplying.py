"""Products of two values as the operators that are fastest for them, and keep most digits."""

import math
from collections.abc import Sequence
from fractions import Fraction

import torch

from graphopt.algebra.laying import Laid, Laying, ordered
from graphopt.algebra.matrices import Matrices, matrices
from graphopt.algebra.polynomial import Index
from graphopt.algebra.pricing import LONGEST_COLUMN, LONGEST_DOT
from graphopt.ir.graph import Value
from graphopt.ir.operands import shape_of, type_of
from graphopt.ir.types import TensorType

_ONE = Fraction(1)
FEW_ROWS = 4
"""Which are no block of their own for a kernel."""


class Multiplying:
    """Makes the nodes of products."""

    def __init__(self, lay: Laying, longest_dot: int) -> None:
        """`longest_dot`: elements of the longest running sum."""
        self._lay = lay
        self._longest_dot = longest_dot

    def product(self, a: Laid, b: Laid, out: Sequence[Index], by: Fraction, wanted: Sequence[Index]) -> Laid:
        """by · Σ a · b over the indices that are not in `out`; its dimensions as `wanted`, where that costs
        nothing."""
        a, b = self._alone_summed(a, b, out)
        by_index = matrices(a.order, b.order, out, wanted)
        batch, rows, columns, inner = by_index.batch, by_index.rows, by_index.columns, by_index.inner
        if not inner:
            return self._lay.scaled(self._lay.elementwise(a, b, wanted), by)
        if batch and not rows and not columns:  # bmm of single rows and columns is slower
            return self._lay.scaled(self._lay.summed(self._lay.elementwise(a, b, wanted), batch), by)
        spread = self._spread_matrix(a, b, by_index, wanted)
        if spread is not None:
            return self._lay.scaled(spread, by)
        if by_index.turned:
            a, b = b, a
        if batch:
            left, right = self._rows(a, batch, rows, inner), self._lay.grouped(b, batch, inner, columns)
            value = self._lay.op("aten.bmm.default", left, right)
        elif rows and columns:
            value = self._lay.op(
                "aten.mm.default", self._rows(a, rows, inner), self._lay.grouped(b, inner, columns)
            )
        elif rows:
            value = self._times_vector(self._lay.grouped(a, rows, inner), self._vector(b, inner))
        elif columns:
            value = self._times_vector(self._lay.grouped(b, columns, inner), self._vector(a, inner))
        else:
            value = self._dot(self._lay.grouped(a, inner), self._lay.grouped(b, inner))
        order = by_index.order
        return self._lay.scaled(Laid(self._lay.reshaped(value, [i.size for i in order]), order), by)

    def _spread_matrix(
        self,
        a: Laid,
        b: Laid,
        by_index: Matrices,
        wanted: Sequence[Index],
        rest: Laid | None = None,
        by: Fraction = _ONE,
    ) -> Laid | None:
        """A matrix times each of the matrices that a tensor's rows come before and after the columns of, as a
        1 × 1 convolution has them: rearranged nowhere. None where it is no such product."""
        if by_index.batch or not (by_index.rows and by_index.columns and by_index.inner):
            return None
        if by_index.turned:
            a, b = b, a
        for x, matrix, mine, theirs in (
            (a, b, by_index.rows, by_index.columns),
            (b, a, by_index.columns, by_index.rows),
        ):
            places = [place for place, index in enumerate(x.order) if index not in mine]
            before, after = x.order[: places[0]], x.order[places[-1] + 1 :]
            inner = x.order[places[0] : places[-1] + 1]
            order = (*before, *theirs, *after)
            if not (before and after) or {*inner} != {*by_index.inner}:
                continue
            copied = [x.order, order] if ordered(order, wanted) == order else [x.order]
            is_there = order == tuple(wanted)
            if is_there or self._lay.prices.is_better_spread(before, theirs, after, inner, copied):
                left = self._lay.grouped(matrix, theirs, inner)
                right = self._lay.grouped(x, before, inner, after)
                left = self._lay.op("aten.expand.default", left, [shape_of(right)[0], -1, -1])
                if rest is None:
                    value = self._lay.op("aten.bmm.default", left, right)
                else:
                    groups = ([i for i in group if i in rest.order] for group in (before, theirs, after))
                    added = self._lay.grouped(rest, *groups)
                    alpha = {} if by == 1 else {"alpha": self._lay.number(by, added)}
                    value = self._lay.op("aten.baddbmm.default", added, left, right, **alpha)
                return Laid(self._lay.reshaped(value, [i.size for i in order]), order)
        return None

    def _alone_summed(self, a: Laid, b: Laid, out: Sequence[Index]) -> tuple[Laid, Laid]:
        """The factors of a product, summed over what is in one of them alone."""
        kept = set(out)
        a = self._lay.summed(a, [i for i in a.order if i in kept or i in b.order])
        return a, self._lay.summed(b, [i for i in b.order if i in kept or i in a.order])

    def added_to(
        self, rest: Laid, by: Fraction, a: Laid, b: Laid, out: Sequence[Index], wanted: Sequence[Index]
    ) -> Laid:
        """rest + by · a product of matrices or of vectors, as `is_added` allows."""
        a, b = self._alone_summed(a, b, out)
        by_index = matrices(a.order, b.order, out, wanted)
        spread = self._spread_matrix(a, b, by_index, wanted, rest, by)
        if spread is not None:
            return spread
        if by_index.turned:
            a, b = b, a
        rows, columns, inner = by_index.rows, by_index.columns, by_index.inner
        groups = [group for group in (rows, columns) if group]
        theirs = [[i for i in group if i in rest.order] for group in groups]
        added = self._lay.grouped(rest, *(theirs if theirs[0] else theirs[1:]))
        alpha = {} if by == 1 else {"alpha": self._lay.number(by, added)}
        if len(groups) == 1:
            matrix, vector = (a, b) if rows else (b, a)
            operands = self._lay.grouped(matrix, groups[0], inner), self._vector(vector, inner)
            if _is_accumulated(operands[0]):  # each of the sums would be rounded with what is added
                value = self._lay.op("aten.add.Tensor", added, self._times_vector(*operands), **alpha)
            else:
                value = self._lay.op("aten.addmv.default", added, *operands, **alpha)
        elif inner:
            operands = self._rows(a, rows, inner), self._lay.grouped(b, inner, columns)
            value = self._lay.op("aten.addmm.default", added, *operands, **alpha)
        else:
            operands = self._lay.grouped(a, rows), self._lay.grouped(b, columns)
            value = self._lay.op("aten.addr.default", added, *operands, **alpha)
        return Laid(self._lay.reshaped(value, [i.size for i in by_index.order]), by_index.order)

    def _times_vector(self, matrix: Value, vector: Value) -> Value:
        """Long sums in parts: a running one loses more digits the longer it is."""
        inner = shape_of(matrix)[1]
        parts = next((n for n in range(1, inner) if not inner % n and inner // n <= LONGEST_COLUMN), 1)
        if parts == 1 or inner // parts < LONGEST_COLUMN // 8 or not _is_accumulated(matrix):
            return self._lay.op("aten.mv.default", matrix, vector)
        turned = self._lay.op("aten.t.default", matrix)
        blocks = self._lay.op("aten.unflatten.int", turned, 0, [parts, inner // parts])
        vectors = self._lay.op("aten.view.default", vector, [parts, 1, inner // parts])
        return self._lay.op("aten.sum.dim_IntList", self._lay.op("aten.bmm.default", vectors, blocks), [0, 1])

    def _dot(self, a: Value, b: Value) -> Value:
        """A long sum pairwise: a running one loses more digits the longer it is, most over gaps."""
        longest = self._longest_dot if type_of(a).is_contiguous and type_of(b).is_contiguous else LONGEST_DOT
        if shape_of(a)[0] <= longest:
            return self._lay.op("aten.dot.default", a, b)
        return self._lay.op("aten.sum.default", self._lay.op("aten.mul.Tensor", a, b))

    def _vector(self, laid: Laid, inner: Sequence[Index]) -> Value:
        """What a matrix is multiplied with: element after element (MKL: 3 times as fast as with gaps)."""
        value = self._lay.grouped(laid, inner)
        if type_of(value).is_contiguous:
            return value
        return self._lay.op("aten.clone.default", value, memory_format=torch.contiguous_format)

    def _rows(self, laid: Laid, *groups: Sequence[Index]) -> Value:
        """A matrix to multiply from the left, or a batch of such. Few rows have to lie one after the other
        (MKL: else up to 3 times slower for 2 or 3)."""
        value, rows = self._lay.grouped(laid, *groups), groups[-2]
        assert isinstance(value.type, TensorType)
        if value.type.is_contiguous or not 1 < math.prod(index.size for index in rows) < FEW_ROWS:
            return value
        return self._lay.op("aten.clone.default", value, memory_format=torch.contiguous_format)


def _is_accumulated(matrix: Value) -> bool:
    """Whether a product with a vector goes through a matrix column by column, and adds each to what is there:
    a row at a time adds up in registers."""
    assert isinstance(matrix.type, TensorType)
    strides = matrix.type.strides or ()
    return strides[-1] != 1
