"""`Draft`: the only way to edit a graph. Every edit is a numbered step that says why."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from graphopt.analysis.costs import Costs
from graphopt.analysis.geometry import Views
from graphopt.analysis.gradients import differentiable
from graphopt.analysis.memory import Memory
from graphopt.analysis.objects import Objects
from graphopt.analysis.substitution import Substitution
from graphopt.errors import InvalidGraph, PassError
from graphopt.ir.graph import Arg, Graph, Node, Value
from graphopt.ir.types import Type
from graphopt.steps import Claim, Missed, Site, Step, applied, standing_for

_Analysis = TypeVar("_Analysis")

# How many nodes passes may make of a graph: this many for each that it had, and some. The weight for a
# convolution and its norm takes 18 nodes, most of which no call runs.
_GROWTH, _SOME = 16, 1_000


class Draft:
    """A graph under edit by one pass at a time.

    `graph` is the graph as the current pass found it; edits show in the next pass's graph. With
    `gradients`, the result must give the same bits of every gradient too. `denied` sites are left as
    they are, and after `limit` steps everything is. An edit that is turned down returns False; one that
    makes the graph larger than any rewrite should raises PassError. `costs` tells what a node costs on the
    machine at hand.
    """

    def __init__(
        self,
        graph: Graph,
        gradients: bool = False,
        *,
        denied: Mapping[Site, str] | None = None,
        limit: int | None = None,
        costs: Costs | None = None,
    ) -> None:
        self.graph = graph
        self.gradients = gradients
        self.costs = costs or Costs()
        self.steps: list[Step] = []
        self.missed: list[Missed] = []
        self._denied = denied or {}
        self._limit = limit
        self._size = graph.size
        self._most = _GROWTH * self._size + _SOME
        self._quiet: dict[str, tuple[Graph, list[Missed]]] = {}  # where a pass last found nothing
        self.begin("", Claim.BITWISE, "")
        self._names = {node.name for node in graph.nodes}
        self._names.update(entry.value.name for entry in graph.inputs)
        self._names.update(value.name for node in graph.nodes for value in node.results)
        self._start()

    def _start(self) -> None:
        self._first = len(self.steps)
        self._values: dict[str, Value] = {}
        self._stands_for: dict[str, list[str]] = {}
        self._new_uses: dict[str, list[Node]] = {}
        self._removed: set[str] = set()
        self._position: dict[str, float] = {}
        self._made_at = {entry.value.name: -1.0 for entry in self.graph.inputs}
        for i, node in enumerate(self.graph.nodes):
            self._position[node.name] = i
            for value in node.results:
                self._made_at[value.name] = i

    def beside(self, graph: Graph | None = None) -> "Draft":
        """A draft of its own on the same graph, or on another whose names these are, to try what may be taken
        or not: its edits show nowhere else, and the names that it gives out are taken here, too."""
        other = Draft(graph or self.graph, self.gradients, denied=self._denied, costs=self.costs)
        other.begin(self._pass_name, self._claim, self._finding)
        other._names = self._names
        return other

    def begin(self, pass_name: str, claim: Claim, finding: str) -> None:
        """Names the pass that the following steps belong to."""
        self._pass_name, self._claim, self._finding = pass_name, claim, finding

    def analysis(self, kind: Callable[[Graph], _Analysis]) -> _Analysis:
        """A pure function of `graph`, computed once for a graph."""
        return self.graph.analysis(kind)

    def substitution(self) -> Substitution:
        """What stands against letting values take the place of others, in `graph`."""
        through = self.analysis(differentiable) if self.gradients else frozenset()
        found = self.analysis(Memory), self.analysis(Views), self.analysis(Objects)
        return Substitution(self.graph, *found, through, self.resolve)

    def live(self, node: Node) -> bool:
        """Whether the node still stands."""
        return node.name not in self._removed

    def resolve(self, value: Value) -> Value:
        """The value that stands for a value after the edits so far."""
        return standing_for(self._values, value)

    def node(
        self,
        op: str,
        args: Sequence[Arg],
        types: Type | Sequence[Type],
        *,
        kwargs: Mapping[str, Arg] | None = None,
        like: Node,
    ) -> Node:
        """A new node to be handed to `replace`, with `like`'s origins and a name after it.

        types: that of its result, or a list of types where the operator returns a sequence.
        """
        many = not isinstance(types, Type)
        name = self.fresh(like.name)
        kinds: Sequence[Type] = types if many else (types,)  # type: ignore[assignment]
        results = tuple(Value(f"{name}_{i}" if many else name, kind) for i, kind in enumerate(kinds))
        given = tuple((kwargs or {}).items())
        return Node(name, op, tuple(args), given, results, many, like.origins)

    def fresh(self, base: str) -> str:
        """A name like `base` that nothing in the graph has."""
        number = 1
        while f"{base}_{number}" in self._names:
            number += 1
        name = f"{base}_{number}"
        self._names.add(name)
        return name

    def replace(
        self,
        node: Node,
        values: Sequence[Value],
        why: str,
        *,
        added: Sequence[Node] = (),
        absorbed: Sequence[Node] = (),
        redone: Sequence[Node] = (),
        kept: Sequence[Value] = (),
        evidence: str = "",
        identity: str = "",
    ) -> bool:
        """Removes a node; `values` take the place of its results. They are inputs, or made by nodes
        before it, or by `added` ones, which come to stand where it stood. `absorbed` nodes are removed
        with it, for nothing else reads them; of all these, the added nodes do again what the `redone` did.
        `kept` ones of the values that the added nodes make are kept from call to call. `identity` is what
        the edit applies, as a person would write it.

        Returns whether the edit was taken. Raises InvalidGraph, naming the node, where the values have
        other types, something is used before it is made, or something standing reads what is absorbed.
        """
        if not self._takes(node):
            return False
        where = f"node {node.name} ({node.op})"
        new = tuple(self.resolve(value) for value in values)
        if [value.type for value in node.results] != [value.type for value in new]:
            raise InvalidGraph("its results are replaced by values of other types", where=where)
        self._check_live((node, *absorbed))
        position = self._position[node.name]
        for one in added:
            self._check_made([self.resolve(v) for v in one.operands], position, f"{one.name} ({one.op})")
            self._made_at.update((value.name, position - 0.5) for value in one.results)
            for value in one.operands:
                self._new_uses.setdefault(self.resolve(value).name, []).append(one)
            self._position[one.name] = position - 0.5
        self._check_made(new, position, where)
        pairs = tuple(zip(node.results, new, strict=True))
        for old, replacement in pairs:
            self._values[old.name] = replacement
            self._stands_for.setdefault(replacement.name, []).append(old.name)
        delta = {
            "added": tuple(added),
            "redone": tuple(redone),
            "kept": tuple(kept),
            "replaced": pairs,
            "identity": identity,
        }
        self._take((*absorbed, node), node, why, evidence, **delta)
        self._check_unread(absorbed)
        return True

    def merge(self, node: Node, into: Node, why: str, evidence: str = "") -> bool:
        """Removes a node and lets the results of another, before it, take the place of its own."""
        if node.many != into.many:
            raise InvalidGraph("one returns a sequence", where=f"nodes {node.name} and {into.name}")
        return self.replace(node, into.results, why, evidence=evidence)

    def remove(self, node: Node, why: str, evidence: str = "") -> bool:
        """Removes a node whose results nothing reads any more. Returns whether the edit was taken.
        Raises InvalidGraph where a standing node, or an output, reads one, or it was removed before."""
        if not self._takes(node):
            return False
        self._check_live((node,))
        self._check_unread((node,))
        self._take((node,), node, why, evidence)
        return True

    def keep(self, value: Value, spared: Sequence[Node], why: str, evidence: str = "") -> bool:
        """Keeps a node's result from call to call; because of it the `spared` nodes, which made it, need
        not run again. Returns whether the edit was taken. Raises InvalidGraph for an input."""
        node = self.graph.producer.get(value.name)
        if node is None:
            raise InvalidGraph("an input is kept", where=f"%{value.name}")
        if not self._takes(node):
            return False
        self._take((), node, why, evidence, kept=(value,), spared=tuple(spared))
        return True

    def _check_live(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if not self.live(node):
                raise InvalidGraph("it was removed before", where=f"node {node.name} ({node.op})")

    def _check_unread(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            for reader in filter(None, (self._reader(value.name) for value in node.results)):
                raise InvalidGraph(f"{reader} reads it", where=f"node {node.name} ({node.op})")

    def _reader(self, name: str) -> str | None:
        """What reads a value, or one whose place it took."""
        if name in self.graph.returned:
            return "the output"
        users: list[Node] = [*self.graph.uses.get(name, ()), *self._new_uses.get(name, ())]
        for user in users:
            if self.live(user):
                return user.name
        for other in self._stands_for.get(name, ()):
            if (reader := self._reader(other)) is not None:
                return reader
        return None

    def has_room(self, added: Sequence[Node]) -> bool:
        """Whether the graph may grow by some nodes."""
        return self._size + sum(node.size for node in added) <= self._most

    def miss(self, node: Node, why_not: str) -> None:
        """Records a near miss."""
        self.missed.append(Missed(self._pass_name, node, why_not))

    def finish(self) -> Graph:
        """Makes the edits of this pass into a graph, checks it whole, and starts afresh on it."""
        if len(self.steps) > self._first:
            self.graph = applied(self.graph, self.steps[self._first :])
            self._start()
            self._quiet.pop(self._pass_name, None)
        else:
            missed = [one for one in self.missed if one.pass_name == self._pass_name]
            self._quiet[self._pass_name] = self.graph, missed
        return self.graph

    def is_settled(self, matters: Callable[[Value], bool]) -> bool:
        """Whether the current pass found nothing the last time, and none of the values that matter is made or
        read by other nodes since. Then what it missed it misses still."""
        if self._pass_name not in self._quiet:
            return False
        last, missed = self._quiet[self._pass_name]
        before = {id(node): node for node in last.nodes}
        changed = [node for node in self.graph.nodes if before.pop(id(node), None) is None]
        nodes = (*changed, *before.values())
        if any(matters(value) for node in nodes for value in (*node.operands, *node.results)):
            return False
        self.missed += missed
        return True

    def denial(self, node: Node) -> str | None:
        """Why the current pass must leave a node as it is; None where it need not."""
        return self._denied.get(Site(self._pass_name, node.name))

    def _takes(self, node: Node) -> bool:
        reason = self.denial(node)
        if reason is not None:
            self.miss(node, reason)
        return reason is None and (self._limit is None or len(self.steps) < self._limit)

    def _check_made(self, values: Iterable[Value], position: float, where: str) -> None:
        for value in values:
            if self._made_at.get(value.name, position) >= position:
                raise InvalidGraph(f"%{value.name} is used before it is made", where=where)

    def _take(
        self,
        removed: tuple[Node, ...],
        at: Node,
        why: str,
        evidence: str,
        **delta: Any,
    ) -> None:
        added: tuple[Node, ...] = delta.get("added", ())
        self._size += sum(node.size for node in added) - sum(node.size for node in removed)
        if self._size > self._most:
            raise PassError(f"it makes more than {self._most} nodes of the graph", where=f"node {at.name}")
        self._removed.update(node.name for node in removed)
        number, site = len(self.steps) + 1, Site(self._pass_name, at.name)
        step = Step(number, site, self._claim, self._finding, why, removed, evidence=evidence, **delta)
        self.steps.append(step)
