"""Pieces as nodes: each as the operator that does it fastest."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from graphopt.algebra.choices import ALONG, Choice
from graphopt.algebra.choosing import by_choice
from graphopt.algebra.convolving import by_kernel, partly_summed
from graphopt.algebra.kernels import kernel_of
from graphopt.algebra.laying import Laid, Laying, ordered
from graphopt.algebra.matrices import is_added
from graphopt.algebra.multiplying import Multiplying
from graphopt.algebra.norms import is_norm
from graphopt.algebra.pieces import Joined, Piece, Product, Read, Reduced, Total
from graphopt.algebra.polynomial import Dims, Factor, Index, Polynomial
from graphopt.algebra.polynomial import along as access_of
from graphopt.algebra.pricing import LONGEST_DOT, windows_of
from graphopt.algebra.showing import (
    Lemma,
    NotEmitted,
    along,
)
from graphopt.algebra.stages import Stage
from graphopt.algebra.windows import schedule
from graphopt.draft import Draft
from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Node, Value
from graphopt.ir.graph import Sequence as Operands
from graphopt.ir.operands import shape_of, type_of
from graphopt.ir.types import TensorType


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
        self._lay = Laying(draft)
        self._multiply = Multiplying(self._lay, longest_dot)
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
        self._late = frozenset[str]()
        self._sources: dict[bytes, tuple[tuple[Index, ...], Factor]] = {}
        self.lemmas: dict[str, Lemma] = {}
        """By the names of their nodes' values."""

    @property
    def exact(self) -> Mapping[float, Fraction]:
        """What the literals of all nodes are rounded from."""
        return self._lay.exact

    def nodes(self, piece: Piece, p: Polynomial, like: Node, *, freely: bool = False) -> Made:
        """A value in the place of a node's result, which is a polynomial that the piece evaluates; `freely`:
        of another type, as it fills its memory. Raises NotEmitted."""
        self._lay.begin(like)
        kind = self._lay.kind
        self._late = frozenset(v.name for v in like.operands) if like.op == "aten.add.Tensor" else frozenset()
        is_part = span_of(kind) > math.prod(map(int, kind.shape))
        dense = self._dense(piece, p, kind, own=freely or not is_part)
        value = self._root(dense) if is_norm(like) else dense
        value = value if freely else self._relaid(value, kind)
        return Made(value, dense, tuple(self._lay.build.nodes))

    def _dense(self, piece: Piece, p: Polynomial, kind: TensorType, own: bool) -> Value:
        """What a piece gives, dimensions in the order of the type's; if `own`, on memory that it fills."""
        shape, slow = [int(size) for size in kind.shape], slowest_first(kind)
        wanted = [index for i in slow for index in p.dims[i]]
        laid = self._laid(piece, wanted)
        laid = self._lay.expanded(laid, p.free)
        value = self._lay.permuted(laid.value, laid.order, wanted)
        value = self._lay.reshaped(value, [shape[i] for i in slow])
        assert isinstance(value.type, TensorType)
        if own and (not value.type.is_contiguous or self._lay.is_handed_on(value)):
            value = self._lay.op("aten.clone.default", value, memory_format=torch.contiguous_format)
        if slow != sorted(slow):
            value = self._lay.op("aten.permute.default", value, [slow.index(i) for i in range(len(shape))])
        return value

    def _root(self, square: Value) -> Value:
        """The root of a sum of squares, which is no less than zero but for rounding."""
        return self._lay.op("aten.sqrt.default", self._lay.op("aten.clamp_min.default", square, 0.0))

    def _relaid(self, dense: Value, kind: TensorType) -> Value:
        """The same with the strides of a type, as of a part of larger memory."""
        if dense.type == kind:
            return dense
        size, stride = [int(n) for n in kind.shape], [int(n) for n in kind.strides or ()]
        if span_of(kind) == math.prod(size):  # only dimensions of size 1 stride otherwise
            return self._lay.op("aten.as_strided.default", dense, size, stride, 0)
        if is_overlapping(size, stride):
            raise NotEmitted
        memory = self._lay.op(
            "aten.empty_strided.default", size, stride, dtype=kind.dtype, device=kind.device
        )
        return self._lay.op("aten.copy_.default", memory, dense)

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
                chosen = self._chosen(choice, self._lay.summed(self._laid(rest), needed))
                laid = self._lay.scaled(self._lay.summed(chosen, piece.indices), by)
            case Product(by, first, second):
                laid = self._convolved(piece, Fraction(1)) or self._multiply.product(
                    self._laid(first), self._laid(second), piece.indices, by, wanted
                )
            case Reduced(by, Piece(how=Read(factor))) if schedule(factor, {*piece.indices}):
                laid = self._lay.summed(self._read(self._source(piece)), piece.indices)
                laid = self._lay.scaled(laid, by)
            case Reduced(by, of):
                laid = self._lay.scaled(self._lay.summed(self._laid(of, wanted), piece.indices), by)
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
            value = self._lay.op("aten.squeeze.dims", value, single)
        for place, access in enumerate(factor.accesses):
            if len(single) > 1 and place in single:
                continue
            value, indices = along(self._lay.op, value, dims, access)
            dims += len(indices)
            order += indices
        while len(set(order)) < len(order):
            twice = next(index for index in order if order.count(index) > 1)
            first = order.index(twice)
            second = order.index(twice, first + 1)
            value = self._lay.op("aten.diagonal.default", value, 0, first, second)
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
                    made = [self._lay.op(stage.function.node.op, *args, **kwargs)]
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
        laid = self._lay.expanded(laid, p.free)
        return self._lay.reshaped(self._lay.permuted(laid.value, laid.order, wanted), p.shape)

    def _chosen(self, choice: Choice, laid: Laid) -> Laid:
        """Gathered elements, in the place of the dimension that they are chosen along."""
        index = self._read(Factor(choice.index, choice.accesses[:-1]))
        if choice.is_whole or choice.by == ALONG:
            self.raising.add(choice.leaf.name)
        return by_choice(self._lay, choice, index, laid)

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
            bias = None if rest is None else self._lay.grouped(rest, [*kernel.groups, *kernel.made])
            scaled = self._lay.scaled(self._laid(weight), by * how.coefficient)
            return by_kernel(self._lay, kernel, self._leaf(kernel.leaf), scaled, bias)
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
                    leaf = self._leaf(factor.leaf)
                    made, lemmas = partly_summed(self._lay, factor, leaf, plan, piece.indices)
                    self.lemmas.update((node.results[0].name, one) for one in lemmas for node in one.nodes)
                    self._sources[piece.key] = piece.indices, made
                indices, made = self._sources[piece.key]
                return made.with_(
                    {
                        old: access_of(new)
                        for old, new in zip(indices, piece.indices, strict=True)
                        if old != new
                    }
                )
        raise NotEmitted

    def _joined(
        self,
        along: Index,
        parts: Sequence[tuple[Piece, Dims]],
        indices: Sequence[Index],
        wanted: Sequence[Index],
    ) -> Laid:
        order = ordered(indices, wanted)
        values = []
        for part, dims in parts:
            of = dict(zip(indices, dims, strict=True))
            inner = [index for one in order for index in of[one]]
            laid = self._lay.expanded(self._laid(part, inner), inner)
            values.append(self._lay.grouped(laid, *(of[one] for one in order)))
        joined = self._lay.op("aten.cat.default", Operands("list", tuple(values)), order.index(along))
        return Laid(joined, order)

    def _total(
        self,
        parts: Sequence[tuple[Fraction, Piece]],
        number: Fraction,
        out: Sequence[Index],
        wanted: Sequence[Index],
    ) -> Laid:
        if not parts:
            return self._lay.filled(number)
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
                one, other = map(self._laid, part.operands)
                by *= part.how.coefficient
                return self._multiply.added_to(added, by, one, other, part.indices, order)
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
        order = ordered((*order, *(i for i in out if i not in order)), wanted)
        terms = sorted(parts, key=lambda part: part[0] != 1)
        first, laid = terms[0]
        value = self._lay.spread(self._lay.scaled(laid, first), order)
        for coefficient, other in terms[1:]:
            alpha = {} if coefficient == 1 else {"alpha": self._lay.number(coefficient, value)}
            value = self._lay.op("aten.add.Tensor", value, self._lay.spread(other, order), **alpha)
        if number:
            value = self._lay.op("aten.add.Scalar", value, self._lay.number(number, value))
        return Laid(value, order)
