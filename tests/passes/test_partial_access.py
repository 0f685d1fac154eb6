"""What is read in part only is computed there only: through functions, layers and gathers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import graphopt
from tests.passes.test_sum_product import PASSES, optimized
from tests.sameness import assert_same

N = 256
M, X, W, B = (N, N), (8, 64, N), (2 * N, N), (2 * N,)
IMAGE = (4, 16, 32, 32)
ROWS = torch.tensor([3, 14, 3, -1])
EACH = torch.arange(72).reshape(24, 3) * 7 % N
LABELS = torch.arange(64) * 63


def _block(x: Tensor, w: Tensor, b: Tensor, v: Tensor, g: Tensor) -> Tensor:
    y = x + F.linear(F.gelu(F.linear(F.layer_norm(x, (N,), g), w, b)), v)
    return F.layer_norm(y, (N,), g)[:, -1]


FOUND: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], list[str]]] = {
    "a slice of a function": (lambda a: torch.tanh(a)[:20].clone(), ((4 * N, N),), ["slice", "tanh"]),
    "the last token before gelu": (
        lambda x, w, b: F.gelu(F.linear(x, w, b))[:, -1].clone(), (X, W, B),
        ["select", "t", "addmm", "gelu"],
    ),
    "a function behind the slice": (
        lambda x, w, b: torch.relu(F.linear(x, w, b)[:, 0]), (X, W, B),
        ["select", "t", "addmm", "relu"],
    ),
    "a whole block": (_block, (X, W, B, (N, 2 * N), (N,)), []),
    "a diagonal through a function": (
        lambda a, b: torch.sigmoid(a @ b).diagonal().clone(), (M, M), ["t", "mul", "sum", "sigmoid"]
    ),
    "a trace through a function": (
        lambda a, b: torch.trace(torch.tanh(a @ b)), (M, M), ["t", "mul", "sum", "tanh", "sum"]
    ),
    "a row of softmax": (
        lambda a, b: (a @ b).softmax(-1)[5].clone(), (M, M), ["select", "t", "mv", "softmax"]
    ),
    "a value whose size is read": (
        lambda a, b: torch.tanh(y := torch.tanh(a @ b))[7] + y.new_ones(N), (M, M), []
    ),
    "rows along another dimension": (lambda a, b: (a @ b).softmax(0)[:, 7].clone(), (M, M), []),
    "the largest of some rows": (lambda a, b: (a @ b).amax(-1)[:3].clone(), (M, M), ["slice", "mm", "amax"]),
    "normalised rows": (lambda a, b: F.normalize(a @ b)[7].clone(), (M, M), []),
    "a broadcast condition": (lambda a, b, c: torch.where(c > 0, a @ b, a)[3].clone(), (M, M, (N,)), []),
    "two rows of one function": (lambda a, b: (y := torch.tanh(a @ b))[7] * y[9], (M, M), []),
    "attention of one token": (
        lambda q, k, v: ((q @ k.transpose(-1, -2)).softmax(-1) @ v)[:, 0].clone(), ((8, 128, 64),) * 3, []
    ),
    "some heads behind a function": (
        lambda x, w: F.gelu(F.linear(x, w)).view(8, 64, 8, -1)[:, :, 3].clone(), (X, W), []
    ),
    "the last token of a part of a layer": (
        lambda x, w: torch.cos((y := F.linear(x, w).chunk(3, -1))[0])[:, -1] @ y[1].transpose(-1, -2),
        (X, (3 * N, N)), [],
    ),
    "the last token of fused attention": (
        lambda x, q, k, v: F.scaled_dot_product_attention(x @ q, x @ k, x @ v)[:, -1].clone(),
        (X, M, M, M), [],
    ),
    "a pixel of a convolution of a function": (
        lambda x, w: F.conv2d(torch.cos(x), w, padding=1)[:, :, 5, 5].clone(), (IMAGE, (16, 16, 3, 3)),
        ["slice", "slice", "cos", "reshape", "reshape", "t", "mm"],
    ),
    "a corner behind two convolutions": (
        lambda x, w: F.conv2d(torch.cos(F.conv2d(x, w, padding=1)), w, padding=1)[:, :, 0, 0].clone(),
        (IMAGE, (16, 16, 3, 3)), [],
    ),
    "the first rows, upside down": (
        lambda a, b: torch.cos(a @ b).flip(0)[:3].clone(), (M, M), ["flip", "slice", "mm", "cos"]
    ),
    "zeros around a function": (
        lambda a, b: F.pad(torch.cos(a @ b)[:, :20], (3, 3)).clone(), (M, M), ["slice", "mm", "cos", "pad"]
    ),
    "gathered rows in a block": (lambda a, b: torch.cat([(a @ b)[ROWS], a])[:5].clone(), (M, M), []),
    "gathered rows": (lambda a, b: (a @ b)[ROWS], (M, M), ["index", "mm"]),
    "gathered columns": (lambda a, b: (a @ b)[:, ROWS], (M, M), []),
    "gathered elements": (lambda a, b: (a @ b)[ROWS, ROWS + 1], (M, M), []),
    "rows by index_select": (
        lambda a, b: torch.index_select(a @ b, 0, ROWS[:3]), (M, M), ["slice", "index_select", "mm"]
    ),
    "gathered elements of each row": (lambda a, b: (a @ b).gather(1, EACH), (M, M), []),
    "gathered elements of each column": (lambda a, b: (a @ b).gather(0, EACH.t()), (M, M), []),
    "gathered elements of some rows": (lambda a, b: torch.tanh(a @ b).gather(1, EACH[:9]), (M, M), []),
    "the scores of labels": (
        lambda x, w: F.linear(x, w).gather(-1, LABELS[:, None]).squeeze(-1), ((64, 256), (4096, 256)),
        ["unsqueeze", "expand", "gather", "mul", "sum"],
    ),
    "elements along a dimension": (lambda a, b: torch.take_along_dim((a @ b)[:24], EACH, 1), (M, M), []),
    "the same elements along each row": (
        lambda a, b: torch.take_along_dim(a @ b, EACH[:1], 1), (M, M), []
    ),
    "what is gathered is a product, too": (
        lambda a, b, x: (a @ b @ x).gather(1, EACH % 9), (M, M, (N, 9)), []
    ),
    "gathered rows of a chain": (lambda a, b, c: (a @ b @ c)[ROWS], (M, M, M), ["index", "mm", "mm"]),
    "gathered rows of a sum": (lambda a, b: (a + b)[ROWS], ((4 * N, N),) * 2, ["index", "index", "add"]),
    "gathered rows of a layer": (lambda x, w, b: F.linear(x, w, b)[:, ROWS], (X, W, B), []),
    "gathered rows of a function": (lambda a, b: F.gelu(a @ b)[ROWS], (M, M), ["index", "mm", "gelu"]),
    "gathered rows of softmax": (lambda a, b: (a @ b).softmax(-1)[ROWS], (M, M), ["index", "mm", "softmax"]),
    "few of a table's rows projected": (lambda w, p: F.embedding(ROWS[:3], w @ p), (M, M), []),
    "a projected table": (
        lambda w, p: F.embedding(torch.arange(16 * N) % N, w) @ p, (M, M),
        ["arange", "remainder", "mm", "index_select"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_only_what_is_read_is_computed(name: str) -> None:
    program, shapes, expected = FOUND[name]
    opt = optimized(program, shapes)
    assert [
        step for step in opt.report.steps if step.pass_name == "sum-product"
    ] and not opt.report.rolled_back
    assert opt.report.equivalent
    found = [node.op.split(".")[1] for node in opt.graph.nodes]
    assert not expected or found == expected
    args = tuple(torch.randn(shape) for shape in shapes)
    with torch.no_grad():
        expected_value, value = program(*args), opt(*args)
    torch.testing.assert_close(value, expected_value, rtol=1e-3, atol=1e-3)
    assert value.stride() == expected_value.stride()


LEFT: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "the value is wanted whole, too": (lambda a, b: (y := torch.tanh(a @ b))[7] + y.sum(0), (M, M)),
    "zeros are read, of which a function makes others": (
        lambda a, b: F.pad(torch.cos(a @ b), (0, 0, 3, 3))[:5] @ b, (M, M)
    ),
    "zeros behind it are read, of which a function makes others": (
        lambda a, b: F.pad(torch.cos(a @ b), (0, 0, 0, 3))[-5:] @ b, (M, M)
    ),
    "many parts of it are read": (
        lambda a, b: torch.stack([(y := torch.tanh(a @ b))[0], y[9], y[20], y[27], y[99]]), (M, M)
    ),
    "the value is returned": (lambda a, b: ((y := torch.tanh(a @ b)), y[7] + 1), (M, M)),
    "the slice cuts the row": (lambda a: a.softmax(-1)[:, :3].clone(), (M,)),
    "most of it is read": (lambda a: torch.tanh(a)[1:].clone(), (M,)),
    "more rows are gathered than there are": (
        lambda a, b: (a @ b)[torch.arange(16 * N) % N], (M, M)
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", LEFT)
def test_it_is_left(why: str) -> None:
    program, shapes = LEFT[why]
    report = optimized(program, shapes).report
    assert "sum-product" not in {step.pass_name for step in report.steps} and not report.rolled_back


def _gathers(index: Tensor) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    return {
        "rows": lambda a, b: (a @ b)[index],
        "index_select": lambda a, b: torch.index_select(a @ b, 0, index),
        "embedding": lambda a, b: F.embedding(index, a @ b),
        "an element of each row": lambda a, b: (a @ b)[:3].gather(1, index[:, None]),
        "rows by gather": lambda a, b: (a @ b).gather(0, index[:, None].expand(-1, N)),
        "a row of rows": lambda a, b: (a @ b)[index][0].clone(),
        "a function": lambda a, b: torch.tanh(a @ b)[index],
        "a block": lambda a, b: torch.cat([(a @ b)[index], a])[:4].clone(),
        "a block of which others are read": lambda a, b: torch.cat([(a @ b)[index], a])[3:].clone(),
    }


@pytest.mark.parametrize("name", _gathers(ROWS))
@pytest.mark.parametrize("bad", [N, -N - 1, 10**9])
def test_an_index_out_of_range_raises_as_before(name: str, bad: int) -> None:
    """Also where the element that it would give is not read."""
    a, b, index = torch.randn(M), torch.randn(M), torch.tensor([1, 2, 3])

    def program(a: Tensor, b: Tensor, index: Tensor) -> Tensor:
        return _gathers(index)[name](a, b)

    with torch.no_grad():
        opt = graphopt.optimize(program, (a, b, index), passes=PASSES, measure=False)
        index = torch.tensor([1, 2, bad])
        with pytest.raises(Exception) as expected:
            program(a, b, index)
        with pytest.raises(expected.type):
            opt(a, b, index)


def test_positions_along_a_dimension_wrap_as_before() -> None:
    a, b, index = torch.randn(M), torch.randn(M), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        program = lambda a, b, index: torch.take_along_dim(a @ b, index, 1)  # noqa: E731
        opt = graphopt.optimize(program, (a, b, index), passes=PASSES, measure=False)
        assert "sum-product" in {step.pass_name for step in opt.report.steps}
        index = torch.tensor([[-1, N + 5, -3 * N]])
        torch.testing.assert_close(opt(a, b, index), program(a, b, index), rtol=1e-3, atol=1e-3)


def test_negative_indices_count_from_the_end_only_where_they_did() -> None:
    a, b = torch.randn(M), torch.randn(M)
    index = torch.tensor([0, 1])
    for name in ("rows", "index_select"):
        program = lambda a, b, index, name=name: _gathers(index)[name](a, b)  # noqa: E731
        with torch.no_grad():
            opt = graphopt.optimize(program, (a, b, index), passes=PASSES, measure=False)
            assert opt.report.steps
            given = torch.tensor([0, -1])
            if name == "rows":
                torch.testing.assert_close(opt(a, b, given), (a @ b)[given], rtol=1e-3, atol=1e-3)
            else:
                with pytest.raises(IndexError):
                    opt(a, b, given)


def _drawn_in_between(a: Tensor, b: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    rows = (a @ b)[index]
    noise = torch.randn(3)
    return rows[0].clone(), noise


def test_nothing_is_drawn_before_an_index_raises() -> None:
    a, b, index = torch.randn(M), torch.randn(M), torch.tensor([1, 2, 3])
    with torch.no_grad():
        opt = graphopt.optimize(_drawn_in_between, (a, b, index), passes=PASSES, measure=False)
        states = []
        for module in (_drawn_in_between, opt):
            torch.manual_seed(0)
            with pytest.raises(IndexError):
                module(a, b, torch.full((3,), N))
            states.append(torch.get_rng_state())
        assert torch.equal(*states)


def _written_in_between(a: Tensor, b: Tensor) -> Tensor:
    y = torch.tanh(a)
    a.zero_()
    return (y @ b)[2].clone()


def _written_later(a: Tensor, b: Tensor) -> Tensor:
    y = torch.tanh(a @ b)
    row = y[2].clone()
    y.zero_()
    return row


def test_numbers_that_are_read_beside_are_no_tensors() -> None:
    opt = optimized(lambda a, b: (torch.tanh(a @ b)[7].clone(), a.sum().item()), (M, M))
    assert "sum-product" in {step.pass_name for step in opt.report.steps} and not opt.report.rolled_back


@pytest.mark.parametrize("program", [_written_in_between, _written_later])
def test_writes_are_respected(program: Callable[..., Tensor]) -> None:
    with torch.no_grad():
        assert_same(program, torch.randn(M), torch.randn(M), passes=PASSES)


def test_where_gradients_flow_nothing_changes() -> None:
    a, b = torch.randn(M, requires_grad=True), torch.randn(M)
    assert_same(lambda a, b: torch.tanh(a @ b)[2], a, b, passes=["sum-product"], backward=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_keep_theirs(dtype: torch.dtype) -> None:
    a, b = torch.randn(M, dtype=dtype), torch.randn(M, dtype=dtype)
    program = lambda a, b: torch.where(a > 0, torch.tanh(a @ b).float(), 1.0)[2:4].clone()  # noqa: E731
    with torch.no_grad():
        opt = graphopt.optimize(program, (a, b), passes=PASSES, measure=False)
        torch.testing.assert_close(opt(a, b), program(a, b), rtol=2e-2, atol=2e-2)


def test_a_part_that_is_returned_lies_as_before_and_survives_saving(tmp_path: Any) -> None:
    program = lambda x, w: F.linear(x, w)[:, -1]  # noqa: E731
    x, w = torch.randn(X), torch.randn(W)

    class Model(torch.nn.Module):
        def forward(self, x: Tensor, w: Tensor) -> Tensor:
            return program(x, w)

    with torch.no_grad():
        opt = graphopt.optimize(Model(), (x, w), passes=PASSES, measure=False)
        assert opt.report.steps
        opt.save(str(tmp_path / "model.pt2"))
        loaded = torch.export.load(str(tmp_path / "model.pt2")).module()
        for one in (opt, loaded):
            torch.testing.assert_close(one(x, w), program(x, w), rtol=1e-3, atol=1e-3)
            assert one(x, w).stride() == program(x, w).stride()


def _gathered(i: Tensor, j: Tensor, *pairs: Tensor) -> tuple[Tensor, ...]:
    matrices = iter(pairs)
    return tuple((a @ b)[at] for at, a, b in zip((j, i), matrices, matrices, strict=True))


def _selected(i: Tensor, j: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, ...]:
    return (a @ b)[i], (c @ d).index_select(0, j), (a @ c).index_select(1, i), (b @ d)[j, i]


@pytest.mark.parametrize("program", [_gathered, _selected])
def test_equal_gathers_are_each_of_their_own_rows(program: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    i, j = torch.tensor([3, 14, 3, 1]), torch.tensor([7, 7, 200, 9])
    args = (i, j, *(torch.randn(N, N) for _ in range(4)))
    with torch.no_grad():
        opt = graphopt.optimize(program, args, passes=PASSES, measure=False)
        for rows in ((i, j), (j, i)):
            found, wanted = (one(*rows, *args[2:]) for one in (opt, program))
            for mine, theirs in zip(found, wanted, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)
        for bad in ((i + N, j), (i, j + N)):
            for one in (opt, program):
                with pytest.raises((IndexError, RuntimeError)):
                    one(*bad, *args[2:])
    products = [node for node in opt.graph.nodes if node.op in ("aten.mm.default", "aten.matmul.default")]
    assert all(math.prod(map(int, node.results[0].type.shape)) < N * N for node in products)


def test_equal_parts_are_each_of_their_own_layer() -> None:
    def program(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        layers = iter(weights)
        return tuple(
            F.gelu(F.linear(x, w, b))[:, at].clone()
            for at, (w, b) in zip((0, -1, 0), zip(layers, layers, strict=True), strict=True)
        )

    torch.manual_seed(0)
    args = (torch.randn(X), *(torch.randn(shape) for _ in range(3) for shape in (W, B)))
    with torch.no_grad():
        opt = graphopt.optimize(program, args, passes=PASSES, measure=False)
        for mine, theirs in zip(opt(*args), program(*args), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)
    gelus = [node for node in opt.graph.nodes if node.op == "aten.gelu.default"]
    assert [tuple(node.results[0].type.shape) for node in gelus] == [(8, 2 * N)] * 3
