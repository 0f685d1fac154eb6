"""Is any model slower through `opt.module` than eager? Every architecture of the catalogue, timed.

    python -m bench.zoo [--only PATTERN ...] [--family NAME ...] [--limit N] [--again]
                        [--json PATH] [--markdown PATH]

Each model is optimised as users do (verified and measured, so that a graph that is slower would give way
to the original), then eager and `opt.module` are called in interleaved pairs: without gradients, one
thread, thread CPU time. A batch is `BATCH` times that of the correctness sweep where the model takes it:
calls of about a millisecond, in which whatever a call through graphopt costs besides shows. What comes out
slower is timed once more, in a process of its own.

A row is written as soon as it is there; what the JSON file has already is not timed again, but for what
`--only` or `--again` names.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

import graphopt
from bench.apart import Environment, environment, prepare, run_apart
from bench.architectures import CATALOGUE, Architecture, Inputs
from graphopt.latency import THREAD, compare
from graphopt.measuring import calling
from graphopt.module import serving_of

BATCH = 4
BAR = 1.02
"""No model may be slower than so many times eager."""
_BUDGET = 4.0  # seconds for the comparison, and as many for verification
_RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """What came of one architecture. `ratio` is eager ÷ `opt.module`, with its 95 % interval; seconds are
    of one call."""

    name: str
    family: str
    status: str = "ok"
    """"ok", "unsupported", or why there is no answer."""
    batch: int = 0
    eager_seconds: float = 0.0
    seconds: float = 0.0
    ratio: float = 0.0
    low: float = 0.0
    high: float = 0.0
    slower: bool = False
    served: str = ""
    """"graph"; or "original", where timing brought it back; or why a guard did."""
    nodes: tuple[int, int] = (0, 0)
    kept_bytes: int = 0
    commit: str = ""

    @property
    def is_above_the_bar(self) -> bool:
        """Whether it is slower than it may be, beyond noise."""
        return self.status == "ok" and self.slower and self.high < 1 / BAR


def measure(architecture: Architecture, budget_s: float) -> Row:
    """The work of one process."""
    row = Row(architecture.name, architecture.family)
    model = architecture.build()
    row.batch, (args, kwargs) = _inputs(architecture, model)
    with torch.no_grad():
        try:
            opt = graphopt.optimize(model, args, kwargs, time_budget_s=_BUDGET)
        except graphopt.Unsupported:
            row.status = "unsupported"
            return row
        serving = serving_of(opt.module)
        program = serving.newest.program
        first, second = (calling(one, program, model, args, kwargs) for one in (model, opt.module))
        timing = compare(first, second, budget_s=budget_s, clock=THREAD, threads=1)
        row.served = "graph" if serving.variants and not serving.policy.left else "original"
        if row.served == "graph":
            row.served = serving.violation(args, kwargs) or "graph"
    row.eager_seconds, row.seconds = timing.seconds_before, timing.seconds_after
    row.ratio, row.low, row.high, row.slower = timing.ratio, timing.low, timing.high, timing.slower
    assert opt.report is not None
    row.nodes = opt.report.before.nodes, opt.report.after.nodes
    row.kept_bytes = opt.report.after.kept_bytes
    return row


def _inputs(architecture: Architecture, model: torch.nn.Module) -> tuple[int, Inputs]:
    """The larger batch where the model takes it, and its inputs."""
    batch, length = architecture.example
    try:
        inputs = architecture.inputs(0, BATCH * batch, length)
        with torch.no_grad():
            model(*inputs[0], **inputs[1])
        return BATCH * batch, architecture.inputs(0, BATCH * batch, length)
    except Exception:
        return batch, architecture.example_inputs()


def timed(architecture: Architecture, limit: float) -> Row:
    """The row of an architecture; where it comes out slower, that of a second, longer look."""
    row = _apart(partial(measure, architecture, _BUDGET), architecture, limit)
    return _apart(partial(measure, architecture, 3 * _BUDGET), architecture, limit) if row.slower else row


def _apart(work: Callable[[], Row], architecture: Architecture, limit: float) -> Row:
    answer = run_apart(work, limit)
    return answer.value or Row(architecture.name, architecture.family, status=answer.failure)


def markdown(rows: list[Row], where: Environment) -> str:
    """The summary and the table, slowest first."""
    ok = [row for row in rows if row.status == "ok"]
    above = [row for row in ok if row.is_above_the_bar]
    lines = [
        "# Is any model slower through `opt.module` than eager?",
        "",
        f"`{where.command}`, {where.date}, commit {where.commit}: torch {where.torch}, transformers "
        f"{where.transformers}, {where.machine}, {where.cores} cores, {where.threads} thread. Eager ÷ "
        "`opt.module`, without gradients, eval, float32, thread CPU time, interleaved pairs, 95 % interval.",
        "",
        f"{len(rows)} of {len(CATALOGUE)} architectures so far, of which {len(ok)} timed. Slower than "
        f"{BAR} × eager beyond noise: {len(above)}{_named(above)}. The original runs, since it is faster: "
        f"{sum(row.served == 'original' for row in ok)}. By a broken guard: "
        f"{sum(row.served not in ('graph', 'original') for row in ok)}.",
        "",
    ]
    if ok:
        ratios = sorted(row.ratio for row in ok)
        lines += [
            f"Ratios: the smallest {ratios[0]:.3f}, median {statistics.median(ratios):.3f}, geometric mean "
            f"{statistics.geometric_mean(ratios):.3f}, the largest {ratios[-1]:.2f}; beyond noise faster: "
            f"{sum(row.low > 1.01 for row in ok)}, slower (by more than 1 %): {sum(r.slower for r in ok)}.",
            "",
        ]
    lines += ["| model | family | batch | eager ms | eager ÷ graphopt | 95 % | nodes | runs |",
              "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in sorted(ok, key=lambda row: row.ratio):
        lines.append(
            f"| {row.name} | {row.family} | {row.batch} | {row.eager_seconds * 1e3:.2f} | {row.ratio:.3f} | "
            f"{row.low:.3f} to {row.high:.3f} | {row.nodes[0]} → {row.nodes[1]} | {row.served} |"
        )
    others = [f"{row.name} ({row.status})" for row in rows if row.status != "ok"]
    if others:
        lines += ["", "Not timed: " + ", ".join(others) + "."]
    return "\n".join(lines) + "\n"


def _named(rows: list[Row]) -> str:
    return f" ({', '.join(row.name for row in rows)})" if rows else ""


def _known(path: Path) -> dict[str, Row]:
    if not path.exists():
        return {}
    names = {field.name for field in fields(Row)}
    rows = (
        Row(**{k: v for k, v in row.items() if k in names}) for row in json.loads(path.read_text())["rows"]
    )
    return {row.name: row for row in rows}


def _is_known(name: str, rows: dict[str, Row]) -> bool:
    return name in rows and rows[name].status in ("ok", "unsupported")


def _write(rows: Iterable[Row], where: Environment, options: argparse.Namespace) -> None:
    ordered = list(rows)
    report: dict[str, Any] = {"schema": 1, "environment": asdict(where), "rows": [asdict(r) for r in ordered]}
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    options.markdown.write_text(markdown(ordered, where))


def main() -> None:
    """Times the chosen architectures one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="name or pattern (llama*); repeatable")
    parser.add_argument("--family", action="append", help="a family, e.g. vision; repeatable")
    parser.add_argument("--limit", type=int, help="how many to time in this run")
    parser.add_argument("--again", action="store_true", help="those that were timed already, too")
    parser.add_argument("--seconds", type=float, default=180.0, help="limit for one architecture")
    parser.add_argument("--json", type=Path, default=_RESULTS / "zoo.json")
    parser.add_argument("--markdown", type=Path, default=_RESULTS / "zoo.md")
    options = parser.parse_args()
    rows = _known(options.json)
    chosen = [
        one
        for one in CATALOGUE.values()
        if (not options.only or any(fnmatch.fnmatch(one.name, pattern) for pattern in options.only))
        and (not options.family or one.family in options.family)
        and (options.again or options.only or not _is_known(one.name, rows))
    ][: options.limit]
    prepare()
    where = environment("bench.zoo")
    for number, architecture in enumerate(chosen, 1):
        began = time.monotonic()
        row = rows[architecture.name] = timed(architecture, options.seconds)
        row.commit = where.commit
        _write(rows.values(), where, options)
        took = time.monotonic() - began
        said = f"{row.ratio:.3f} ({row.served})" if row.status == "ok" else row.status
        mark = " SLOWER" if row.is_above_the_bar else ""
        print(f"{number}/{len(chosen)} {row.name} ({took:.1f} s): {said}{mark}", flush=True)


if __name__ == "__main__":
    main()
