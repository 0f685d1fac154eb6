"""Eager and optimised programs cannot be told apart, over random programs.

``GRAPHOPT_FUZZ_EXAMPLES`` sets how many; ``python -m tests.fuzz.campaign`` runs for hours.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from bench.sweep.record import FOUND
from tests.fuzz.differential import REFUSED_SHARE, outcomes
from tests.fuzz.growth import grown
from tests.fuzz.programs import Program, snippet

SHARDS = 4
EXAMPLES = int(os.environ.get("GRAPHOPT_FUZZ_EXAMPLES", "480")) // SHARDS


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


@pytest.mark.parametrize("shard", range(SHARDS))
def test_random_programs_are_kept_exactly(shard: int) -> None:
    counts: Counter[str] = Counter()

    @seed(shard)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs())
    def run(program: Program) -> None:
        for outcome in outcomes(program):
            if outcome.exported and not outcome.eager_raises:
                counts[outcome.verdict] += 1
            assert outcome.verdict not in FOUND, (
                f"[{outcome.passes}] {outcome.verdict}: {outcome.reason}\n{snippet(program)}"
            )

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run()
    finally:
        torch.set_num_threads(threads)
    judged = counts.total()
    share = counts["refused"] / max(1, judged)
    assert judged > EXAMPLES / 2, f"too few programs were judged: {counts}"
    assert share <= REFUSED_SHARE, f"{share:.1%} of the programs were refused: {counts}"
