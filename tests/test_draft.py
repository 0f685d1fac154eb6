"""The draft: steps as deltas, and each edit that it must turn down."""

import pytest

from graphopt.analysis.costs import Costs
from graphopt.analysis.memory import Memory
from graphopt.draft import Draft
from graphopt.errors import InvalidGraph, PassError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.text import parse_graph, print_graph
from graphopt.pipeline import run_passes
from graphopt.steps import Claim, Site, applied
from passes.common_subexpression import CommonSubexpression
from passes.dead_code import DeadCode

GRAPH = """
graph {
  %x: f32[2] = argument 0
  %a: f32[2] = aten.sin.default(%x)  # "m.py":1 "x.sin()" in "one"
  %b: f32[2] = aten.sin.default(%x)  # "m.py":2 "x.sin()" in "two"
  %c: f32[2] = aten.add.Tensor(%a, %b)
  %d: f32[2] = aten.cos.default(%x)
  %e: i64[2] = aten.to.dtype(%x, torch.int64)
  return %c
}"""


def _draft(text: str = GRAPH) -> tuple[Draft, dict[str, Node], dict[str, Value]]:
    graph = parse_graph(text)
    draft = Draft(graph)
    draft.begin("test", Claim.BITWISE, "tested")
    return draft, {node.name: node for node in graph.nodes}, {value.name: value for value in graph.values}


def test_a_replacement_unites_origins_and_takes_over_every_use() -> None:
    draft, node, _ = _draft()
    assert draft.merge(node["b"], node["a"], "the same")
    text = print_graph(draft.finish())
    assert "aten.add.Tensor(%a, %a)" in text
    assert '# "m.py":1 "x.sin()" in "one"; "m.py":2 "x.sin()" in "two"' in text


def test_new_nodes_stand_where_the_old_one_stood() -> None:
    draft, node, value = _draft()
    first = draft.node("aten.neg.default", [value["x"]], value["c"].type, like=node["c"])
    second = draft.node("aten.neg.default", [first.results[0]], value["c"].type, like=node["c"])
    assert [first.name, second.name] == ["c_1", "c_2"]
    assert draft.replace(node["c"], second.results, "for a test", added=[first, second])
    graph = draft.finish()
    assert [n.name for n in graph.nodes] == ["a", "b", "c_1", "c_2", "d", "e"]
    assert graph.outputs == second.results


def test_replacements_chain() -> None:
    draft, node, value = _draft()
    draft.merge(node["b"], node["a"], "first")
    draft.replace(node["a"], [value["x"]], "then")
    assert draft.resolve(value["b"]) == value["x"]
    assert "aten.add.Tensor(%x, %x)" in print_graph(draft.finish())


def test_steps_are_deltas_that_lead_to_each_stage() -> None:
    graph = parse_graph(GRAPH)
    passes = [CommonSubexpression(), DeadCode()]
    outcome = run_passes(graph, passes)
    assert [step.number for step in outcome.steps] == [1, 2, 3]
    assert applied(graph, outcome.steps) == outcome.graph
    for number in range(len(outcome.steps) + 1):
        stopped = run_passes(graph, passes, stop_after=number)
        assert stopped.steps == outcome.steps[:number]
        assert stopped.graph == applied(graph, outcome.steps[:number])


def test_a_denied_site_is_left_and_the_rest_goes_on() -> None:
    graph = parse_graph(GRAPH)
    denied = {Site("common-subexpression", "b"): "it was wrong"}
    outcome = run_passes(graph, [CommonSubexpression(), DeadCode()], denied=denied)
    assert [node.name for node in outcome.graph.nodes] == ["a", "b", "c"]
    assert [(m.node.name, m.why_not) for m in outcome.missed] == [("b", "it was wrong")]


def test_a_dead_node_that_may_not_go_keeps_what_it_reads() -> None:
    text = GRAPH.replace("return %c", "return %x")
    outcome = run_passes(parse_graph(text), [DeadCode()], denied={Site("dead-code", "c"): "no"})
    assert [node.name for node in outcome.graph.nodes] == ["a", "b", "c"]


