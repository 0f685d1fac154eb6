"""The sweep's rows and how they read as Markdown: a summary, one table, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench.apart import Environment
from bench.equivalence import Check, Equivalence
from bench.exportability import Export, Exportability


@dataclass
class Row:
    """What came of one architecture."""

    name: str
    family: str
    parameters: int = 0
    seconds: float = 0.0
    failure: str = ""
    """Why the process came back with nothing: its signal, its exception, or the time limit."""
    exports: Exportability | None = None
    results: dict[str, Equivalence] | None = None
    """By choice of passes; None where graphopt was left out."""


def parsed(row: dict[str, Any]) -> Row:
    """The row of its JSON."""

    def export(found: dict[str, Any] | None) -> Export | None:
        return None if found is None else Export(**found)

    def result(found: dict[str, Any]) -> Equivalence:
        return Equivalence(**{**found, "checks": {name: Check(**c) for name, c in found["checks"].items()}})

    exports, results = row["exports"], row["results"]
    return Row(**{
        **row,
        "exports": exports and Exportability(**{name: export(one) for name, one in exports.items()}),
        "results": results and {passes: result(one) for passes, one in results.items()},
    })  # fmt: skip


_IN_EVAL = ("example", "second", "gradients", "scaled weights", "loaded weights", "back to eval")
_IN_TRAIN = ("train", "train, second", "train, scaled")
"""Calls that the graph itself should serve; the others may be the original's."""


def _export_cell(exports: Exportability) -> str:
    names = {"plain": exports.plain, "with caches": exports.registered, "strict": exports.strict}
    return next((name for name, e in names.items() if e is not None and e.accepted), "no")


def _served(checks: dict[str, Check], names: Iterable[str]) -> bool:
    """Whether the graph, not the original, answered each of these calls."""
    return all(checks[name].ran != "original" for name in names if name in checks)


def _result_cell(result: Equivalence) -> str:
    """ "same", or what is not: refusals, wrong checks, and calls that fell back needlessly."""
    parts = [f"**{name}**" for name in result.wrong()]
    if result.status != "ok":
        parts.append(result.status)
    elif not _served(result.checks, _IN_EVAL):
        parts.append("original ran")
    if result.train_status != "ok":
        parts.append(f"train {result.train_status}")
    elif not _served(result.checks, _IN_TRAIN):
        parts.append("train: original ran")
    return ", ".join(parts) or "same"


def _node_cell(result: Equivalence) -> str:
    counted = result.nodes_after is not None
    return f"{result.nodes_before} → {result.nodes_after}" if counted else ""


def _table_line(row: Row, passes: list[str]) -> str:
    if row.failure or row.exports is None:
        cells = [row.failure or "nothing", *[""] * (1 + 2 * len(passes))]
    else:
        best = row.exports.best()
        differs = " (differs)" if best.differences else ""
        cells = [_export_cell(row.exports) + differs, str(best.nodes or "")]
        for name in passes:
            result = row.results[name] if row.results else Equivalence()
            cells += [_node_cell(result), _result_cell(result)]
    return f"| {row.name} | {row.family} | " + " | ".join(cells) + " |"


@dataclass(frozen=True)
class Finding:
    """Something to read about one architecture: where it showed, and what it was."""

    name: str
    where: str
    message: str


def _section(title: str, findings: list[Finding]) -> list[str]:
    """A heading and one line for each message, with all the places it was seen in."""
    places: dict[str, dict[str, list[str]]] = {}
    for finding in findings:
        at = places.setdefault(finding.message, {}).setdefault(finding.name, [])
        at.append(finding.where)
    lines: list[str] = []
    for message, names in places.items():
        seen = "; ".join(f"{name} ({', '.join(where)})" for name, where in names.items())
        code = message.replace("`", "'").replace("|", "/")
        lines.append(f"- {seen}: `{code}`")
    return ["", f"## {title}", "", *lines] if lines else []


def _export_refusals(row: Row, exports: Exportability) -> list[Finding]:
    """Why torch.export refuses a row however it is asked, in eval and in train mode."""
    best = exports.best()
    last = exports.registered or best
    refused = [] if best.accepted else [Finding(row.name, "eval", last.reason)]
    if not exports.train.accepted:
        refused.append(Finding(row.name, "train", exports.train.reason))
    return refused


def _export_differences(row: Row, exports: Exportability) -> list[Finding]:
    modes = {"eval": exports.best(), "train": exports.train}
    return [
        Finding(row.name, f"{mode} {kind}", difference)
        for mode, export in modes.items()
        for kind, difference in export.differences.items()
    ]


