"""Which part of which memory each value shows."""

import pytest

from graphopt.analysis.geometry import Views
from graphopt.ir.graph import Value
from graphopt.ir.text import parse_graph

INPUTS = """%x: f32[2, 4] = argument 0 %z: c64[3] = argument 1 %n: int<s0> = argument 2
%d: f32[<s0>, 4] = argument 3 %s: f32[2, 4]{none} = argument 4 %u: f32[2, 4] on "meta" = argument 5
%i: i64[] = argument 6 %e: f32[0, 4] = argument 7
%y: f32[2, 4] = aten.sin.default(%x)
"""


def views(lines: str) -> tuple[Views, dict[str, Value]]:
    graph = parse_graph(f"graph {{ {INPUTS} {lines} return }}")
    return Views(graph), {value.name: value for value in graph.values}


@pytest.mark.parametrize(
    ("lines", "whole"),
    [
        ("%t: f32[4, 2]{1, 4} = aten.t.default(%x) %a: f32[2, 4] = aten.t.default(%t)", "x"),
        ("%t: f32[8] = aten.view.default(%x, [8]) %a: f32[2, 4] = aten.view_as.default(%t, %x)", "x"),
        ("%t: f32[2] = aten.select.int(%x, 1, 0) %a: f32[2, 4] = aten.view_as.default(%x, %s)", "a"),
        ("%t: f32[2, 4] = aten.slice.Tensor(%x, 0, 0, 2) %a: f32[2, 4] = aten.contiguous.default(%t)", "x"),
        ("%t: f32[0, 4] = aten.slice.Tensor(%e, 0, 0, 9) %a: f32[0, 4] = aten.alias.default(%t)", "e"),
        ("%t: c64[3] = aten._conj.default(%z) %a: c64[3] = aten._conj.default(%t)", "z"),
        ("%t: c64[3] = aten._conj.default(%z) %a: c64[3] = aten.alias.default(%t)", "t"),
        ("%t: f32[2, 4] = aten._neg_view.default(%x) %a: f32[2, 4] = aten._neg_view.default(%t)", "x"),
        ("%t: f32[2, 4] = aten._neg_view.default(%x) %a: f32[2, 4] = aten.alias.default(%t)", "t"),
        ("%t: f32[3, 2] = aten.view_as_real.default(%z) %a: c64[3] = aten.view_as_complex.default(%t)", "z"),
        # no view that is known:
        ("%a: f32[2, 4] = aten.clone.default(%x)", "a"),
        ("%a: f64[2, 4] = aten.to.dtype(%x, torch.float64)", "a"),
        ("%a: f32[4, 2] = aten.t.default(%x)", "a"),  # other strides than the graph says
        ("%a: f64[4, 2]{1, 4} = aten.t.default(%x)", "a"),
        ("%a: f32[2, 2]{1, 4} = aten.t.default(%x)", "a"),
        ("%a: f32[4] = aten.select.int(%x, 0, %i)", "a"),
        ("%a: f32[2, 4] = mylib.view.default(%x)", "a"),
        ("%a: f32[2, 4] = aten.dropout.default(%x, 0.5, True)", "a"),
        ("%a: f32[2, 4] = aten.alias.default(2)", "a"),
        ("%a: f32[2, 4] = aten.view.default(%x, [3, 4])", "a"),
        ('%a: f32[2, 4] = aten.view.default(%x, [2, mapping("k": 4)])', "a"),
        ("a: (%a: f32[2, 4]) = aten.split.Tensor(%x, 1)", "a"),  # of a result too few
        ("%a: c64[3] = aten.resolve_conj.default(%z)", "a"),
        (
            "%t: i64[1, 2, 4] = aten.full.default([1, 2, 4], 1) "  # copies, but where there is no memory
            "%a: i64[1, 2, 4] = aten.channel_shuffle.default(%t, 1)",
            "a",
        ),
        ("%a: f32[2, 4] = aten.resolve_neg.default(%x)", "a"),
    ],
)
def test_a_value_shows_the_whole_of_another_or_only_itself(lines: str, whole: str) -> None:
    found, value = views(lines)
    shown = found.geometry(value["a"])
    assert shown is not None and shown == found.geometry(value[whole])
    assert (shown.root == "a") is (whole == "a")


