"""Every kind of operand and type comes back from its text; the text is the same everywhere."""

import subprocess
import sys

import pytest
import sympy
import torch

from graphopt.ir.graph import (
    Argument,
    Constant,
    Graph,
    Input,
    Mapping,
    Node,
    Origin,
    Sequence,
    Slice,
    State,
    Value,
)
from graphopt.ir.literal import Lit
from graphopt.ir.text import parse_graph, print_graph
from graphopt.ir.types import ListType, NoneType, SymType, TensorType, contiguous_strides

CPU = torch.device("cpu")
S = sympy.Symbol("s0", integer=True)


def tensor(*shape: object, strides: object = "row-major", dtype: torch.dtype = torch.float32) -> TensorType:
    laid = contiguous_strides(shape) if strides == "row-major" else strides  # type: ignore[arg-type]
    return TensorType(dtype, shape, laid, CPU)  # type: ignore[arg-type]


def graph_with(*args: object) -> Graph:
    x = Value("x", tensor(2, 4))
    node = Node("n", "aten.any.op", (x, *args), (), (Value("n", tensor(2)),))  # type: ignore[arg-type]
    return Graph((Input(x, Argument(0)),), (node,), (node.results[0],))


LITERALS = [
    None, True, False, 0, 1, -1, 10**20, 0.0, -0.0, 1.5, -1e-5, 1e300, float("inf"), float("-inf"),
    float("nan"),
    1 + 2j, complex(-0.0, float("inf")), "", 'a "quoted" # line\n\\', "%x = y", torch.float32, torch.int64,
    torch.device("cuda:1"), torch.strided, torch.channels_last,
]  # fmt: skip


@pytest.mark.parametrize("value", LITERALS, ids=repr)
def test_literals_round_trip_by_type_and_bits(value: object) -> None:
    graph = graph_with(Lit(value), Sequence("list", (Lit(value), Lit(value))))
    parsed = parse_graph(print_graph(graph))
    assert parsed == graph
    assert parsed.nodes[0].args[1] == Lit(value)


TYPES = [
    tensor(), tensor(0, 1), tensor(2, 3, strides=(1, 2)), tensor(2, strides=None), tensor(S, 2 * S + 1),
    tensor(3, strides=(S,)), TensorType(torch.bool, (1,), (1,), torch.device("cuda:0")),
    tensor(2, dtype=torch.bfloat16), tensor(2, dtype=torch.complex128), tensor(2, dtype=torch.float8_e4m3fn),
    SymType("int"), SymType("int", sympy.floor(S / 2) + sympy.Mod(S, 3)), SymType("float"), SymType("bool"),
]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_types_round_trip(kind: object) -> None:
    x = Value("x", kind)  # type: ignore[arg-type]
    graph = Graph((Input(x, Argument(0)),), (), (x,))
    assert parse_graph(print_graph(graph)) == graph


def test_every_form_of_operand_result_and_input_round_trips() -> None:
    x, w = Value("x", tensor(2)), Value("w", tensor(2))
    inner = Graph((Input(Value("a", tensor(2)), Argument(0)),), (), (Value("a", tensor(2)),))
    many = Node(
        "m", "higher_order.cond",
        (x, inner, Sequence("tuple", (x, Sequence("list", ())))),
        (("start", Slice(Lit(None), x, Lit(2))), ("more", Mapping((("k", x), ("l", Lit("graph")))))),
        (Value("m_r0", tensor(2)), Value("m_r1", ListType((tensor(1), NoneType())))), True,
        (Origin("a b.py", 3, 'x = "#"', "layer.0"), Origin("", 0, "", "")),
    )  # fmt: skip
    empty = Node("e", "aten.nothing.default", (), (), (), True)
    none = Node("z", "aten._assert_async.default", (x,), (), (Value("z", NoneType()),))
    graph = Graph(
        (Input(x, State("param", "l.w")), Input(w, Constant("c.0"))),
        (many, empty, none),
        (many.results[0], Lit(3)),
    )
    assert parse_graph(print_graph(graph)) == graph
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)


PRINT = """
import torch, graphopt
from graphopt.ir.text import print_graph
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.LSTM(4, 2))
opt = graphopt.optimize(model, (torch.zeros(5, 3),), dynamic_shapes="auto", verify=False, measure=False)
print(print_graph(opt.graph))
"""


def test_the_text_is_the_same_in_every_process_and_hash_seed() -> None:
    texts = [
        subprocess.run(
            [sys.executable, "-c", PRINT],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert b"aten.lstm.input" in texts[0]
