"""One mutant in a new process, imported in the place of its file: exact, and slower than `patching`."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import pytest

from tests.mutation.planting import Mutant
from tests.mutation.running import in_child, limit, run


def passes(mutant: Mutant, seconds: dict[str, float]) -> bool:
    """Whether all these tests, of which it is known how long they take, pass on a mutant."""
    return next(in_child(_judge, mutant, seconds), False)


def _judge(mutant: Mutant, seconds: dict[str, float], sent: Connection) -> None:
    sys.meta_path.insert(0, _Mutated(mutant))
    files = dict.fromkeys(test.partition("::")[0] for test in seconds)
    sent.send(not run(list(files), _InOrder(seconds)))


@dataclass(frozen=True)
class _InOrder:
    """Runs the tests in the order of their names here, and ends the process where one takes too long."""

    seconds: dict[str, float]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """After all tests were found."""
        places = {test: place for place, test in enumerate(self.seconds)}
        items.sort(key=lambda item: places.get(item.nodeid, len(places)))

    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Before a test."""
        limit(self.seconds.get(item.nodeid, 0.0))


@dataclass(frozen=True)
class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a mutant."""

    mutant: Mutant

    def find_spec(self, name: str, path: object, target: object = None) -> Any:
        """A spec for the one module."""
        if name != self.mutant.module:
            return None
        spec = importlib.machinery.ModuleSpec(name, self, origin=str(self.mutant.file))
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Runs the mutant as the module."""
        exec(self.mutant.code, module.__dict__)
