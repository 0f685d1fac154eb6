"""Common subexpressions: fires, and refuses each thing it must, in the IR's own text."""

from textwrap import dedent
from typing import Any

import pytest
import torch

from graphopt.analysis.memory import Memory
from graphopt.ir.text import parse_graph, print_graph
from graphopt.pipeline import Outcome, run_passes
from passes.common_subexpression import CommonSubexpression
from tests.sameness import assert_same


def check(before: str, after: str | None = None) -> Outcome:
    """Runs the pass on a text; `after=None` means that it must not fire. A second run changes nothing."""
    graph = parse_graph(dedent(before))
    outcome = run_passes(graph, [CommonSubexpression()])
    expected = parse_graph(dedent(after)) if after is not None else graph
    assert print_graph(outcome.graph) == print_graph(expected)
    assert run_passes(outcome.graph, [CommonSubexpression()]).graph == outcome.graph
    return outcome


def test_an_equal_expression_is_computed_once_and_chains_collapse() -> None:
    outcome = check(
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)  # "m.py":1 "x.sin()" in "one"
          %b: f32[2] = aten.add.Tensor(%a, 1)
          %c: f32[2] = aten.sin.default(%x)  # "m.py":2 "x.sin()" in "two"
          %d: f32[2] = aten.add.Tensor(%c, 1)
          %e: f32[2] = aten.mul.Tensor(%b, %d)
          return %e
        }""",
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)  # "m.py":1 "x.sin()" in "one"; "m.py":2 "x.sin()" in "two"
          %b: f32[2] = aten.add.Tensor(%a, 1)
          %e: f32[2] = aten.mul.Tensor(%b, %b)
          return %e
        }""",
    )
    assert [step.why for step in outcome.steps] == ["computed before as a", "computed before as b"]


def test_operands_that_commute_are_compared_as_a_set() -> None:
    check(
        """
        graph {
          %x: f32[2] = argument 0
          %y: f32[2] = argument 1
          %a: f32[2] = aten.add.Tensor(%x, %y)
          %b: f32[2] = aten.add.Tensor(%y, %x)
          %c: f32[2] = aten.sub.Tensor(%a, %b)
          return %c
        }""",
        """
        graph {
          %x: f32[2] = argument 0
          %y: f32[2] = argument 1
          %a: f32[2] = aten.add.Tensor(%x, %y)
          %c: f32[2] = aten.sub.Tensor(%a, %a)
          return %c
        }""",
    )


def test_operators_with_several_results_merge() -> None:
    check(
        """
        graph {
          %x: f32[4] = argument 0
          s: (%s0: f32[2], %s1: f32[2]) = aten.chunk.default(%x, 2)
          t: (%t0: f32[2], %t1: f32[2]) = aten.chunk.default(%x, 2)
          %a: f32[2] = aten.add.Tensor(%s0, %t1)
          return %a
        }""",
        """
        graph {
          %x: f32[4] = argument 0
          s: (%s0: f32[2], %s1: f32[2]) = aten.chunk.default(%x, 2)
          %a: f32[2] = aten.add.Tensor(%s0, %s1)
          return %a
        }""",
    )


