"""Which part of which memory each value shows: two values of one geometry are two names for one tensor.

Views are followed by running them on meta tensors, which have sizes and no memory, so every operator
that the table knows to read no element is covered, and none by its name.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import is_not
from typing import Any, TypeAlias

import torch

from graphopt.internals import conjugated, is_composite, negated
from graphopt.ir.graph import Arg, Constant, Graph, Node, State, Value, of_nodes
from graphopt.ir.literal import Lit
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.regions import key_of
from graphopt.ir.resolve import called, resolve
from graphopt.ir.types import TensorType, Type, contiguous_strides

# Where a root is taken to start in its memory, in bytes: a caller may pass any part of any memory, so what
# as_strided shows by a position in the memory must not seem to be a part of the root.
_START = 1 << 40


@dataclass(frozen=True, slots=True)
class Geometry:
    """A window on the memory that value `root` shows. Sizes, strides and offset are in elements; the
    offset and the lazy conjugation and negation are counted from the root's own."""

    root: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    conjugate: bool
    negative: bool
    device: torch.device

    def seen(self, view: torch.Tensor) -> "Geometry":
        """That of a view of `tensor()`."""
        return Geometry(
            self.root, view.dtype, tuple(view.shape), view.stride(),
            int(view.storage_offset()) - _START // view.itemsize, view.is_conj(), view.is_neg(), self.device,
        )  # fmt: skip

    def at(self, root: str) -> "Geometry":
        """The same window on the memory of another root."""
        return Geometry(
            root, self.dtype, self.shape, self.strides,
            self.offset, self.conjugate, self.negative, self.device,
        )  # fmt: skip

    @property
    def type(self) -> TensorType:
        """The type of what it shows."""
        return TensorType(self.dtype, self.shape, self.strides, self.device)

    def tensor(self) -> torch.Tensor:
        """A meta tensor like it, on memory of its own: of no size, for of meta tensors none is asked."""
        memory = torch.empty(0, dtype=self.dtype, device="meta")
        made = memory.as_strided(self.shape, self.strides, self.offset + _START // self.dtype.itemsize)
        made = negated(made) if self.negative else made
        return conjugated(made) if self.conjugate else made


@of_nodes
class Views:
    """The geometry of every value of a graph that is static and strided.

    `same_object` names the results that are their operand itself, not a new tensor on its memory: value
    by value.
    """

    def __init__(self, graph: Graph) -> None:
        self._found: dict[str, Geometry] = {}
        self._own: dict[str, Geometry | None] = {}
        self.same_object: dict[str, Value] = {}
        self._fresh: dict[str, Type] = {}
        self._sharing: dict[str, tuple[Value, ...]] = {}
        self._inputs = graph.inputs
        self._owned = {e.value.name for e in graph.inputs if isinstance(e.source, State | Constant)}
        self._calls: dict[object, tuple[_Shown | None, ...]] = {}
        for node in graph.nodes:
            if lookup(node.op).alias is Alias.FRESH:
                for value in node.results:
                    self._fresh[value.name] = value.type
            elif effect_of(node) is Effect.NONE:
                self._note(node)

    def follows(self, value: Value) -> bool:
        """Whether it is known what memory a node's result shows: an operand's, or new."""
        return value.name in self._sharing or value.name in self._fresh

    def sharing(self, value: Value) -> tuple[Value, ...] | None:
        """The operands whose memory a result of an operator that may return a view shows: none where it is
        new. None where that is not known."""
        return self._sharing.get(value.name)

    def is_whole(self, value: Value) -> bool:
        """Whether it is known that the value shows all of a memory made in the graph, from its start."""
        if value.name in self._fresh:
            return True
        shown = self._found.get(value.name)
        if shown is None:
            return False
        made, shows = self._fresh.get(shown.root), (shown.offset, shown.dtype, math.prod(shown.shape))
        return isinstance(made, TensorType) and shows == (0, made.dtype, math.prod(made.shape))

    def geometry(self, value: Value) -> Geometry | None:
        """What the value shows; None where that is not known."""
        known = self._found.get(value.name)
        if known is not None:
            return known
        if value.name not in self._own:
            self._own[value.name] = _own(value)
        return self._own[value.name]

    def _note(self, node: Node) -> None:
        """Notes the results of a node that share an operand's memory. In another graph it showed the same
        where its operands did."""
        last = node.fact(_Last)
        given: list[object] = [self._inputs, *map(self._found.get, [value.name for value in node.operands])]
        if len(given) != len(last.given) or any(map(is_not, given, last.given)):
            last.given, last.found = given, [*self._follow(node)]
        for name, shown in last.found:
            if shown is None:
                self._sharing[name] = ()
                continue
            operand, window, is_operand = shown
            self._sharing[name] = (operand,)
            self._found[name] = window
            if is_operand:
                self.same_object[name] = operand

    def _follow(self, node: Node) -> "Iterator[_Seen]":
        """The results of a node that share an operand's memory, or have new memory."""
        known: dict[str, Geometry] = {}
        for value in node.operands:
            shown = self.geometry(value)
            if shown is None:
                return
            known[value.name] = shown
        # State lies as declared; what a kernel makes may not, if its meta kernel errs, nor what is passed
        # to an exported program, which does not look.
        certain = all(shown.root in self._owned for shown in known.values())
        key = certain, _call(node, known)
        if key not in self._calls:
            self._calls[key] = _shown(node, known, certain)
        given = list({value.name: value for value in node.operands}.values())
        for value, seen in zip(node.results, self._calls[key], strict=True):
            if seen is None:
                continue
            if seen.window is None:
                yield value.name, None
                continue
            operand = given[seen.operand]
            yield value.name, (operand, seen.window.at(known[operand.name].root), seen.is_operand)


def _own(value: Value) -> Geometry | None:
    """That of a value that is no view."""
    kind = value.type
    if not isinstance(kind, TensorType) or kind.strides is None or not kind.is_static:
        return None
    return Geometry(value.name, kind.dtype, kind.shape, kind.strides, 0, False, False, kind.device)


_Seen: TypeAlias = tuple[str, tuple[Value, Geometry, bool] | None]
"""A result by name; and the operand whose memory it shows, what of it, and whether it is that very object; or
none, where its memory is new."""


class _Last:
    """What a node's results were last seen to show, and of which operands."""

    __slots__ = ("found", "given")

    def __init__(self, node: Node) -> None:
        self.given: list[object] = []
        self.found: list[_Seen] = []


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one result shows: a window on the memory of the operand of a number, or that very object; or,
    without a window, new memory."""

    operand: int
    window: Geometry | None
    is_operand: bool


_NEW = _Shown(-1, None, False)


def _call(node: Node, known: dict[str, Geometry]) -> object:
    """Equal for nodes that run the same operator on like tensors: the layers of a model."""
    numbers = {name: i for i, name in enumerate(known)}
    windows = tuple(shown.at("") for shown in known.values())

    def shape(arg: Arg) -> object:
        return key_of(arg, lambda value: ("operand", numbers.get(value.name)))

    types = tuple(value.type for value in node.results)
    return (
        node.op,
        tuple(map(shape, node.args)),
        tuple((n, shape(a)) for n, a in node.kwargs),
        windows,
        types,
    )


def _shown(node: Node, known: dict[str, Geometry], certain: bool) -> tuple[_Shown | None, ...]:
    """What each result shows of the operands, found by running the node on meta tensors. `certain`: the
    operands are known to lie in their memory as declared."""
    nothing = (None,) * len(node.results)
    tensors = {name: window.tensor() for name, window in known.items()}
    devices = {window.device for window in known.values()}
    results = _run(node, tensors, devices)
    if len(results) != len(node.results):
        return nothing
    found = [_relation(result, tensors) for result in results]
    may = lookup(node.op).alias is Alias.MAY
    if may and not _is_composite(node):
        return nothing
    if may:
        # resolve_conj hands back what is not lazily conjugated, and copies what is: an argument may be.
        for lazy in map(_conjugated, tensors.values()), map(_negated, tensors.values()):
            others = dict(zip(tensors, lazy, strict=True))
            if [_relation(result, others) for result in _run(node, others, devices)] != found:
                return nothing
    new = _apart(results, tensors) if may else set()
    for others in () if certain else _laid_out(known):
        new &= _apart(_run(node, others, devices), others)
    windows, seen = list(known.values()), list[_Shown | None](nothing)
    for i, (result, (handed_back, shows)) in enumerate(zip(results, found, strict=True)):
        if shows is not None:
            window = windows[shows].seen(result)
            if window.type == node.results[i].type:
                seen[i] = _Shown(shows, window.at(""), handed_back is not None)
        elif i in new and _is_as_declared(result, node.results[i]):
            seen[i] = _NEW
    return tuple(seen)


def _is_composite(node: Node) -> bool:
    """Whether an operator is written in others, alike for all devices. Where a device has a kernel of its
    own, that may copy what the meta kernel gives a view of: channel_shuffle in one group."""
    return is_composite(resolve(node.op))


def _apart(results: tuple[torch.Tensor, ...], tensors: dict[str, torch.Tensor]) -> set[int]:
    """The numbers of the results whose memory no operand and no other result shows."""
    memories = [one.untyped_storage()._cdata for one in (*results, *tensors.values())]
    return {i for i in range(len(results)) if memories.count(memories[i]) == 1}


def _is_as_declared(result: torch.Tensor, value: Value) -> bool:
    kind = value.type
    shown = (result.dtype, tuple(result.shape), result.stride())
    return isinstance(kind, TensorType) and shown == (kind.dtype, kind.shape, kind.strides)


def _laid_out(known: dict[str, Geometry]) -> Iterator[dict[str, torch.Tensor]]:
    """The operands in other orders of memory: rows first, and channels last."""

    def channels_last(dims: range) -> tuple[int, ...]:
        return (*dims[:1], *dims[2:], *dims[1:2])

    def strides(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
        dense = contiguous_strides(tuple(shape[i] for i in order))
        return tuple(dense[order.index(i)] for i in range(len(shape)))

    for order_of in (tuple, channels_last):
        yield {
            name: replace(shown, strides=strides(shown.shape, order_of(range(len(shown.shape))))).tensor()
            for name, shown in known.items()
        }


def _conjugated(tensor: torch.Tensor) -> torch.Tensor:
    return conjugated(tensor) if tensor.is_complex() else tensor


def _negated(tensor: torch.Tensor) -> torch.Tensor:
    return negated(tensor) if tensor.is_floating_point() else tensor


def _relation(result: torch.Tensor, tensors: dict[str, torch.Tensor]) -> tuple[int | None, int | None]:
    """The number of the operand that a result is, and of the one whose memory it shows."""
    objects = {id(tensor): i for i, tensor in enumerate(tensors.values())}
    memories = {tensor.untyped_storage()._cdata: i for i, tensor in enumerate(tensors.values())}
    return objects.get(id(result)), memories.get(result.untyped_storage()._cdata)


def _run(
    node: Node, tensors: dict[str, torch.Tensor], devices: set[torch.device]
) -> tuple[torch.Tensor, ...]:
    """The results on meta tensors; none where the operands are no constants, the operator needs elements
    or another device, or a result is no tensor."""

    def operand(arg: Arg) -> Any:
        match arg:
            case Value():
                return tensors[arg.name]
            case Lit():
                return torch.device("meta") if devices == {arg.value} else arg.value
            case _:
                raise KeyError(arg)

    try:
        with torch.no_grad():
            result = called(node, operand)
    except (KeyError, RuntimeError, NotImplementedError, ValueError, TypeError, IndexError):
        return ()
    results = tuple(result) if node.many else (result,)
    return results if set(map(type, results)) <= {torch.Tensor} else ()
