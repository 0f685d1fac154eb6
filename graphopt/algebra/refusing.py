"""Why a block stays as it is, though something takes less time."""

from collections.abc import Callable, Sequence

from graphopt.algebra.blocks import Spelled
from graphopt.algebra.improving import Better, run_by_calls
from graphopt.analysis.memory import Memory
from graphopt.analysis.peak import peak_bytes
from graphopt.analysis.substitution import Substitution
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.ops import Effect, effect_of

MORE_MEMORY, FREE_BYTES = 1.5, 1 << 20
"""How many times the bytes that a block holds at once, its operands among them, another evaluation of it may
hold; or how many more."""


def against(better: Better, whole: Spelled, given: Memory, beside: Substitution) -> str | None:
    """Why a block stays as it is; None where it need not. Either all of its places are taken, or none."""
    if any(beside.changed(node, better.change.last) for node in better.block.nodes):
        return "an operand may be written in between"
    if any(effect_of(node) is Effect.RAISES for node in better.block.nodes) and _is_between(better, whole):
        return "what is done in between would not be done before it raises"
    nodes = [place.node for place in better.change.places]
    if any(given.storage_written(value) for node in nodes for value in node.results):
        return "the result is written later"
    return next(filter(None, map(whole.given.denial, nodes)), None)


def too_large(better: Better, whole: Spelled, fixed: Callable[[Value], bool]) -> str | None:
    """Why the new nodes may not be made, for the memory that they hold at once; None where they may."""
    graph, sizes = whole.given.graph, whole.given.costs.sizes
    gone = better.gone(whole)
    operands, dying = _operands(gone, graph)
    others = sum(map(sizes.bytes, operands)) - sum(map(sizes.bytes, dying))
    places = better.change.places
    roots = {value.name for place in places for value in place.node.results}
    values = {value.name for place in places for value in place.values}
    before = others + peak_bytes(run_by_calls(gone, fixed), roots, sizes, dying)
    after = others + peak_bytes(run_by_calls(better.added, fixed), values, sizes, dying)
    if after <= max(MORE_MEMORY * before, before + FREE_BYTES):
        return None
    return f"it would hold {after / 1e6:.3g} MB at once, and not {before / 1e6:.3g} MB"


def _operands(nodes: Sequence[Node], graph: Graph) -> tuple[list[Value], list[Value]]:
    """What nodes read that they do not make; and of this, what the graph makes for them alone."""
    names, made = {node.name for node in nodes}, {value.name for node in nodes for value in node.results}
    read = {v.name: v for node in nodes for v in node.operands if v.name not in made}
    kept = graph.returned | {name for name in read if {user.name for user in graph.uses[name]} - names}
    return [*read.values()], [v for name, v in read.items() if name in graph.producer and name not in kept]


def _is_between(better: Better, whole: Spelled) -> bool:
    """Whether anything happens between a block's first node and its last place, but values being made."""
    names = {node.name for node in better.block.nodes}
    order = whole.draft.graph.nodes
    places = [place for place, node in enumerate(order) if node.name in names | {better.change.last.name}]
    others = (node for node in order[places[0] : places[-1]] if node.name not in names)
    return any(effect_of(node) is not Effect.NONE for node in others)
