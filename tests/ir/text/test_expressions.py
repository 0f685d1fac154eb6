"""Size expressions are arithmetic and nothing else."""

import pytest

from graphopt.errors import InvalidGraph
from graphopt.ir.text import parse_expression


@pytest.mark.parametrize(
    "text", ["().__class__", "open('x')('y')", "[1]", "x if y else z", "lambda: 1", "'a'"]
)
def test_size_expressions_run_no_python(text: str) -> None:
    with pytest.raises(InvalidGraph):
        parse_expression(text)
