"""Derived parameters: kept where it pays, and never what a caller could hold or a call changes."""

import pytest

from graphopt.ir.text import parse_graph
from graphopt.pipeline import run_passes
from graphopt.steps import Site
from graphopt.testing import check_pass
from passes.derived_parameter import DerivedParameter

KEPT = """
graph {
  %x: f32[4, 256] = argument 0
  %w: f32[256, 256] = param "w"
  %v: f32[256, 256] = param "v"
  %m: f32[256, 256]KEPT = aten.mm.default(%w, %v)
  %y: f32[4, 256] = aten.mm.default(%x, %m)
  return %y
}"""


@pytest.mark.parametrize("gradients", [False, True])
def test_a_product_of_parameters_is_kept_but_where_a_gradient_flows(gradients: bool) -> None:
    before = KEPT.replace("KEPT", "")
    after = None if gradients else KEPT.replace("KEPT", " kept")
    outcome = check_pass(DerivedParameter(), before, after, gradients=gradients)
    assert [node.name for step in outcome.steps for node in step.spared] == ([] if gradients else ["m"])


def _einsum(equation: str, operands: str, laid: str = "", kept: str = "", write: str = "") -> str:
    return f"""
graph {{
  %x: f32[4, 256] = argument 0
  %w: f32[256, 256] = param "w"
  %v: f32[256, 256] = param "v"
  %m: f32[256, 256]{laid}{kept} = aten.einsum.default("{equation}", {operands})
  {write}
  %y: f32[4, 256] = aten.mm.default(%x, %m)
  return %y
}}"""


def test_an_operator_that_may_return_a_view_is_kept_where_it_makes_new_memory() -> None:
    before = _einsum("ab,bc->ac", "[%w, %v]")
    check_pass(DerivedParameter(), before, _einsum("ab,bc->ac", "[%w, %v]", kept=" kept"))


def test_an_operator_that_may_return_a_view_is_not_kept_where_it_does_or_its_result_is_written() -> None:
    check_pass(DerivedParameter(), _einsum("ab->ba", "[%w]", laid="{1, 256}"))
    write = "%n: f32[256, 256] = aten.add_.Tensor(%m, 1)"
    check_pass(DerivedParameter(), _einsum("ab,bc->ac", "[%w, %v]", write=write))


def test_integers_of_constants_and_sizes_are_kept_even_where_gradients_are_wanted() -> None:
    check_pass(
        DerivedParameter(),
        """
        graph {
          %x: f32[<s0>, 512] = argument 0
          %n: int<s0> = aten.sym_size.int(%x, 0)
          %a: i64[<s0>] = aten.arange.default(%n, device=device("cpu"), pin_memory=False)
          %b: i64[<s0>] = aten.mul.Tensor(%a, 2)
          %c: i64[<s0>] = aten.remainder.Scalar(%b, 7)
          %d: i64[<s0>] = aten.cumsum.default(%c, 0)
          %y: f32[<s0>, 512] = aten.index.Tensor(%x, [%d])
          return %y
        }""",
        """
        graph {
          %x: f32[<s0>, 512] = argument 0
          %n: int<s0> = aten.sym_size.int(%x, 0)
          %a: i64[<s0>] = aten.arange.default(%n, device=device("cpu"), pin_memory=False)
          %b: i64[<s0>] = aten.mul.Tensor(%a, 2)
          %c: i64[<s0>] = aten.remainder.Scalar(%b, 7)
          %d: i64[<s0>] kept = aten.cumsum.default(%c, 0)
          %y: f32[<s0>, 512] = aten.index.Tensor(%x, [%d])
          return %y
        }""",
        gradients=True,
    )


