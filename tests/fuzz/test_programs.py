"""Eager and optimised programs cannot be told apart, over random programs.

``GRAPHOPT_FUZZ_EXAMPLES`` sets how many of each test; ``python -m tests.fuzz.campaign`` runs for
hours.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bench.sweep.record import FOUND
from bench.sweep.trial import Outcome
from tests.fuzz.campaign import shrunk
from tests.fuzz.differential import REFUSED_SHARE, outcomes
from tests.fuzz.growth import SeededDraw, grown
from tests.fuzz.programs import Program, snippet

SHARDS = 8
"""Parts that run in processes of their own under pytest-xdist; small ones keep every core busy."""
EXAMPLES = int(os.environ.get("GRAPHOPT_FUZZ_EXAMPLES", "1500")) // SHARDS


class _HypothesisDraw:
    """Decisions made by hypothesis, which shrinks each towards 0."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def below(self, count: int) -> int:
        """A number from 0 to ``count - 1``."""
        return self._draw(st.integers(0, count - 1)) if count > 1 else 0


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Random programs that run in eager, now and then up to a statement that raises."""
    return grown(_HypothesisDraw(draw))


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Tally:
    """Counts verdicts on programs that torch.export takes."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def finding(self, found: list[Outcome]) -> Outcome | None:
        """Count, and return the first finding."""
        for outcome in found:
            if outcome.exported and not outcome.eager_raises:
                self.counts[outcome.verdict] += 1
        return next((outcome for outcome in found if outcome.verdict in FOUND), None)

    def assert_few_refusals(self, programs: int) -> None:
        judged = self.counts.total()
        assert judged > programs / 2, f"too few programs were judged: {self.counts}"
        share = self.counts["refused"] / judged
        assert share <= REFUSED_SHARE, f"{share:.1%} of the programs were refused: {self.counts}"


def _report(outcome: Outcome, program: Program) -> str:
    return f"[{outcome.passes}] {outcome.verdict}: {outcome.reason}\n{snippet(program)}"


@pytest.mark.parametrize("shard", range(SHARDS))
def test_programs_found_by_hypothesis_are_kept_exactly(shard: int) -> None:
    tally = _Tally()

    @seed(shard)
    @settings(
        max_examples=EXAMPLES // 3,
        phases=[Phase.generate],  # our own shrinking keeps to one kind of failure, and is quick
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs())
    def run(program: Program) -> None:
        finding = tally.finding(outcomes(program, without_passes=False))
        if finding is not None:
            pytest.fail(_report(finding, shrunk(program, finding)))

    with _one_thread():
        run()
    tally.assert_few_refusals(EXAMPLES // 3)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_programs_of_a_fixed_seed_are_kept_exactly(shard: int) -> None:
    """Hypothesis prefers small choices; these are drawn evenly, and see twice as many kinds."""
    tally = _Tally()
    with _one_thread():
        for number in range(shard, SHARDS * EXAMPLES, SHARDS):
            program = grown(SeededDraw(f"0 {number}"))
            # Capture and emit alone are what the passes stand on: every fourth program sees them bare.
            finding = tally.finding(outcomes(program, without_passes=number // SHARDS % 4 == 0))
            if finding is not None:
                pytest.fail(f"number {number}: {_report(finding, shrunk(program, finding))}")
    tally.assert_few_refusals(EXAMPLES)