def test_values_of_another_type_do_not_take_the_place() -> None:
    draft, node, _ = _draft()
    with pytest.raises(InvalidGraph, match="other types") as caught:
        draft.merge(node["e"], node["a"], "wrong")
    assert "node e" in caught.value.where


def test_a_later_value_does_not_take_the_place() -> None:
    draft, node, _ = _draft()
    with pytest.raises(InvalidGraph, match="%d is used before it is made"):
        draft.merge(node["a"], node["d"], "wrong")


def test_a_new_node_reads_what_is_made_before_it() -> None:
    draft, node, value = _draft()
    added = draft.node("aten.neg.default", [value["d"]], value["b"].type, like=node["b"])
    with pytest.raises(InvalidGraph, match="%d is used before it is made"):
        draft.replace(node["b"], added.results, "wrong", added=[added])


def test_a_node_is_not_replaced_twice() -> None:
    draft, node, _ = _draft()
    draft.merge(node["b"], node["a"], "right")
    with pytest.raises(InvalidGraph, match="removed before"):
        draft.merge(node["b"], node["a"], "again")


@pytest.mark.parametrize(("name", "reader"), [("a", "c reads it"), ("c", "the output reads it")])
def test_what_is_read_is_not_removed(name: str, reader: str) -> None:
    draft, node, _ = _draft()
    with pytest.raises(InvalidGraph, match=reader):
        draft.remove(node[name], "wrong")


def test_what_stands_for_a_read_value_is_not_removed() -> None:
    draft, node, _ = _draft()
    draft.merge(node["b"], node["a"], "right")
    draft.remove(node["d"], "right")
    with pytest.raises(InvalidGraph, match="c reads it"):
        draft.remove(node["a"], "wrong")


def test_what_a_new_node_reads_is_not_removed() -> None:
    draft, node, value = _draft()
    added = draft.node("aten.neg.default", [value["a"]], value["c"].type, like=node["c"])
    draft.replace(node["c"], added.results, "right", added=[added])
    draft.remove(node["b"], "right")
    with pytest.raises(InvalidGraph, match="c_1 reads it"):
        draft.remove(node["a"], "wrong")


def test_a_graph_without_edits_is_the_same_object() -> None:
    graph = parse_graph(GRAPH)
    assert isinstance(graph, Graph) and applied(graph, ()) is graph


def test_a_node_is_not_removed_twice() -> None:
    draft = Draft(parse_graph(GRAPH.replace("return %c", "return %x")))
    node = draft.graph.nodes[-1]
    draft.remove(node, "unread")
    with pytest.raises(InvalidGraph, match="removed before"):
        draft.remove(node, "unread")
    assert len(draft.steps) == 1


class Multiplies:
    """Puts ever more negations in the place of one."""

    name, claim = "multiplies", Claim.BITWISE

    def __init__(self, times: int) -> None:
        self._times = times

    def run(self, draft: Draft) -> None:
        for node in draft.graph.nodes:
            made = [draft.node(node.op, node.args, node.results[0].type, like=node)]
            for _ in range(self._times - 1):
                made.append(draft.node(node.op, made[-1].results, node.results[0].type, like=node))
            draft.replace(node, made[-1].results, "twice is once", added=made)


NEGATION = "graph {\n %x: f32[4] = argument 0\n %a: f32[4] = aten.neg.default(%x)\n return %a\n}"


@pytest.mark.parametrize("one", [Multiplies(3), Multiplies(2000)])
def test_a_pass_that_makes_nodes_without_end_is_stopped(one: Multiplies) -> None:
    with pytest.raises(PassError, match=r"the pass multiplies failed: .* more than 1016 nodes") as caught:
        run_passes(parse_graph(NEGATION), [one])
    assert caught.value.where.startswith("node a") and caught.value.remedy


