"""Predicted seconds of nodes and graphs, by the profile that comes with graphopt."""

from dataclasses import replace

import pytest

from graphopt.analysis.kinds import _KIND, kind_of
from graphopt.analysis.seconds import graph_seconds, node_seconds, seconds_by_node
from graphopt.analysis.sizes import Sizes
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse_graph
from graphopt.profile import FRESH, KINDS, Profile, default

PROFILE = default()


def parsed(body: str) -> Graph:
    return parse_graph(f"graph {{ {body} }}")


def seconds(inputs: str, node: str, profile: Profile = PROFILE, **sizes: int) -> float:
    """Of the one node, for inputs such as "x: f32[2, 3]"."""
    entries = " ".join(f"%{one.strip()} = argument {i}" for i, one in enumerate(inputs.split(";")))
    return node_seconds(parsed(f"{entries} {node} return %r").nodes[0], profile, Sizes(sizes))


def linear(m: str | int, n: int, k: int, **sizes: int) -> float:
    return seconds(
        f"x: f32[{m}, {k}]; w: f32[{n}, {k}]", f"%r: f32[{m}, {n}] = aten.linear.default(%x, %w)", **sizes
    )


def unary(op: str, count: int, dtype: str = "f32") -> float:
    return seconds(f"x: {dtype}[{count}]", f"%r: {dtype}[{count}] = aten.{op}.default(%x)")


def test_every_kind_that_an_operator_is_of_has_a_table() -> None:
    assert set(_KIND.values()) <= set(KINDS)
    assert kind_of("aten.add.Tensor") == kind_of("aten.add_.Tensor") == "pointwise"
    assert kind_of("aten.zero_.default") == "fill" and kind_of("aten.unheard_of.default") == "exp"


def test_the_same_node_takes_the_same_always() -> None:
    assert linear(64, 64, 64) == linear(64, 64, 64)


def test_more_work_takes_longer() -> None:
    assert linear(512, 512, 512) > 5 * linear(128, 512, 512) / 2 > linear(1, 512, 512)
    assert linear(4096, 4096, 4096) == pytest.approx(64 * linear(1024, 1024, 1024), rel=0.05)
    assert unary("exp", 2**20) > 10 * unary("exp", 2**12)
    assert unary("tanh", 2**20) > unary("exp", 2**20) > unary("relu", 2**20)


def test_a_chain_from_the_right_is_cheaper_for_a_vector() -> None:
    inputs = "%a: f32[512, 512] = argument 0 %b: f32[512, 512] = argument 1 %x: f32[512, 1] = argument 2 "
    left = "%ab: f32[512, 512] = aten.mm.default(%a, %b) %r: f32[512, 1] = aten.mm.default(%ab, %x) return %r"
    right = "%bx: f32[512, 1] = aten.mm.default(%b, %x) %r: f32[512, 1] = aten.mm.default(%a, %bx) return %r"
    by_left, by_right = (graph_seconds(parsed(inputs + text), PROFILE) for text in (left, right))
    assert by_left > 10 * by_right


def test_views_and_what_hands_on_its_operand_take_a_call_and_no_more() -> None:
    view = seconds("x: f32[4096, 4096]", "%r: f32[4096, 4096]{1, 4096} = aten.t.default(%x)")
    shared = seconds("x: f32[4096, 4096]", "%r: f32[4096, 4096] = aten.contiguous.default(%x)")
    copied = seconds("x: f32[4096, 4096]{1, 4096}", "%r: f32[4096, 4096] = aten.contiguous.default(%x)")
    assert view == shared < 1e-5 < 1e-3 < copied


def test_layouts_count() -> None:
    dense = seconds("x: f32[512, 512]", "%r: f32[512, 512] = aten.add.Tensor(%x, %x)")
    mixed = seconds(
        "x: f32[512, 512]; y: f32[512, 512]{1, 512}", "%r: f32[512, 512] = aten.add.Tensor(%x, %y)"
    )
    assert mixed > 1.5 * dense
    whole = seconds("x: f32[64, 4096]; y: f32[64, 4096]", "%r: f32[64, 4096] = aten.add.Tensor(%x, %y)")
    expanded = seconds(
        "x: f32[64, 4096]; y: f32[64, 4096]{0, 1}", "%r: f32[64, 4096] = aten.add.Tensor(%x, %y)"
    )
    assert expanded < whole


def test_a_symbolic_size_counts_as_it_is_known() -> None:
    assert linear("<s0>", 512, 512, s0=300) == linear(300, 512, 512)
    assert linear("<s0>", 512, 512) == linear(1, 512, 512)