def test_each_part_is_another() -> None:
    found, value = views(
        """s: (%a: f32[1, 4], %b: f32[1, 4]) = aten.split.Tensor(%x, 1)
        %c: f32[1, 4] = aten.slice.Tensor(%x, 0, 1, 2)
        %f: f32[1, 4] = aten.slice.Tensor(%y, 0, 1, 2)"""
    )
    a, b, c, f = (found.geometry(value[name]) for name in "abcf")
    assert b == c and len({a, b, f}) == 3
    assert a is not None and b is not None and f is not None
    assert (a.root, b.root, f.root, b.offset, b.shape) == ("x", "x", "y", 4, (1, 4))


@pytest.mark.parametrize("name", ["d", "s", "n"])
def test_of_what_is_not_static_and_strided_nothing_is_known(name: str) -> None:
    found, value = views(
        "%a: f32[2, 4] = aten.view_as.default(%x, %s) %b: f32[2, 4] = aten.alias.default(%x)"
    )
    assert found.geometry(value[name]) is None
    assert not found.follows(value["a"]) and found.follows(value["b"])


def test_what_an_operator_makes_or_shows_is_followed() -> None:
    found, value = views(
        """%a: f32[2, 4] = aten.alias.default(%y)
        %b: f32[2, 4] = mylib.unknown.default(%y)
        %c: f32[2, 4] = aten.add_.Tensor(%y, 1)
        %g: f64[2, 4] = aten.to.dtype(%y, torch.float64)"""
    )
    assert [name for name in "xyabcg" if found.follows(value[name])] == ["y", "a", "g"]


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("%a: f32[8] = aten.view.default(%y, [8])", True),
        ("%a: f32[4, 2]{1, 4} = aten.t.default(%y)", True),
        ("%a: f32[2, 4] = aten.view.default(%x, [2, 4])", False),  # an input may be a part
        ("%a: f32[1, 4] = aten.slice.Tensor(%y, 0, 0, 1)", False),
        ("%a: f32[4] = aten.select.int(%y, 0, 1)", False),
        ("%a: f32[8]{0} = aten.as_strided.default(%y, [8], [0], 1)", False),
        ("%a: i32[2, 4] = aten.view.dtype(%y, torch.int32)", False),
        ("%a: f64[4, 2]{1, 4} = aten.t.default(%y)", False),
        ("%a: f32[2, 4] = mylib.unknown.default(%y)", False),
        ("%k: f32[<s0>] = aten.arange.default(%n) %a: f32[<s0>] = aten.alias.default(%k)", False),
    ],
)
def test_all_of_a_memory_made_in_the_graph_is_whole(line: str, whole: bool) -> None:
    found, value = views(line)
    assert found.is_whole(value["y"]) and not found.is_whole(value["x"])
    assert found.is_whole(value["a"]) is whole


@pytest.mark.parametrize(
    ("call", "handed_back"),
    [
        ("aten.contiguous.default(%y)", True),
        ("aten.reshape.default(%y, [2, 4])", False),
        ("aten.alias.default(%y)", False),
        ("aten.expand_as.default(%y, %x)", False),
        ('aten.to.device(%y, device("cpu"), torch.float32)', True),
        ('aten.to.device(%u, device("cpu"), torch.float32)', False),
        ("aten.resolve_neg.default(%y)", False),  # copies what is lazily negated
        ("aten.to.dtype(%y, torch.float32, False, True)", False),  # copies
    ],
)
def test_an_operand_is_handed_back(call: str, handed_back: bool) -> None:
    found, value = views(f"%a: f32[2, 4] = {call}")
    assert found.same_object.get("a") == (value["y"] if handed_back else None)


@pytest.mark.parametrize(
    "line",
    [
        "%a: (f32[1, 4], f32[1, 4]) = aten.split.Tensor(%x, 1)",
        "%a: (f32[1, 4], f32[1, 4]) = aten.unsafe_split.Tensor(%x, 1)",
        "a: (%a: (f32[2], f32[2]), %b: f32[2]) = aten.histogramdd.TensorList_bins(%x, [%x])",
        "%a: int = aten.alias.default(%x)",
    ],
)
def test_of_a_list_or_number_nothing_is_known(line: str) -> None:
    found, value = views(line)
    assert found.geometry(value["a"]) is None and not found.follows(value["a"])