BODIES = {
    "it is returned": ("%m: f32[256, 256] = aten.mm.default(%w, %w)", "%m"),
    "a view of it is returned": (
        "%m: f32[256, 256] = aten.mm.default(%w, %w)\n"
        "%t: f32[256, 256]{1, 256} = aten.t.default(%m)\n"
        "%y: f32[4, 256] = aten.mm.default(%x, %m)", "%y, %t",
    ),
    "it is written": (
        "%m: f32[256, 256] = aten.mm.default(%w, %w)\n"
        "%a: f32[256, 256] = aten.add_.Tensor(%m, %x2)\n"
        "%y: f32[4, 256] = aten.mm.default(%x, %a)", "%y",
    ),
    "a source is written before": (
        "%b: f32[256, 256] = aten.add_.Tensor(%w, %x2)\n"
        "%m: f32[256, 256] = aten.mm.default(%w, %w)\n"
        "%y: f32[4, 256] = aten.mm.default(%x, %m)", "%y",
    ),
    "it is random": (
        "%m: f32[256, 256] = aten.rand_like.default(%w)\n"
        "%y: f32[4, 256] = aten.mm.default(%x, %m)", "%y",
    ),
    "it depends on an argument": (
        "%m: f32[256, 256] = aten.mm.default(%w, %x2)\n"
        "%y: f32[4, 256] = aten.mm.default(%x, %m)", "%y",
    ),
    "nobody confirmed the operator": (
        "%m: f32[256, 256] = mylib.unknown.default(%w)\n"
        "%y: f32[4, 256] = aten.mm.default(%x, %m)", "%y",
    ),
    "it is a parameter's own memory": (
        "%m: f32[256, 256]{1, 256} = aten.t.default(%w)\n"
        "%y: f32[4, 256] = aten.mm.default(%x, %m)", "%y",
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", BODIES)
def test_not_kept_where(why: str) -> None:
    body, returned = BODIES[why]
    check_pass(
        DerivedParameter(),
        f"""
        graph {{
          %x: f32[4, 256] = argument 0
          %x2: f32[256, 256] = argument 1
          %w: f32[256, 256] = param "w"
          {body}
          return {returned}
        }}""",
    )


def test_what_is_much_larger_than_the_model_is_missed_with_the_reason() -> None:
    outcome = check_pass(
        DerivedParameter(),
        """
        graph {
          %x: f32[<s0>, 65536] = argument 0
          %w: f32[256, 1] = param "w"
          %r: f32[256, 65536] = aten.repeat.default(%w, [1, 65536])
          %t: f32[256, 65536] = aten.cumsum.default(%r, 1)
          %e: f32[256, 65536] = aten.exp.default(%t)
          %u: f32[65536] = aten.sum.dim_IntList(%e, [0])
          %v: f32[256, 65536] = aten.sin.default(%t)
          %y: f32[<s0>, 256] = aten.linear.default(%x, %v)
          %z: f32[<s0>, 65536] = aten.add.Tensor(%x, %u)
          return %y, %z
        }""",
        """
        graph {
          %x: f32[<s0>, 65536] = argument 0
          %w: f32[256, 1] = param "w"
          %r: f32[256, 65536] = aten.repeat.default(%w, [1, 65536])
          %t: f32[256, 65536] = aten.cumsum.default(%r, 1)
          %e: f32[256, 65536] = aten.exp.default(%t)
          %u: f32[65536] kept = aten.sum.dim_IntList(%e, [0])
          %v: f32[256, 65536] = aten.sin.default(%t)
          %y: f32[<s0>, 256] = aten.linear.default(%x, %v)
          %z: f32[<s0>, 65536] = aten.add.Tensor(%x, %u)
          return %y, %z
        }""",
    )
    reason = outcome.missed[0].why_not
    assert reason.startswith("keeping its 67.1 MB would save") and reason.endswith("µs a call")


def test_where_one_value_must_stay_another_on_the_way_to_it_is_kept() -> None:
    text = """graph {
      %x: f32[4, 256] = argument 0
      %w: f32[256, 256] = param "w"
      %m: f32[256, 256] = aten.mm.default(%w, %w)
      %n: f32[256, 256] = aten.neg.default(%m)
      %y: f32[4, 256] = aten.mm.default(%x, %n)
      return %y
    }"""
    graph, one = parse_graph(text), DerivedParameter()
    assert run_passes(graph, [one]).graph.kept == ("n",)
    assert run_passes(graph, [one], denied={Site(one.name, "n"): "tried"}).graph.kept == ("m",)