def test_a_pass_that_makes_more_nodes_for_a_while_is_not() -> None:
    outcome = run_passes(parse_graph(NEGATION), [Multiplies(2)])
    assert len(outcome.graph.nodes) == 2**8
    assert outcome.notes == ("the pass multiplies did not settle in 8 rounds",)


def test_passes_that_settle_are_not_noted() -> None:
    graph = parse_graph(GRAPH)
    assert run_passes(graph, [CommonSubexpression(), DeadCode()]).notes == ()
    assert run_passes(graph, []).notes == ()
    assert run_passes(parse_graph(NEGATION), [Multiplies(1)], stop_after=8).notes == ()


def test_what_one_of_several_values_that_it_stands_for_is_read_for_is_not_removed() -> None:
    draft, node, _ = _draft(
        """graph {
          %x: f32[2] = argument 0
          %a: f32[2] = aten.sin.default(%x)
          %b: f32[2] = aten.sin.default(%x)
          %c: f32[2] = aten.sin.default(%x)
          %d: f32[2] = aten.neg.default(%c)
          return %d
        }"""
    )
    draft.merge(node["b"], node["a"], "right")
    draft.merge(node["c"], node["a"], "right")
    with pytest.raises(InvalidGraph, match="d reads it"):
        draft.remove(node["a"], "wrong")


def test_what_stands_for_what_nothing_reads_is_removed() -> None:
    draft, node, _ = _draft(GRAPH.replace("return %c", "return %x"))
    draft.merge(node["b"], node["a"], "right")
    draft.remove(node["c"], "unread")
    assert draft.remove(node["a"], "unread")
    assert [n.name for n in draft.finish().nodes] == ["d", "e"]


def test_a_draft_tells_what_nodes_cost_on_the_machine_that_it_is_given() -> None:
    costs = Costs()
    assert Draft(parse_graph(GRAPH), costs=costs).costs is costs


def test_a_graph_that_keeps_a_value_is_analysed_anew_only_where_that_matters() -> None:
    graph = parse_graph(GRAPH.replace("argument 0", 'param "p"'))
    known, other = graph.analysis(Memory), graph.analysis(_kept)
    kept = graph.keeping(("a",))
    assert kept.analysis(Memory) is known and kept.analysis(_kept) is not other
    assert print_graph(kept) == print_graph(parse_graph(print_graph(kept)))
    with pytest.raises(InvalidGraph, match="depends on an argument"):
        parse_graph(GRAPH).keeping(("a",))


def _kept(graph: Graph) -> list[str]:
    """An analysis that looks at what is kept."""
    return [*graph.kept]


SETTLED = """
graph {
  %x: f32[2] = argument 0
  %i: i64[2] = argument 1
  %a: f32[2] = aten.sin.default(%x)
  %b: f32[2] = aten.sin.default(%x)
  %m: i64[2] = aten.neg.default(%i)
  %n: i64[2] = aten.neg.default(%i)
  return %a, %b, %m, %n
}"""


@pytest.mark.parametrize("merged, is_settled", [(("n", "m"), True), (("b", "a"), False), (None, True)])
def test_a_pass_is_settled_where_nothing_that_matters_changed_since(
    merged: tuple[str, str] | None, is_settled: bool
) -> None:
    draft, node, _ = _draft(SETTLED)
    draft.miss(node["a"], "of one pass")
    draft.begin("other", Claim.BITWISE, "tested")
    draft.miss(node["b"], "of the other")
    draft.finish()
    draft.begin("test", Claim.BITWISE, "tested")
    if merged is not None:
        assert draft.merge(node[merged[0]], node[merged[1]], "the same")
    draft.finish()
    draft.missed.clear()
    draft.begin("other", Claim.BITWISE, "tested")
    assert (
        draft.is_settled(lambda value: "f32" in str(value.type) or "float" in str(value.type)) == is_settled
    )
    assert [one.why_not for one in draft.missed] == (["of the other"] if is_settled else [])
