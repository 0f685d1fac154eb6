"""Which tests run which line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import coverage
import pytest

from tests.mutation.planting import FILES, Mutant
from tests.mutation.running import TESTS, in_child, run

_AT_IMPORT = ""


@dataclass(frozen=True)
class Covered:
    """Which tests run a line, and how long each test takes, in seconds."""

    tests: dict[Path, dict[int, frozenset[str]]]
    seconds: dict[str, float]

    def by(self, mutant: Mutant) -> list[str]:
        """The tests that run a line of the mutant, the cheapest first."""
        return self._cheapest(self._contexts(mutant) - {_AT_IMPORT})

    def others(self, mutant: Mutant) -> list[str]:
        """The other tests."""
        return self._cheapest(self.seconds.keys() - self._contexts(mutant))

    def at_import(self, mutant: Mutant) -> bool:
        """Whether a line of the mutant runs before any test, or never."""
        contexts = self._contexts(mutant)
        return not contexts or _AT_IMPORT in contexts

    def _contexts(self, mutant: Mutant) -> frozenset[str]:
        lines = self.tests.get(mutant.file, {})
        return frozenset[str]().union(*(lines.get(line, ()) for line in mutant.lines))

    def _cheapest(self, tests: frozenset[str] | set[str]) -> list[str]:
        return sorted(tests, key=lambda test: (self.seconds[test], test))


def covered() -> Covered | None:
    """Runs all tests without a mutant, and says what each runs; None where one fails."""
    return next(in_child(_cover), None)


def _cover(sent: Connection) -> None:
    measured = coverage.Coverage(data_file=None, config_file=False, include=[str(file) for file in FILES])
    recording = _Recording(measured)
    measured.start()
    code = run(TESTS, recording)
    measured.stop()
    if not code:
        lines = {file: measured.get_data().contexts_by_lineno(str(file)) for file in FILES}
        tests = {f: {line: frozenset(names) for line, names in of.items()} for f, of in lines.items()}
        sent.send(Covered(tests, recording.seconds))


@dataclass
class _Recording:
    """Names each test to the coverage of the lines it runs, and takes its time."""

    measured: coverage.Coverage
    seconds: dict[str, float] = field(default_factory=dict)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Around one test and its fixtures."""
        self.measured.switch_context(item.nodeid)
        started = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - started
        self.measured.switch_context(_AT_IMPORT)
        return result
