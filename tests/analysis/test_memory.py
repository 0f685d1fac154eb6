"""Storage classes, versions and escapes."""

from textwrap import dedent

from graphopt.analysis.gradients import differentiable
from graphopt.analysis.memory import Memory
from graphopt.ir.graph import Graph, Value
from graphopt.ir.text import parse_graph


def parsed(body: str) -> tuple[Graph, dict[str, Value]]:
    graph = parse_graph(dedent(f"graph {{ %x: f32[2] = argument 0 %y: f32[2] = argument 1 {body} }}"))
    values = {e.value.name: e.value for e in graph.inputs}
    return graph, values | {v.name: v for node in graph.nodes for v in node.results}


def test_a_write_gives_the_whole_class_a_new_version() -> None:
    graph, v = parsed(
        """%a: f32[2] = aten.sin.default(%x)
        %b: f32[2] = aten.view.default(%a, [2])
        %c: f32[2] = aten.add_.Tensor(%b, 1)
        %d: f32[2] = aten.cos.default(%a)
        return %d"""
    )
    memory = Memory(graph)
    view, write, after = graph.nodes[1], graph.nodes[2], graph.nodes[3]
    assert (memory.version(v["a"], view), memory.version(v["a"], after)) == (0, 1)
    assert memory.version(v["x"], after) == 0
    assert memory.written_after(v["a"], view)
    assert not memory.written_after(v["a"], write)


def test_arguments_may_share_storage_and_fresh_results_do_not() -> None:
    graph, v = parsed(
        """%a: f32[2] = aten.sin.default(%x)
        %b: f32[2] = aten.add_.Tensor(%y, 1)
        %c: f32[2] = aten.neg.default(%a)
        return %c"""
    )
    memory = Memory(graph)
    assert memory.version(v["x"], graph.nodes[2]) == 1
    assert memory.version(v["a"], graph.nodes[2]) == 0


def test_an_unknown_operator_may_write_and_keep_what_it_is_given() -> None:
    graph, v = parsed(
        """%a: f32[2] = aten.sin.default(%x)
        %b: f32[2] = mylib.unknown.default(%a)
        %c: f32[2] = aten.neg.default(%a)
        return %c"""
    )
    memory = Memory(graph)
    assert memory.version(v["a"], graph.nodes[2]) == 1
    assert memory.escapes(v["a"])


def test_what_reaches_the_caller_through_views_escapes() -> None:
    graph, v = parsed(
        """%a: f32[2] = aten.sin.default(%x)
        %b: f32[1] = aten.slice.Tensor(%a, 0, 0, 1)
        %c: f32[2] = aten.neg.default(%a)
        %d: f32[2] = aten.neg.default(%c)
        return %b, %d"""
    )
    memory = Memory(graph)
    assert [name for name in "abcd" if memory.escapes(v[name])] == ["a", "b", "d"]


def test_gradients_flow_through_floating_values_made_from_inputs() -> None:
    graph, _ = parsed(
        """%a: f32[2] = aten.sin.default(%x)
        %i: i64[2] = aten.argsort.default(%a)
        %r: f32[3] = aten.arange.default(3)
        %s: f32[3] = aten.neg.default(%r)
        return %a, %s"""
    )
    assert differentiable(graph) == {"x", "y", "a"}
