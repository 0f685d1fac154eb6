"""Pieces as nodes: each as the operator that does it fastest."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from graphopt.algebra.choices import Choice
from graphopt.algebra.kernels import Kernel, kernel_of
from graphopt.algebra.matrices import Matrices, is_added, matrices
from graphopt.algebra.norms import is_norm
from graphopt.algebra.pieces import Joined, Piece, Product, Read, Reduced, Total
from graphopt.algebra.polynomial import Dims, Factor, Index, Polynomial, mixed
from graphopt.algebra.polynomial import along as along_
from graphopt.algebra.pricing import LONGEST_COLUMN, LONGEST_DOT, Prices, windows_of
from graphopt.algebra.showing import (
    Lemma,
    NotEmitted,
    along,
    summed_by_parts,
    summed_by_windows,
)
from graphopt.algebra.stages import Stage
from graphopt.algebra.windows import Schedule, schedule
from graphopt.builder import Builder, Operand
from graphopt.draft import Draft
from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.graph import Sequence as Operands
from graphopt.ir.literal import Lit
from graphopt.ir.operands import shape_of, type_of
from graphopt.ir.types import TensorType

_ONE = Fraction(1)
FEW_ROWS = 4
"""Which are no block of their own for a kernel."""


@dataclass(frozen=True, slots=True)
class Laid:
    """A value with a dimension for each index."""

    value: Value
    order: tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class Staged:
    """A stage, and pieces that evaluate its polynomials."""

    stage: Stage
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """`value` takes a node's place; it holds what `dense` does, strides apart; for a norm, the root of it."""

    value: Value
    dense: Value
    nodes: tuple[Node, ...]


def slowest_first(kind: TensorType) -> list[int]:
    """The dimensions by their strides."""
    strides = [int(stride) for stride in kind.strides or ()]
    return sorted(range(len(strides)), key=lambda i: (-strides[i], i))


def span_of(kind: TensorType) -> int:
    """How many elements of memory a static tensor reaches over."""
    return 1 + sum((int(n) - 1) * int(step) for n, step in zip(kind.shape, kind.strides or (), strict=True))


def dense_type(kind: TensorType) -> TensorType:
    """A type of a tensor that fills its memory, dimensions in the same order of strides."""
    slow, strides, step = slowest_first(kind), [0] * len(kind.shape), 1
    for i in reversed(slow):
        strides[i] = step
        step *= max(int(kind.shape[i]), 1)
    return TensorType(kind.dtype, kind.shape, tuple(strides), kind.device)


