"""Which values a gradient may flow through."""

from graphopt.analysis.gradients import differentiable
from graphopt.ir.text import parse_graph


def test_gradients_flow_through_floating_and_complex_values_made_from_inputs() -> None:
    graph = parse_graph(
        """graph {
        %x: f32[2] = argument 0
        %k: i64[2] = argument 1
        %z: c64[2] = argument 2
        %n: int<s0> = argument 3
        %a: f32[2] = aten.mul.Tensor(%k, %x)
        %i: i64[2] = aten.argsort.default(%a)
        %f: float = aten.sum.default(%a)
        %c: c64[2] = aten.exp.default(%z)
        %r: f32[3] = aten.arange.default(%n)
        %s: f32[3] = aten.neg.default(%r)
        return %a, %s
        }"""
    )
    assert differentiable(graph) == {"x", "z", "a", "c"}


def test_an_unknown_operator_may_ask_for_gradients_and_hide_them_in_a_list() -> None:
    graph = parse_graph(
        """graph {
        %k: i64[2] = argument 0
        %r: f32[3] = aten.arange.default(3)
        %o: f32[3] = mylib.unknown.default(%k)
        %l: (f32[3], i64[2]) = mylib.unknown.default(%k)
        %m: none = mylib.unknown.default(%k)
        return %r
        }"""
    )
    assert differentiable(graph) == {"o", "l"}
