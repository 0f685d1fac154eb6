"""Programs of linear algebra are kept: whatever sum-product regions make of them computes the same.

Every rewrite is taken that is found, whether it gains or not. On small integers float64 is exact in whatever
order. ``GRAPHOPT_FUZZ_EXAMPLES`` sets how many.
"""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.algebra.comparison import difference
from tests.algebra.programs import Program, grown

EXAMPLES = int(os.environ.get("GRAPHOPT_FUZZ_EXAMPLES", "150"))
SHARDS = 2


class _Draw:
    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def below(self, count: int) -> int:
        return self._draw(st.integers(0, count - 1)) if count > 1 else 0


@st.composite
def programs(draw: st.DrawFn) -> Program:
    return grown(_Draw(draw))


@pytest.mark.parametrize("shard", range(SHARDS))
def test_programs_of_linear_algebra_are_kept(shard: int) -> None:
    @seed(shard)
    @settings(
        max_examples=EXAMPLES // SHARDS,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(), st.sampled_from([torch.float64, torch.float64, torch.float32]))
    def run(program: Program, dtype: torch.dtype) -> None:
        found = difference(program.function(), program.arguments, dtype)
        assert found is None, f"{found}\n{program.text}"

    run()