def is_overlapping(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether two elements may lie at one place."""
    reach = 0
    for stride, size in sorted((step, n) for n, step in zip(shape, strides, strict=True) if n > 1):
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


class Emission:
    """Makes the nodes of pieces, each once."""

    def __init__(
        self,
        draft: Draft,
        pieces: Iterable[Piece] = (),
        stages: "Mapping[str, Staged] | None" = None,
        longest_dot: int = LONGEST_DOT,
    ) -> None:
        """`pieces`: all that nodes will be made for, but those of the `stages`, which stand by the names of
        their values. `longest_dot`: elements of the longest running sum."""
        self._draft = draft
        self._longest_dot = longest_dot
        self._stages = stages or {}
        self._staged: dict[str, Value] = {}
        self.standing: dict[str, tuple[Value, Polynomial | None]] = {}
        """By name of what was made: the value of the stage that it is, and the polynomial, if it is one."""
        self.raising = set[str]()
        """The names of the choices all of whose indices have been looked at: one out of range has raised."""
        self.claims: list[tuple[Polynomial, Value]] = []
        """The operands of functions, and what they have to be."""
        roots = [*pieces, *(piece for one in self._stages.values() for piece in one.pieces)]
        every = {one.key: one for root in roots for one in root.everything()}
        uses = Counter(one.key for one in roots)
        uses.update(operand.key for one in every.values() for operand in one.operands)
        self._once = frozenset(key for key, count in uses.items() if count == 1)
        # By key: a value, and for each of its dimensions the place of its index among the piece's.
        self._made: dict[bytes, tuple[Value, tuple[int, ...]]] = {}
        self._producers: dict[str, Node] = {}
        self._given_out: set[str] = set()
        self._late = frozenset[str]()
        self.exact: dict[float, Fraction] = {}
        """What the literals of all nodes are rounded from."""
        self._sources: dict[bytes, tuple[tuple[Index, ...], Factor]] = {}
        self.lemmas: dict[str, Lemma] = {}
        """By the names of their nodes' values."""

    def nodes(self, piece: Piece, p: Polynomial, like: Node, *, freely: bool = False) -> Made:
        """A value in the place of a node's result, which is a polynomial that the piece evaluates; `freely`:
        of another type, as it fills its memory. Raises NotEmitted."""
        kind = like.results[0].type
        assert isinstance(kind, TensorType)
        self._build, self._kind = Builder(self._draft, like), kind
        self._prices = Prices(self._draft.costs.profile, kind.dtype.itemsize)
        self._late = frozenset(v.name for v in like.operands) if like.op == "aten.add.Tensor" else frozenset()
        is_part = span_of(kind) > math.prod(map(int, kind.shape))
        dense = self._dense(piece, p, kind, own=freely or not is_part)
        value = self._root(dense) if is_norm(like) else dense
        value = value if freely else self._relaid(value, kind)
        return Made(value, dense, tuple(self._build.nodes))

    def _dense(self, piece: Piece, p: Polynomial, kind: TensorType, own: bool) -> Value:
        """What a piece gives, dimensions in the order of the type's; if `own`, on memory that it fills."""
        shape, slow = [int(size) for size in kind.shape], slowest_first(kind)
        wanted = [index for i in slow for index in p.dims[i]]
        laid = self._laid(piece, wanted)
        laid = self._expanded(laid, p.free)
        value = self._permuted(laid.value, laid.order, wanted)
        value = self._reshaped(value, [shape[i] for i in slow])
        assert isinstance(value.type, TensorType)
        if own and (not value.type.is_contiguous or self._is_handed_on(value)):
            value = self._op("aten.clone.default", value, memory_format=torch.contiguous_format)
        if slow != sorted(slow):
            value = self._op("aten.permute.default", value, [slow.index(i) for i in range(len(shape))])
        return value

    def _root(self, square: Value) -> Value:
        """The root of a sum of squares, which is no less than zero but for rounding."""
        return self._op("aten.sqrt.default", self._op("aten.clamp_min.default", square, 0.0))

    def _relaid(self, dense: Value, kind: TensorType) -> Value:
        """The same with the strides of a type, as of a part of larger memory."""
        if dense.type == kind:
            return dense
        size, stride = [int(n) for n in kind.shape], [int(n) for n in kind.strides or ()]
        if span_of(kind) == math.prod(size):  # only dimensions of size 1 stride otherwise
            return self._op("aten.as_strided.default", dense, size, stride, 0)
        if is_overlapping(size, stride):
            raise NotEmitted
        memory = self._op("aten.empty_strided.default", size, stride, dtype=kind.dtype, device=kind.device)
        return self._op("aten.copy_.default", memory, dense)

    def _op(self, op: str, *args: Operand, **kwargs: Operand) -> Value:
        value = self._build(op, *args, **kwargs)
        self._producers[value.name] = self._build.nodes[-1]
        return value

    def _is_handed_on(self, value: Value) -> bool:
        """Whether it shows memory that was there before, or that was given out before."""
        while (node := self._producers.get(value.name)) is not None and node.op in _VIEWS:
            value = node.operands[0]
        if node is None or value.name in self._given_out:
            return True
        self._given_out.add(value.name)
        return False

    def _laid(self, piece: Piece, wanted: Sequence[Index] = ()) -> Laid:
        """A piece's value; its dimensions from the slowest to the fastest as `wanted`, where there is a
        choice that costs nothing."""
        known = self._made.get(piece.key)
        if known is not None:
            value, places = known
            return Laid(value, tuple(piece.indices[place] for place in places))
        match piece.how:
            case Read(factor):
                laid = self._read(factor)
            case Product(by, Piece() as one, Piece() as other) if one.choice or other.choice:
                choice, rest = (one.choice, other) if one.choice else (other.choice, one)
                assert choice is not None
                needed = {*piece.indices, *choice.indices}
                chosen = self._chosen(choice, self._summed(self._laid(rest), needed))
                laid = self._scaled(self._summed(chosen, piece.indices), by)
            case Product(by, first, second):
                laid = self._convolved(piece, Fraction(1)) or self._product(
                    self._laid(first), self._laid(second), piece.indices, by, wanted
                )
            case Reduced(by, Piece(how=Read(factor))) if schedule(factor, {*piece.indices}):
                laid = self._summed(self._read(self._source(piece)), piece.indices)
                laid = self._scaled(laid, by)
            case Reduced(by, of):
                laid = self._scaled(self._summed(self._laid(of, wanted), piece.indices), by)
            case Total(parts, number):
                laid = self._total(parts, number, piece.indices, wanted)
            case Joined(index, blocks):
                laid = self._joined(index, blocks, piece.indices, wanted)
        self._made[piece.key] = laid.value, tuple(piece.indices.index(index) for index in laid.order)
        return laid

    def _read(self, factor: Factor) -> Laid:
        """A leaf's elements, by views of it."""
        value, dims, order = self._leaf(factor.leaf), 0, list[Index]()
        single = [i for i, size in enumerate(factor.sizes) if size == 1 and not factor.accesses[i].steps]
        if len(single) > 1:
            value = self._op("aten.squeeze.dims", value, single)
        for place, access in enumerate(factor.accesses):
            if len(single) > 1 and place in single:
                continue
            value, indices = along(self._op, value, dims, access)
            dims += len(indices)
            order += indices
        while len(set(order)) < len(order):
            twice = next(index for index in order if order.count(index) > 1)
            first = order.index(twice)
            second = order.index(twice, first + 1)
            value = self._op("aten.diagonal.default", value, 0, first, second)
            order = [index for i, index in enumerate(order) if i not in (first, second)] + [twice]
        return Laid(value, tuple(order))

    def _leaf(self, value: Value) -> Value:
        """What stands for a leaf: itself, or what its stage makes."""
        found = self._stages.get(value.name)
        if found is None:
            return value
        if value.name not in self._staged:
            stage = found.stage
            made = [self._placed(one, p) for one, p in zip(found.pieces, stage.polynomials, strict=True)]
            claimed = stage.polynomial
            if stage.function is not None:
                self.claims += zip(stage.polynomials, made, strict=True)
                names = {old.name: new for (old, _), new in zip(stage.operands, made, strict=True)}
                args, kwargs = stage.function.at(names, len(stage.pattern.order))
                try:
                    made = [self._op(stage.function.node.op, *args, **kwargs)]
                except InvalidGraph as error:
                    raise NotEmitted from error
            (self._staged[value.name],) = made
            if made[0].name in self.standing:
                raise NotEmitted
            self.standing[made[0].name] = value, claimed
            if shape_of(made[0]) != shape_of(value) or type_of(made[0]).dtype != type_of(value).dtype:
                raise NotEmitted
        return self._staged[value.name]

    def _placed(self, piece: Piece, p: Polynomial) -> Value:
        """What a piece gives, dimensions as the polynomial's, however it lies."""
        wanted = [index for dim in p.dims for index in dim]
        laid = self._laid(piece, wanted)
        laid = self._expanded(laid, p.free)
        return self._reshaped(self._permuted(laid.value, laid.order, wanted), p.shape)

    def _chosen(self, choice: Choice, laid: Laid) -> Laid:
        """Gathered elements, in the place of the dimension that they are chosen along."""
        inner = [index for index, _ in sorted(choice.accesses[-1].steps, key=lambda pair: -pair[1])]
        size = shape_of(choice.leaf)[-1]
        if choice.accesses[-1] != mixed(inner) or math.prod(index.size for index in inner) != size:
            raise NotEmitted
        index = self._read(Factor(choice.index, choice.accesses[:-1]))
        rest = [one for one in laid.order if one not in inner]
        at = 0
        if len(inner) == 1:
            value, at = laid.value, laid.order.index(inner[0])
        else:
            value = self._permuted(laid.value, laid.order, [*inner, *rest])
            value = self._reshaped(value, [size, *(one.size for one in rest)])
        if index.value == choice.index:
            self.raising.add(choice.leaf.name)
        if choice.wraps:
            items: tuple[Arg, ...] = (*(Lit(None) for _ in range(at)), index.value)
            value = self._op("aten.index.Tensor", value, Operands("list", items))
        else:
            flat = self._reshaped(index.value, [math.prod(shape_of(index.value))])
            value = self._op("aten.index_select.default", value, at, flat)
        order = (*rest[:at], *index.order, *rest[at:])
        return Laid(self._reshaped(value, [one.size for one in order]), order)

    def _partly_summed(self, factor: Factor, plan: Schedule, kept: Collection[Index]) -> Factor:
        """A leaf's elements, summed as planned: elements of what is left of it."""
        prices = Prices(self._draft.costs.profile, _itemsize(factor.leaf))
        value, dims = self._leaf(factor.leaf), 0
        axes = list[Index | int]()  # an index, or a dimension of the leaf
        for dim, (access, later) in enumerate(zip(factor.accesses, plan.after, strict=True)):
            if later is not None:
                axes.append(dim)
                dims += 1
                continue
            value, indices = along(self._op, value, dims, access)
            dims += len(indices)
            axes += indices
        gone = [i for i, axis in enumerate(axes) if isinstance(axis, Index) and axis not in kept]
        if gone:
            value = self._op("aten.sum.dim_IntList", value, gone)
            axes = [axis for i, axis in enumerate(axes) if i not in gone]
        for stage in plan.stages:
            at = axes.index(stage.dim)
            parts = stage.sums.parts() if prices.is_by_parts(stage.sums, stage.rows) else None
            source, before = value, len(self._build.nodes)
            if parts is None:
                value = summed_by_windows(self._op, value, at, stage.sums)
            else:
                value = summed_by_parts(self._op, value, at, parts)
                lemma = Lemma(source, at, stage.sums, tuple(self._build.nodes[before:]))
                self.lemmas.update((node.results[0].name, lemma) for node in lemma.nodes)
        accesses = (along_(axis) if isinstance(axis, Index) else plan.after[axis] for axis in axes)
        return Factor(value, tuple(access for access in accesses if access is not None))

    def _convolved(self, piece: Piece, by: Fraction, rest: Laid | None = None) -> Laid | None:
        """A multiple of a product under windows as a convolution, with something added; None where it is
        none."""
        how = piece.how
        assert isinstance(how, Product)
        for x, weight in ((how.first, how.second), (how.second, how.first)):
            if not windows_of(x):
                continue
            kernel = kernel_of(self._source(x), weight.indices, piece.indices)
            if kernel is None or not weight.indices:
                continue
            made = {*kernel.groups, *kernel.made}
            if rest is not None and {*rest.order} != made:
                return None
            bias = None if rest is None else self._grouped(rest, [*kernel.groups, *kernel.made])
            return self._by_kernel(kernel, self._scaled(self._laid(weight), by * how.coefficient), bias)
        return None

    def _source(self, piece: Piece) -> Factor:
        """What elements under windows are of, or of the sums of which."""
        match piece.how:
            case Read(factor):
                return factor
            case Reduced(_, Piece(how=Read(factor))):
                plan = schedule(factor, {*piece.indices})
                assert plan is not None
                if piece.key not in self._sources:
                    self._sources[piece.key] = piece.indices, self._partly_summed(factor, plan, piece.indices)
                indices, made = self._sources[piece.key]
                return made.with_(
                    {old: along_(new) for old, new in zip(indices, piece.indices, strict=True) if old != new}
                )
        raise NotEmitted

    def _by_kernel(self, kernel: Kernel, weight: Laid, bias: Value | None = None) -> Laid:
        value, dims, order = self._leaf(kernel.leaf), 0, list[Index]()
        for access, spatial in kernel.dims:
            if spatial is None:
                value, indices = along(self._op, value, dims, access)
                order += indices
                dims += len(indices)
                continue
            value = spatial.shown(self._op, value, dims)
            order.append(spatial.position)
            dims += 1
        positions = [spatial.position for spatial in kernel.spatial]
        channels = [*kernel.groups, *kernel.channels]
        x = self._permuted(value, order, [*kernel.batch, *channels, *positions])
        pixels = shape_of(x)[len(kernel.batch) + len(channels) :]
        x = self._row_major(self._reshaped(x, [size_of(kernel.batch), size_of(channels), *pixels]))
        taps = [[spatial.tap] if spatial.tap is not None else [] for spatial in kernel.spatial]
        w = self._row_major(self._grouped(weight, [*kernel.groups, *kernel.made], kernel.channels, *taps))
        made = self._op(
            f"aten.conv{len(kernel.spatial)}d.default",
            x,
            w,
            bias,
            [spatial.stride for spatial in kernel.spatial],
            [spatial.pad for spatial in kernel.spatial],
            [spatial.apart for spatial in kernel.spatial],
            size_of(kernel.groups),
        )
        found = (*kernel.batch, *kernel.groups, *kernel.made, *positions)
        return Laid(self._reshaped(made, [index.size for index in found]), found)

    def _product(self, a: Laid, b: Laid, out: Sequence[Index], by: Fraction, wanted: Sequence[Index]) -> Laid:
        a, b = self._alone_summed(a, b, out)
        by_index = matrices(a.order, b.order, out, wanted)
        batch, rows, columns, inner = by_index.batch, by_index.rows, by_index.columns, by_index.inner
        if not inner:
            return self._scaled(self._elementwise(a, b, wanted), by)
        if batch and not rows and not columns:  # bmm of single rows and columns is slower
            return self._scaled(self._summed(self._elementwise(a, b, wanted), batch), by)
        spread = self._spread_matrix(a, b, by_index, wanted)
        if spread is not None:
            return self._scaled(spread, by)
        if by_index.turned:
            a, b = b, a
        if batch:
            left, right = self._rows(a, batch, rows, inner), self._grouped(b, batch, inner, columns)
            value = self._op("aten.bmm.default", left, right)
        elif rows and columns:
            value = self._op("aten.mm.default", self._rows(a, rows, inner), self._grouped(b, inner, columns))
        elif rows:
            value = self._times_vector(self._grouped(a, rows, inner), self._vector(b, inner))
        elif columns:
            value = self._times_vector(self._grouped(b, columns, inner), self._vector(a, inner))
        else:
            value = self._dot(self._grouped(a, inner), self._grouped(b, inner))
        order = by_index.order
        return self._scaled(Laid(self._reshaped(value, [i.size for i in order]), order), by)

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
            copied = [x.order, order] if _ordered(order, wanted) == order else [x.order]
            is_there = order == tuple(wanted)
            if is_there or self._prices.is_better_spread(before, theirs, after, inner, copied):
                left = self._grouped(matrix, theirs, inner)
                right = self._grouped(x, before, inner, after)
                left = self._op("aten.expand.default", left, [shape_of(right)[0], -1, -1])
                if rest is None:
                    value = self._op("aten.bmm.default", left, right)
                else:
                    groups = ([i for i in group if i in rest.order] for group in (before, theirs, after))
                    added = self._grouped(rest, *groups)
                    alpha = {} if by == 1 else {"alpha": self._number(by, added)}
                    value = self._op("aten.baddbmm.default", added, left, right, **alpha)
                return Laid(self._reshaped(value, [i.size for i in order]), order)
        return None

    def _alone_summed(self, a: Laid, b: Laid, out: Sequence[Index]) -> tuple[Laid, Laid]:
        """The factors of a product, summed over what is in one of them alone."""
        kept = set(out)
        a = self._summed(a, [i for i in a.order if i in kept or i in b.order])
        return a, self._summed(b, [i for i in b.order if i in kept or i in a.order])

    def _added_to(
        self, rest: Laid, by: Fraction, how: Product, out: Sequence[Index], wanted: Sequence[Index]
    ) -> Laid:
        """rest + by · a product of matrices or of vectors, as `is_added` allows."""
        a, b = self._alone_summed(self._laid(how.first), self._laid(how.second), out)
        by_index = matrices(a.order, b.order, out, wanted)
        spread = self._spread_matrix(a, b, by_index, wanted, rest, by * how.coefficient)
        if spread is not None:
            return spread
        if by_index.turned:
            a, b = b, a
        rows, columns, inner = by_index.rows, by_index.columns, by_index.inner
        groups = [group for group in (rows, columns) if group]
        theirs = [[i for i in group if i in rest.order] for group in groups]
        added = self._grouped(rest, *(theirs if theirs[0] else theirs[1:]))
        coefficient = by * how.coefficient
        alpha = {} if coefficient == 1 else {"alpha": self._number(coefficient, added)}
        if len(groups) == 1:
            matrix, vector = (a, b) if rows else (b, a)
            operands = self._grouped(matrix, groups[0], inner), self._vector(vector, inner)
            if _is_accumulated(operands[0]):  # each of the sums would be rounded with what is added
                value = self._op("aten.add.Tensor", added, self._times_vector(*operands), **alpha)
            else:
                value = self._op("aten.addmv.default", added, *operands, **alpha)
        elif inner:
            operands = self._rows(a, rows, inner), self._grouped(b, inner, columns)
            value = self._op("aten.addmm.default", added, *operands, **alpha)
        else:
            operands = self._grouped(a, rows), self._grouped(b, columns)
            value = self._op("aten.addr.default", added, *operands, **alpha)
        return Laid(self._reshaped(value, [i.size for i in by_index.order]), by_index.order)

    def _times_vector(self, matrix: Value, vector: Value) -> Value:
        """Long sums in parts: a running one loses more digits the longer it is."""
        inner = shape_of(matrix)[1]
        parts = next((n for n in range(1, inner) if not inner % n and inner // n <= LONGEST_COLUMN), 1)
        if parts == 1 or inner // parts < LONGEST_COLUMN // 8 or not _is_accumulated(matrix):
            return self._op("aten.mv.default", matrix, vector)
        turned = self._op("aten.t.default", matrix)
        blocks = self._op("aten.unflatten.int", turned, 0, [parts, inner // parts])
        vectors = self._op("aten.view.default", vector, [parts, 1, inner // parts])
        return self._op("aten.sum.dim_IntList", self._op("aten.bmm.default", vectors, blocks), [0, 1])

    def _dot(self, a: Value, b: Value) -> Value:
        """A long sum pairwise: a running one loses more digits the longer it is, most over gaps."""
        longest = self._longest_dot if type_of(a).is_contiguous and type_of(b).is_contiguous else LONGEST_DOT
        if shape_of(a)[0] <= longest:
            return self._op("aten.dot.default", a, b)
        return self._op("aten.sum.default", self._op("aten.mul.Tensor", a, b))

    def _vector(self, laid: Laid, inner: Sequence[Index]) -> Value:
        """What a matrix is multiplied with: element after element (MKL: 3 times as fast as with gaps)."""
        value = self._grouped(laid, inner)
        if type_of(value).is_contiguous:
            return value
        return self._op("aten.clone.default", value, memory_format=torch.contiguous_format)

    def _rows(self, laid: Laid, *groups: Sequence[Index]) -> Value:
        """A matrix to multiply from the left, or a batch of such. Few rows have to lie one after the other
        (MKL: else up to 3 times slower for 2 or 3)."""
        value, rows = self._grouped(laid, *groups), groups[-2]
        assert isinstance(value.type, TensorType)
        if value.type.is_contiguous or not 1 < math.prod(index.size for index in rows) < FEW_ROWS:
            return value
        return self._op("aten.clone.default", value, memory_format=torch.contiguous_format)

    def _grouped(self, laid: Laid, *groups: Iterable[Index]) -> Value:
        """With one dimension for each group of indices."""
        parts = [list(group) for group in groups]
        sizes = [*map(size_of, parts)]
        wanted = [i for part in parts for i in part]
        if len(parts) == 2 and [*parts[1], *parts[0]] == [*laid.order] != wanted:
            return self._op("aten.t.default", self._reshaped(laid.value, sizes[::-1]))
        return self._reshaped(self._permuted(laid.value, laid.order, wanted), sizes)

    def _elementwise(self, a: Laid, b: Laid, wanted: Sequence[Index]) -> Laid:
        order = _ordered((*a.order, *(i for i in b.order if i not in a.order)), wanted)
        return Laid(self._op("aten.mul.Tensor", self._spread(a, order), self._spread(b, order)), order)

    def _joined(
        self,
        along: Index,
        parts: Sequence[tuple[Piece, Dims]],
        indices: Sequence[Index],
        wanted: Sequence[Index],
    ) -> Laid:
        order = _ordered(indices, wanted)
        values = []
        for part, dims in parts:
            of = dict(zip(indices, dims, strict=True))
            inner = [index for one in order for index in of[one]]
            laid = self._expanded(self._laid(part, inner), inner)
            values.append(self._grouped(laid, *(of[one] for one in order)))
        joined = self._op("aten.cat.default", Operands("list", tuple(values)), order.index(along))
        return Laid(joined, order)

    def _expanded(self, laid: Laid, indices: Iterable[Index]) -> Laid:
        """With all of some indices, along which it is the same where it had not them."""
        value, order = laid.value, [*laid.order]
        for index in indices:
            if index not in order:
                value = self._op("aten.unsqueeze.default", value, len(order))
                value = self._op("aten.expand.default", value, [*shape_of(value)[:-1], index.size])
                order.append(index)
        return Laid(value, tuple(order))

    def _filled(self, number: Fraction) -> Laid:
        """One number."""
        zero = self._op("aten.full.default", [], 0.0, dtype=self._kind.dtype, device=self._kind.device)
        return Laid(self._op("aten.add.Scalar", zero, self._number(number, zero)) if number else zero, ())

    def _total(
        self,
        parts: Sequence[tuple[Fraction, Piece]],
        number: Fraction,
        out: Sequence[Index],
        wanted: Sequence[Index],
    ) -> Laid:
        if not parts:
            return self._filled(number)
        late = [(by, part) for by, part in parts if {*part.indices} == {*out} and self._is_late(part)]
        if late and len(late) < len(parts):
            early = [one for one in parts if one not in late]
            indices = tuple(dict.fromkeys(index for _, one in early for index in one.indices))
            first = Fraction(1), self._total(early, number, indices, wanted)
            return self._sum([first, *((c, self._laid(part)) for c, part in late)], Fraction(0), out, wanted)
        for place in sorted(
            range(len(parts)), key=lambda i: parts[i][0] == 1
        ):  # what is scaled costs nothing
            by, part = parts[place]
            rest = [*parts[:place], *parts[place + 1 :]]
            indices = tuple(dict.fromkeys(index for _, one in rest for index in one.indices))
            alone = part.key in self._once and part.key not in self._made
            if alone and isinstance(part.how, Product) and any(map(windows_of, part.operands)):
                if not rest or number or set(indices) - set(part.indices):
                    continue
                convolved = self._convolved(part, by, self._total(rest, number, indices, ()))
                if convolved is not None:
                    return convolved
                continue
            if alone and isinstance(part.how, Product) and is_added(part.how, part.indices, indices):
                added = self._total(rest, number, indices, wanted)
                order = wanted if {*part.indices} <= {*wanted} else added.order
                return self._added_to(added, by, part.how, part.indices, order)
        return self._sum([(c, self._laid(part, wanted)) for c, part in parts], number, out, wanted)

    def _is_late(self, piece: Piece) -> bool:
        """Whether it is what was added last, to a sum of all else: it may be much larger, such as a residual,
        and each sum with it loses digits."""
        return isinstance(piece.how, Read) and piece.how.factor.leaf.name in self._late

    def _sum(
        self,
        parts: Sequence[tuple[Fraction, Laid]],
        number: Fraction,
        out: Sequence[Index],
        wanted: Sequence[Index],
    ) -> Laid:
        order = max((laid.order for _, laid in parts), key=len)
        order = _ordered((*order, *(i for i in out if i not in order)), wanted)
        terms = sorted(parts, key=lambda part: part[0] != 1)
        first, laid = terms[0]
        value = self._spread(self._scaled(laid, first), order)
        for coefficient, other in terms[1:]:
            alpha = {} if coefficient == 1 else {"alpha": self._number(coefficient, value)}
            value = self._op("aten.add.Tensor", value, self._spread(other, order), **alpha)
        if number:
            value = self._op("aten.add.Scalar", value, self._number(number, value))
        return Laid(value, order)

    def _summed(self, laid: Laid, kept: Iterable[Index]) -> Laid:
        stay = set(kept)
        gone = [place for place, index in enumerate(laid.order) if index not in stay]
        if not gone:
            return laid
        value = self._op("aten.sum.dim_IntList", laid.value, gone)
        return Laid(value, tuple(index for index in laid.order if index in stay))

    def _scaled(self, laid: Laid, by: Fraction) -> Laid:
        if by == 1:
            return laid
        if by == -1:
            return Laid(self._op("aten.neg.default", laid.value), laid.order)
        return Laid(self._op("aten.mul.Scalar", laid.value, self._number(by, laid.value)), laid.order)

    def _number(self, fraction: Fraction, value: Value) -> float:
        """The number nearest to a fraction, for a tensor. Raises NotEmitted where its dtype has no such
        number, for what overflows on the way may not in the order that was written; or where it is nearest
        to another fraction, too."""
        assert isinstance(value.type, TensorType)
        limits = torch.finfo(value.type.dtype)
        if not limits.smallest_normal <= abs(fraction) <= limits.max:
            raise NotEmitted
        number = float(fraction)
        if self.exact.setdefault(number, fraction) != fraction:
            raise NotEmitted
        return number

    def _spread(self, laid: Laid, order: Sequence[Index]) -> Value:
        """With a dimension for each index of an order, of size 1 where it has none."""
        value = self._permuted(laid.value, laid.order, [i for i in order if i in laid.order])
        for place, index in enumerate(order):
            if index not in laid.order:
                value = self._op("aten.unsqueeze.default", value, place)
        return value

    def _permuted(self, value: Value, order: Sequence[Index], wanted: Sequence[Index]) -> Value:
        places = [order.index(index) for index in wanted]
        if places == sorted(places):
            return value
        if len(places) == 2:
            return self._op("aten.t.default", value)
        return self._op("aten.permute.default", value, places)

    def _row_major(self, value: Value) -> Value:
        """Laid out so that a convolution's result is, too: that of others follows no rule."""
        kind = type_of(value)
        pairs = zip(shape_of(value), kind.strides or (), strict=True)
        steps = [int(step) for size, step in pairs if size > 1]
        if kind.is_contiguous or steps == sorted(steps, reverse=True):
            return value
        return self._op("aten.clone.default", value, memory_format=torch.contiguous_format)

    def _reshaped(self, value: Value, sizes: Sequence[int]) -> Value:
        return value if shape_of(value) == tuple(sizes) else self._op("aten.reshape.default", value, [*sizes])


def size_of(indices: Iterable[Index]) -> int:
    """How many elements they run through."""
    return math.prod(index.size for index in indices)


def _itemsize(value: Value) -> int:
    assert isinstance(value.type, TensorType)
    return value.type.dtype.itemsize


_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "select.int", "slice.Tensor", "unflatten.int", "diagonal.default", "unsqueeze.default", "t.default",
        "expand.default", "permute.default", "reshape.default", "unfold.default",
        "squeeze.dims",
    )
)  # fmt: skip


def _is_accumulated(matrix: Value) -> bool:
    """Whether a product with a vector goes through a matrix column by column, and adds each to what is there:
    a row at a time adds up in registers."""
    assert isinstance(matrix.type, TensorType)
    strides = matrix.type.strides or ()
    return strides[-1] != 1


def _ordered(order: Sequence[Index], wanted: Sequence[Index]) -> tuple[Index, ...]:
    """As wanted, where all are."""
    return tuple(index for index in wanted if index in order) if {*order} <= {*wanted} else tuple(order)
