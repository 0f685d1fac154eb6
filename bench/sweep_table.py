"""The sweep's rows and how they read as Markdown: a summary, one table, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Environment:
    """Where and how the sweep ran."""

    command: str
    date: str
    python: str
    torch: str
    transformers: str
    torch_geometric: str
    peft: str
    machine: str
    cores: int
    threads: int


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


def _table_line(row: Row, passes: list[str]) -> str:
    if row.failure or row.exports is None:
        cells = [row.failure or "nothing", *[""] * (1 + 2 * len(passes))]
    else:
        best = row.exports.best()
        differs = " (differs)" if best.differences else ""
        cells = [_export_cell(row.exports) + differs, str(best.nodes or "")]
        for name in passes:
            result = row.results[name] if row.results else Equivalence()
            nodes = "" if result.nodes_after is None else str(result.nodes_after)
            cells += [nodes, _result_cell(result)]
    return f"| {row.name} | {row.family} | " + " | ".join(cells) + " |"


def _bullets(title: str, lines: list[str]) -> list[str]:
    return ["", f"## {title}", "", *[f"- {line}" for line in lines]] if lines else []


def _code(text: str) -> str:
    return "`" + text.replace("`", "'").replace("|", "/") + "`"


def _export_reasons(row: Row) -> list[str]:
    """Why torch.export refuses a row, however it is asked; in eval mode, else in train mode."""
    assert row.exports is not None
    best = row.exports.best()
    if not best.accepted:
        last = row.exports.registered or best
        return [f"{row.name}: {_code(last.reason)}"]
    if not row.exports.train.accepted:
        return [f"{row.name}, train mode alone: {_code(row.exports.train.reason)}"]
    return []


def _export_differences(name: str, mode: str, export: Export) -> list[str]:
    return [f"{name}, {mode}, {kind}: {_code(d)}" for kind, d in export.differences.items()]


def _graphopt_problems(row: Row) -> tuple[list[str], list[str]]:
    """(differences, refusals and crashes) of one row, a line each."""
    wrong: list[str] = []
    refused: list[str] = []
    for passes, result in (row.results or {}).items():
        wrong += [f"{row.name}, {passes}, {k}: {_code(d)}" for k, d in result.wrong().items()]
        if result.status != "ok":
            refused.append(f"{row.name}, {passes}: {result.status}: {_code(result.reason)}")
        if result.train_status != "ok":
            reason = _code(result.train_reason)
            refused.append(f"{row.name}, {passes}, train: {result.train_status}: {reason}")
    return wrong, refused


def _count_results(rows: list[Row], passes: str) -> list[str]:
    results = [row.results[passes] for row in rows if row.results]
    status = Counter(result.status for result in results)
    train = Counter(result.train_status for result in results)
    calls = [check for result in results for check in result.checks.values() if check.ran]
    wrong = sum(bool(result.wrong()) for result in results)
    graph = sum(check.ran == "graph" for check in calls)
    seconds = sorted(result.capture_seconds for result in results if result.status == "ok")
    median = f"{seconds[len(seconds) // 2]:.2f} s" if seconds else "none"
    exported = [row for row in rows if row.exports and row.exports.best().accepted and row.results]
    through = sum(row.results[passes].status == "ok" for row in exported if row.results)
    return [
        f"- passes {passes}: of {len(exported)} that torch.export takes, {through} go through; "
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
        f"Made by `{e.command}` on {e.date}: Python {e.python}, torch {e.torch}, transformers "
        f"{e.transformers}, torch_geometric {e.torch_geometric}, peft {e.peft}; {e.machine}, "
        f"{e.cores} cores, {e.threads} thread.",
        "",
        "*same*: outputs, dtypes, strides, sharing, inputs after the call, gradients, buffers and "
        "random state are eager's, bit for bit, on every call of `bench/equivalence.py`. "
        "*original ran*: right, but by the original model where the graph should have served.",
        "",
        *_summary(rows),
        "",
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
        *[_table_line(row, passes) for row in rows],
    ]
    done = [row for row in rows if row.exports]
    problems = [_graphopt_problems(row) for row in done]
    page += _bullets("Differences", [line for wrong, _ in problems for line in wrong])
    page += _bullets("Refusals and crashes", [line for _, refused in problems for line in refused])
    page += _bullets(
        "What torch.export refuses", [line for row in done for line in _export_reasons(row)]
    )
    differing = [
        line
        for row in done
        if row.exports
        for mode, export in (("eval", row.exports.best()), ("train", row.exports.train))
        for line in _export_differences(row.name, mode, export)
    ]
    page += _bullets("Where torch.export's own program differs from eager", differing)
    return "\n".join(page) + "\n"
