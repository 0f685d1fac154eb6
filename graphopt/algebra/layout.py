"""Which roots of a region may lie in memory otherwise than they were written, for what reads them makes
the same of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from graphopt.algebra.emission import dense_type, span_of
from graphopt.algebra.regions import Region
from graphopt.analysis.memory import Memory
from graphopt.builder import Builder
from graphopt.draft import Draft
from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Node, Value, replace_values
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.types import TensorType


@dataclass(frozen=True)
class Loose:
    """The names of roots that may lie as they like, and all that reads them, which is run again then."""

    roots: frozenset[str]
    readers: tuple[Node, ...]


AS_WRITTEN = Loose(frozenset(), ())


def laid_freely(region: Region, draft: Draft) -> Loose:
    """The roots that are parts of larger memory where no reader can tell: what it makes is of the same type
    when they fill theirs."""
    inside = {node.name for node in region.nodes}
    loose = {
        value.name: Value(value.name, dense_type(kind))
        for node in region.needed
        if isinstance(kind := (value := node.results[0]).type, TensorType)
        and span_of(kind) > prod(map(int, kind.shape))
        and not draft.analysis(Memory).escapes(value)
    }
    uses = draft.graph.uses
    while True:
        bad = {
            name for name in loose
            if not all(r.name not in inside and _is_blind(r, loose, draft) for r in uses.get(name, ()))
        }  # fmt: skip
        if not bad:
            readers = {reader.name: reader for name in loose for reader in uses.get(name, ())}
            return Loose(frozenset(loose), tuple(readers.values()))
        loose = {name: value for name, value in loose.items() if name not in bad}


def _is_blind(node: Node, loose: Mapping[str, Value], draft: Draft) -> bool:
    """Whether a node makes a new tensor that lies the same whichever of two ways its operands lie."""
    if lookup(node.op).alias is not Alias.FRESH or effect_of(node) is not Effect.NONE:
        return False
    try:
        return reader(node, loose, Builder(draft, node)).type == node.results[0].type
    except InvalidGraph:
        return False


def reader(node: Node, operands: Mapping[str, Value], build: Builder) -> Value:
    """What a node makes of other operands, by the names of those that they stand for."""
    values = dict(operands)
    args = [replace_values(arg, values) for arg in node.args]
    kwargs = {name: replace_values(arg, values) for name, arg in node.kwargs}
    return build(node.op, *args, **kwargs)
