"""What regions become: operators that lie in memory as they should, and multiply the fast way round."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

import graphopt
from graphopt.ir.graph import Node

PASSES = ("redundant-view", "common-subexpression", "sum-product", "dead-code")


def optimized(program: Callable[..., object], *shapes: tuple[int, ...]) -> graphopt.Optimized:
    torch.manual_seed(0)
    args = tuple(torch.randn(shape) * shape[-1] ** -0.5 for shape in shapes)
    with torch.no_grad():
        found = graphopt.optimize(program, args, passes=PASSES, measure=False)
        assert found.report.equivalent is True
        assert torch.allclose(found(*args), program(*args), atol=1e-4)  # type: ignore[arg-type]
    return found


def operators(found: graphopt.Optimized) -> list[str]:
    return [node.op.split(".")[1] for node in found.graph.nodes]


def left_rows(node: Node) -> int:
    return int(node.operands[0].type.shape[0])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "sizes", [(20, 100, 400, 600, 800), (600, 50, 800, 40, 700), (300, 500, 40, 600, 30)]
)
def test_a_product_comes_out_in_the_order_that_is_returned(sizes: tuple[int, ...]) -> None:
    shapes = [*pairwise(sizes)]
    found = optimized(lambda *factors: factors[0] @ (factors[1] @ (factors[2] @ factors[3])), *shapes)
    assert "clone" not in operators(found)


def test_an_outer_product_comes_out_in_the_order_that_is_returned() -> None:
    found = optimized(lambda a, x, y, b: a @ torch.outer(x, y) @ b, (300, 300), (300,), (300,), (300, 300))
    assert "clone" not in operators(found)


def test_few_columns_are_multiplied_as_few_rows() -> None:
    found = optimized(lambda a, b, x: (a @ b) @ x, (400, 400), (400, 400), (400, 4))
    products = [node for node in found.graph.nodes if node.op == "aten.mm.default"]
    assert [left_rows(node) for node in products] == [4, 4]


def test_numbers_that_no_float_is_are_emitted_as_the_nearest() -> None:
    found = optimized(lambda a, b, x: (a / 5) @ (b / 7) @ (3 * x), (300, 300), (300, 300), (300,))
    assert "mm" not in operators(found)
    found = optimized(lambda a, b: (a @ b).mean(1), (300, 300), (300, 300))
    assert "mm" not in operators(found)