REFUSED = {
    "random numbers are drawn": (
        ["%a: f32[2] = aten.rand_like.default(%x)", "%b: f32[2] = aten.rand_like.default(%x)"],
        "draws random numbers",
    ),
    "literals differ in type": (
        ["%a: f32[2] = aten.add.Tensor(%x, 1)", "%b: f32[2] = aten.add.Tensor(%x, 1.0)"], None,
    ),
    "literals differ in the sign of zero": (
        ["%a: f32[2] = aten.mul.Tensor(%x, 0.0)", "%b: f32[2] = aten.mul.Tensor(%x, -0.0)"], None,
    ),
    "literals hash alike": (
        ["%a: f32[2] = aten.add.Tensor(%x, -1)", "%b: f32[2] = aten.add.Tensor(%x, -2)"], None,
    ),
    "result types differ": (
        ["%a: f32[2] = aten.sin.default(%x)", "%b: f32[2]{3} = aten.sin.default(%x)"], None,
    ),
    "operands do not commute": (
        ["%a: f32[2] = aten.sub.Tensor(%x, %y)", "%b: f32[2] = aten.sub.Tensor(%y, %x)"], None,
    ),
    "operands commute but for another argument": (
        ["%a: f32[2] = aten.add.Tensor(%x, %y, alpha=2)", "%b: f32[2] = aten.add.Tensor(%y, %x, alpha=2)"],
        None,
    ),
    "an operand is written in between": (
        [
            "%a: f32[2] = aten.sin.default(%x)", "%w: f32[2] = aten.add_.Tensor(%x, 1)",
            "%b: f32[2] = aten.sin.default(%x)",
        ],
        "written in between",
    ),
    "a view of an operand is written in between": (
        [
            "%v: f32[2] = aten.view.default(%x, [2])", "%a: f32[2] = aten.sin.default(%x)",
            "%w: f32[2] = aten.add_.Tensor(%v, 1)", "%b: f32[2] = aten.sin.default(%x)",
        ],
        "written in between",
    ),
    "another argument that may share storage is written in between": (
        [
            "%a: f32[2] = aten.sin.default(%x)", "%w: f32[2] = aten.add_.Tensor(%y, 1)",
            "%b: f32[2] = aten.sin.default(%x)",
        ],
        "written in between",
    ),
    "an unknown operator touches an operand in between": (
        [
            "%a: f32[2] = aten.sin.default(%x)", "%w: f32[2] = mylib.unknown.default(%x)",
            "%b: f32[2] = aten.sin.default(%x)",
        ],
        "written in between",
    ),
    "the first result is written later": (
        [
            "%a: f32[2] = aten.sin.default(%x)", "%b: f32[2] = aten.sin.default(%x)",
            "%w: f32[2] = aten.add_.Tensor(%a, 1)",
        ],
        "written later",
    ),
    "the second result is written later": (
        [
            "%a: f32[2] = aten.sin.default(%x)", "%b: f32[2] = aten.sin.default(%x)",
            "%w: f32[2] = aten.add_.Tensor(%b, 1)",
        ],
        "written later",
    ),
    "operators write": (
        ["%a: f32[2] = aten.add_.Tensor(%x, 1)", "%b: f32[2] = aten.add_.Tensor(%x, 1)"], None,
    ),
    "the operator is unknown": (
        ["%a: f32[2] = mylib.unknown.default(%x)", "%b: f32[2] = mylib.unknown.default(%x)"], None,
    ),
    "memory is left uninitialised": (
        ["%a: f32[2] = aten.empty_like.default(%x)", "%b: f32[2] = aten.empty_like.default(%x)"], None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_where(name: str) -> None:
    lines, why = REFUSED[name]
    body = "\n          ".join(lines)
    outcome = check(
        f"""
        graph {{
          %x: f32[2] = argument 0
          %y: f32[2] = argument 1
          {body}
          %r: f32[2] = aten.sub.Tensor(%a, %b)
          return %r
        }}"""
    )
    reasons = [missed.why_not for missed in outcome.missed]
    assert why is None or any(why in reason for reason in reasons), reasons


def test_two_results_that_both_reach_the_caller_stay_two() -> None:
    outcome = check(
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)
          %b: f32[2] = aten.sin.default(%x)
          %v: f32[1] = aten.slice.Tensor(%b, 0, 0, 1)
          return %a, %v
        }"""
    )
    assert [missed.why_not for missed in outcome.missed] == ["like %a, but the caller gets both"]


def test_two_results_that_reach_the_caller_do_not_meet_in_a_third() -> None:
    check(
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)
          %b: f32[2] = aten.sin.default(%x)
          %c: f32[2] = aten.sin.default(%x)
          return %b, %c
        }""",
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)
          %c: f32[2] = aten.sin.default(%x)
          return %a, %c
        }""",
    )


def test_one_of_two_results_may_reach_the_caller() -> None:
    check(
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)
          %b: f32[2] = aten.sin.default(%x)
          %c: f32[2] = aten.neg.default(%a)
          return %b, %c
        }""",
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)
          %c: f32[2] = aten.neg.default(%a)
          return %a, %c
        }""",
    )


REGION = """
      {name}: (%{name}0: f32[2]) = higher_order.wrap_with_set_grad_enabled(True, graph {{
        %{name}i: f32[2] = argument 0
        %{name}a: f32[2] = {op}(%{name}i)
        return %{name}a
      }}, %x)"""


def _two_regions(first: str, second: str) -> str:
    return (
        "graph {\n  %x: f32[2] = argument 0"
        + REGION.format(name="r", op=first)
        + REGION.format(name="s", op=second)
        + "\n  %c: f32[2] = aten.add.Tensor(%r0, %s0)\n  return %c\n}"
    )


def test_equal_calls_of_sub_graphs_are_one_whatever_the_names_in_them() -> None:
    outcome = check(
        _two_regions("aten.sin.default", "aten.sin.default"),
        "graph {\n  %x: f32[2] = argument 0"
        + REGION.format(name="r", op="aten.sin.default")
        + "\n  %c: f32[2] = aten.add.Tensor(%r0, %r0)\n  return %c\n}",
    )
    assert [step.why for step in outcome.steps] == ["computed before as r"]


@pytest.mark.parametrize(
    "second", ["aten.cos.default", "aten.rand_like.default", "aten.sin_.default", "mine.unknown.default"]
)
def test_sub_graphs_that_differ_or_have_effects_stay(second: str) -> None:
    first = "aten.sin.default" if second == "aten.cos.default" else second
    check(_two_regions(first, second))


def test_random_numbers_are_a_near_miss_where_they_are_drawn_alike() -> None:
    outcome = check(
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.rand_like.default(%x)
          %b: f32[2] = aten.rand_like.default(%x)
          %c: f32[3] = aten.rand.default([3])
          return %a, %b, %c
        }"""
    )
    assert [(missed.node.name, missed.why_not) for missed in outcome.missed] == [
        ("b", "like a, but aten.rand_like.default draws random numbers")
    ]


