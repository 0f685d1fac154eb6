"""Operators spelled out as others: laws by which an algebra sees through what is one call.

    split(x, [a, b])  =  x[:a], x[a:]
    scaled_dot_product_attention(q, k, v)  =  softmax(scale · q kᵀ) v

Each makes the nodes that do what one node does, in the same types; the first kind to the bit, others to
rounding. A spelling is tried beside the graph, and taken where what it lets be found is worth more than it
costs.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

from graphopt.algebra.attention import attention, has_few_queries
from graphopt.algebra.spelling import NotSpelled, Spell, tensor
from graphopt.builder import Builder
from graphopt.ir.graph import Node, Value
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of, shape_of, type_of
from graphopt.ir.types import TensorType


@dataclass(frozen=True)
class Expansion:
    """`spell` makes the nodes; `may_pay` says, of the node's types alone, whether it is worth a try."""

    spell: Spell
    may_pay: Callable[[Node], bool]


def spelled_out(node: Node, build: Builder) -> tuple[Value, ...]:
    """The values that stand for a node's results, made by nodes of other operators. Raises NotSpelled."""
    expansion = EXPANSIONS.get(node.op)
    if expansion is None:
        raise NotSpelled("no law says what it is made of")
    made = expansion.spell(node, build)
    if [value.type for value in made] != [value.type for value in node.results]:
        raise NotSpelled("the results would lie in memory in another way")
    return made


def may_pay(node: Node) -> bool:
    """Whether spelling a node out may let something cheaper be found."""
    expansion = EXPANSIONS.get(node.op)
    static = all(isinstance(v.type, TensorType) and v.type.is_static for v in (*node.operands, *node.results))
    return expansion is not None and static and expansion.may_pay(node)


def _parts(node: Node, build: Builder) -> tuple[Value, ...]:
    """What follows one another along a dimension."""
    whole, dim = _split(node)
    sizes = [shape_of(part)[dim] for part in node.results]
    bounds = pairwise(accumulate(sizes, initial=0))
    if sum(sizes) != shape_of(whole)[dim]:
        raise NotSpelled("the parts are not the whole")
    return tuple(build("aten.slice.Tensor", whole, dim, start, end) for start, end in bounds)


def _each(node: Node, build: Builder) -> tuple[Value, ...]:
    """Every position along a dimension."""
    whole, dim = _split(node)
    return tuple(build("aten.select.int", whole, dim, place) for place in range(len(node.results)))


def _split(node: Node) -> tuple[Value, int]:
    """What is taken apart, and along which dimension."""
    given = operands_of(node)
    match tensor(given["self"]), given.get("dim", Lit(0)):
        case whole, Lit(int() as dim):
            return whole, dim % len(shape_of(whole))
        case _:
            raise NotSpelled("it is not known along which dimension")


def _is_floating(node: Node) -> bool:
    return type_of(tensor(operands_of(node)["self"])).dtype.is_floating_point


def _table() -> Iterator[tuple[str, Expansion]]:
    for name in (
        "split.Tensor", "split.sizes", "split_with_sizes.default", "chunk.default", "tensor_split.sections",
        "tensor_split.indices",
    ):  # fmt: skip
        yield f"aten.{name}", Expansion(_parts, _is_floating)
    yield "aten.unbind.int", Expansion(_each, _is_floating)
    yield "aten.scaled_dot_product_attention.default", Expansion(attention, has_few_queries)


EXPANSIONS: Mapping[str, Expansion] = dict(_table())
"""By operator."""
