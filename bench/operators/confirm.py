"""Generates `graphopt/ir/operators.tsv` by executing operators, or checks it.

python -m bench.operators.confirm [--check] [--only NAME]
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence

import torch
from torch._ops import OpOverload

from bench.operators.arithmetic import arithmetic
from bench.operators.calls import Call
from bench.operators.evidence import Excluded
from bench.operators.execution import Budget
from bench.operators.exported import exported_programs
from bench.operators.isolation import gather_all
from bench.operators.programs import programs
from bench.operators.record import Recorder, add_relatives, opinfo_programs
from bench.operators.selection import why_not
from bench.operators.table import PATH, differences, table


def record(sources: Iterable[Callable[[], object]]) -> dict[OpOverload, list[Call]]:
    """Calls of the candidate operators that these programs make, and of their in-place and out= forms."""
    recorder = Recorder()
    for program in sources:
        recorder.run(program)
    add_relatives(recorder)
    return {op: calls for op, calls in recorder.calls.items() if why_not(op) is None}


def main(argv: Sequence[str] | None = None) -> int:
    """Writes or checks the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the table disagrees")
    parser.add_argument("--only", metavar="NAME", help="print the evidence for one operator")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    calls = record(itertools.chain(programs(), exported_programs(), opinfo_programs()))
    if options.only:
        calls = {op: made for op, made in calls.items() if str(op) == options.only}
    entries = list(arithmetic())
    for op, evidence in gather_all(calls, Budget()):
        entry = evidence if isinstance(evidence, Excluded) else evidence.entry()
        if isinstance(entry, Excluded):
            print(f"{op}: {entry.reason}")
        else:
            entries.append(entry)
        if options.only:
            print(evidence, entry, sep="\n")
    if options.only:
        return 0 if calls else 1
    text = table(entries)
    if options.check:
        differing = list(differences(PATH.read_text(), text))
        print(*differing, sep="\n")
        return 1 if differing else 0
    PATH.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