def test_equal_writes_are_no_near_miss() -> None:
    outcome = check(
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.add_.Tensor(%x, 1)
          %b: f32[2] = aten.add_.Tensor(%x, 1)
          return %b
        }"""
    )
    assert outcome.missed == ()


PROGRAMS: dict[str, Any] = {
    "promotion": lambda x: (x + 1, x.to(torch.int64) + 1.0, x + 1.0, (x + 1) * (x + 1)),
    "empty": lambda x: (x[:0].sin() + 1) * (x[:0].sin() + 1),
    "size one": lambda x: (x[:1].sin() + 1) * (x[:1].sin() + 1),
    "views": lambda x: (x.view(-1) * x.view(-1)).sum() + x.t().sum() * x.t().sum(),
    "reshape that copies": lambda x: x.t().reshape(-1) * x.t().reshape(-1),
    "mutation": lambda x: ((y := x * 2), y + 1, y.add_(1), y + 1),
    "dropout": lambda x: torch.dropout(x, 0.5, True) * torch.dropout(x, 0.5, True),
    "division": lambda x: (x.long() // 2) * (x.long() // 2),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_stay_what_they_are(name: str) -> None:
    assert_same(PROGRAMS[name], torch.randn(3, 4), passes=None)


def test_operands_of_two_dtypes_do_not_commute() -> None:
    """A float32 number times bfloat16 elements rounds otherwise than the elements times the number."""
    check(
        """
        graph {
          %x: f32[] = argument 0
          %y: bf16[9] = argument 1
          %a: bf16[9] = aten.mul.Tensor(%x, %y)
          %b: bf16[9] = aten.mul.Tensor(%y, %x)
          %c: bf16[9] = aten.sub.Tensor(%a, %b)
          return %c
        }"""
    )


def test_complex_operands_do_not_commute() -> None:
    check(
        """
        graph {
          %x: c64[9] = argument 0
          %y: c64[9] = argument 1
          %a: c64[9] = aten.add.Tensor(%x, %y)
          %b: c64[9] = aten.add.Tensor(%y, %x)
          %c: c64[9] = aten.sub.Tensor(%a, %b)
          return %c
        }"""
    )


def test_where_nothing_is_written_nothing_is_asked_of_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "version", None)
    check(
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)
          %b: f32[2] = aten.sin.default(%x)
          %c: f32[2] = aten.mul.Tensor(%a, %b)
          return %c
        }""",
        """
        graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)
          %c: f32[2] = aten.mul.Tensor(%a, %a)
          return %c
        }""",
    )
