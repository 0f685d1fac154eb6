"""What an optimisation found and did, as data, JSON and text."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from graphopt.analysis.cost import Cost, graph_cost, node_cost
from graphopt.analysis.sizes import Sizes
from graphopt.analysis.stages import stages
from graphopt.ir.graph import Graph, Kept, Node
from graphopt.ir.text import print_node
from graphopt.latency import Measured
from graphopt.steps import Missed, RolledBack, Step

SCHEMA = 1


@dataclass(frozen=True)
class Size:
    """How big a call of a graph is: nodes (sub-graphs included), FLOPs, bytes moved; and how many values,
    of how many bytes, are kept from call to call."""

    nodes: int
    flops: int
    bytes: int
    kept: int = 0
    kept_bytes: int = 0

    @classmethod
    def of(cls, graph: Graph) -> "Size":
        """Counts what every call of a graph runs."""
        call = stages(graph).call
        cost = graph_cost(call)
        kept = [entry.value for entry in call.inputs if isinstance(entry.source, Kept)]
        return cls(call.size, cost.flops, cost.bytes, len(kept), sum(map(Sizes().bytes, kept)))


@dataclass(frozen=True)
class Report:
    """The result of one `optimize()`.

    `rolled_back` are steps that a check found guilty. `equivalent` is None where it was not checked.
    `unchecked` says what was not, and why; `notes` what else went otherwise than it should. `alternatives`
    are other graphs for some sizes: under which condition, and what they do. `accepted`
    tells whether `opt.module` runs the emitted graph: False brings the original back.
    """

    before: Size
    after: Size
    steps: tuple[Step, ...] = ()
    missed: tuple[Missed, ...] = ()
    rolled_back: tuple[RolledBack, ...] = ()
    evidence: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    difference: str = ""
    equivalent: bool | None = None
    accepted: bool = True
    passes: tuple[str, ...] = field(default=())
    timings: tuple[Measured, ...] = ()
    profile: str = ""
    alternatives: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The report as JSON, with its schema version under "schema"."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "passes": self.passes,
                "before": vars(self.before),
                "after": vars(self.after),
                "steps": [_step(step) for step in self.steps],
                "missed": [
                    {"pass": m.pass_name, "node": m.node.name, "op": m.node.op, "why_not": m.why_not,
                     "origins": _origins(m.node)}
                    for m in self.missed
                ],
                "rolled_back": [_step(one.step) | {"reason": one.reason} for one in self.rolled_back],
                "evidence": self.evidence,
                "unchecked": self.unchecked,
                "alternatives": self.alternatives,
                "notes": self.notes,
                "difference": self.difference,
                "equivalent": self.equivalent,
                "accepted": self.accepted,
                "profile": self.profile,
                "timings": [one.to_dict() for one in self.timings],
            },
            indent=2,
        )  # fmt: skip

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            f"{self.before.nodes} → {self.after.nodes} nodes, "
            f"{_giga(self.before.flops)} → {_giga(self.after.flops)} GFLOPs, "
            f"{_mega(self.before.bytes)} → {_mega(self.after.bytes)} MB moved"
        )
        free = []
        for found in self.by_line():
            if found.cost == Cost():
                free.append(found)
            else:
                yield found.text()
        if free:
            nodes = sum(len(found.nodes) for found in free)
            yield f"and {nodes} nodes that cost next to nothing, such as views, at {len(free)} source lines"
        if self.after.kept:
            yield (
                f"{self.after.kept} values that hold {_mega(self.after.kept_bytes)} MB are kept from call to"
                " call; a saved program has them stored and does not follow their sources"
            )
        yield from (f"another graph {one}" for one in self.alternatives)
        yield from self._noted()
        yield from self.proof()

    def findings(self) -> Iterator[str]:
        """Lines of text: what is redundant, by source line, and the near misses."""
        found = self.by_line()
        yield from (one.text() for one in found)
        if not found:
            yield "nothing redundant was found"
        for missed in self.missed:
            origin = missed.node.origins[0] if missed.node.origins else None
            where = f"{origin.file}:{origin.line}  {origin.text}" if origin else missed.node.name
            yield f"near miss: {where}\n    {missed.node.op}: {missed.why_not} ({missed.pass_name})"
        yield from self._noted()

    def _noted(self) -> Iterator[str]:
        return (f"note: {note}" for note in self.notes)

    def proof(self) -> Iterator[str]:
        """Lines of text: the verdict, what was checked, and what was not."""
        checked = {None: "not checked", True: "yes", False: "NO"}[self.equivalent]
        yield f"equivalent: {checked}; accepted: {'yes' if self.accepted else 'no, the original runs'}"
        for one in self.rolled_back:
            yield f"  step of {one.step.pass_name} at {one.step.site.node}: {one.reason}"
        for measured in self.timings:
            left = measured.timing is not None and measured.timing.slower
            yield f"  {measured}{': the original runs' if left else ''}"
        if self.difference:
            yield f"  differs: {self.difference}"
        agreed: dict[str, list[str]] = {}
        for line in self.evidence:
            check, _, what = line.partition(": ")
            agreed.setdefault(what or line, []).append(check)
        for what, checks in agreed.items():
            yield f"  {what}: on {', '.join(checks)}"
        for line in self.unchecked:
            yield f"  not checked: {line}"

    def by_line(self) -> "list[Finding]":
        """The nodes that no call runs any more, by source line and reason, the largest saving first."""
        groups: dict[tuple[str, int, str], Finding] = {}
        added = {node.name for step in self.steps for node in step.added}
        for step in self.steps:
            saved = [node for node in step.saved if node.name not in added]
            dearest = max(saved, key=lambda node: node_cost(node).bytes, default=None)
            for node in saved:
                origin = node.origins[0] if node.origins else None
                file, line, text = (origin.file, origin.line, origin.text) if origin else ("", 0, "")
                key = file, line, step.finding
                found = groups.setdefault(key, Finding(file, line, text, step.finding))
                found.nodes.append(node)
                if node is dearest and not step.redone:
                    found.instead.extend(step.added)
                if node is dearest and step.identity:
                    found.identities.append(step.identity)
        return sorted(groups.values(), key=lambda f: (-f.cost.bytes - f.cost.flops, f.file, f.line))


@dataclass
class Finding:
    """What was found at one source line."""

    file: str
    line: int
    source: str
    reason: str
    nodes: list[Node] = field(default_factory=list)
    instead: list[Node] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)

    @property
    def cost(self) -> Cost:
        """What the removed nodes cost together, less what took their place."""
        gone, new = (sum(map(node_cost, nodes), Cost()) for nodes in (self.nodes, self.instead))
        return Cost(max(gone.flops - new.flops, 0), max(gone.bytes - new.bytes, 0))

    def text(self) -> str:
        """Lines: where, what, and by which identities."""
        operators = ", ".join(dict.fromkeys(node.op for node in self.nodes))
        where = f"{self.file}:{self.line}" if self.file else "(no source line)"
        modules = {origin.module for node in self.nodes for origin in node.origins[:1]}
        place = next(iter(modules)) if len(modules) == 1 else f"{len(modules)} modules"
        saving = f"{_giga(self.cost.flops)} GFLOPs, {_mega(self.cost.bytes)} MB"
        return "\n    ".join(
            (
                f"{where}  {self.source}",
                f"{len(self.nodes)} × {self.reason} ({operators}) in {place or 'the model'}: saves {saving}",
                *dict.fromkeys(self.identities),
            )
        )


def _step(step: Step) -> dict[str, object]:
    return {
        "number": step.number,
        "pass": step.pass_name,
        "claim": step.claim.value,
        "finding": step.finding,
        "why": step.why,
        "removed": [{"text": print_node(node), "origins": _origins(node)} for node in step.removed],
        "added": [print_node(node) for node in step.added],
        "kept": [value.name for value in step.kept],
        "spared": [print_node(node) for node in step.spared],
        "replaced": {old.name: new.name for old, new in step.replaced},
        "evidence": step.evidence,
        "identity": step.identity,
    }


def _origins(node: Node) -> list[dict[str, object]]:
    return [{"file": o.file, "line": o.line, "text": o.text, "module": o.module} for o in node.origins]


def _giga(count: int) -> str:
    return f"{count / 1e9:.4g}"


def _mega(count: int) -> str:
    return f"{count / 1e6:.4g}"
