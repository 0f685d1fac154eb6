"""Which values depend on state, constants and sizes alone, and which of them a call reads."""

from graphopt.analysis.dependence import Dependence
from graphopt.ir.text import parse_graph

GRAPH = parse_graph(
    """graph {
      %x: f32[<s0>, 4] = argument 0
      %p: f32[4, 4] = param "p"
      %n: int<s0> = aten.sym_size.int(%x, 0)
      %c: f32[4, 4] = aten.linalg_cholesky.default(%p)
      %e: f32[<s0>, <s0>] = aten.eye.default(%n)
      %d: f32[<s0>, <s0>] = aten.linalg_cholesky.default(%e)
      %f: float = aten.item.default(%p)
      both: (%a: f32[2, 4], %s: int<s0>) = aten.chunk.default(%p, 2)
      mixed: (%g: f32[2, 4], %h: float) = aten.chunk.default(%p, 2)
      %y: f32[<s0>, 4] = aten.mm.default(%x, %c)
      %z: f32[<s0>, <s0>] = aten.add.Tensor(%e, %d)
      return %y, %z, %a
    }"""
)


def test_what_may_raise_is_derived_where_it_can_come_first_of_all() -> None:
    dependence = Dependence(GRAPH)
    value = {value.name: value for value in GRAPH.values}
    derived = {name for name, one in value.items() if dependence.is_derived(one)}
    assert derived == {"p", "n", "c", "e", "a", "s"}
    assert [node.name for node in dependence.nodes] == ["c", "e", "both"]


def test_what_is_read_by_the_call_is_demanded_and_no_more() -> None:
    assert set(Dependence(GRAPH).demanded()) == {"c", "e", "a"}


def test_what_may_be_the_same_object_on_the_next_call() -> None:
    graph = parse_graph(
        """graph {
          %x: f32[<s0>, 4] = argument 0
          %p: f32[4, 4] = param "p"
          %n: int<s0> = aten.sym_size.int(%x, 0)
          %kept: f32[4, 4] = aten.neg.default(%p)
          %view: f32[4, 4]{1, 4} = aten.t.default(%p)
          %written: f32[4, 4] = aten.sin.default(%p)
          %returned: f32[4, 4] = aten.cos.default(%p)
          %sparse: f32[4, 4]{none} = aten.tan.default(%p)
          %sized: f32[<s0>, 4] = aten.full.default([%n, 4], 1.0)
          %both: f32[<s0>, 4] = aten.expand.default(%kept, [%n, 4])
          %new: f32[4, 4] = aten.add_.Tensor(%written, 1)
          %y: f32[<s0>, 4] = aten.mm.default(%x, %new)
          return %y, %returned
        }"""
    )
    dependence = Dependence(graph)
    names = {value.name for value in graph.values if dependence.may_be_kept(value)}
    derived = {value.name for node in dependence.nodes for value in node.results}
    assert names & derived == {"kept", "sized", "both"}
    assert not names & {"n", "p"}


def test_what_comes_of_a_size_or_is_written_is_not_the_same_in_every_call() -> None:
    graph = parse_graph(
        """graph {
          %x: f32[<s0>, 4] = argument 0
          %p: f32[4, 4] = param "p"
          %n: int<s0> = aten.sym_size.int(%x, 0)
          %turned: f32[4, 4] = aten.neg.default(%p)
          %times: f32[4, 4] = aten.mul.Tensor(%turned, %n)
          %more: f32[4, 4] = aten.sin.default(%times)
          %written: f32[4, 4] = aten.cos.default(%p)
          %new: f32[4, 4] = aten.add_.Tensor(%written, 1)
          %y: f32[<s0>, 4] = aten.mm.default(%x, %more)
          return %y, %new
        }"""
    )
    dependence = Dependence(graph)
    assert {v.name for v in graph.values if dependence.is_derived(v)} >= {
        "turned",
        "times",
        "more",
        "written",
    }
    assert {v.name for v in graph.values if dependence.is_fixed(v)} == {"p", "turned"}


def test_one_size_among_the_operands_is_enough_to_depend_on_sizes() -> None:
    graph = parse_graph(
        """graph {
          %x: f32[<s0>, 4] = argument 0
          %p: f32[4, 4] = param "p"
          %n: int<s0> = aten.sym_size.int(%x, 0)
          %q: f32[<s0>, 4, 4] = aten.expand.default(%p, [%n, 4, 4])
          %c: f32[<s0>, 4, 4] = aten.linalg_cholesky.default(%q)
          return %c
        }"""
    )
    assert [node.name for node in Dependence(graph).nodes] == ["q"]
