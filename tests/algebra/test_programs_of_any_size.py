"""Programs of linear algebra with symbolic sizes are kept, at the sizes of the example and at others."""

from __future__ import annotations

import os
import random
from functools import partial

import pytest
import torch

from graphopt.errors import Unsupported
from tests.algebra.comparison import difference_of_calls, optimized_always
from tests.algebra.programs import Program, grown

EXAMPLES = int(os.environ.get("GRAPHOPT_FUZZ_EXAMPLES", "60"))
SHARDS = 2
ROUNDING = 1e-9
"""The mean of five integers is not exact."""


class _Random:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, count: int) -> int:
        return self._random.randrange(count)


def _rewritten(program: Program) -> bool:
    """Whether something was rewritten whose sizes are symbols; fails where a caller could tell."""
    function = program.function()
    try:
        with torch.no_grad():
            optimized = optimized_always(function, program.arguments(torch.float64), "auto")
    except Unsupported:
        return False
    for more in (0, 1, 3):
        found = difference_of_calls(
            function, optimized, partial(program.arguments, more=more), torch.float64, ROUNDING
        )
        assert found is None, f"{more} more: {found}\n{program.text}"
    return bool(optimized.graph.symbols and optimized.report.steps)


@pytest.mark.filterwarnings("ignore:graphopt runs the original")
@pytest.mark.parametrize("shard", range(SHARDS))
def test_programs_of_linear_algebra_are_kept_at_other_sizes(shard: int) -> None:
    rewritten = sum(_rewritten(grown(_Random(seed))) for seed in range(shard, EXAMPLES, SHARDS))
    assert rewritten > EXAMPLES // SHARDS // 8
