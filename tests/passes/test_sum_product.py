"""Sum-product regions: another order where it is cheaper, whatever the spelling, and none where it is not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

import graphopt
from graphopt.algebra import improving, refusing
from graphopt.algebra.rewriting import Rewritten, rewritten, seconds_of
from graphopt.ir.text import parse_graph
from graphopt.pipeline import run_passes
from graphopt.steps import Site
from graphopt.testing import check_pass
from passes import sum_product
from passes.sum_product import SumProduct
from tests.sameness import assert_same

PASSES = ["redundant-view", "identity-operation", "common-subexpression", "sum-product", "dead-code"]
N = 256
M, V, T = (N, N), (N,), (4, N)

FOUND: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], list[str]]] = {
    "a vector at the end": (lambda a, x: a.t() @ a @ x, (M, V), ["mv", "t", "mv"]),
    "a vector in the middle": (
        lambda a, x, b: torch.outer(a @ x, x) @ b, (M, V, M),
        ["t", "mv", "mv", "unsqueeze", "unsqueeze", "mul"],
    ),
    "an outer product with a vector": (
        lambda x, y, z: torch.outer(y, x) @ z, ((4 * N,),) * 3, ["dot", "unsqueeze", "mul"]
    ),
    "by einsum": (lambda a, b, x: torch.einsum("ij,jk,k->i", a, b, x), (M, M, V), ["mv", "mv"]),
    "a repeated product": (lambda a, b, c: a @ b @ c @ a @ b, (M, M, M), ["mm", "mm", "mm"]),
    "a power": (lambda a: a @ a @ a @ a @ a @ a @ a @ a, (M,), ["mm", "mm", "mm"]),
    "a common factor": (lambda a, b, c: a @ b + a @ c, (M, M, M), ["add", "mm"]),
    "a factor common to both sides": (lambda a, b, c, d: a @ c + a @ d + b @ c + b @ d, (M,) * 4, []),
    "a sum with a vector": (
        lambda a, h, x: (a - h.t() @ h) @ x, (M, M, V), ["mv", "mv", "t", "mv", "add"]
    ),
    "terms that cancel": (lambda a, b, x: (a + b) @ x - a @ x, (M, M, V), ["mv"]),
    "one element": (lambda a, b: (a @ b)[2, 3], (M, M), ["select", "select", "dot"]),
    "one row": (lambda a, b: (a @ b)[2], (M, M), ["select", "t", "mv"]),
    "one row of a linear layer": (
        lambda x, w, c: torch.nn.functional.linear(x, w, c)[:, -1], ((8, 128, N), (2 * N, N), (2 * N,)), []
    ),
    "a trace": (lambda a, b: torch.trace(a @ b), (M, M), ["reshape", "t", "reshape", "mul", "sum"]),
    "a sum over all": (lambda a, b: (a @ b).sum(), (M, M), ["sum", "sum", "dot"]),
    "a mean of a linear layer": (
        lambda x, w, c: torch.nn.functional.linear(x, w, c).mean(1), ((8, 64, N), (2 * N, N), (2 * N,)), []
    ),
    "squares summed": (lambda a: (a.t() @ a).square().sum(), ((16, 4 * N),), ["t", "mm", "reshape", "dot"]),
    "distances": (lambda a, b: ((a[:, None] - b[None]) ** 2).sum(-1), ((N, 64), (N, 64)), []),
    "a Kronecker product": (
        lambda a, b, x: torch.kron(a, b) @ x, ((24, 24), (24, 24), (576,)), []
    ),
    "multiplied and summed": (lambda a, b: (a[:, :, None] * b[None]).sum(1), ((64, 64), (64, 64)), ["mm"]),
    "low rank": (lambda x, w, b, a: x @ (w + b @ a), ((4, 512), (512, 512), (512, 8), (8, 512)), []),
    "linear attention": (lambda q, k, v: q @ k.t() @ v, ((2048, 32),) * 3, ["t", "mm", "mm"]),
    "a Householder reflection": (lambda v, a: a - 2 * torch.outer(v, v) @ a, (V, M), []),
    "batches, as rows": (
        lambda a, b, x: a @ b @ x, ((8, 128, 128), (8, 128, 128), (8, 128, 1)),
        ["select", "reshape", "permute", "bmm", "permute", "bmm", "reshape", "reshape"],
    ),
    "a residual, added last": (lambda r, a, b, x: r + a @ b @ x, (V, M, M, V), ["mv", "mv", "add"]),
    "both of a product's readers": (lambda a, b, x, y: ((a @ b) @ x, (a @ b) @ y), (M, M, V, V), []),
}  # fmt: skip


def optimized(program: Callable[..., Any], shapes: tuple[tuple[int, ...], ...]) -> graphopt.Optimized:
    """With all that is done right: nothing had to be undone."""
    torch.manual_seed(0)
    with torch.no_grad():
        opt = graphopt.optimize(program, tuple(map(torch.randn, shapes)), passes=PASSES, measure=False)
    assert not opt.report.rolled_back
    return opt


@pytest.mark.parametrize("name", FOUND)
def test_a_cheaper_order_is_found(name: str) -> None:
    program, shapes, expected = FOUND[name]
    opt = optimized(program, shapes)
    steps = [step for step in opt.report.steps if step.pass_name == "sum-product"]
    assert steps
    assert all("but for a chance below" in step.evidence for step in steps)
    assert not any("spelled out" in step.evidence for step in steps)
    assert opt.report.equivalent
    found = [node.op.split(".")[1] for node in opt.graph.nodes]
    assert not expected or found == expected


LEFT: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "the best order already": (lambda a, x: a @ (a @ x), (M, V)),
    "low rank with many rows": (lambda x, w, b, a: x @ w + (x @ b) @ a, (T, M, (N, 8), (8, N))),
    "a short sequence": (lambda q, k, v: q @ k.t() @ v, ((8, 64),) * 3),
    "a Kronecker product in factors": (lambda a, b, x: b @ x @ a.t(), ((24, 24), (24, 24), (24, 24))),
    "a function in between": (lambda a, b, x: (a @ b).relu() @ x, (M, M, V)),
    "the product is returned": (lambda a, b, x: ((y := a @ b), y @ x), (M, M, V)),
    "zeros that have signs": (lambda a, b: torch.copysign(torch.ones(()), -0.0 * (a @ b)), (M, M)),
    "what is small": (lambda a, x: a.t() @ a @ x, ((4, 4), (4,))),
}


@pytest.mark.parametrize("why", LEFT)
def test_it_is_left(why: str) -> None:
    program, shapes = LEFT[why]
    report = optimized(program, shapes).report
    assert "sum-product" not in {step.pass_name for step in report.steps}


def _written(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    y = a @ b
    b.zero_()
    return y @ x


def _written_later(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    return (a @ b @ x).relu_()


@pytest.mark.parametrize("program", [_written, _written_later])
def test_writes_are_respected(program: Callable[..., Tensor]) -> None:
    args = torch.randn(M), torch.randn(M), torch.randn(V)
    with torch.no_grad():
        assert_same(program, *args, passes=PASSES)


def test_what_is_given_another_shape_in_place_is_left() -> None:
    outcome = check_pass(
        SumProduct(),
        """
        graph {
          %a: f32[256, 256] = argument 0
          %x: f32[256] = argument 1
          %c: f32[512] = argument 2
          %d: f32[512] = aten.sin.default(%c)
          %b: f32[256, 256] = aten.mm.default(%a, %a)
          %y: f32[256] = aten.mv.default(%b, %x)
          %o: f32[512] = aten.cos.out(%d, out=%y)
          %s: f32[] = aten.sum.default(%o)
          return %s
        }""",
    )
    assert [missed.why_not for missed in outcome.missed] == ["the result is written later"]


@pytest.mark.parametrize(
    "later", ["aten.relu_.default(%y)", "aten.cos.out(%c, out=%y)", "aten.unsqueeze_.default(%y, 0)"]
)
def test_what_is_written_later_is_left(later: str) -> None:
    outcome = check_pass(
        SumProduct(),
        f"""
        graph {{
          %a: f32[256, 256] = argument 0
          %x: f32[256] = argument 1
          %c: f32[256] = argument 2
          %b: f32[256, 256] = aten.mm.default(%a, %a)
          %y: f32[256] = aten.mv.default(%b, %x)
          %o: f32[256] = {later}
          %s: f32[] = aten.sum.default(%o)
          return %s
        }}""",
    )
    assert [missed.why_not for missed in outcome.missed] == ["the result is written later"]


TWO_READERS = """graph {
    %a: f32[256, 256] = argument 0
    %v: f32[256] = argument 1
    %w: f32[256] = argument 2
    %b: f32[256, 256] = aten.mm.default(%a, %a)
    %y: f32[256] = aten.mv.default(%b, %v)
    %z: f32[256] = aten.mv.default(%b, %w)
    return %y, %z }"""


def test_where_one_of_two_results_is_written_later_both_are_left() -> None:
    graph = parse_graph(TWO_READERS.replace("return %y", "%r: f32[256] = aten.relu_.default(%y)\nreturn %r"))
    outcome = run_passes(graph, [SumProduct()])
    assert not outcome.steps
    assert {missed.why_not for missed in outcome.missed} == {"the result is written later"}


def test_where_one_of_two_results_is_not_proven_the_same_both_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unproven(*args: Any) -> tuple[Rewritten, ...]:
        first, *others = rewritten(*args)
        return replace(first, certificate=replace(first.certificate, holds=False)), *others

    monkeypatch.setattr("graphopt.algebra.improving.rewritten", unproven)
    program, shapes, _ = FOUND["both of a product's readers"]
    report = optimized(program, shapes).report
    assert "the rewritten form is not the same polynomial" in {missed.why_not for missed in report.missed}
    assert "sum-product" not in {step.pass_name for step in report.steps}


def test_where_gradients_flow_nothing_changes() -> None:
    a, x = torch.randn(M, requires_grad=True), torch.randn(V)
    assert_same(lambda a, x: a.t() @ a @ x, a, x, passes=["sum-product"], backward=True)


def test_where_gradients_must_be_the_same_bits_no_order_is_another() -> None:
    graph = parse_graph("""graph {
        %a: f32[256, 256] = argument 0
        %x: f32[256] = argument 1
        %b: f32[256, 256] = aten.mm.default(%a, %a)
        %y: f32[256] = aten.mv.default(%b, %x)
        return %y }""")
    assert run_passes(graph, [SumProduct()]).steps
    assert not run_passes(graph, [SumProduct()], gradients=True).steps


@pytest.mark.parametrize("denied", ["y", "z"])
def test_what_is_denied_takes_all_with_it_that_was_decided_together(denied: str) -> None:
    graph = parse_graph(TWO_READERS)
    assert run_passes(graph, [SumProduct()]).steps
    outcome = run_passes(graph, [SumProduct()], denied={Site("sum-product", denied): "it was wrong"})
    assert not outcome.steps
    assert {missed.why_not for missed in outcome.missed} == {"it was wrong"}


def test_strides_of_a_part_of_larger_memory_are_kept() -> None:
    with torch.no_grad():
        opt = optimized(lambda a, b: (a @ b)[:, 2], (M, M))
        a, b = torch.randn(M), torch.randn(M)
        assert opt(a, b).stride() == (a @ b)[:, 2].stride() == (N,)


def test_the_false_square_is_not_taken() -> None:
    opt = optimized(lambda a, b, c: a @ b @ c @ a @ b, (M, M, M))
    a, b, c = (torch.randn(M, dtype=torch.float64) for _ in range(3))
    wrong = torch.linalg.matrix_power(a @ b, 2) @ c
    found = opt(*(t.float() for t in (a, b, c))).double()
    assert torch.allclose(found, a @ b @ c @ a @ b, rtol=1e-3, atol=1e-1 * wrong.abs().mean().item())
    assert not torch.allclose(found, wrong, rtol=1e-1)


def test_what_calls_do_not_change_is_multiplied_once() -> None:
    """x V W with parameters is x (V W), though of what changes with each call it is (x V) W."""
    model = torch.nn.Sequential(torch.nn.Linear(N, 4 * N), torch.nn.Linear(4 * N, N)).requires_grad_(False)
    x = torch.randn(100, N)
    with torch.no_grad():
        opt = graphopt.optimize(model, (x,), passes=[*PASSES, "derived-parameter"], measure=False)
        torch.testing.assert_close(opt(x), model(x), rtol=1e-4, atol=1e-4)
    shapes = [tuple(node.results[0].type.shape) for node in opt.graph.nodes]  # type: ignore[union-attr]
    assert not {(100, 4 * N), (4 * N, 100)} & {*shapes}


def test_where_nothing_may_become_finite_it_is_left_out_and_that_is_said() -> None:
    a, b, x = torch.randn(M), torch.full(M, torch.inf), torch.randn(V)
    with torch.no_grad():
        opt = graphopt.optimize(
            lambda a, b, x: (a + b) @ x - a @ x, (a, b, x), passes=PASSES, measure=False, nonfinite="exact"
        )
    assert not opt.report.steps
    assert "note: sum-product may make finite what is not: left out" in str(opt.report)


@pytest.mark.parametrize("more, refused", [(1.5, False), (0.5, True)])
def test_what_would_hold_much_more_memory_at_once_is_refused(more: float, refused: bool) -> None:
    with patch.multiple(refusing, MORE_MEMORY=more, FREE_BYTES=-(1 << 40)):
        opt = optimized(lambda a, b, c: a @ b + a @ c, (M, M, M))
    assert ("sum-product" not in {step.pass_name for step in opt.report.steps}) == refused
    assert any("MB at once, and not" in one.why_not for one in opt.report.missed) == refused


def test_the_values_that_nodes_read_die_with_them_where_nothing_else_needs_them() -> None:
    graph = parse_graph("""graph {
        %x: f32[4] = argument 0
        %given: f32[4] = argument 1
        %alone: f32[4] = aten.sin.default(%x)
        %returned: f32[4] = aten.cos.default(%x)
        %shared: f32[4] = aten.tan.default(%x)
        %a: f32[4] = aten.mul.Tensor(%alone, %returned)
        %b: f32[4] = aten.mul.Tensor(%a, %shared)
        %c: f32[4] = aten.mul.Tensor(%b, %x)
        %d: f32[4] = aten.mul.Tensor(%shared, %given)
        %e: f32[4] = aten.neg.default(%shared)
        return %c, %d, %e, %returned }""")
    nodes = [node for node in graph.nodes if node.name in "abcd"]
    read, dying = refusing._operands(nodes, graph)
    assert [value.name for value in read] == ["alone", "returned", "shared", "x", "given"]
    assert [value.name for value in dying] == ["alone"]


def test_what_depends_on_nothing_that_calls_change_is_not_run_by_them() -> None:
    graph = parse_graph("""graph {
        %x: f32[4, 4] = argument 0
        %p: f32[4, 4] = param "p"
        %turned: f32[4, 4] = aten.neg.default(%p)
        %square: f32[4, 4] = aten.mm.default(%turned, %p)
        %ones: f32[4, 4] = aten.full.default([4, 4], 1)
        %y: f32[4, 4] = aten.mm.default(%x, %square)
        %z: f32[4, 4] = aten.mm.default(%ones, %p)
        m: (%v: f32[4], %i: i64[4]) = aten.max.dim(%square, 1)
        return %y, %z, %v }""")
    found = improving.run_by_calls(graph.nodes, lambda value: value.name == "p")
    assert [node.name for node in found] == ["ones", "y", "z"]


def test_it_is_floating_tensors_that_matter() -> None:
    graph = parse_graph("""graph {
        %x: f32[4] = argument 0 %y: f64[4] = argument 1 %i: i64[4] = argument 2 %n: int = argument 3
        return %x }""")
    assert [v.name for v in graph.values if sum_product._is_floating(v)] == ["x", "y"]


def test_what_turned_out_dearer_than_its_price_is_not_spelled_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spelled = []

    def counted(*args: Any) -> tuple[Rewritten, ...]:
        spelled.append(args)
        return rewritten(*args)

    def dear(nodes: Any, draft: Any, fixed: Any) -> float:
        known = {node.name for node in draft.graph.nodes}
        return seconds_of(nodes, draft, fixed) + sum(node.name not in known for node in nodes)

    monkeypatch.setattr(improving, "rewritten", counted)
    monkeypatch.setattr(improving, "seconds_of", dear)
    opt = optimized(lambda a, x, b, y: (a.t() @ a @ x, b.t() @ b @ y), (M, V, M, V))
    assert not opt.report.steps
    assert len(spelled) == 1


def test_a_wide_region_has_to_gain_more_than_those_in_it_and_not_than_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[frozenset[str], float]] = []
    gains: dict[frozenset[str], float] = {}

    def noted(block: Any, whole: Any, fixed: Any, work: Any, least: float = 0.0) -> Any:
        found = improving.better_way(block, whole, fixed, work, least)
        names = frozenset(node.name for node in block.nodes)
        asked.append((names, least))
        if found is not None and not least:
            gains[names] = found.gain
        return found

    monkeypatch.setattr(sum_product, "better_way", noted)
    optimized(lambda a, b, c, d, e, x: (c @ (y := a @ b @ x), d @ y, d @ e @ x), (*[M] * 5, V))
    wide = [(names, least) for names, least in asked if least]
    assert wide and len(gains) > 1
    for names, least in wide:
        assert least == pytest.approx(sum(gain for members, gain in gains.items() if members <= names))
        assert least < sum(gains.values())


def test_regions_of_too_many_nodes_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noted(block: Any, *args: Any) -> Any:
        seen.append(len(block.nodes))
        return improving.better_way(block, *args)

    monkeypatch.setattr(sum_product, "better_way", noted)
    program = lambda a, b, c, d, x: (c @ (y := a @ b @ x), d @ y)  # noqa: E731
    optimized(program, (*[M] * 4, V))
    largest = max(seen)
    seen.clear()
    monkeypatch.setattr(sum_product, "MOST_NODES", largest - 1)
    optimized(program, (*[M] * 4, V))
    assert seen and max(seen) < largest


def test_what_is_run_again_counts_as_gone_nowhere() -> None:
    report = optimized(lambda a, b: ((c := (a @ b)[:, 2]).cumsum(0), c.cumprod(0)), (M, M)).report
    steps = [step for step in report.steps if step.pass_name == "sum-product"]
    assert [[node.name for node in step.redone] for step in steps] == [["cumsum"], ["cumprod"]]
    assert [step.site.node for step in steps] == ["cumsum", "cumprod"]


def test_what_is_run_again_has_no_part_in_the_price() -> None:
    report = optimized(lambda a, b: (a @ b)[:, :190].cumsum(0), (M, M)).report
    assert [step.site.node for step in report.steps if step.pass_name == "sum-product"] == ["cumsum"]


def test_each_result_has_what_is_said_of_it() -> None:
    program, shapes, _ = FOUND["both of a product's readers"]
    steps = [step for step in optimized(program, shapes).report.steps if step.pass_name == "sum-product"]
    assert [step.identity for step in steps] == ["a·b·x = a·(b·x)", "a·b·y = a·(b·y)"]
    assert [[node.name for node in step.removed] for step in steps] == [["matmul_1"], ["matmul", "matmul_3"]]


def test_what_is_drawn_in_between_does_not_matter_to_what_cannot_raise() -> None:
    def program(a: Tensor, b: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        y = a @ b
        return torch.rand(3), y @ x

    assert "sum-product" in {step.pass_name for step in optimized(program, (M, M, V)).report.steps}


def test_what_may_raise_before_something_is_drawn_stays_before_it() -> None:
    rows = torch.tensor([3, 14, 3])

    def program(a: Tensor, b: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        some = (a @ b)[rows]
        return torch.rand(3), some @ x

    def alone(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
        return (a @ b)[rows] @ x

    missed = {one.why_not for one in optimized(program, (M, M, V)).report.missed}
    assert "what is done in between would not be done before it raises" in missed
    assert "sum-product" in {step.pass_name for step in optimized(alone, (M, M, V)).report.steps}
