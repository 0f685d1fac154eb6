"""What a run of a graph leaves behind if it ends midway, and where it may end."""

import torch

from graphopt.analysis.memory import Memory, written_operands
from graphopt.ir.branch import TOOK
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.resolve import resolve

REQUIRES_GRAD = "aten.requires_grad_.default"


def leaves_a_trace(node: Node, memory: Memory) -> bool:
    """Whether a node may change what others see, besides returning results and drawing random numbers:
    memory of an argument, the state or a constant, or what an unknown operator reaches."""
    if _changes_no_memory(node.op):
        return not _is_made(node.operands[0], memory.graph)
    regions = list(node.regions)
    if regions and (effect_of(node) is not Effect.OPAQUE or node.op.startswith("higher_order.wrap_with_")):
        return any(leaves_a_trace(inner, Memory(region)) for region in regions for inner in region.nodes)
    effect = effect_of(node)
    if effect is Effect.WRITES:
        return any(map(memory.is_input, written_operands(node, lookup(node.op))))
    return effect is Effect.OPAQUE and not _writes_nothing(node.op)


def _changes_no_memory(op: str) -> bool:
    """Whether an in-place operator changes a tensor's shape, or its part in gradients, alone."""
    tags: list[torch.Tag] = getattr(resolve(op), "tags", [])
    resizes = op.startswith("aten.resize")  # the storage, too
    return op == REQUIRES_GRAD or (torch.Tag.inplace_view in tags and not resizes)


def _is_made(value: Value, graph: Graph) -> bool:
    """Whether a tensor is surely the graph's own, be its memory another's: no operand passed through."""
    producer = graph.producer.get(value.name)
    if producer is None or effect_of(producer) in (Effect.WRITES, Effect.OPAQUE):
        return False
    is_new = lookup(producer.op).alias is not Alias.MAY
    return is_new or all(operand.type != value.type for operand in producer.operands)


def _writes_nothing(op: str) -> bool:
    """Whether torch's own schema of an operator that nobody confirmed says so. Those that update running
    statistics do not."""
    schema = getattr(resolve(op), "_schema", None)
    if schema is None or not op.startswith("aten."):
        return False
    return not schema.is_mutable and not any(one.name.startswith("running_") for one in schema.arguments)


def traces(graph: Graph) -> list[Node]:
    """The nodes of a graph that leave a trace, in their order."""
    memory = Memory(graph)
    return [node for node in graph.nodes if leaves_a_trace(node, memory)]


def may_raise(node: Node) -> bool:
    """Whether a node may raise by the values of its operands."""
    regions = list(node.regions)
    if regions and effect_of(node) is not Effect.OPAQUE:
        return any(may_raise(inner) for region in regions for inner in region.nodes)
    match effect_of(node):
        case Effect.NONE:
            return False
        case Effect.RANDOM:
            return "dropout" not in node.op and ".rand" not in node.op
        case Effect.WRITES:
            return node.op not in _NORMS and lookup(_out_of_place(node.op)).effect is not Effect.NONE
        case _:
            return node.op not in (REQUIRES_GRAD, TOOK)


_NORMS = ("aten.batch_norm.default", "aten.instance_norm.default")  # they raise by shapes alone


def _out_of_place(op: str) -> str:
    """The name of the operator that returns what an in-place one writes."""
    base, _, overload = op.rpartition(".")
    return f"{base.removesuffix('_')}.{overload}"
