"""Storage classes, versions and escapes."""

from textwrap import dedent

import pytest

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


def test_numbers_have_no_memory_to_be_written() -> None:
    graph = parse_graph(
        """graph { %x: f32[2] = argument 0 %n: int<s0> = argument 1
        %w: f32[2] = aten.add_.Tensor(%x, %n)
        %o: f32[2] = mylib.unknown.default(%x, %n)
        return %o }"""
    )
    memory, n = Memory(graph), graph.inputs[1].value
    assert memory.version(n, graph.nodes[1]) == 0 and not memory.written_after(n, graph.nodes[0])
    assert memory.version(graph.inputs[0].value, graph.nodes[1]) == 1
    assert memory.reshaped == {"x"}


def test_a_graph_that_reads_only_is_not_written() -> None:
    graph, v = parsed("%a: f32[2] = aten.sin.default(%x) return %a")
    assert not Memory(graph).is_written and not Memory(graph).written_after(v["x"], graph.nodes[0])
    assert Memory(parsed("%a: f32[2] = aten.sin_.default(%x) return %a")[0]).is_written


def test_writers_are_those_before_a_node() -> None:
    graph, v = parsed(
        """%a: f32[2] = aten.sin_.default(%x)
        %b: f32[2] = aten.cos.default(%a)
        %c: f32[2] = aten.sin_.default(%x)
        return %b"""
    )
    memory = Memory(graph)
    assert [node.name for node in memory.writers(v["x"], graph.nodes[1])] == ["a"]
    assert [node.name for node in memory.writers(v["x"], graph.nodes[2])] == ["a"]


def test_a_graph_without_inputs_shows_no_input() -> None:
    graph = parse_graph("graph { %a: f32[3] = aten.arange.default(3) return %a }")
    memory = Memory(graph)
    assert not memory.is_input(graph.nodes[0].results[0])
    graph, v = parsed("%a: f32[2] = aten.sin.default(%x) %b: f32[2] = aten.view.default(%y, [2]) return %a")
    assert [name for name in "xyab" if Memory(graph).is_input(v[name])] == ["x", "y", "b"]


def test_only_what_an_operator_names_is_written() -> None:
    graph, v = parsed(
        """%a: f32[2] = aten.sin.default(%x)
        %b: f32[2] = aten.cos.default(%x)
        %w: f32[2] = aten.mul.out(%a, %a, out=%b)
        %s: f32[2] = aten.neg.default(%a)
        return %s"""
    )
    memory = Memory(graph)
    assert memory.written_after(v["b"], graph.nodes[1])
    assert memory.escapes(v["s"]) and not memory.escapes(v["a"])
    batch_norm = """n: (%o: f32[2], %p: f32[2], %q: f32[2]) = aten.native_batch_norm.default(
        %a, None, None, None, %m, True, 0.1, 1e-05)"""
    graph, v = parsed(
        f"%a: f32[2] = aten.sin.default(%x) %m: f32[2] = aten.cos.default(%x) {batch_norm} return %o"
    )
    memory = Memory(graph)
    assert memory.written_after(v["m"], graph.nodes[1])


def test_what_out_resizes_is_reshaped() -> None:
    graph, _ = parsed(
        """%a: f32[2] = aten.sin.default(%x)
        %b: f32[3] = aten.arange.default(3)
        %w: f32[2] = aten.mul.out(%x, %x, out=%a)
        %r: f32[2] = aten.mul.out(%x, %x, out=%b)
        return %a"""
    )
    assert Memory(graph).reshaped == {"b"}


def test_a_place_in_the_memory_that_is_read_is_no_secret() -> None:
    graph, v = parsed(
        """%a: f32[2] = aten.sin.default(%x)
        %b: f32[2] = aten.view.default(%a, [2])
        %o: f32[2] = aten.as_strided.default(%b, [2], [1], 0)
        %c: f32[2] = aten.cos.default(%x)
        %d: f32[2] = aten.neg.default(%c)
        %e: f32[2] = aten.add.Tensor(%d, %o)
        return %e"""
    )
    memory = Memory(graph)
    assert [name for name in "abcde" if memory.is_placed(v[name])] == ["a", "b", "e"]


def test_memory_that_the_caller_gets_by_another_view_escapes() -> None:
    graph, v = parsed(
        """%a: f32[2] = aten.sin.default(%x)
        %b: f32[2] = aten.view.default(%a, [2])
        %c: f32[2] = aten.view.default(%a, [2])
        return %b"""
    )
    memory = Memory(graph)
    assert memory.storage_escapes(v["c"]) and not memory.escapes(v["c"])
    assert not memory.storage_escapes(v["x"])


def test_what_one_of_several_results_shows_escapes_with_it() -> None:
    graph, v = parsed(
        """%a: f32[2] = aten.sin.default(%x)
        s: (%b: f32[1], %c: f32[1]) = aten.split.Tensor(%a, 1)
        return %c"""
    )
    memory = Memory(graph)
    assert [name for name in "xabc" if memory.escapes(v[name])] == ["a", "c"]


def test_of_what_was_given_another_shape_no_type_tells_what_a_view_of_it_shows() -> None:
    graph, v = parsed(
        """%a: f32[3] = aten.ones.default([3])
        %b: f32[3] = aten.ones.default([3])
        %c: f32[3] = aten.ones.default([3])
        %r: f32[2] = aten.mul.out(%x, %x, out=%a)
        %d: f32[3] = aten.view_as.default(%a, %b)
        %e: f32[3] = aten.view_as.default(%b, %c)
        return %d, %e"""
    )
    memory = Memory(graph)
    assert memory.storage(v["d"]) == memory.storage(v["a"]) == memory.storage(v["b"])
    assert memory.storage(v["e"]) == memory.storage(v["b"]) != memory.storage(v["c"])


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ("%a: f32[2] = aten.view.default(%x, [2]) return %a", "a"),
        ("%a: f32[2] = aten.view.default(%x, [2]) %b: f32[2] = aten.neg.default(%a) return %b", ""),
        ("%a: f32[2] = aten.sin.default(%x) %b: f32[2] = aten.view.default(%a, [2]) return %b", ""),
        ("%a: f32[2] = aten.sin.default(%x) %b: f32[2] = aten.view.default(%a, [2]) return %a, %b", "b"),
        ("s: (%a: f32[1], %b: f32[1]) = aten.split.Tensor(%x, 1) return %b", "s"),
        (
            "%a: f32[2] = aten.sin.default(%x) %b: f32[2] = aten.as_strided.default(%a, [2], [1], 0) return",
            "ab",
        ),
        (
            "%t: f32[2, 2]{1, 2} = aten.t.default(%w) %a: f32[4] = aten.reshape.default(%t, [4]) "
            "%b: f32[4] = aten.view.default(%a, [4]) return %a, %b",
            "b",
        ),
    ],
)
def test_a_result_is_a_part_where_others_can_tell_how_it_lies_in_its_memory(lines: str, parts: str) -> None:
    graph, _ = parsed(f'%w: f32[2, 2] = param "w" {lines}')
    assert "".join(node.name for node in graph.nodes if Memory(graph).is_part(node)) == parts