def _differences(row: Row) -> list[Finding]:
    return [
        Finding(row.name, f"{passes}: {kind}", difference)
        for passes, result in (row.results or {}).items()
        for kind, difference in result.wrong().items()
    ]


def _refusals(row: Row, status: str) -> list[Finding]:
    found: list[Finding] = []
    for passes, result in (row.results or {}).items():
        if result.status == status:
            found.append(Finding(row.name, f"{passes} eval", result.reason))
        if result.train_status == status:
            found.append(Finding(row.name, f"{passes} train", result.train_reason))
    return found


def _count_results(rows: list[Row], passes: str) -> list[str]:
    results = [row.results[passes] for row in rows if row.results]
    status = Counter(result.status for result in results)
    train = Counter(result.train_status for result in results)
    calls = [check for result in results for check in result.checks.values() if check.ran]
    wrong = sum(bool(result.wrong()) for result in results)
    graph = sum(check.ran == "graph" for check in calls)
    seconds = sorted(result.capture_seconds for result in results if result.status == "ok")
    median = f"{seconds[len(seconds) // 2]:.2f} s" if seconds else "none"
    both = [(row.exports, row.results[passes]) for row in rows if row.exports and row.results]
    in_eval = [result.status == "ok" for exports, result in both if exports.best().accepted]
    in_train = [result.train_status == "ok" for exports, result in both if exports.train.accepted]
    return [
        f"- passes {passes}: of {len(in_eval)} that torch.export takes, {sum(in_eval)} go through, "
        f"in train mode {sum(in_train)} of {len(in_train)}; "
        f"eval {dict(status)}, train {dict(train)}; **{wrong} architectures with a difference**; "
        f"the graph served {graph} of {len(calls)} calls; `optimize` takes {median} (median)"
    ]


def _summary(rows: list[Row]) -> list[str]:
    exports = [row.exports for row in rows if row.exports]
    ways = Counter(_export_cell(e) for e in exports)
    differ = sum(bool(e.best().differences) for e in exports)
    train = sum(e.train.accepted for e in exports)
    lines = [
        f"- {len(rows)} architectures in {len({row.family for row in rows})} families; "
        f"{sum(bool(row.failure) for row in rows)} gave no answer",
        f"- torch.export takes {ways['plain']} as they are, {ways['with caches']} more with "
        f"transformers' caches registered, {ways['strict']} more with Dynamo, "
        f"{ways['no']} not at all; {train} in train mode",
        f"- the program of torch.export itself differs from eager in {differ}",
    ]
    names = next((list(row.results) for row in rows if row.results), [])
    return lines + [line for name in names for line in _count_results(rows, name)]


def markdown(rows: list[Row], environment: Environment) -> str:
    """The whole page."""
    passes = next((list(row.results) for row in rows if row.results), [])
    header = ["architecture", "family", "torch.export", "its nodes"]
    header += [title for name in passes for title in (f"nodes, {name}", f"passes: {name}")]
    e = environment
    page = [
        "# Architectures",
        "",
        f"Made by `{e.command}` on {e.date} at commit {e.commit or '(none)'}: Python {e.python}, "
        f"torch {e.torch}, transformers {e.transformers}, torch_geometric {e.torch_geometric}, "
        f"peft {e.peft}; {e.machine}, "
        f"{e.cores} cores, {e.threads} thread.",
        "",
        "*same*: outputs, dtypes, strides, sharing, inputs after the call, gradients, buffers and "
        "random state are eager's, bit for bit (without gradients, where a step says that it rounds "
        "otherwise, to 1e-4 of the largest element), on every call of `bench/equivalence.py`. "
        "*original ran*: right, but by the original model where the graph should have served.",
        "",
        *_summary(rows),
        "",
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
        *[_table_line(row, passes) for row in rows],
    ]
    exported = [(row, row.exports) for row in rows if row.exports]
    sections = {
        "Differences": [f for row in rows for f in _differences(row)],
        "Crashes": [f for row in rows for f in _refusals(row, "crash")],
        "Refusals": [f for row in rows for f in _refusals(row, "unsupported")],
        "What torch.export refuses": [f for pair in exported for f in _export_refusals(*pair)],
        "Where torch.export's own program differs from eager": [
            f for pair in exported for f in _export_differences(*pair)
        ],
    }
    for title, findings in sections.items():
        page += _section(title, findings)
    return "\n".join(page) + "\n"
