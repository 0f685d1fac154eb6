"""Expressions as users write them against what an expert would write.

    python -m bench.algebra [--only IDEA ...] [--name NAME ...] [--compile] [--json PATH] [--markdown PATH]

Float32, one thread, no_grad, interleaved pairs in one process, thread CPU time. `--compile` also times
torch.compile, which takes a minute for ten expressions: use it with a selection, or `--sample N`.
"""

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path

import torch

from bench.algebra.catalogue import CATALOGUE
from bench.algebra.measuring import NegativeRow, Row, tried, tried_negative
from bench.algebra.negatives import CATALOGUE as NEGATIVES
from bench.algebra.table import markdown


def main() -> None:
    """Prints a line for each expression, then the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=[*CATALOGUE, "negatives"], default=[*CATALOGUE, "negatives"]
    )
    parser.add_argument("--name", nargs="+", help="only expressions whose names hold one of these")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds a comparison may take")
    parser.add_argument("--compile", action="store_true", help="time torch.compile, too")
    parser.add_argument("--sample", type=int, default=1, help="compile every Nth")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)

    def wanted(name: str) -> bool:
        return not options.name or any(part in name for part in options.name)

    rows: list[Row] = []
    number = 0
    for idea, expressions in CATALOGUE.items():
        for expression in expressions if idea in options.only else ():
            if not wanted(expression.name):
                continue
            number += 1
            row = tried(idea, expression, options.budget, options.compile and number % options.sample == 0)
            rows.append(row)
            print(_line(row), flush=True)
    negatives: list[NegativeRow] = []
    for negative in NEGATIVES if "negatives" in options.only else ():
        if wanted(negative.name):
            one = tried_negative(negative, options.budget)
            negatives.append(one)
            print(f"{one.difference or 'right':8s} {one.ratio:6.2f} {one.name} {one.note}", flush=True)
    text = markdown(rows, negatives, _machine())
    print(text.split("## All")[0] if rows else text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        found = {"expressions": list(map(asdict, rows)), "negatives": list(map(asdict, negatives))}
        options.json.write_text(
            json.dumps({"machine": _machine()} | found, indent=1, ensure_ascii=False) + "\n"
        )


def _line(row: Row) -> str:
    said = "found" if row.found else "missed" if row.right else "WRONG"
    operators = "" if row.found else " ".join(row.operators)[:120]
    return (
        f"{said:7s} {row.gain:7.2f} {row.behind:6.2f} {row.expert * 1e6:7.0f}µs {row.optimize_seconds:4.1f}s "
        f"{row.idea}: {row.name} | {operators} | {row.note[:150]}"
    )


def _machine() -> str:
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return (
        f"{processor}, one thread, float32, no_grad, torch {torch.__version__}; thread CPU time, medians of "
        "ratios within interleaved pairs. `python -m bench.algebra`"
    )


if __name__ == "__main__":
    main()
