"""What a node costs: floating-point operations and bytes moved, from its types alone."""

import math
from dataclasses import dataclass

import torch

from graphopt.analysis.contractions import products
from graphopt.analysis.sizes import Sizes
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.types import TensorType

_ONES = Sizes()


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs (a multiply-add counts two) and bytes read and written. A symbolic size counts as 1 where no
    number is given for it."""

    flops: int = 0
    bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


def graph_cost(graph: Graph, sizes: Sizes = _ONES) -> Cost:
    """The sum over all nodes, sub-graphs included."""
    return sum((node_cost(node, sizes) for node in graph.nodes), Cost())


def node_cost(node: Node, sizes: Sizes = _ONES) -> Cost:
    """The cost of one node; a view costs nothing, nor does what hands its operand on as it is."""
    inner = sum((graph_cost(region, sizes) for region in node.regions), Cost())
    if any(True for _ in node.regions) or hands_on(node, sizes):
        return inner
    tensors = [value for value in (*node.operands, *node.results) if isinstance(value.type, TensorType)]
    return Cost(_flops(node, sizes), sum(map(sizes.bytes, tensors)))


def hands_on(node: Node, sizes: Sizes = _ONES) -> bool:
    """Whether the results are the operands' own memory, so that no element is touched: always for views,
    and for operators that copy only where they must (contiguous, to, dropout in eval, reshape) if the
    operand will do."""
    alias, effect = lookup(node.op).alias, effect_of(node)
    if alias is Alias.VIEW:
        return effect is not Effect.WRITES
    if alias is Alias.FRESH or effect in (Effect.OPAQUE, Effect.WRITES) or not node.results:
        return False
    if products(node, sizes):  # an einsum of square matrices
        return False
    if any(operand.type == node.results[0].type for operand in node.operands):
        return True
    return node.op in _RESHAPES and viewable(node.operands[0], sizes.shape(node.results[0]), sizes)


_RESHAPES = frozenset(
    f"aten.{name}"
    for name in ("reshape.default", "reshape_as.default", "flatten.using_ints", "ravel.default")
)


def viewable(value: Value, shape: tuple[int, ...], sizes: Sizes) -> bool:
    """Whether a tensor can be seen in another shape without a copy."""
    kind = value.type
    if not isinstance(kind, TensorType) or kind.strides is None:
        return False
    strides = tuple(map(sizes.number, kind.strides))
    operand = torch.empty_strided(sizes.shape(value), strides, dtype=kind.dtype, device="meta")
    try:
        operand.view(shape)
    except RuntimeError:
        return False
    return True


def _flops(node: Node, sizes: Sizes) -> int:
    found = products(node, sizes)
    if found:
        return sum(product.flops for product in found)
    return sum(math.prod(sizes.shape(v)) for v in node.results if isinstance(v.type, TensorType))
