"""When one value may stand for another."""

import pytest

from graphopt.analysis.substitution import Substitution
from graphopt.draft import Draft
from graphopt.ir.graph import Node, Value
from graphopt.ir.text import parse_graph

Asked = tuple[Draft, Substitution, dict[str, Node], dict[str, Value]]


def asked(body: str, kind: str = "f32[4]", gradients: bool = False) -> Asked:
    graph = parse_graph(
        f"graph {{ %x: {kind} = argument 0 %y: {kind} = aten.cos.default(%x) "
        + body.replace(": T =", f": {kind} =")
        + " }"
    )
    draft = Draft(graph, gradients)
    nodes = {node.name: node for node in graph.nodes}
    return draft, draft.substitution(), nodes, {value.name: value for value in graph.values}


COPY = "%c: T = aten.clone.default({}) "
END = "%r: T = aten.cos.default(%c) return %r"
REGION = """r: (%r: f32[4]) = higher_order.wrap_with_set_grad_enabled(False, graph {{
%i: f32[4] = argument 0 %o: f32[4] = {} return %o }}, %c) %e: f32[4] = aten.cos.default(%r) return %e"""


@pytest.mark.parametrize(
    ("body", "of", "why"),
    [
        (COPY.format("%y") + END, "y", None),
        (COPY.format("%x") + END, "x", None),
        (COPY.format("%y") + "return %c", "y", None),
        (COPY.format("%y") + "%w: T = aten.sin_.default(%y) " + END, "y", "written later"),
        (COPY.format("%y") + "%w: T = aten.sin_.default(%c) " + END, "y", "written later itself"),
        ("%w: T = aten.sin_.default(%y) " + COPY.format("%y") + END, "y", None),
        (COPY.format("%y") + "return %y, %c", "y", "the caller gets both"),
        (COPY.format("%x") + "return %c", "x", "the caller gets both"),
        (COPY.format("%y") + "%r: T = aten.matmul.default(%y, %c) return %r", "y", None),
        (COPY.format("%x") + "%r: T = aten.matmul.default(%y, %c) return %r", "x", "product chooses its way"),
        (COPY.format("%x") + REGION.format("aten.matmul.default(%i, %i)"), "x", "product chooses its way"),
        (COPY.format("%x") + REGION.format("aten.sin.default(%i)"), "x", None),
        (COPY.format("%x") + "%r: T = aten.linear.default(%c, %y) return %r", "x", "product chooses its way"),
        (COPY.format("%y") + "%v: T = aten.alias.default(%y) return %v, %c", "y", "the caller gets both"),
        (
            "%v: f32[2] = aten.slice.Tensor(%y, 0, 2, 4) %c: f32[2] = aten.clone.default(%v) return %c",
            "v",
            "a part of larger memory",
        ),
        (
            "%v: f32[2] = aten.slice.Tensor(%y, 0, 2, 4) %c: f32[2] = aten.clone.default(%v) "
            "%r: f32[2] = aten.neg.default(%c) return %r",
            "v",
            None,
        ),
        (
            "%o: f32[1] = aten.arange.default(1) %u: f32[1] = aten.mul.out(%y, %y, out=%o) "
            "%c: f32[1] = aten.clone.default(%o) %r: f32[1] = aten.neg.default(%c) return %r",
            "o",
            None,
        ),
        (
            "%o: f32[1] = aten.arange.default(1) %u: T = aten.mul.out(%y, %y, out=%o) "
            "%c: T = aten.clone.default(%u) %r: T = aten.neg.default(%c) return %r",
            "u",
            "another shape in place",
        ),
    ],
)
def test_a_copy_is_stood_for(body: str, of: str, why: str | None) -> None:
    _, substitution, node, value = asked(body)
    reason = substitution.against_copy(node["c"], (value[of],))
    assert reason is None if why is None else reason is not None and reason.endswith(why)


def test_what_computes_the_same_is_the_same_from_its_own_place_on() -> None:
    again = "%w: T = aten.sin_.default(%y) %c: T = aten.cos.default(%x) "
    _, substitution, node, value = asked(again + END)
    assert substitution.against_copy(node["c"], (value["y"],)) is None
    reason = substitution.against_copy(node["c"], (value["y"],), since=node["y"])
    assert reason == "like %y, which may be written later"


def test_what_is_computed_alike_lies_alike_in_its_memory() -> None:
    part = "%p: f32[2] = aten.slice.Tensor(%y, 0, 2, 4) "
    like = "%{}: f32[2] = aten.reshape.default(%p, [2]) "
    end = "%k: f32[1] = aten.as_strided.default(%c, [1], [1], 0) %r: f32[1] = aten.neg.default(%k) return %r"
    _, substitution, node, value = asked(part + like.format("v") + like.format("c") + end)
    assert substitution.against_copy(node["c"], (value["v"],), since=node["v"]) is None
    assert (
        substitution.against_copy(node["c"], (value["v"],)) == "like %v, which may be a part of larger memory"
    )


