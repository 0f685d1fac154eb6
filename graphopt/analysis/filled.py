"""Tensors that depend on nothing and are filled with one number: a mask of ones where none is passed."""

import math

import torch

from graphopt.analysis.memory import Memory
from graphopt.ir.graph import Arg, Graph, Node, Value, of_nodes
from graphopt.ir.literal import Lit
from graphopt.ir.ops import Effect, effect_of
from graphopt.ir.resolve import called
from graphopt.ir.types import TensorType

MAX_ELEMENTS = 1 << 20
"""Of a larger tensor nothing is known: it is made to be looked at."""
MAX_NODES = 64


@of_nodes
class Filled:
    """Runs the nodes that read no input of the graph: they make the same bits on every call."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._memory = graph.analysis(Memory)
        self._found: dict[str, Lit | None] = {}
        self._closed: set[str] = set()
        for node in graph.nodes:
            if self._is_closed(node):
                self._closed.update(value.name for value in node.results)

    def number(self, value: Value, node: Node) -> Lit | None:
        """The number that each element of a tensor is when a node reads it; None where that is not known."""
        if value.name not in self._closed or self._memory.version(value, node):
            return None
        if value.name not in self._found:
            self._found[value.name] = self._number(value)
        return self._found[value.name]

    def _number(self, value: Value) -> Lit | None:
        nodes = self._cone(value)
        if nodes is None:
            return None
        tensors: dict[str, torch.Tensor] = {}
        with torch.inference_mode(False), torch.no_grad():
            for node in nodes:
                if not _run(node, tensors):
                    return None
        return _only_number(tensors[value.name])

    def _is_closed(self, node: Node) -> bool:
        """Whether a node reads nothing but what such nodes make, and only makes small tensors."""
        return (
            all(v.name in self._closed and not self._memory.version(v, node) for v in node.operands)
            and effect_of(node) is Effect.NONE
            and all(map(self._is_small, node.results))
        )

    def _cone(self, value: Value) -> list[Node] | None:
        """The nodes that lead to a value, in order; None where they are many."""
        found: dict[str, Node] = {}
        open_ = [value]
        while open_:
            node = self._graph.producer[open_.pop().name]
            if len(found) > MAX_NODES:
                return None
            if node.name not in found:
                found[node.name] = node
                open_.extend(node.operands)
        return sorted(found.values(), key=self._memory.position)

    def _is_small(self, value: Value) -> bool:
        kind = value.type
        return (
            isinstance(kind, TensorType)
            and kind.is_static
            and kind.strides is not None
            and kind.device.type == "cpu"
            and math.prod(kind.shape) <= MAX_ELEMENTS
        )


def _run(node: Node, tensors: dict[str, torch.Tensor]) -> bool:
    """Runs a node, and notes its results; returns whether they are what the graph says."""

    def operand(arg: Arg) -> object:
        match arg:
            case Value():
                return tensors[arg.name]
            case Lit():
                return arg.value
            case _:
                raise TypeError(f"no constant: {arg}")

    try:
        result = called(node, operand)
    except Exception:  # a call raises it, too
        return False
    results = tuple(result) if node.many else (result,)
    if len(results) != len(node.results):
        return False
    for made, value in zip(results, node.results, strict=True):
        kind = value.type
        assert isinstance(kind, TensorType)  # closed nodes make nothing else
        if type(made) is not torch.Tensor:
            return False
        if (made.dtype, tuple(made.shape), made.device) != (kind.dtype, kind.shape, kind.device):
            return False
        tensors[value.name] = made
    return True


def _only_number(tensor: torch.Tensor) -> Lit | None:
    """The real number that all elements are, the sign of zero included."""
    if tensor.numel() == 0 or tensor.is_complex():
        return None
    first = tensor.flatten()[0]
    alike = tensor == first
    if tensor.is_floating_point():
        alike &= tensor.signbit() == first.signbit()
    return Lit(first.item()) if bool(alike.all()) else None
