"""Runs every architecture of the catalogue through torch.export and graphopt, and tabulates it.

    python -m bench.architecture_sweep [--only NAME] [--json PATH] [--markdown PATH]

Each architecture has a forked process of its own with a time limit, so that one that crashes,
hangs or registers a class cannot disturb the next.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import os
import sys
import sysconfig
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.apart import Environment, environment, prepare, run_apart
from bench.architectures import CATALOGUE, Architecture
from bench.equivalence import check
from bench.exportability import exportability
from bench.sweep_table import Row, markdown, parsed

PASSES: dict[str, list[str] | None] = {"none": [], "default": None}
"""The choices of passes that are tried: capture and emit alone, and graphopt's default."""


def measure(architecture: Architecture, only_export: bool) -> Row:
    """The work of one process."""
    row = Row(architecture.name, architecture.family)
    started = time.perf_counter()
    row.parameters = sum(p.numel() for p in architecture.build().parameters())
    row.exports = exportability(architecture)
    if not only_export:
        row.results = {name: check(architecture, passes) for name, passes in PASSES.items()}
    row.seconds = time.perf_counter() - started
    return row


def _status(row: Row) -> str:
    """One word or a short list for the progress line."""
    if row.failure:
        return row.failure
    assert row.exports is not None
    parts = [f"export {'ok' if row.exports.best().accepted else 'refused'}"]
    for name, result in (row.results or {}).items():
        wrong = ", ".join(result.wrong())
        parts.append(f"{name}: {result.status}{' WRONG ' + wrong if wrong else ''}")
    return "; ".join(parts)


def _placeless(text: str) -> str:
    """Without the paths of this machine."""
    for place in (sysconfig.get_paths()["purelib"], sys.prefix, str(Path.cwd())):
        text = text.replace(place + "/", "")
    return text


def _run(chosen: list[Architecture], only_export: bool, limit: float, log: Path) -> list[Row]:
    prepare()
    rows: list[Row] = []
    for number, architecture in enumerate(chosen, 1):
        answer = run_apart(partial(measure, architecture, only_export), limit, log)
        row = answer.value or Row(architecture.name, architecture.family, failure=answer.failure)
        rows.append(row)
        print(f"{number}/{len(chosen)} {row.name} ({row.seconds:.1f} s): {_status(row)}", flush=True)
    return rows


def main() -> None:
    """The command: runs the chosen architectures one after the other and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="name or pattern (llama*); repeatable")
    parser.add_argument("--family", action="append", help="a family, e.g. vision; repeatable")
    parser.add_argument("--json", type=Path, help="where to write everything")
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    parser.add_argument("--join", nargs="+", type=Path, help="run nothing: put together what others wrote")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds an architecture")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="output of the last one")
    parser.add_argument("--only-export", action="store_true", help="leave graphopt out")
    options = parser.parse_args()
    only_export = options.only_export or importlib.util.find_spec("graphopt") is None
    chosen = [
        architecture
        for architecture in CATALOGUE.values()
        if (not options.only or any(fnmatch.fnmatch(architecture.name, p) for p in options.only))
        and (not options.family or architecture.family in options.family)
    ]
    if not chosen:
        parser.error("no architecture has such a name; the catalogue has " + ", ".join(CATALOGUE))
    if options.join:
        reports = [json.loads(path.read_text()) for path in options.join]
        made = {row["name"]: parsed(row) for report in reports for row in report["rows"]}
        rows = [made[name] for name in CATALOGUE if name in made]
        command = "python -m bench.architecture_sweep, family by family"
        where = Environment(**{**reports[0]["environment"], "command": command})
    else:
        rows = _run(chosen, only_export, options.limit, options.log)
        where = environment("bench.architecture_sweep")
    if options.json:
        report = {
            "schema": 1,
            "environment": asdict(where),
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(_placeless(json.dumps(report, indent=1)) + "\n")
    page = _placeless(markdown(rows, where))
    if options.markdown:
        options.markdown.write_text(page)
    else:
        print(page)


if __name__ == "__main__":
    main()
