"""New nodes: their types, and what a builder refuses."""

import pytest
import torch

from graphopt.builder import Builder, as_arg
from graphopt.draft import Draft
from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Sequence, Value
from graphopt.ir.literal import Lit
from graphopt.ir.text import parse_graph
from graphopt.ir.types import TensorType

GRAPH = """graph {
  %x: f32[4, <s0>] = argument 0
  %u: f32[4]{none} = argument 1
  %w: f64[4, 2] = param "w"
  %m: f64[4, 2] on "meta" = param "m"
  %n: int<s0> = aten.sym_size.int(%x, 1)
  return %x
}"""


def builder() -> tuple[Builder, dict[str, Value]]:
    graph = parse_graph(GRAPH)
    return Builder(Draft(graph), like=graph.nodes[0]), {value.name: value for value in graph.values}


def test_a_node_has_the_type_that_running_it_shows() -> None:
    build, values = builder()
    turned = build("aten.transpose.int", values["w"], 0, 1)
    made = build("aten._to_copy.default", turned, dtype=torch.bfloat16)
    assert made.type == TensorType(torch.bfloat16, (2, 4), (1, 2), torch.device("cpu"))
    assert [node.op for node in build.nodes] == ["aten.transpose.int", "aten._to_copy.default"]


def test_it_is_made_where_its_operands_are_or_where_it_is_told_to_be() -> None:
    build, values = builder()
    meta, cpu = torch.device("meta"), torch.device("cpu")
    for made, device in (
        (build("aten.neg.default", values["m"]), meta),
        (build("aten.neg.default", values["w"]), cpu),
        (build("aten.eye.default", 3), cpu),
        (build("aten.eye.default", 3, device=meta), meta),
    ):
        assert isinstance(made.type, TensorType) and made.type.device == device


@pytest.mark.parametrize(
    "operand, arg",
    [
        (2, Lit(2)),
        (None, Lit(None)),
        ("mean", Lit("mean")),
        (torch.float64, Lit(torch.float64)),
        ([1, -1], Sequence("list", (Lit(1), Lit(-1)))),
        (Lit(1.0), Lit(1.0)),
    ],
)
def test_an_operand_is(operand: object, arg: object) -> None:
    assert as_arg(operand) == arg  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x", "u", "n"])
def test_what_is_no_static_tensor_is_refused(name: str) -> None:
    build, values = builder()
    with pytest.raises(InvalidGraph, match="an operand is no static tensor"):
        build("aten.neg.default", values[name])


def test_what_an_operator_does_not_take_is_refused_where_it_would_stand() -> None:
    build, values = builder()
    with pytest.raises(InvalidGraph, match="it does not take these operands") as caught:
        build("aten.mm.default", values["w"], values["w"])
    assert caught.value.where == "aten.mm.default in the place of n"
    with pytest.raises(InvalidGraph, match="it returns no tensor"):
        build("aten.unbind.int", values["w"])
