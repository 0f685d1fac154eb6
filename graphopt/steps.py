"""What was done to a graph: numbered steps as deltas, and the graph after some of them."""

import enum
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from graphopt.ir.graph import Graph, Node, Value, replace_values


class Claim(enum.Enum):
    """What a pass promises of its result, from the strictest."""

    BITWISE = "bitwise"  # the same bits, special values included
    ROUNDING = "rounding"  # the same real function; rounding may move
    LOSSY = "lossy"  # within the caller's error budget


@dataclass(frozen=True, slots=True)
class Site:
    """Where a pass edits: the same in every run over the same graph, whatever happens elsewhere."""

    pass_name: str
    node: str


@dataclass(frozen=True, slots=True)
class Step:
    """One accepted edit, as a delta: `removed` nodes, `added` ones in front of `before` (the name of the
    node that made the replaced values), which value took the place of which, and values that are `kept`
    from call to call. `spared` nodes stand, and need not run on every call any more; what the `redone` of
    the removed ones did, the added ones do."""

    number: int
    site: Site
    claim: Claim
    finding: str  # the pass's word for all its edits: "computed again"
    why: str
    removed: tuple[Node, ...]
    added: tuple[Node, ...] = ()
    replaced: tuple[tuple[Value, Value], ...] = ()
    kept: tuple[Value, ...] = ()
    spared: tuple[Node, ...] = ()
    redone: tuple[Node, ...] = ()
    evidence: str = ""
    identity: str = ""  # of mathematics, where the edit applies one

    @property
    def saved(self) -> tuple[Node, ...]:
        """The nodes that a call has to run no more."""
        redone = {node.name for node in self.redone}
        return (*(node for node in self.removed if node.name not in redone), *self.spared)

    @property
    def pass_name(self) -> str:
        """The pass that made the edit."""
        return self.site.pass_name

    @property
    def before(self) -> str:
        """The node in front of which `added` stand."""
        return self.site.node


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A step that was undone, and what it had changed."""

    step: Step
    reason: str


@dataclass(frozen=True, slots=True)
class Missed:
    """A near miss: a node that a pass would have changed, and why it did not."""

    pass_name: str
    node: Node
    why_not: str


def applied(graph: Graph, steps: Iterable[Step], *, checked: bool = False) -> Graph:
    """The graph after some steps, in one sweep over its nodes. Raises InvalidGraph where they leave one
    that breaks an invariant, unless `checked` says that each has been checked."""
    removed: set[str] = set()
    added: dict[str, list[Node]] = {}
    values: dict[str, Value] = {}
    inherited: dict[str, list[Node]] = {}  # by value: the nodes whose place it took
    kept = [*graph.kept]
    for step in steps:
        kept.extend(value.name for value in step.kept)
        removed.update(node.name for node in step.removed)
        if step.added:
            added.setdefault(step.before, []).extend(step.added)
        values.update((old.name, new) for old, new in step.replaced)
        for _, new in step.replaced:
            inherited.setdefault(new.name, []).extend(step.removed)
    if not removed and len(kept) == len(graph.kept):
        return graph
    if not removed:
        chosen = {*kept}
        return graph.keeping(tuple(name for name in _made(graph.nodes) if name in chosen))
    final = {name: standing_for(values, value) for name, value in values.items()}
    for name, gone in [*inherited.items()]:
        if name in final:
            inherited.setdefault(final[name].name, []).extend(gone)

    nodes: list[Node] = []

    def place(node: Node) -> None:
        for new in added.get(node.name, ()):
            place(new)
        if node.name not in removed:
            nodes.append(_edited(node, final, inherited))

    for node in graph.nodes:
        place(node)
    outputs = tuple(replace_values(output, final) for output in graph.outputs)
    names = {final[name].name if name in final else name for name in kept}
    still = tuple(name for name in _made(nodes) if name in names)
    return replace(graph, nodes=tuple(nodes), outputs=outputs, kept=still, checked=checked)


def _made(nodes: Iterable[Node]) -> Iterator[str]:
    return (value.name for node in nodes for value in node.results)


def standing_for(values: Mapping[str, Value], value: Value) -> Value:
    """The value that stands for one, where `values` took the places of others, by name."""
    while value.name in values:
        value = values[value.name]
    return value


def _edited(node: Node, values: dict[str, Value], inherited: Mapping[str, list[Node]]) -> Node:
    origins, reads = node.origins, False
    for value in node.results:
        if value.name in inherited:
            others = (other.origins for other in inherited[value.name])
            origins = tuple(dict.fromkeys(itertools.chain(origins, *others)))
    for value in node.operands:
        if value.name in values:
            reads = True
    if origins == node.origins and not reads:
        return node
    return replace(
        node,
        args=tuple(replace_values(arg, values) for arg in node.args),
        kwargs=tuple((name, replace_values(arg, values)) for name, arg in node.kwargs),
        origins=origins,
    )
