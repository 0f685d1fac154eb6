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
import logging
import multiprocessing
import os
import platform
import subprocess
import sys
import time
import traceback
import warnings
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

from bench.architectures import CATALOGUE, Architecture
from bench.equivalence import check
from bench.exportability import exportability, first_lines
from bench.sweep_table import Environment, Row, markdown

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


def _work(architecture: Architecture, only_export: bool, answer: Connection, log: Path) -> None:
    """Sends a Row; what the process prints goes to `log`, since export's own warnings are long."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 1)
    os.dup2(target, 2)
    warnings.simplefilter("ignore")
    try:
        row = measure(architecture, only_export)
    except BaseException as error:
        traceback.print_exc()
        row = Row(architecture.name, architecture.family, failure=first_lines(error))
    answer.send(row)
    answer.close()


def run_apart(architecture: Architecture, only_export: bool, limit: float, log: Path) -> Row:
    """`measure` in a forked process that is ended after `limit` seconds."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(architecture, only_export, send, log))
    worker.start()
    send.close()
    failure = f"no answer within {limit:.0f} s"
    try:
        if receive.poll(limit):
            row: Row = receive.recv()
            return row
    except EOFError:
        worker.join()
        failure = f"process ended with code {worker.exitcode}"
    finally:
        worker.kill()
        worker.join()
    return Row(architecture.name, architecture.family, failure=failure)


def _prepare() -> None:
    """One thread, and the slow imports made once before forking."""
    import torch
    import transformers
    from torch import nn

    torch.set_num_threads(1)
    transformers.logging.set_verbosity(logging.ERROR)
    torch.export.export(nn.Linear(2, 2), (torch.ones(2, 2),), strict=False)


def _commit() -> str:
    """The checkout's commit, with a plus where tracked files differ from it; empty outside git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def _environment() -> Environment:
    from importlib.metadata import version

    import torch

    return Environment(
        command="python -m " + " ".join(["bench.architecture_sweep", *sys.argv[1:]]),
        date=time.strftime("%Y-%m-%d"),
        commit=_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=version("transformers"),
        torch_geometric=version("torch_geometric"),
        peft=version("peft"),
        machine=platform.machine(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
    )


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


def main() -> None:
    """The command: runs the chosen architectures one after the other and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="name or pattern (llama*); repeatable")
    parser.add_argument("--family", action="append", help="a family, e.g. vision; repeatable")
    parser.add_argument("--json", type=Path, help="where to write everything")
    parser.add_argument("--markdown", type=Path, help="where to write the table")
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
    _prepare()
    rows: list[Row] = []
    for number, architecture in enumerate(chosen, 1):
        row = run_apart(architecture, only_export, options.limit, options.log)
        rows.append(row)
        print(f"{number}/{len(chosen)} {row.name} ({row.seconds:.1f} s): {_status(row)}", flush=True)
    environment = _environment()
    if options.json:
        report = {
            "schema": 1,
            "environment": asdict(environment),
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    page = markdown(rows, environment)
    if options.markdown:
        options.markdown.write_text(page)
    else:
        print(page)


if __name__ == "__main__":
    main()
