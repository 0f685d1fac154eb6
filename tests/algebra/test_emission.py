"""What regions become: operators that lie in memory as they should, and multiply the fast way round."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

import graphopt
from graphopt.ir.graph import Node, Value
from graphopt.ir.operands import shape_of, type_of

PASSES = ("redundant-view", "common-subexpression", "sum-product", "dead-code")


def optimized(program: Callable[..., object], *shapes: tuple[int, ...]) -> graphopt.Optimized:
    torch.manual_seed(0)
    args = tuple(torch.randn(shape) * shape[-1] ** -0.5 for shape in shapes)
    with torch.no_grad():
        found = graphopt.optimize(program, args, passes=PASSES, measure=False)
        assert found.report.equivalent is True
        torch.testing.assert_close(found(*args), program(*args), atol=1e-4, rtol=1e-4)
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


BLOCKS: dict[str, tuple[Callable[..., object], tuple[tuple[int, ...], ...], int]] = {
    "an identity matrix": (
        lambda v, a: (torch.eye(300) - 2 * torch.outer(v, v)) @ a, ((300,), (300, 300)), 0
    ),
    "diagonals": (lambda d, a: torch.diag(d) @ a @ torch.diag(d), ((300,), (300, 300)), 0),
    "blocks": (
        lambda a, c, d: torch.cat([a, torch.zeros(300, 300)], 1) @ torch.cat([c, d]), ((300, 300),) * 3, 1
    ),
    "pairs": (
        lambda x, w: torch.cat([x[:, None].expand(64, 64, -1), x[None].expand(64, 64, -1)], -1) @ w,
        ((64, 32), (64, 32)), 2,
    ),
    "zeros at the side": (lambda a, b: torch.nn.functional.pad(a, (0, 600)) @ b, ((300, 300), (900, 64)), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_zeros_and_ones_are_not_multiplied(name: str) -> None:
    program, shapes, products = BLOCKS[name]
    names = operators(optimized(program, *shapes))
    assert names.count("mm") == products
    assert not {"eye", "diag", "cat", "zeros", "pad", "matmul"} & {*names}


def test_an_identity_matrix_that_is_returned_stays() -> None:
    found = optimized(lambda a, b, x: (torch.eye(300) - a @ (b @ x), a @ b @ x[:, 0]), *[(300, 300)] * 3)
    assert "eye" in operators(found)


Z = torch.zeros
JOINED: dict[str, tuple[Callable[..., object], tuple[tuple[int, ...], ...], int]] = {
    "blocks on the diagonal": (
        lambda a, b, x: torch.block_diag(a, b) @ x, ((300, 200), (200, 300), (500, 64)), 2
    ),
    "blocks on the diagonal, from the right": (
        lambda a, b, x, v: torch.nn.functional.linear(x, torch.block_diag(a, b), v),
        ((256, 256), (256, 256), (64, 512), (512,)), 2,
    ),
    "a triangle of blocks": (
        lambda a, b, c, x: torch.cat([torch.cat([a, Z(256, 256)], 1), torch.cat([b, c], 1)]) @ x,
        (*((256, 256),) * 3, (512, 64)), 3,
    ),
    "batches of blocks": (
        lambda a, b, x: torch.cat(
            [torch.cat([a, Z(8, 128, 64)], 2), torch.cat([Z(8, 64, 128), b], 2)], 1
        ) @ x,
        ((8, 128, 128), (8, 64, 64), (8, 192, 32)), 2,
    ),
    "chains side by side": (
        lambda a, b, x: torch.cat([(a @ b) @ x, (b @ a) @ x], 1), ((300, 300), (300, 300), (300, 8)), 4
    ),
    "a chain with zeros around": (
        lambda a, b, x: torch.nn.functional.pad((a @ b) @ x, (1, 2, 3, 0)), (*((300, 300),) * 2, (300, 4)), 2
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", JOINED)
def test_what_is_put_together_of_blocks_is_made_block_by_block(name: str) -> None:
    program, shapes, products = JOINED[name]
    names = operators(optimized(program, *shapes))
    assert sum(one in ("mm", "bmm", "addmm") for one in names) == products
    assert "cat" in names and not {"matmul", "linear", "block_diag", "pad"} & {*names}


def test_a_diagonal_that_is_returned_stays() -> None:
    found = optimized(lambda a, b, v: torch.diag((a @ b) @ v), (300, 300), (300, 300), (300,))
    assert operators(found) == ["mv", "mv", "diag"]


def test_a_concatenation_that_is_returned_stays() -> None:
    found = optimized(lambda a, b, x: torch.cat([(a @ b) @ x, x]), (300, 300), (300, 300), (300, 4))
    assert operators(found).count("cat") == 1
    assert operators(found).count("mm") == 2


M, V = (300, 300), (300,)
ADDED: dict[str, tuple[Callable[..., object], tuple[tuple[int, ...], ...], str, int]] = {
    "a matrix": (lambda x, w, b, a: x @ (w + b @ a), ((4, 512), (512, 512), (512, 8), (8, 512)), "addmm", 1),
    "a row": (lambda a, b, x, v: (a @ b) @ x + v, (M, M, (300, 40), (40,)), "addmm", 1),
    "a multiple": (lambda a, b, x, v: v - 3 * ((a @ b) @ x), (M, M, (300, 40), (300, 1)), "addmm", 1),
    "a vector": (lambda x, k, z, h: x + k @ z - k @ h @ x, (V, M, V, M), "addmv", 2),
    "an outer product": (lambda v, a: a - 2 * torch.outer(v, v) @ a, (V, M), "addr", 1),
    "what is used twice": (lambda a, b, x, y: ((a @ b) @ x + y, (a @ b) @ x), (M, M, V, V), "addmv", 0),
    "batches": (lambda a, b, x, y: (a @ b) @ x + y, ((4, 99, 99),) * 2 + ((4, 99, 5),) * 2, "addmm", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", ADDED)
def test_a_product_is_added_to_what_it_is_multiplied_for(name: str) -> None:
    program, shapes, operator, count = ADDED[name]
    names = operators(optimized(program, *shapes))
    assert names.count(operator) == count
    assert ("add" in names) == (count == 0)
    assert "neg" not in names


def test_rows_times_rows_are_multiplied_and_summed() -> None:
    found = optimized(lambda x, a: (x[:, :, None] * x[:, None] * a).sum((1, 2)), (64, 128), (128, 128))
    assert [name for name in operators(found) if name != "t"] == ["mm", "mul", "sum"]


LOOPS: dict[str, tuple[Callable[..., object], tuple[tuple[int, ...], ...], list[str]]] = {
    "over columns": (lambda a, x: torch.stack([a @ x[:, i] for i in range(16)], 1), (M, (300, 16)), ["mm"]),
    "over vectors of two matrices": (
        lambda a, b, x: torch.stack([(a @ b) @ x[i] for i in range(4)]), (M, M, (4, 300)), ["mm", "mm"]
    ),
    "over rows": (lambda a, x: torch.stack([a @ row for row in x]), (M, (12, 300)), ["mm"]),
    "of two": (
        lambda x, a, y: torch.stack([r @ a @ s for r, s in zip(x, y, strict=True)]),
        ((12, 300), M, (12, 300)), ["mm", "mul", "sum"],
    ),
    "of quadratic forms": (
        lambda a, x: torch.stack([row @ a @ row for row in x]), (M, (12, 300)), ["mm", "mul", "sum"]
    ),
    "with a bias": (
        lambda a, x, b: torch.stack([a @ row + b for row in x]), (M, (12, 300), (300,)), ["addmm"]
    ),
    "over 64 rows with a bias": (
        lambda a, x, b: torch.stack([a @ row + b for row in x]), (M, (64, 300), (300,)), ["addmm"]
    ),
    "over slices of a weight": (
        lambda x, w: torch.cat([x @ w[:, 30 * i : 30 * i + 30] for i in range(10)], 1), ((128, 300), M),
        ["mm"],
    ),
    "over parts of both": (
        lambda x, w: sum(p @ q for p, q in zip(x.chunk(10, 1), w.chunk(10), strict=True)), (M, M), ["mm"]
    ),
    "over rows of what is computed": (
        lambda x, w, a: torch.stack([a @ row for row in (x @ w).unbind()]),
        ((12, 300), M, M),
        ["matmul", "mm"],
    ),
    "summed over 64": (
        lambda a, x: sum(a @ x[i] for i in range(64)), (M, (64, 300)), ["sum", "mv"]
    ),
    "summed": (lambda u, v: sum(torch.outer(u[i], v[i]) for i in range(12)), ((12, 300), (12, 300)), ["mm"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_over_vectors_is_a_product_of_matrices(name: str) -> None:
    program, shapes, products = LOOPS[name]
    assert [one for one in operators(optimized(program, *shapes)) if one != "t"] == products


def test_a_long_sum_of_what_is_not_alike_is_left_in_parts() -> None:
    def program(a: torch.Tensor, *columns: torch.Tensor) -> torch.Tensor:
        total = a @ columns[0]
        for column in columns[1:]:
            total = total + a @ column
        return total

    found = optimized(program, (300, 300), *[(300,)] * 40)
    assert operators(found).count("mv") <= 2


NARROW: dict[str, tuple[Callable[..., object], tuple[tuple[int, ...], ...]]] = {
    "a matrix": (lambda a, x: a @ x, ((1000, 1000), (1000, 4))),
    "two columns": (lambda a, x: a @ x, ((1000, 1000), (1000, 2))),
    "a sum": (lambda c, a, x: torch.addmm(c, a, x), ((4,), (1000, 1000), (1000, 4))),
    "a matrix that lies as columns": (lambda a, x: a.t() @ x, ((1000, 1000), (1000, 4))),
    "batches": (lambda a, x: a @ x, ((8, 256, 256), (8, 256, 4))),
}


@pytest.mark.parametrize("name", NARROW)
def test_a_product_with_few_columns_is_one_with_few_rows(name: str) -> None:
    program, shapes = NARROW[name]
    products = [
        n for n in optimized(program, *shapes).graph.nodes if n.op.split(".")[1] in ("mm", "addmm", "bmm")
    ]
    (node,) = products
    left = next(arg for arg in node.args[-2:])
    assert isinstance(left, Value) and shape_of(left)[-2] == shapes[-1][-1]
    assert type_of(left).is_contiguous or shape_of(left)[-2] > 3


@pytest.mark.parametrize(
    "shapes",
    [((1000, 1000), (1000, 32)), ((1000, 1000), (1000, 1)), ((32, 32), (32, 4)), ((4, 900), (900, 4))],
)
def test_a_product_that_is_not_narrow_stays(shapes: tuple[tuple[int, ...], ...]) -> None:
    assert operators(optimized(lambda a, x: a @ x, *shapes)) == ["matmul"]


NORMS: dict[str, tuple[Callable[..., object], tuple[tuple[int, ...], ...], list[str]]] = {
    "squared": (lambda a: torch.linalg.matrix_norm(a.t() @ a).square(), ((16, 1000),), ["mm", "dot"]),
    "by itself": (
        lambda a: torch.linalg.norm(a.t() @ a), ((16, 1000),), ["mm", "dot", "clamp_min", "sqrt"]
    ),
    "to the fourth": (lambda a: (a.t() @ a).norm() ** 4, ((16, 1000),), ["mm", "dot", "mul"]),
    "of each row": (
        lambda u, v: torch.linalg.vector_norm(u @ v.t(), dim=1, keepdim=True), ((999, 32), (3000, 32)),
        ["mm", "mm", "mul", "sum", "clamp_min", "sqrt"],
    ),
    "of each matrix": (
        lambda a: torch.linalg.matrix_norm(a.mT @ a), ((8, 16, 512),),
        ["bmm", "mul", "sum", "clamp_min", "sqrt"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_is_the_root_of_a_polynomial(name: str) -> None:
    program, shapes, expected = NORMS[name]
    views = {"t", "permute", "reshape", "unsqueeze"}
    assert [one for one in operators(optimized(program, *shapes)) if one not in views] == expected


OTHER_NORMS: dict[str, tuple[Callable[..., object], tuple[tuple[int, ...], ...]]] = {
    "the largest singular value": (lambda a: torch.linalg.matrix_norm(a.t() @ a, 2), ((8, 99),)),
    "the same by another name": (lambda a: torch.linalg.norm(a.t() @ a, 2), ((8, 99),)),
    "of order 1": (lambda a: torch.linalg.vector_norm(a.t() @ a, 1), ((8, 999),)),
    "of a difference, of which terms cancel": (
        lambda a, b: torch.linalg.vector_norm(a[:, None] - b[None], dim=-1), ((200, 64), (200, 64))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_NORMS)
def test_another_norm_stays(name: str) -> None:
    program, shapes = OTHER_NORMS[name]
    names = operators(optimized(program, *shapes))
    assert any("norm" in one for one in names) and "sqrt" not in names


def test_what_is_added_to_many_products_is_added_once() -> None:
    sizes = (300, 300), (300,), (300,)
    found = optimized(lambda a, b, x: x - (a.t() @ (a @ x) - a.t() @ b), *sizes)
    assert operators(found)[-2:] == ["mv", "add"]
    found = optimized(lambda a, b, x: x - (a @ (a @ x) - a @ b), *sizes)
    assert operators(found)[-1] == "addmv"


def test_a_long_sum_of_columns_is_taken_in_parts() -> None:
    found = optimized(lambda x, y, z: torch.outer(y, x) @ z, (3000,), (3000,), (3000, 300))
    assert "bmm" in operators(found)
    found = optimized(lambda x, y, z: torch.outer(y, x) @ z, (3001,), (3001,), (3001, 300))
    assert "bmm" not in operators(found)