@pytest.mark.parametrize(("kind", "lazy"), [("f32[4]", False), ("c64[4]", True)])
def test_a_copy_is_no_lazy_conjugate(kind: str, lazy: bool) -> None:
    _, substitution, node, value = asked(COPY.format("%y") + "return %c", kind)
    why = "like %y, which may be lazily conjugated" if lazy else None
    assert substitution.against_copy(node["c"], (value["y"],)) == why
    _, substitution, node, value = asked(COPY.format("%y") + END, kind)
    assert substitution.against_copy(node["c"], (value["y"],)) is None


def test_a_copy_of_real_numbers_is_no_lazy_negative() -> None:
    """x.conj().imag is one, so any complex value is enough."""
    body = "%z: c64[4] = aten.complex.default(%y, %y) %i: T = aten.imag.default(%z) "
    _, substitution, node, value = asked(body + COPY.format("%y") + "return %c")
    assert substitution.against_copy(node["c"], (value["y"],)) == "like %y, which may be lazily conjugated"


VIEW = "%c: T = aten.alias.default({}) "
BOTH = "but the caller gets both objects"


@pytest.mark.parametrize(
    ("body", "of", "why"),
    [
        (VIEW.format("%y") + END, "y", None),
        (VIEW.format("%y") + "return %c", "y", None),
        (VIEW.format("%y") + "return %y, %c", "y", BOTH),
        (VIEW.format("%x") + "return %c", "x", BOTH),
        (VIEW.format("%x") + END, "x", None),
        (VIEW.format("%y") + "%w: T = aten.sin_.default(%c) return %w, %y", "y", BOTH),
        (VIEW.format("%y") + "%w: T = aten.sin_.default(%y) " + END, "y", None),
        ("%c: T = aten.contiguous.default(%x) return %c", "x", None),
        (
            VIEW.format("%y")
            + "%w: f32[1] = mylib.resize.default(%c) %r: T = aten.cos.default(%y) return %r",
            "y",
            "another shape in place",
        ),
    ],
)
def test_a_view_is_stood_for(body: str, of: str, why: str | None) -> None:
    _, substitution, node, value = asked(body)
    reason = substitution.against_view(node["c"], (value[of],))
    assert reason is None if why is None else reason is not None and reason.endswith(why)


def test_where_gradients_flow_nothing_is_stood_for_but_an_object_handed_back() -> None:
    why = "like %y, but gradients may flow through both"
    for line, against_view in ((COPY, why), (VIEW, why), ("%c: T = aten.contiguous.default({}) ", None)):
        _, substitution, node, value = asked(line.format("%y") + END, gradients=True)
        assert substitution.against_view(node["c"], (value["y"],)) == against_view
        assert substitution.against_copy(node["c"], (value["y"],)) == why
    _, substitution, node, value = asked(COPY.format("%y") + END, "i64[4]", gradients=True)
    assert substitution.against_copy(node["c"], (value["y"],)) is None


def test_what_took_in_what_the_caller_gets_is_the_callers() -> None:
    body = "%c: T = aten.clone.default(%y) %d: T = aten.clone.default(%y) return %c, %d"
    draft, substitution, node, value = asked(body)
    assert draft.replace(node["c"], (value["y"],), "a copy")
    substitution.note(node["c"], (value["y"],))
    assert substitution.against_copy(node["d"], (value["y"],)) == "like %y, but the caller gets both"
    draft, substitution, node, value = asked(body.replace("clone", "alias"))
    assert draft.replace(node["c"], (value["y"],), "a view")
    substitution.note(node["c"], (value["y"],))
    reason = substitution.against_view(node["d"], (value["y"],))
    assert reason == "shows what %y shows, but the caller gets both objects"


def test_what_took_in_what_stays_inside_is_not_the_callers() -> None:
    body = (
        "%c: T = aten.{0}.default(%y) %d: T = aten.{0}.default(%y) %r: T = aten.neg.default(%c) return %r, %d"
    )
    for op in ("clone", "alias"):
        draft, substitution, node, value = asked(body.format(op))
        assert draft.replace(node["c"], (value["y"],), "inside")
        substitution.note(node["c"], (value["y"],))
        against = substitution.against_copy if op == "clone" else substitution.against_view
        assert against(node["d"], (value["y"],)) is None


@pytest.mark.parametrize("op", ["clone", "alias"])
def test_the_question_is_asked_of_the_value_that_stands(op: str) -> None:
    body = f"%c: T = aten.{op}.default(%y) %d: T = aten.{op}.default(%c) return %y, %d"
    draft, substitution, node, value = asked(body)
    against = substitution.against_copy if op == "clone" else substitution.against_view
    assert against(node["c"], (value["y"],)) is None and draft.replace(node["c"], (value["y"],), "inside")
    reason = against(node["d"], (value["c"],))
    assert reason is not None and "the caller gets both" in reason and "%y" in reason


