"""Pieces as nodes: each as the operator that does it fastest."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from graphopt.algebra.choices import Choice
from graphopt.algebra.matrices import is_added, matrices
from graphopt.algebra.pieces import Piece, Product, Read, Reduced, Total
from graphopt.algebra.polynomial import Access, Factor, Index, Polynomial, mixed
from graphopt.algebra.pricing import LONGEST_COLUMN, LONGEST_DOT
from graphopt.algebra.stages import Stage
from graphopt.builder import Builder, Operand
from graphopt.draft import Draft
from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.literal import Lit
from graphopt.ir.operands import shape_of, type_of
from graphopt.ir.types import TensorType


class NotEmitted(Exception):
    """Operators cannot say it, or not so that it lies in memory as it has to."""


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
    """`value` takes a node's place; it holds what `dense` does, whatever its strides."""

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
        self.exact: dict[float, Fraction] = {}
        """What the literals of all nodes are rounded from."""

    def nodes(self, piece: Piece, p: Polynomial, like: Node, *, freely: bool = False) -> Made:
        """A value in the place of a node's result, which is a polynomial that the piece evaluates; `freely`:
        of another type, as it fills its memory. Raises NotEmitted."""
        kind = like.results[0].type
        assert isinstance(kind, TensorType)
        self._build = Builder(self._draft, like)
        is_part = span_of(kind) > math.prod(map(int, kind.shape))
        dense = self._dense(piece, p, kind, own=freely or not is_part)
        value = dense if freely else self._relaid(dense, kind)
        return Made(value, dense, tuple(self._build.nodes))

    def _dense(self, piece: Piece, p: Polynomial, kind: TensorType, own: bool) -> Value:
        """What a piece gives, dimensions in the order of the type's; if `own`, on memory that it fills."""
        shape, slow = [int(size) for size in kind.shape], slowest_first(kind)
        wanted = [index for i in slow for index in p.dims[i]]
        value, order = self._filled_up(self._laid(piece, wanted), p)
        value = self._permuted(value, order, wanted)
        value = self._reshaped(value, [shape[i] for i in slow])
        assert isinstance(value.type, TensorType)
        if own and (not value.type.is_contiguous or self._is_handed_on(value)):
            value = self._op("aten.clone.default", value, memory_format=torch.contiguous_format)
        if slow != sorted(slow):
            value = self._op("aten.permute.default", value, [slow.index(i) for i in range(len(shape))])
        return value

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
                laid = self._product(self._laid(first), self._laid(second), piece.indices, by, wanted)
            case Reduced(by, of):
                laid = self._scaled(self._summed(self._laid(of, wanted), piece.indices), by)
            case Total(parts, number):
                laid = self._total(parts, number, piece.indices, wanted)
        self._made[piece.key] = laid.value, tuple(piece.indices.index(index) for index in laid.order)
        return laid

    def _read(self, factor: Factor) -> Laid:
        """A leaf's elements, by views of it."""
        value, dims, order = self._leaf(factor.leaf), 0, list[Index]()
        for access in factor.accesses:
            value, indices = self._along(value, dims, access)
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
        value, order = self._filled_up(laid, p)
        return self._reshaped(self._permuted(value, order, wanted), p.shape)

    def _filled_up(self, laid: Laid, p: Polynomial) -> tuple[Value, list[Index]]:
        """With all indices of a polynomial's dimensions: along some, it may be the same."""
        value, order = laid.value, [*laid.order]
        for index in p.free:
            if index not in order:
                value = self._op("aten.unsqueeze.default", value, len(order))
                value = self._op("aten.expand.default", value, [*shape_of(value)[:-1], index.size])
                order.append(index)
        return value, order

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
            value = self._op("aten.index.Tensor", value, Items("list", items))
        else:
            flat = self._reshaped(index.value, [math.prod(shape_of(index.value))])
            value = self._op("aten.index_select.default", value, at, flat)
        order = (*rest[:at], *index.order, *rest[at:])
        return Laid(self._reshaped(value, [one.size for one in order]), order)

    def _along(self, value: Value, dim: int, access: Access) -> tuple[Value, list[Index]]:
        """One dimension of a leaf, as the dimensions of its indices."""
        size = shape_of(value)[dim]
        steps = sorted(access.steps, key=lambda pair: -pair[1])
        if not steps:
            return self._op("aten.select.int", value, dim, access.start), []
        least, count = steps[-1][1], 1
        for index, step in reversed(steps):
            if step != least * count:
                raise NotEmitted
            count *= index.size
        end = access.start + least * (count - 1) + 1
        if (access.start, end, least) != (0, size, 1):
            value = self._op("aten.slice.Tensor", value, dim, access.start, end, least)
        indices = [index for index, _ in steps]
        if len(indices) > 1:
            value = self._op("aten.unflatten.int", value, dim, [index.size for index in indices])
        return value, indices

    def _product(self, a: Laid, b: Laid, out: Sequence[Index], by: Fraction, wanted: Sequence[Index]) -> Laid:
        a, b = self._alone_summed(a, b, out)
        by_index = matrices(a.order, b.order, out, wanted)
        batch, rows, columns, inner = by_index.batch, by_index.rows, by_index.columns, by_index.inner
        if not inner:
            return self._scaled(self._elementwise(a, b, wanted), by)
        if batch and not rows and not columns:  # bmm of single rows and columns is slower
            return self._scaled(self._summed(self._elementwise(a, b, wanted), batch), by)
        if by_index.turned:
            a, b = b, a
        if batch:
            left, right = self._grouped(a, batch, rows, inner), self._grouped(b, batch, inner, columns)
            value = self._op("aten.bmm.default", left, right)
        elif rows and columns:
            value = self._op(
                "aten.mm.default", self._grouped(a, rows, inner), self._grouped(b, inner, columns)
            )
        elif rows:
            value = self._times_vector(self._grouped(a, rows, inner), self._vector(b, inner))
        elif columns:
            value = self._times_vector(self._grouped(b, columns, inner), self._vector(a, inner))
        else:
            value = self._dot(self._grouped(a, inner), self._grouped(b, inner))
        order = by_index.order
        return self._scaled(Laid(self._reshaped(value, [i.size for i in order]), order), by)

    def _alone_summed(self, a: Laid, b: Laid, out: Sequence[Index]) -> tuple[Laid, Laid]:
        """The factors of a product, summed over what is in one of them alone."""
        kept = set(out)
        a = self._summed(a, [i for i in a.order if i in kept or i in b.order])
        return a, self._summed(b, [i for i in b.order if i in kept or i in a.order])

    def _added_to(self, rest: Laid, by: Fraction, how: Product, out: Sequence[Index]) -> Laid:
        """rest + by · a product of matrices or of vectors, as `is_added` allows."""
        a, b = self._alone_summed(self._laid(how.first), self._laid(how.second), out)
        by_index = matrices(a.order, b.order, out, rest.order)
        if by_index.turned:
            a, b = b, a
        rows, columns, inner = by_index.rows, by_index.columns, by_index.inner
        groups = [group for group in (rows, columns) if group]
        added = self._grouped(rest, *([i for i in group if i in rest.order] for group in groups))
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
            operands = self._grouped(a, rows, inner), self._grouped(b, inner, columns)
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

    def _grouped(self, laid: Laid, *groups: Iterable[Index]) -> Value:
        """With one dimension for each group of indices."""
        parts = [list(group) for group in groups]
        value = self._permuted(laid.value, laid.order, [i for part in parts for i in part])
        sizes = []
        for part in parts:
            size = 1
            for index in part:
                size *= index.size
            sizes.append(size)
        return self._reshaped(value, sizes)

    def _elementwise(self, a: Laid, b: Laid, wanted: Sequence[Index]) -> Laid:
        order = _ordered((*a.order, *(i for i in b.order if i not in a.order)), wanted)
        return Laid(self._op("aten.mul.Tensor", self._spread(a, order), self._spread(b, order)), order)

    def _total(
        self,
        parts: Sequence[tuple[Fraction, Piece]],
        number: Fraction,
        out: Sequence[Index],
        wanted: Sequence[Index],
    ) -> Laid:
        if not parts:
            raise NotEmitted
        for place in sorted(
            range(len(parts)), key=lambda i: parts[i][0] == 1
        ):  # what is scaled costs nothing
            by, part = parts[place]
            rest = [*parts[:place], *parts[place + 1 :]]
            indices = tuple(dict.fromkeys(index for _, one in rest for index in one.indices))
            alone = part.key in self._once and part.key not in self._made
            if alone and isinstance(part.how, Product) and is_added(part.how, part.indices, indices):
                return self._added_to(self._total(rest, number, indices, wanted), by, part.how, part.indices)
        return self._sum([(c, self._laid(part, wanted)) for c, part in parts], number, out, wanted)

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

    def _reshaped(self, value: Value, sizes: Sequence[int]) -> Value:
        return value if shape_of(value) == tuple(sizes) else self._op("aten.reshape.default", value, [*sizes])


_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "select.int", "slice.Tensor", "unflatten.int", "diagonal.default", "unsqueeze.default", "t.default",
        "expand.default", "permute.default", "reshape.default",
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
