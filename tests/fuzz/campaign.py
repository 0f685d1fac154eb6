"""Random programs for as long as wanted.

    python -m tests.fuzz.campaign --minutes 60 --seed 1

Program ``k`` of a seed is the same in every process. Each kind of failure is printed once, shrunk,
as source that can be pasted into a test; at the end come the counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import torch

from bench.sweep.record import FOUND, kind_of, summary
from bench.sweep.slow import slow
from bench.sweep.trial import Optimizer, Outcome, graphopt_candidate
from tests.fuzz.differential import outcomes
from tests.fuzz.growth import SeededDraw, grown
from tests.fuzz.minimise import minimise
from tests.fuzz.programs import Program, snippet


def _failure(program: Program, optimizer: Optimizer) -> Outcome | None:
    """The first finding on a program, if any; a part taken away may leave one that cannot run."""
    try:
        found = outcomes(program, optimizer=optimizer)
    except Exception:
        return None
    return next((outcome for outcome in found if outcome.verdict in FOUND), None)


def _fails_alike(found: Outcome, program: Program, optimizer: Optimizer) -> bool:
    other = _failure(program, optimizer)
    return (
        other is not None
        and other.verdict == found.verdict
        and other.eager_raises == found.eager_raises
        and kind_of(other.reason)[:40] == kind_of(found.reason)[:40]
    )


def shrunk(program: Program, found: Outcome, optimizer: Optimizer = graphopt_candidate) -> Program:
    """A smaller program that fails as ``found`` says."""
    return minimise(program, lambda candidate: _fails_alike(found, candidate, optimizer))


def main(arguments: list[str] | None = None) -> int:
    """Run programs until the time is up; 1 where one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first program")
    parser.add_argument("--count", type=int, help="stop after this many programs")
    parser.add_argument("--each", type=int, default=1, help="shrunk examples a kind of failure")
    parser.add_argument("--log", type=Path, help="append the findings to this file, too")
    parser.add_argument("--slow", action="store_true", help="decide as for a machine on which all is work")
    options = parser.parse_args(arguments)
    optimizer = partial(graphopt_candidate, profile=slow()) if options.slow else graphopt_candidate
    torch.set_num_threads(1)
    started, number = time.monotonic(), options.first
    every: list[Outcome] = []
    shown: dict[str, int] = {}
    while time.monotonic() - started < 60 * options.minutes:
        if options.count is not None and number >= options.first + options.count:
            break
        program = grown(SeededDraw(f"{options.seed} {number}"))
        found = outcomes(program, f"seed {options.seed} number {number}", optimizer)
        number += 1
        every += found
        for outcome in found:
            kind = f"{outcome.verdict}: {kind_of(outcome.reason)}"
            if outcome.verdict not in FOUND or shown.get(kind, 0) >= options.each:
                continue
            shown[kind] = shown.get(kind, 0) + 1
            small = shrunk(program, outcome, optimizer)
            last = _failure(small, optimizer) or outcome
            text = f"# {outcome.name} [{last.passes}] {last.verdict}: {last.reason}\n{snippet(small)}"
            print(text, flush=True)
            if options.log is not None:
                with options.log.open("a") as file:
                    file.write(text + "\n")
            break
    print(summary(every))
    print(f"{number - options.first} programs in {time.monotonic() - started:.0f} seconds")
    return int(any(outcome.verdict in FOUND for outcome in every))


if __name__ == "__main__":
    sys.exit(main())