@pytest.mark.parametrize("op", ["clone", "alias"])
def test_of_a_new_value_nothing_is_known(op: str) -> None:
    draft, substitution, node, value = asked(f"%c: T = aten.{op}.default(%y) return %y, %c")
    new = draft.node("aten.sin.default", [value["x"]], value["y"].type, like=node["y"])
    assert draft.replace(node["y"], new.results, "another", added=[new])
    against = substitution.against_copy if op == "clone" else substitution.against_view
    assert against(node["c"], (value["y"],)) == "like %y_1, of which nothing is known before the next round"


def test_an_object_handed_back_follows_what_it_is() -> None:
    body = "%a: T = aten.alias.default(%y) %c: T = aten.contiguous.default(%a) " + END
    draft, substitution, node, value = asked(body, gradients=True)
    assert draft.replace(node["a"], (value["y"],), "a view")
    assert substitution.against_view(node["c"], (value["a"],)) is None


@pytest.mark.parametrize(
    ("between", "changed"),
    [
        ("%w: T = aten.neg.default(%x)", False),
        ("%w: T = aten.neg_.default(%x)", True),
        ("%w: T = aten.neg_.default(%y)", True),
    ],
)
def test_what_is_written_between_two_nodes_has_changed(between: str, changed: bool) -> None:
    _, substitution, node, _ = asked(between + " %c: T = aten.sin.default(%x) return %c")
    assert substitution.changed(node["y"], node["c"]) is changed
    assert not substitution.changed(node["y"], node["w"])


TWO = "{}: (%{}: f32[2], %{}: f32[2]) = aten.{} "
COPIES, VIEWS = "split_with_sizes_copy.default(%y, [2, 2])", "split_with_sizes.default(%y, [2, 2])"
PAIRS = TWO.format("m", "a", "b", "{0}") + TWO.format("n", "c", "d", "{0}")
INSIDE = "%r: f32[2] = aten.neg.default(%c) return %r"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (PAIRS.format(COPIES) + INSIDE, None),
        (PAIRS.format(COPIES) + "%w: f32[2] = aten.neg_.default(%b) " + INSIDE, "may be written later"),
        (PAIRS.format(COPIES) + "%w: f32[2] = aten.neg_.default(%d) " + INSIDE, "written later itself"),
        (PAIRS.format(COPIES) + "%w: f32[1] = mylib.resize.default(%d) " + INSIDE, "written later itself"),
        (PAIRS.format(COPIES) + "return %a, %c", "the caller gets both"),
        ("%z: c64[4] = aten.complex.default(%y, %y) " + PAIRS.format(COPIES) + "return %c", "conjugated"),
    ],
)
def test_one_of_several_results_speaks_for_all(body: str, why: str | None) -> None:
    _, substitution, node, value = asked(body)
    reason = substitution.against_copy(node["n"], (value["a"], value["b"]), since=node["m"])
    assert reason is None if why is None else reason is not None and reason.endswith(why)


def test_one_of_several_parts_of_larger_memory_is_enough() -> None:
    part = "%p: f32[2] = aten.slice.Tensor(%y, 0, 2, 4) "
    _, substitution, node, value = asked(part + PAIRS.format(COPIES) + "return %c, %d")
    reason = substitution.against_copy(node["n"], (value["a"], value["p"]))
    assert reason == "like %a, %p, which may be a part of larger memory"


def test_one_of_several_values_that_gradients_flow_through_is_enough() -> None:
    sorted_ = "m: (%a: f32[4], %b: i64[4]) = aten.sort.default(%y) "
    again = sorted_.replace("m:", "n:").replace("%a", "%c").replace("%b", "%d") + END
    _, substitution, node, value = asked(sorted_ + again, gradients=True)
    reason = substitution.against_copy(node["n"], (value["a"], value["b"]), since=node["m"])
    assert reason == "like %a, %b, but gradients may flow through both"


def test_one_of_several_objects_that_the_caller_gets_is_enough() -> None:
    _, substitution, node, value = asked(PAIRS.format(VIEWS) + "return %a, %c")
    reason = substitution.against_view(node["n"], (value["a"], value["b"]))
    assert reason == "shows what %a, %b shows, but the caller gets both objects"


def test_one_of_several_new_values_is_enough() -> None:
    for op in (COPIES, VIEWS):
        draft, substitution, node, value = asked(PAIRS.format(op) + INSIDE)
        new = draft.node("aten.neg.default", [value["y"]], value["a"].type, like=node["m"])
        assert draft.replace(node["m"], (*new.results, *new.results), "another", added=[new])
        against = substitution.against_copy if op == COPIES else substitution.against_view
        reason = against(node["n"], (value["a"], value["d"]))
        assert reason == "like %m_1, %d, of which nothing is known before the next round"


def test_an_object_handed_back_beside_a_view_is_not_all() -> None:
    """atleast_1d hands back what has dimensions, and views what has none."""
    body = """%z: f32[] = aten.sum.default(%x) %v: f32[1] = aten.view.default(%z, [1])
        n: (%c: f32[4], %d: f32[1]) = aten.atleast_1d.Sequence([%y, %z]) return %v, %d"""
    _, substitution, node, value = asked(body)
    reason = substitution.against_view(node["n"], (value["y"], value["v"]))
    assert reason == "shows what %y, %v shows, but the caller gets both objects"
