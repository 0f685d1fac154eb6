"""Planted miscompiles: each refusal removed, each condition flipped; some test must catch each.

    python -m tests.mutation [--only PART] [--jobs 2] [--shard 0/4]

Every mutant is one change to one file that decides what a pass may do. It runs in a process of its own,
with the tests of the passes, until the first of them fails. The survivors are printed, then the counts.
The tests run without a mutant first: they must pass, and say how long a mutant may take.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.machinery
import math
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FILES = (
    *sorted(path for path in (ROOT / "passes").glob("*.py") if path.name != "__init__.py"),
    *(ROOT / "graphopt" / name for name in (
        "affine/applying.py", "affine/channelwise.py", "affine/finding.py", "affine/forms.py",
        "affine/maps.py", "affine/operands.py", "affine/weights.py", "builder.py", "draft.py", "rules.py",
        "analysis/dependence.py", "analysis/filled.py", "analysis/geometry.py", "analysis/gradients.py",
        "analysis/memory.py", "analysis/objects.py", "analysis/substitution.py", "ir/laws.py", "ir/ops.py",
        "ir/regions.py",
    )),
)  # fmt: skip
TESTS = (
    "tests/passes",
    "tests/analysis",
    "tests/test_builder.py",
    "tests/test_draft.py",
    "tests/test_rules.py",
    "tests/ir/test_laws.py",
    "tests/ir/test_ops.py",
    "tests/ir/test_regions.py",
)
LOADED = ("torch", "torch._dynamo", "torch.export", "pytest", "hypothesis")
"""What the tests need besides the two packages: imported once, in the parent of all children."""

_FLIPPED: dict[type, type] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE,
    ast.LtE: ast.Gt, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_CHANGED = (ast.If, ast.IfExp, ast.While, ast.comprehension, ast.BoolOp, ast.Compare, ast.Return, ast.Call)


@dataclass(frozen=True)
class Mutant:
    """One change: where, what it was, and the source of the whole file with it."""

    file: Path
    line: int
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.change}"


def mutants(file: Path, text: str) -> Iterator[Mutant]:
    """Every mutant of a file, in order of place."""
    tree = ast.parse(text)
    for position, original in enumerate(ast.walk(tree)):
        for number in range(8 if isinstance(original, _CHANGED) else 0):
            changed = copy.deepcopy(tree)
            node = next(node for i, node in enumerate(ast.walk(changed)) if i == position)
            described = _mutate(node, number)
            if described is None:
                break
            source = ast.unparse(ast.fix_missing_locations(changed))
            yield Mutant(file, getattr(node, "lineno", 0), described, source)


def _mutate(node: ast.AST, number: int) -> str | None:
    """Makes the change of a number to a node, in place, and describes it; None where there is none."""
    match node:
        case ast.If() | ast.IfExp() | ast.While() if number == 0:
            was = ast.unparse(node.test)
            node.test = ast.UnaryOp(ast.Not(), node.test)
            return f"if not ({was})"
        case ast.comprehension() if number < len(node.ifs):
            was = ast.unparse(node.ifs.pop(number))
            return f"in a comprehension, without: if {was}"
        case ast.BoolOp() if number < len(node.values):
            was = ast.unparse(node)
            del node.values[number]
            if len(node.values) == 1:
                node.values.append(copy.deepcopy(node.values[0]))
            return f"{was}  →  {ast.unparse(node)}"
        case ast.Compare() if number == 0 and type(node.ops[0]) in _FLIPPED:
            was = ast.unparse(node)
            node.ops[0] = _FLIPPED[type(node.ops[0])]()
            return f"{was}  →  {ast.unparse(node)}"
        case ast.Return(value=ast.Constant(value=str()) | ast.JoinedStr()) if number == 0:
            was = ast.unparse(node)
            node.value = ast.Constant(None)
            return f"{was}  →  return None"
        case ast.Call(func=ast.Name(id="any" | "all" as name)) if number == 0:
            assert isinstance(node.func, ast.Name)
            was = ast.unparse(node)
            node.func.id = "all" if name == "any" else "any"
            return f"{was}  →  {node.func.id}"
        case _:
            return None


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Imports the mutated source in the place of the file."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = ".".join(mutant.file.relative_to(ROOT).with_suffix("").parts)

    def find_spec(self, name: str, path: object, target: object = None) -> Any:
        """A spec for the one module."""
        if name != self._name:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=str(self._mutant.file))

    def get_data(self, path: object) -> bytes:
        """The mutated source."""
        return self._mutant.source.encode()

    def get_filename(self, fullname: str) -> str:
        """Where it would come from."""
        return str(self._mutant.file)

    def path_stats(self, path: object) -> Any:
        """No cached byte code is wanted."""
        raise OSError


def _run(mutant: Mutant | None, seconds: int) -> None:
    """In a child: exits with 0 where every test passes."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.chdir(ROOT)
    # The tests of the file's own name first: most mutants end there.
    own: list[str] = []
    if mutant is not None:
        sys.meta_path.insert(0, _Mutated(mutant))
        own = [str(path) for path in (ROOT / "tests").rglob(f"test_{mutant.file.stem}.py")]
    import pytest
    import torch

    torch.set_num_threads(1)
    for tests in filter(None, (own, TESTS)):
        code = pytest.main(["-q", "-x", "--assert=plain", "-p", "no:xdist", *tests])
        if code:
            break
    os._exit(int(code))


def _passes(mutant: Mutant | None, seconds: int) -> bool:
    """Whether every test passes, in a process of its own, in so many seconds of its CPU time. One that takes
    longer loops: it fails, however busy the machine is."""
    child = multiprocessing.get_context("fork").Process(target=_run, args=(mutant, seconds))
    child.start()
    child.join()
    return child.exitcode == 0


def main() -> int:
    """Runs every mutant; 1 where one survives."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="files whose path has this part")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--shard", default="0/1", help="every n-th mutant, from the i-th: i/n")
    options = parser.parse_args()
    shard, shards = map(int, options.shard.split("/"))
    chosen = [m for f in FILES if options.only in str(f) for m in mutants(f, f.read_text())][shard::shards]
    for name in LOADED:
        importlib.import_module(name)
    started, survivors = time.monotonic(), []
    if not _passes(None, 600):
        print("the tests fail without a mutant")
        return 2
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = math.ceil(3 * (spent.ru_utime + spent.ru_stime))
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutant, survives in zip(chosen, pool.map(lambda m: _passes(m, seconds), chosen), strict=True):
            if survives:
                survivors.append(mutant)
                print(f"survives: {mutant}", flush=True)
    survived, caught = Counter(mutant.file for mutant in survivors), len(chosen) - len(survivors)
    for file, count in Counter(mutant.file for mutant in chosen).items():
        print(f"{file.relative_to(ROOT)}: {count - survived[file]} of {count}")
    print(
        f"{caught} of {len(chosen)} planted miscompiles caught, in {time.monotonic() - started:.0f} seconds"
    )
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
