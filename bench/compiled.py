"""Does the gain stay under torch.compile? `torch.compile(model)` against `torch.compile(opt.module)`.

    python -m bench.compiled [--only NAME ...] [--json PATH] [--markdown PATH]

The models of bench.gains, without gradients, one thread, inductor, fullgraph=True, each in a process of its
own: Dynamo reuses what it made of one model for its copies. Both are compiled by their first call, then
called in interleaved pairs; thread CPU time. A row tells, too, how many graphs Dynamo made of each (more
than one, or a break, would be a loss), and whether calls after the first compiled anything again.

A model that branches on values (`if mask.all():`) is the original to a compiler, which cannot choose by
values: that is told, too. The DeBERTas do so only for want of a mask (to warn of it), so they get one.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

import graphopt
from bench.apart import Environment, environment, prepare, run_apart
from bench.gains import CASES
from graphopt.latency import THREAD, compare
from graphopt.module import serving_of

_RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """One model. `ratio` is compiled original ÷ compiled `opt.module`, `eager_ratio` eager ÷ `opt.module`
    without a compiler; seconds are of one call, `compile_seconds` of each first one."""

    model: str
    status: str = "ok"
    served: str = "graph"
    eager_seconds: float = 0.0
    compiled_seconds: float = 0.0
    seconds: float = 0.0
    ratio: float = 0.0
    low: float = 0.0
    high: float = 0.0
    eager_ratio: float = 0.0
    graphs: tuple[int, int] = (0, 0)
    again: int = 0
    compile_seconds: tuple[float, float] = (0.0, 0.0)
    difference: float = 0.0
    """The largest of the results, relative to the largest value: compilers round otherwise."""


def measure(name: str) -> Row:
    """The work of one process."""
    torch.manual_seed(0)
    model, kwargs = CASES[name][0]()
    model.eval()
    row = Row(name)
    if name.startswith("DeBERTa"):
        kwargs["attention_mask"] = torch.ones_like(kwargs["input_ids"])
    opt = graphopt.optimize(model, (), kwargs, verify=False)
    if serving_of(opt.module).newest.program.conditions is not None:
        row.served = "original (branches on values)"
    with torch.no_grad():
        plain = compare(
            lambda: model(**kwargs), lambda: opt.module(**kwargs), budget_s=15, clock=THREAD, threads=1
        )
        row.eager_seconds, row.eager_ratio = plain.seconds_before, plain.ratio
        both = [torch.compile(one, fullgraph=True) for one in (model, opt.module)]
        graphs, seconds, results = [], [], []
        for one in both:
            before, began = _graphs(), time.perf_counter()
            results.append(one(**kwargs))
            seconds.append(time.perf_counter() - began)
            graphs.append(_graphs() - before)
        before = _graphs()
        first, second = both
        timing = compare(
            lambda: first(**kwargs), lambda: second(**kwargs), budget_s=40, clock=THREAD, threads=1
        )
        row.again = _graphs() - before
    row.compiled_seconds, row.seconds = timing.seconds_before, timing.seconds_after
    row.ratio, row.low, row.high = timing.ratio, timing.low, timing.high
    row.graphs, row.compile_seconds = (graphs[0], graphs[1]), (seconds[0], seconds[1])
    row.difference = _difference(*results)
    return row


def _graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _difference(expected: Any, found: Any) -> float:
    if isinstance(expected, torch.Tensor):
        return float((expected - found).abs().max() / expected.abs().max())
    shared = (key for key in expected if isinstance(expected[key], torch.Tensor))
    return max(_difference(expected[key], found[key]) for key in shared)


def markdown(rows: list[Row], where: Environment) -> str:
    """The table."""
    lines = [
        "# Does the gain stay under torch.compile?",
        "",
        f"`{where.command}`, {where.date}, commit {where.commit}: torch {where.torch}, transformers "
        f"{where.transformers}, {where.machine}, {where.threads} thread. Inductor, `fullgraph=True`, without "
        "gradients, thread CPU time, interleaved pairs, 95 % interval; sizes as in [gains](gains.md).",
        "",
        "| model | eager ms | compiled ms | compiled after graphopt ms | compiled ÷ after graphopt | 95 % | "
        "eager ÷ graphopt | graphs | compiled again | compile s | largest difference | compiled is |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.status != "ok":
            lines.append(f"| {row.model} | {row.status} |" + " |" * 10)
            continue
        cells = [
            row.model, f"{row.eager_seconds * 1e3:.2f}", f"{row.compiled_seconds * 1e3:.2f}",
            f"{row.seconds * 1e3:.2f}", f"{row.ratio:.2f}", f"{row.low:.2f} to {row.high:.2f}",
            f"{row.eager_ratio:.2f}", " and ".join(map(str, row.graphs)), str(row.again),
            " and ".join(f"{one:.0f}" for one in row.compile_seconds), f"{row.difference:.1e}", row.served,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _known(path: Path) -> dict[str, Row]:
    if not path.exists():
        return {}
    names = {field.name for field in fields(Row)}
    rows = (
        Row(**{k: v for k, v in row.items() if k in names}) for row in json.loads(path.read_text())["rows"]
    )
    return {row.model: row for row in rows}


def main() -> None:
    """Times the models one after the other; a row is written as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, help="else those without a row")
    parser.add_argument("--seconds", type=float, default=600.0, help="limit for one model")
    parser.add_argument("--json", type=Path, default=_RESULTS / "compiled.json")
    parser.add_argument("--markdown", type=Path, default=_RESULTS / "compiled.md")
    options = parser.parse_args()
    rows = _known(options.json)
    chosen = options.only or [name for name in CASES if name not in rows]
    prepare()
    where = environment("bench.compiled")
    for name in chosen:
        answer = run_apart(partial(measure, name), options.seconds)
        row = rows[name] = answer.value or Row(name, status=answer.failure)
        ordered = [rows[one] for one in CASES if one in rows]
        report = {"schema": 1, "environment": asdict(where), "rows": [asdict(one) for one in ordered]}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
        options.markdown.write_text(markdown(ordered, where))
        print(f"{name}: {row.ratio:.2f} {row.graphs} {row.again} {row.status}", flush=True)


if __name__ == "__main__":
    main()
