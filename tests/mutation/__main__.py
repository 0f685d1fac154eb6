"""Planted miscompiles: each refusal removed, each condition flipped; some test must catch each.

    python -m tests.mutation [--only PART ...] [--jobs 2] [--shard 0/4] [--quick]

Every mutant is one change to one file that decides what a pass may do. The tests run without a mutant first:
they must pass, and say which of them run which line. A mutant is then run with the tests that run a line of
it, in a process of its own, until one fails: first what is cheap and has caught others. Where none does, or
where the line runs at import, the mutant is imported in the place of its file and run with all tests: what a
test finds in a cache that another filled can hide from it the lines it depends on. One that passes those,
too, survives. The survivors are printed, then the counts.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.mutation.covering import Covered, covered
from tests.mutation.importing import passes
from tests.mutation.patching import caught
from tests.mutation.planting import FILES, ROOT, Mutant, mutants
from tests.mutation.running import LOADED


def main() -> int:
    """Runs every mutant; 1 where one survives."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], help="files whose path has one of these parts")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--shard", default="0/1", help="every n-th mutant, from the i-th: i/n")
    parser.add_argument(
        "--quick", action="store_true", help="takes what passes the tests of its lines at that"
    )
    options = parser.parse_args()
    shard, shards = map(int, options.shard.split("/"))
    files = [file for file in FILES if any(part in str(file) for part in options.only)]
    chosen = [mutant for file in files for mutant in mutants(file, file.read_text())][shard::shards]
    for name in LOADED:
        importlib.import_module(name)
    started = time.monotonic()
    found = covered()
    if found is None:
        print("the tests fail without a mutant")
        return 2
    parts = [chosen[job :: options.jobs] for job in range(options.jobs)]
    with ThreadPoolExecutor(options.jobs) as pool:
        surviving = pool.map(lambda part: [*_survivors(part, found, options.quick)], parts)
        survived = Counter(mutant.file for part in surviving for mutant in part)
    for file, count in Counter(mutant.file for mutant in chosen).items():
        print(f"{file.relative_to(ROOT)}: {count - survived[file]} of {count}")
    count = len(chosen) - survived.total()
    print(f"{count} of {len(chosen)} planted miscompiles caught, in {time.monotonic() - started:.0f} seconds")
    return int(bool(survived))


def _survivors(chosen: Sequence[Mutant], found: Covered, quick: bool) -> Iterator[Mutant]:
    """The mutants that no test catches; prints each as it is found."""
    within = [mutant for mutant in chosen if not found.at_import(mutant)]
    left = []
    for mutant, is_caught in zip(within, caught(within, found), strict=True):
        if not is_caught:
            print(f"passes the tests of its lines: {mutant}", flush=True)
            left.append(mutant)
    if quick:
        yield from left
        left.clear()
    for mutant in (*left, *(mutant for mutant in chosen if found.at_import(mutant))):
        tests = (*found.by(mutant), *found.others(mutant))
        if passes(mutant, {test: found.seconds[test] for test in tests}):
            print(f"survives: {mutant}", flush=True)
            yield mutant


if __name__ == "__main__":
    sys.exit(main())