def test_dtypes_count_as_measured_and_else_by_their_size() -> None:
    ratio = PROFILE.ratios["float64"]["exp"]
    plain = replace(PROFILE, switch=1e-12)
    found = [seconds(f"x: {d}[4096]", f"%r: {d}[4096] = aten.exp.default(%x)", plain) for d in ("f32", "f64")]
    assert found[1] == pytest.approx(ratio * found[0])
    unknown = replace(plain, ratios={})
    assert seconds("x: f64[4096]", "%r: f64[4096] = aten.exp.default(%x)", unknown) == pytest.approx(
        2 * found[0]
    )


def test_sub_graphs_are_summed() -> None:
    inner = "graph { %y: f32[512, 512] = argument 0 %z: f32[512, 512] = aten.exp.default(%y) return %z }"
    graph = parsed(
        "%x: f32[512, 512] = argument 0 "
        f"%r: f32[512, 512] = higher_order.wrap_with_set_grad_enabled(False, {inner}, %x) return %r"
    )
    assert graph_seconds(graph, PROFILE) > unary("exp", 512 * 512)


def test_state_that_fits_no_cache_is_read_from_memory() -> None:
    def graph(source: str) -> Graph:
        return parsed(
            f"%x: f32[1, 4096] = argument 0 %w: f32[4096, 4096] = {source} "
            "%t: f32[4096, 4096]{1, 4096} = aten.t.default(%w) "
            "%r: f32[1, 4096] = aten.mm.default(%x, %t) return %r"
        )

    warm = graph_seconds(graph("argument 1"), PROFILE)
    cold = graph_seconds(graph('param "w"'), PROFILE)
    assert cold == pytest.approx(warm + 4 * 2**24 * PROFILE.read)
    assert graph_seconds(graph('param "w"'), replace(PROFILE, cache=2**30)) == warm


def test_memory_that_is_new_has_to_be_cleared() -> None:
    def filled(profile: Profile, count: int) -> float:
        return seconds("x: f32[1]", f"%r: f32[{count}] = aten.full.default([{count}], 1.0)", profile)

    dear = replace(PROFILE, fresh=2 * PROFILE.fresh)
    assert filled(dear, FRESH // 4) == pytest.approx(filled(PROFILE, FRESH // 4) + FRESH * PROFILE.fresh)
    assert filled(dear, FRESH // 8) == filled(PROFILE, FRESH // 8)


@pytest.mark.parametrize(
    ("inputs", "node"),
    [
        ("x: f32[0, 8]; w: f32[4, 8]", "%r: f32[0, 4] = aten.linear.default(%x, %w)"),
        ("x: f32[8, 0]; w: f32[0, 4]", "%r: f32[8, 4] = aten.mm.default(%x, %w)"),
        ("x: f32[]", "%r: f32[] = aten.exp.default(%x)"),
        ("x: f32[0]", "%r: f32[] = aten.sum.default(%x)"),
        ("x: f32[0, 4]", "%r: f32[0, 4] = aten.softmax.int(%x, -1)"),
        ("x: f32[2, 0, 4]", "%r: f32[2, 0, 4] = aten.layer_norm.default(%x, [4])"),
        ("x: f32[2, 6, 4, 4]", "%r: f32[2, 6, 4, 4] = aten.group_norm.default(%x, 3)"),
        ("x: i64[3, 0]", "%r: i64[3, 0] = aten.unheard_of.default(%x)"),
        ("x: f32[2, 3]", "%r: f32[2, 3] = my.own.default(%x)"),
        ("x: f32[3]", "%r: int = aten.sym_size.int(%x, 0)"),
        ("x: c128[4, 4]", "%r: c128[4, 4] = aten.mm.default(%x, %x)"),
        ("x: f32[0, 2, 8, 64]", "%r: f32[0, 2, 8, 64] = "
         "aten.scaled_dot_product_attention.default(%x, %x, %x)"),
    ],
)  # fmt: skip
def test_odd_nodes_take_some_time(inputs: str, node: str) -> None:
    assert 0 < seconds(inputs, node) < 1e-3


def test_seconds_by_node_are_those_of_the_graph() -> None:
    graph = parsed(
        "%x: f32[8, 8] = argument 0 %y: f32[8, 8] = aten.exp.default(%x) "
        "%r: f32[8, 8] = aten.mm.default(%y, %x) return %r"
    )
    by_node = seconds_by_node(graph, PROFILE)
    assert list(by_node) == [node.name for node in graph.nodes]
    assert sum(by_node.values()) == graph_seconds(graph, PROFILE)


def test_a_softmax_that_looks_for_empty_rows_takes_more_than_one_that_does_not() -> None:
    x = "x: f32[64, 2000]"
    safe = seconds(x, "%r: f32[64, 2000] = aten._safe_softmax.default(%x, -1)")
    assert safe > 2 * seconds(x, "%r: f32[64, 2000] = aten.softmax.int(%x, -1)")
