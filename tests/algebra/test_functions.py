"""Functions of elements and rows: what of their operands a part of the result takes."""

import pytest

from graphopt.algebra.functions import function_of
from graphopt.ir.text import parse_graph

GRAPH = parse_graph("""graph {
  %x: f32[4, 6] = argument 0
  %y: f32[6] = argument 1
  %s: f32[] = argument 2
  %none: f32[0, 6] = argument 3
  %any: f32[<s0>, 6] = argument 4
  %k: int<s0> = argument 5
  %one: f32[1, 1, 6] = argument 6
  %square: f32[6, 6] = argument 7
  %added: f32[4, 6] = aten.add.Tensor(%x, %y)
  %copied: f32[6] = aten.copy.default(%y, %one)
  %leaky: f32[4, 6] = aten.rrelu.default(%x, 0.125, 0.25, False)
  %drawn: f32[4, 6] = aten.rrelu.default(%x, 0.125, 0.25, True)
  %empty: f32[0, 6] = aten.cos.default(%none)
  %sized: f32[<s0>, 6] = aten.cos.default(%any)
  %mixed: f32[<s0>, 6] = aten.add.Tensor(%x, %any)
  %scaled: f32[4, 6] = aten.fill.Scalar(%x, %k)
  %table: f32[4, 6] = aten.embedding.default(%x, %y)
  %rows: f32[4, 6] = aten._safe_softmax.default(%x, 1)
  %last: c64[4, 6] = aten.fft_fft.default(%x)
  %least: f32[4] = aten.amin.default(%x, [1])
  %lowest: f32[] = aten.amin.default(%x, [])
  %lone: f32[] = aten.amin.default(%s, [0])
  %all: b8[] = aten.all.dims(%x, None)
  %both: f32[] = aten.amin.default(%x, [0, 1])
  %turned: f32[] = aten.amin.default(%x, [1, 0])
  %normed: f32[4, 6] = aten.layer_norm.default(%x, [6], %y)
  %summed: f32[4, 1] = aten.amin.default(%x, [-1], True)
  %every: c64[4, 6] = aten.fft_fftn.default(%x)
  %wider: c64[4, 8] = aten.fft_fft.default(%x, 8)
  return %added }""")
NODES = {node.name: node for node in GRAPH.nodes}
BY_ROWS = {
    "rows": ((1,), (0,), (1,)),
    "last": ((1,), (0,), (1,)),
    "least": ((1,), (0,), ()),
    "both": ((0, 1), (), ()),
    "normed": ((1,), (0,), (1,)),
    "summed": ((1,), (0,), (1,)),
    "wider": ((1,), (0,), (1,)),
}


@pytest.mark.parametrize("name", ["added", "leaky"])
def test_elements_are_functions_of_those_in_their_places(name: str) -> None:
    found = function_of(NODES[name])
    assert found is not None and not found.rows
    assert found.operands == NODES[name].operands and found.result.name == name


@pytest.mark.parametrize("name", BY_ROWS)
def test_rows_are_functions_of_rows(name: str) -> None:
    found = function_of(NODES[name])
    assert found is not None
    assert (found.rows, found.places, found.ends) == BY_ROWS[name]
    assert [value.name for value in found.operands] == ["x"]


@pytest.mark.parametrize(
    "name",
    [
        "copied", "drawn", "empty", "sized", "mixed", "scaled", "table", "lowest", "lone", "all", "turned",
        "every",
    ],
)  # fmt: skip
def test_what_has_to_be_computed_as_a_whole(name: str) -> None:
    assert function_of(NODES[name]) is None
