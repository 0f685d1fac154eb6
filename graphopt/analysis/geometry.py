"""Which part of which memory each value shows: two values of one geometry are two names for one tensor.

Views are followed by running them on meta tensors, which have sizes and no memory, so every operator
that the table knows to read no element is covered, and none by its name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from graphopt.ir.graph import Arg, Graph, Node, Sequence, Slice, Value
from graphopt.ir.literal import Lit
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.regions import key_of
from graphopt.ir.resolve import resolve
from graphopt.ir.types import TensorType, Type

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

    @classmethod
    def of(cls, tensor: torch.Tensor, root: str) -> "Geometry":
        """That of a tensor made by `tensor` or a view of one."""
        return cls(
            root, tensor.dtype, tuple(tensor.shape), tensor.stride(),
            int(tensor.storage_offset()) - _START // tensor.itemsize, tensor.is_conj(), tensor.is_neg(),
        )  # fmt: skip

    def tensor(self) -> torch.Tensor:
        """A meta tensor like it, on memory of its own: of no size, for of meta tensors none is asked."""
        memory = torch.empty(0, dtype=self.dtype, device="meta")
        made = memory.as_strided(self.shape, self.strides, self.offset + _START // self.dtype.itemsize)
        made = torch._neg_view(made) if self.negative else made
        return torch._conj(made) if self.conjugate else made


class Views:
    """The geometry of every value of a graph that is static and strided.

    `same_object` names the results that are their operand itself, not a new tensor on its memory: value
    by value.
    """

    def __init__(self, graph: Graph) -> None:
        self._found: dict[str, Geometry] = {}
        self.same_object: dict[str, Value] = {}
        self._fresh: dict[str, Type] = {}
        self._calls: dict[object, tuple[_Shown | None, ...]] = {}
        for node in graph.nodes:
            if lookup(node.op).alias is Alias.FRESH:
                self._fresh.update((value.name, value.type) for value in node.results)
            elif effect_of(node) is Effect.NONE:
                self._follow(node)

    def follows(self, value: Value) -> bool:
        """Whether it is known what memory a node's result shows: an operand's, or new."""
        return value.name in self._found or value.name in self._fresh

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
        kind = value.type
        if not isinstance(kind, TensorType) or kind.strides is None or not kind.is_static:
            return None
        return Geometry(value.name, kind.dtype, kind.shape, kind.strides, 0, False, False)

    def _follow(self, node: Node) -> None:
        """Notes the results of a node that share an operand's memory."""
        given = {value.name: value for value in node.operands if isinstance(value.type, TensorType)}
        known: dict[str, Geometry] = {}
        for value in given.values():
            shown = self.geometry(value)
            if shown is None:
                return
            known[value.name] = shown
        key = _call(node, known)
        if key not in self._calls:
            self._calls[key] = _shown(node, {name: window.tensor() for name, window in known.items()})
        for value, seen in zip(node.results, self._calls[key], strict=True):
            if seen is None:
                continue
            operand = list(given.values())[seen.operand]
            self._found[value.name] = replace(seen.window, root=known[operand.name].root)
            if seen.is_operand:
                self.same_object[value.name] = operand


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one result shows: a window on the memory of the operand of a number, or that very object."""

    operand: int
    window: Geometry
    is_operand: bool


def _call(node: Node, known: dict[str, Geometry]) -> object:
    """Equal for nodes that run the same operator on like tensors: the layers of a model."""
    numbers = {name: i for i, name in enumerate(known)}
    windows = tuple(replace(shown, root="") for shown in known.values())

    def shape(arg: Arg) -> object:
        return key_of(arg, lambda value: ("operand", numbers.get(value.name)))

    devices = tuple(v.type.device for v in node.operands if isinstance(v.type, TensorType))
    types = tuple(value.type for value in node.results)
    return (
        node.op,
        tuple(map(shape, node.args)),
        tuple((n, shape(a)) for n, a in node.kwargs),
        windows,
        devices,
        types,
    )


def _shown(node: Node, tensors: dict[str, torch.Tensor]) -> tuple[_Shown | None, ...]:
    """What each result shows of the operands, found by running the node on meta tensors."""
    nothing = (None,) * len(node.results)
    results = _run(node, tensors)
    if len(results) != len(node.results):
        return nothing
    if lookup(node.op).alias is Alias.MAY and not _is_so_for_lazy_operands(node, tensors, results):
        return nothing
    return tuple(_seen(result, value, tensors) for value, result in zip(node.results, results, strict=True))


def _seen(result: torch.Tensor, value: Value, tensors: dict[str, torch.Tensor]) -> _Shown | None:
    if not _is_as_typed(result, value):
        return None
    memory = result.untyped_storage()._cdata
    for number, tensor in enumerate(tensors.values()):
        if memory == tensor.untyped_storage()._cdata:
            return _Shown(number, Geometry.of(result, ""), result is tensor)
    return None


def _is_so_for_lazy_operands(
    node: Node, tensors: dict[str, torch.Tensor], results: tuple[torch.Tensor, ...]
) -> bool:
    """Whether the results are the operands, or show them, also where these are lazily conjugated or
    negated: resolve_conj hands back what is not, and copies what is."""
    for change, fits in ((torch._neg_view, torch.is_floating_point), (torch._conj, torch.is_complex)):
        if not any(map(fits, tensors.values())):
            continue
        changed = {name: change(tensor) if fits(tensor) else tensor for name, tensor in tensors.items()}
        others = _run(node, changed)
        if list(map(_relations(tensors), results)) != list(map(_relations(changed), others)):
            return False
    return True


def _relations(tensors: dict[str, torch.Tensor]) -> Callable[[torch.Tensor], list[object]]:
    def of(result: torch.Tensor) -> list[object]:
        memory = result.untyped_storage()._cdata
        return [(result is t, memory == t.untyped_storage()._cdata) for t in tensors.values()]

    return of


def _run(node: Node, tensors: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The results on meta tensors; none where the operands are no constants, the operator needs elements
    or another device, or a result is no tensor."""
    devices = {v.type.device for v in node.operands if isinstance(v.type, TensorType)}

    def operand(arg: Arg) -> Any:
        match arg:
            case Value():
                return tensors[arg.name]
            case Lit():
                on_device = isinstance(arg.value, torch.device) and devices == {arg.value}
                return torch.device("meta") if on_device else arg.value
            case Sequence(kind, items):
                return (list if kind == "list" else tuple)(map(operand, items))
            case Slice(start, stop, step):
                return slice(operand(start), operand(stop), operand(step))
            case _:
                raise KeyError(arg)

    try:
        args = [operand(arg) for arg in node.args]
        kwargs = {name: operand(arg) for name, arg in node.kwargs}
        with torch.no_grad():
            result = resolve(node.op)(*args, **kwargs)
    except (KeyError, RuntimeError, NotImplementedError, ValueError, TypeError, IndexError):
        return ()
    results = tuple(result) if node.many else (result,)
    return results if set(map(type, results)) <= {torch.Tensor} else ()


def _is_as_typed(tensor: torch.Tensor, value: Value) -> bool:
    kind = value.type
    return isinstance(kind, TensorType) and (tensor.dtype, tuple(tensor.shape), tensor.stride()) == (
        kind.dtype,
        kind.shape,
        kind.strides,
    )
