"""The tests that are to catch mutants, and how they run: silently, in processes of their own."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import pytest
from hypothesis import Phase, settings

from tests.mutation.planting import ROOT

TESTS = (
    "tests/passes",
    "tests/analysis",
    "tests/algebra",
    "tests/test_builder.py",
    "tests/test_draft.py",
    "tests/test_kernels.py",
    "tests/test_rules.py",
    "tests/test_tune.py",
    "tests/ir/test_laws.py",
    "tests/ir/test_operators.py",
    "tests/ir/test_ops.py",
    "tests/ir/test_regions.py",
)
"""All that import a planted file, and those of what decides in one of them with an option only."""
LOADED = ("torch", "torch._dynamo", "torch.export", "sympy", "networkx")
"""What the tests need besides the two packages: imported once, in the parent of all children."""


def in_child(work: Callable[..., None], *given: Any) -> Iterator[Any]:
    """What a function sends over the connection that it is called with last, from a process of its own."""
    received, sent = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_working, args=(work, given, sent))
    child.start()
    sent.close()
    try:
        while True:
            yield received.recv()
    except EOFError:
        return
    finally:
        child.join()


def _working(work: Callable[..., None], given: Sequence[Any], sent: Connection) -> None:
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.chdir(ROOT)
    work(*given, sent)
    os._exit(0)


def limit(seconds: float) -> None:
    """Ends this process where what comes next, which takes so many seconds, needs three times their CPU time
    and ten seconds from now on: it loops, however busy the machine is."""
    most = math.ceil(time.process_time() + 3 * seconds + 10)
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def run(paths: Sequence[str], plugin: object) -> int:
    """Runs tests until the first fails: the same ones whenever it is called. 0 where none fails."""
    settings.register_profile("mutation", derandomize=True, phases=[Phase.explicit, Phase.generate])
    settings.load_profile("mutation")
    quick = ["-q", "-x", "--assert=plain", "--tb=no", "-p", "no:xdist", "-p", "no:unraisableexception"]
    return pytest.main([*quick, *paths], plugins=[plugin])
