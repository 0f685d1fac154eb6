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
