"""Mutants in functions that are imported already: one process finds the tests, and its forks run them."""

from __future__ import annotations

import gc
import importlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawValue
from types import CodeType, FunctionType
from typing import Any

import pytest

from tests.mutation.covering import Covered
from tests.mutation.planting import FILES, Mutant
from tests.mutation.running import TESTS, in_child, limit, run


def caught(mutants: Sequence[Mutant], found: Covered) -> Iterator[bool]:
    """Whether, for each of the mutants, a test that runs a line of it fails."""
    yield from in_child(_catch, mutants, found)


def _catch(mutants: Sequence[Mutant], found: Covered, sent: Connection) -> None:
    os._exit(run(TESTS, _Forking(mutants, found, sent)))


@dataclass(frozen=True)
class _Forking:
    """Once the tests are found, forks for each mutant, and goes on in the fork with its tests alone."""

    mutants: Sequence[Mutant]
    found: Covered
    sent: Connection
    _caught: Counter[str] = field(default_factory=Counter)
    _begun: Any = field(default_factory=lambda: RawValue("i"))

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Instead of running the tests; in a fork before running them."""
        items = {item.nodeid: item for item in session.items}
        for mutant in self.mutants:
            importlib.import_module(mutant.module)
        names = {str(file) for file in FILES}
        living = [f for f in gc.get_objects() if isinstance(f, FunctionType)]
        living = [f for f in living if f.__code__.co_filename in names]
        gc.freeze()  # what is there already need not be looked through in each fork
        for mutant in self.mutants:
            tests = sorted(self.found.by(mutant), key=self._worth, reverse=True)
            self._begun.value = 0
            child = os.fork()
            if not child:
                _patch(living, mutant)
                session.items = [items[test] for test in tests]
                return None
            is_caught = os.waitpid(child, 0)[1] != 0 and self._begun.value > 0
            if is_caught:
                self._caught[tests[self._begun.value - 1]] += 1
            self.sent.send(is_caught)
        return True

    def _worth(self, test: str) -> float:
        """How many mutants a test may catch in a second, by those that it caught before."""
        return (self._caught[test] + 0.05) / (self.found.seconds[test] + 0.001)

    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Before a test, in a fork."""
        self._begun.value += 1
        limit(self.found.seconds[item.nodeid])


def _patch(living: Sequence[FunctionType], mutant: Mutant) -> None:
    """Changes the functions of a mutant, wherever they are held."""
    changed = {_place(code): code for code in _functions(mutant.code) if mutant.lines.start in _lines(code)}
    for function in living:
        code = changed.get(_place(function.__code__))
        if code is not None and code.co_freevars == function.__code__.co_freevars:
            function.__code__ = code


def _functions(code: CodeType) -> Iterator[CodeType]:
    """All code in a module's."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _functions(constant)


def _lines(code: CodeType) -> range:
    lines = [line for one in (code, *_functions(code)) for _, _, line in one.co_lines() if line]
    return range(min(lines), max(lines) + 1)


def _place(code: CodeType) -> tuple[str, str, int]:
    return code.co_filename, code.co_qualname, code.co_firstlineno
