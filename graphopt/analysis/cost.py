"""What a node costs: floating-point operations and bytes moved, from its types alone."""

import math
from dataclasses import dataclass

import sympy

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.types import Dim, TensorType


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs (a multiply-add counts two) and bytes read and written. A symbolic size counts as 1."""

    flops: int = 0
    bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


def graph_cost(graph: Graph) -> Cost:
    """The sum over all nodes, sub-graphs included."""
    return sum((node_cost(node) for node in graph.nodes), Cost())


def node_cost(node: Node) -> Cost:
    """The cost of one node; a view costs nothing, nor does what hands its operand on as it is."""
    inner = sum((graph_cost(region) for region in node.regions), Cost())
    if any(True for _ in node.regions) or _shares(node):
        return inner
    tensors = [value for value in (*node.operands, *node.results) if isinstance(value.type, TensorType)]
    moved = sum(map(value_bytes, tensors))
    return Cost(_flops(node), moved)


def _shares(node: Node) -> bool:
    """Whether the results are the operands' own memory: always for views, and for operators that copy
    only where they must (contiguous, to, dropout in eval) if the result looks like the operand."""
    alias = lookup(node.op).alias
    if alias is not Alias.MAY or effect_of(node) is Effect.OPAQUE:
        return alias is Alias.VIEW
    return any(operand.type == node.results[0].type for operand in node.operands) if node.results else False


def _flops(node: Node) -> int:
    results = [value for value in node.results if isinstance(value.type, TensorType)]
    made = sum(map(_elements, results))
    name = node.op.split(".")[1] if node.op.startswith("aten.") else ""
    shapes = [_shape(v) for v in node.operands if isinstance(v.type, TensorType)]
    match name:
        case "mm" | "bmm" | "matmul" | "mv" | "dot" | "linear" | "inner":
            return 2 * made * shapes[0][-1] if shapes and shapes[0] else made
        case "addmm" | "baddbmm" | "addmv" | "addbmm":
            return 2 * made * shapes[1][-1]
        case "conv1d" | "conv2d" | "conv3d" | "convolution":
            return 2 * made * math.prod(shapes[1][1:])
        case "scaled_dot_product_attention":
            return 2 * made * shapes[1][-2] + 2 * math.prod(shapes[0]) * shapes[1][-2]
        case _:
            return made


def _shape(value: Value) -> tuple[int, ...]:
    assert isinstance(value.type, TensorType)
    return tuple(_size(dim) for dim in value.type.shape)


def _elements(value: Value) -> int:
    return math.prod(_shape(value))


def value_bytes(value: Value) -> int:
    """The bytes of a tensor's elements."""
    assert isinstance(value.type, TensorType)
    return _elements(value) * value.type.dtype.itemsize


def _size(dim: Dim) -> int:
    return 1 if isinstance(dim, sympy.Expr) else dim
