"""Dead code: fires, and refuses each thing it must, in the IR's own text."""

from textwrap import dedent

import pytest
import torch

from graphopt.ir.text import parse_graph, print_graph
from graphopt.pipeline import Outcome, run_passes
from passes.dead_code import DeadCode
from tests.sameness import assert_same


def check(before: str, after: str | None = None) -> Outcome:
    graph = parse_graph(dedent(before))
    outcome = run_passes(graph, [DeadCode()])
    expected = parse_graph(dedent(after)) if after is not None else graph
    assert print_graph(outcome.graph) == print_graph(expected)
    return outcome


def test_a_chain_that_nothing_reads_goes_whole() -> None:
    outcome = check(
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)
          %b: f32[2] = aten.view.default(%a, [2])
          c: (%c0: f32[1], %c1: f32[1]) = aten.chunk.default(%b, 2)
          %d: f32[2] = aten.cos.default(%x)
          return %d
        }""",
        """
        graph {
          %x: f32[2] = argument 0
          %d: f32[2] = aten.cos.default(%x)
          return %d
        }""",
    )
    assert [step.removed[0].name for step in outcome.steps] == ["c", "b", "a"]


REFUSED = {
    "a random draw": ("%a: f32[2] = aten.rand_like.default(%x)", "moves the random stream"),
    "dropout in training": ("%a: f32[2] = aten.dropout.default(%x, 0.5, True)", "moves the random stream"),
    "a possible exception": ("%a: f32[2, 2] = aten.linalg_cholesky.default(%m)", "may raise"),
    "a write": ("%a: f32[2] = aten.add_.Tensor(%x, 1)", None),
    "statistics of batch-norm": (
        "%a: f32[2, 2] = aten.batch_norm.default(%m, None, None, %x, %x, True, 0.1, 1e-05, False)", None,
    ),
    "an unknown operator": ("%a: f32[2] = mylib.unknown.default(%x)", None),
    "a write of metadata": ("%a: f32[2, 2] = aten.t_.default(%m)", None),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_to_remove(name: str) -> None:
    line, why = REFUSED[name]
    outcome = check(
        f"""
        graph {{
          %x: f32[2] = argument 0
          %m: f32[2, 2] = argument 1
          {line}
          return %x
        }}"""
    )
    assert why is None or why in outcome.missed[0].why_not


def test_what_a_standing_node_reads_stands() -> None:
    check(
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)
          %b: f32[2] = aten.rand_like.default(%a)
          return %x
        }"""
    )


def test_harmless_flags_let_a_node_go() -> None:
    check(
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.dropout.default(%x, 0.5, False)
          return %x
        }""",
        """
        graph {
          %x: f32[2] = argument 0
          return %x
        }""",
    )


def test_programs_stay_what_they_are() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        x.sin()
        torch.rand(2)
        y = x * 2
        y.view(-1).add_(1)
        x.clone().add_(1)
        return y + torch.rand_like(x)

    opt = assert_same(program, torch.randn(2, 3), passes=None)
    assert "aten.sin.default" not in {node.op for node in opt.graph.nodes}


def test_one_result_that_is_read_keeps_its_node() -> None:
    check(
        """
        graph {
          %x: f32[2] = argument 0
          c: (%c0: f32[1], %c1: f32[1]) = aten.chunk.default(%x, 2)
          return %c1
        }"""
    )


@pytest.mark.parametrize(
    ("op", "goes"),
    [("aten.sin.default(%i)", True), ("aten.rand_like.default(%i)", False),
     ("aten.sin_.default(%i)", False), ("aten.cholesky.default(%i)", False),
     ("mine.unknown.default(%i)", False)],
)  # fmt: skip
def test_a_sub_graph_goes_with_what_is_in_it(op: str, goes: bool) -> None:
    text = f"""
        graph {{
          %x: f32[2, 2] = argument 0
          r: (%r0: f32[2, 2]) = higher_order.wrap_with_set_grad_enabled(True, graph {{
            %i: f32[2, 2] = argument 0
            %a: f32[2, 2] = {op}
            return %a
          }}, %x)
          return %x
        }}"""
    check(text, "graph {\n  %x: f32[2, 2] = argument 0\n  return %x\n}" if goes else None)
