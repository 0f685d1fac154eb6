"""A graph checks its invariants."""

import pytest
import torch

from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Argument, Graph, Input, Node, Value
from graphopt.ir.types import NoneType, TensorType

TWO, THREE = (TensorType(torch.float32, (size,), (1,), torch.device("cpu")) for size in (2, 3))


def test_a_graph_checks_itself() -> None:
    x, y = Value("x", TWO), Value("y", TWO)
    node = Node("y", "aten.neg.default", (x,), (), (y,))
    entry = Input(x, Argument(0))
    Graph((entry,), (node,), (y,))
    for inputs, nodes, outputs, says in [
        ((), (node,), (y,), "used before"),
        ((entry, entry), (node,), (y,), "defined twice"),
        ((entry,), (node, node), (y,), "one name"),
        ((entry,), (), (y,), "used before"),
        ((entry,), (Node("y", "op", (Value("x", THREE),), (), (y,)),), (y,), "another type"),
        ((entry,), (Node("y", "op", (x,), (), ()),), (x,), "0 results where one"),
        (
            (entry,),
            (Node("y", "op", (x,), (), (Value("y", NoneType()),)),),
            (Value("y", NoneType()),),
            "no tensor",
        ),
    ]:
        with pytest.raises(InvalidGraph, match=says):
            Graph(inputs, nodes, outputs)  # type: ignore[arg-type]
