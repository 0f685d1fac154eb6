"""Roots of a region that may lie otherwise: where nothing that reads them can tell."""

import pytest
import torch

from graphopt.algebra.layout import _is_blind, laid_freely
from graphopt.algebra.regions import Regions
from graphopt.draft import Draft
from graphopt.ir.graph import Value
from graphopt.ir.text import parse_graph
from graphopt.ir.types import TensorType

GRAPH = """graph {{
  %a: f32[16, 16] = argument 0
  %b: f32[16, 16] = argument 1
  %c: f32[16, 16] = aten.mm.default(%a, %b)
  %p: {root}
  {readers}
  return %r }}"""
COLUMN = "f32[16]{16} = aten.select.int(%c, 1, 2)"
DENSE = "f32[16] = aten.sum.dim_IntList(%c, [1])"


def loose(root: str, *readers: str) -> tuple[set[str], set[str]]:
    """The roots that may lie as they like, and their readers, of the region of a product."""
    draft = Draft(parse_graph(GRAPH.format(root=root, readers="\n  ".join(readers))))
    regions = Regions(draft.graph).widened()
    region = max(regions, key=lambda one: len(one.nodes))
    assert "p" in {node.name for node in region.needed}
    found = laid_freely(region, draft)
    return {*found.roots}, {node.name for node in found.readers}


def test_a_column_may_lie_otherwise_where_its_readers_make_the_same_of_it() -> None:
    assert loose(COLUMN, "%r: f32[16] = aten.cumsum.default(%p, 0)") == ({"p"}, {"r"})


READERS = {
    "it draws in the order of the memory": "%r: f32[16] = aten.rrelu.default(%p, 0.125, 0.25, True)",
    "it makes two": "m: (%r: f32[4], %i: i64[4]) = aten.topk.default(%p, 4)",
    "it makes a list": "m: (%r: f32[16]) = aten.split_with_sizes_copy.default(%p, [16])",
    "its result lies as it does": "%r: f32[16]{16} = aten.gelu.default(%p)",
}


@pytest.mark.parametrize("why", READERS)
def test_it_stays_where(why: str) -> None:
    assert loose(COLUMN, READERS[why]) == (set(), set())


def test_it_stays_where_one_of_two_can_tell() -> None:
    blind = "%s: f32[16] = aten.cumsum.default(%p, 0)"
    assert loose(COLUMN, blind, READERS["it makes two"]) == (set(), set())


def test_what_fills_its_memory_has_no_other_way_to_lie() -> None:
    assert loose(DENSE, "%r: f32[16] = aten.cumsum.default(%p, 0)") == (set(), set())


def test_what_the_caller_gets_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "GRAPH", GRAPH.replace("return %r", "return %r, %p"))
    assert loose(COLUMN, "%r: f32[16] = aten.cumsum.default(%p, 0)") == (set(), set())


def test_what_its_own_region_reads_stays() -> None:
    readers = "%s: f32[16] = aten.cumsum.default(%p, 0)", "%r: f32[16] = aten.mv.default(%c, %p)"
    assert loose(COLUMN, *readers) == (set(), set())


def test_what_may_hand_on_its_operand_can_tell() -> None:
    graph = parse_graph(GRAPH.format(root=COLUMN, readers="%r: f32[16] = aten.contiguous.default(%p)"))
    *_, root, reader = graph.nodes
    given = {"p": Value("p", TensorType(torch.float32, (16,), (1,), torch.device("cpu")))}
    assert root.name == "p" and not _is_blind(reader, given, Draft(graph))
