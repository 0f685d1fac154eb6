"""What is needed in part only, and the regions that compute it there."""

from collections.abc import Callable

import pytest

from graphopt.algebra.narrowing import Narrowing
from graphopt.algebra.regions import Regions
from graphopt.ir.graph import Value
from graphopt.ir.text import parse_graph

CHAIN = """graph {
 %a: f32[16, 16] = argument 0
 %b: f32[16, 16] = argument 1
 %f: f32[16, 16] = aten.exp.default(%a)
 %g: f32[16, 16] = aten.cos.default(%f)
 %h: f32[16, 16] = aten.tanh.default(%g)
 %r: f32[16] = aten.select.int(%h, 0, 2)
 %y: f32[16] = aten.mv.default(%b, %r)
 return %y }"""


def seen(
    text: str,
    deepest: int | None = None,
    fixed: Callable[[Value], bool] = lambda value: False,
    left: frozenset[str] = frozenset(),
) -> tuple[str, list[str], list[str]]:
    """The values of a graph that are needed in part, and of each region its nodes and its targets."""
    graph = parse_graph(text)
    found = Narrowing(graph, Regions(graph, None, left).plain(), fixed, deepest)
    regions = [*found]
    nodes = [" ".join(node.name for node in region.nodes) for region in regions]
    targets = [" ".join(node.name for node in region.needed) for region in regions]
    return " ".join(value.name for value in graph.values if found.is_narrow(value)), nodes, targets


@pytest.mark.parametrize(
    "deepest, narrow", [(None, "f g h"), (0, ""), (1, "h"), (2, "g h"), (3, "f g h"), (4, "f g h")]
)
def test_what_is_far_in_front_may_stay_whole(deepest: int | None, narrow: str) -> None:
    nodes = [f"{narrow} r y"] if narrow else []
    assert seen(CHAIN, deepest) == (narrow, nodes, ["y"] * len(nodes))


def test_what_calls_do_not_change_is_there_whole() -> None:
    assert seen(CHAIN, fixed=lambda value: value.name == "g")[0] == "h"


def test_what_has_to_stay_is_whole() -> None:
    assert seen(CHAIN, left=frozenset("g"))[0] == "h"


def test_what_shows_parts_of_what_stays_is_no_part_of_a_region() -> None:
    text = """graph {
     %a: f32[16, 16] = argument 0
     %b: f32[16, 16] = argument 1
     %t: f32[16, 16]{1, 16} = aten.t.default(%a)
     %m: f32[16, 16] = aten.mm.default(%t, %b)
     %u: f32[16, 16]{1, 16} = aten.t.default(%m)
     %h: f32[16, 16] = aten.tanh.default(%u)
     %v: f32[16, 16]{1, 16} = aten.t.default(%h)
     %r: f32[16]{16} = aten.select.int(%v, 1, 2)
     %y: f32[16] = aten.mv.default(%b, %r)
     return %y }"""
    assert seen(text) == ("u h", ["m u h v r y"], ["y"])


def test_what_shows_parts_in_part_is() -> None:
    text = CHAIN.replace(
        "%f: f32[16, 16] = aten.exp.default(%a)", "%f: f32[16, 16]{1, 16} = aten.t.default(%a)"
    )
    assert seen(text) == ("f g h", ["f g h r y"], ["y"])


def test_what_hangs_together_is_one_region() -> None:
    text = CHAIN.replace(
        "return %y",
        """%k: f32[16, 16] = aten.sin.default(%b)
     %l: f32[16] = aten.select.int(%k, 0, 3)
     %z: f32[16] = aten.mul.Tensor(%l, %l)
     return %z, %y""",
    )
    assert seen(text) == ("f g h k", ["f g h r y", "k l z"], ["y", "z"])


def test_of_integers_none_are_made() -> None:
    text = """graph {
     %i: i64[16] = argument 0
     %n: i64[16] = aten.abs.default(%i)
     %s: i64[2] = aten.slice.Tensor(%n, 0, 0, 2)
     %c: i64[2] = aten.clone.default(%s)
     return %c }"""
    assert seen(text) == ("n", [], [])


def test_an_index_is_read_through_what_rearranges_it() -> None:
    text = """graph {
     %i: i64[16] = argument 0
     %a: f32[16, 16] = argument 1
     %h: f32[16, 16] = aten.tanh.default(%a)
     %n: i64[16] = aten.flip.default(%i, [0])
     %s: i64[2] = aten.slice.Tensor(%n, 0, 0, 2)
     %c: f32[2, 16] = aten.index.Tensor(%h, [%s])
     return %c }"""
    assert seen(text) == ("h", ["h c"], ["c"])


def test_one_of_several_results_is_whole() -> None:
    text = CHAIN.replace(
        "%g: f32[16, 16] = aten.cos.default(%f)",
        "m: (%g: f32[16, 16], %i: i64[16, 16]) = aten.sort.default(%f)",
    )
    assert seen(text) == ("h", ["h r y"], ["y"])
