"""What operators' results lie between is what execution bears out."""

import itertools
import math
from typing import Any

import pytest
import torch

from graphopt.analysis.intervals import Range, any_of, ordered, rounded
from graphopt.analysis.range_facts import Given, fact_of
from graphopt.analysis.ranges import Ranges
from graphopt.ir.graph import Node, Sequence, Value
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of
from graphopt.ir.resolve import resolve
from graphopt.ir.text import parse_graph
from graphopt.ir.types import TensorType

INF = math.inf
DTYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16,
          "i64": torch.int64, "i8": torch.int8, "u8": torch.uint8, "b8": torch.bool}  # fmt: skip


def range_of(lines: str, name: str = "r", kind: str = "f32") -> Range | None:
    """What is known of a value as the graph's last node reads it."""
    graph = parse_graph(
        f"""graph {{ %x: {kind}[6] = argument 0 %y: {kind}[6] = argument 1 %i: i64[6] = argument 2
        {lines} %last: {kind}[6] = aten.neg.default(%{name}) return %last }}"""
    )
    value = {value.name: value for value in graph.values}[name]
    return Ranges(graph).of(value, graph.nodes[-1])


@pytest.mark.parametrize(
    ("operation", "low", "high", "nan"),
    [
        ("sigmoid.default(%x)", 0.0, 1.0, True),
        ("tanh.default(%x)", -1.0, 1.0, True),
        ("softmax.int(%x, 0)", 0.0, 1.0, True),
        ("mul.Tensor(%x, %x)", 0.0, INF, True),
        ("mul.Tensor(%x, %y)", -INF, INF, True),
        ("pow.Tensor_Scalar(%x, 2)", 0.0, INF, True),
        ("pow.Tensor_Scalar(%x, 4)", 0.0, INF, True),
        ("pow.Tensor_Scalar(%x, 3)", -INF, INF, True),
        ("exp.default(%x)", 0.0, INF, True),
        ("relu.default(%x)", -0.0, INF, True),  # relu(−0) = −0
        ("abs.default(%x)", 0.0, INF, True),
        ("clamp.default(%x, 0.1, 2)", 0.09999999403953552, 2.0, True),  # 0.1 rounds either way
        ("clamp.default(%x, 3, 1)", 1.0, 1.0, True),
        ("clamp.default(%x, nan, 1)", -INF, 1.0, True),
        ("nan_to_num.default(%x)", -3.4028234663852886e38, 3.4028234663852886e38, False),
        ("nan_to_num.default(%x, inf)", -INF, INF, True),
        ("add.Tensor(%x, %y)", -INF, INF, True),
        ("ones_like.default(%x)", 1.0, 1.0, False),
        ("full_like.default(%x, inf)", INF, INF, False),
        ("lgamma.default(%x)", -INF, INF, True),
    ],
)
def test_one_operator(operation: str, low: float, high: float, nan: bool) -> None:
    found = range_of(f"%r: f32[6] = aten.{operation}")
    assert found is not None and found.nan == nan
    assert (ordered(found.low), ordered(found.high)) == (ordered(low), ordered(high))


def test_what_may_wrap_around_is_anything() -> None:
    assert range_of("%r: i8[6] = aten.mul.Tensor(%x, %x)", kind="i8") == Range(-128, 127)
    assert range_of("%r: i8[6] = aten.abs.default(%x)", kind="i8") == Range(-128, 127)
    assert range_of("%r: i64[6] = aten.arange.default(6)", kind="i64") == Range(0, 5)
    assert range_of("%a: i64[6] = aten.arange.default(6) %r: i64[6] = aten.sub.Tensor(%a, 3)",
                    kind="i64") == Range(-3, 2)  # fmt: skip


def test_what_is_written_is_anything() -> None:
    lines = "%r: f32[6] = aten.sigmoid.default(%x) %w: f32[6] = aten.sub_.Tensor(%r, 1)"
    assert range_of(lines) == Range(-INF, INF, True)
    view = "%r: f32[6] = aten.view.default(%a, [6])"
    lines = f"%a: f32[6] = aten.sigmoid.default(%x) {view} %w: f32[6] = aten.sub_.Tensor(%a, 1)"
    assert range_of(lines) == Range(-INF, INF, True)
    lines = f"%a: f32[6] = aten.sigmoid.default(%x) %w: f32[6] = aten.sub_.Tensor(%a, 1) {view}"
    assert range_of(lines) == Range(-INF, INF, True)


def test_other_devices_round_as_they_like() -> None:
    graph = parse_graph("""graph { %x: f32[6] on "cuda:0" = argument 0
        %a: f32[6] on "cuda:0" = aten.sigmoid.default(%x)
        %last: f32[6] on "cuda:0" = aten.neg.default(%a) return %last }""")
    assert Ranges(graph).of(graph.nodes[0].results[0], graph.nodes[1]) == Range(-INF, INF, True)


def test_a_negated_view_shows_other_numbers() -> None:
    lines = "%a: f32[6] = aten.sigmoid.default(%x) %r: f32[6] = aten._neg_view.default(%a)"
    assert range_of(lines) == Range(-INF, INF, True)


_UNARY = (
    "sigmoid", "hardsigmoid", "tanh", "erf", "sin", "cos", "exp", "exp2", "log_sigmoid", "sqrt", "abs",
    "square", "neg", "relu", "relu6", "hardtanh", "sign", "nan_to_num", "clone", "prod", "sum", "mean",
    "amax", "amin", "tril", "triu", "median", "max", "min", "sort", "var", "std", "argmax",
)  # fmt: skip
OPERATIONS: list[tuple[Any, ...]] = [  # x: the tensor, y: another, "m": a mask
    *((f"{name}.default", "x") for name in _UNARY),
    ("linalg_vector_norm.default", "x"), ("norm.Scalar", "x", 1),
    *(("pow.Tensor_Scalar", "x", exponent) for exponent in (2, 4, 2.0, -2, 3)),
    ("clamp.default", "x", -0.5, 0.7), ("clamp.default", "x", 0.0), ("clamp.default", "x", -0.0, 0),
    ("clamp.default", "x", None, 0.1), ("clamp.default", "x", 0.7, 0.1), ("clamp_min.default", "x", -0.1),
    ("clamp_max.default", "x", 0.3), ("clamp_max.default", "x", -0.0), ("hardtanh.default", "x", -2, 0.1),
    ("clamp.Tensor", "x", "y"), ("clamp_min.Tensor", "x", "y"), ("clamp_max.Tensor", "x", "y"),
    *((f"{name}.Tensor", "x", other) for name in ("add", "sub", "mul", "div")
      for other in ("x", "y", 1, -0.3, 0.1, 0.0, -0.0, 3e38)),
    ("add.Tensor", "x", "y", {"alpha": -1}), ("sub.Tensor", "x", "y", {"alpha": 0.3}),
    ("rsub.Tensor", "x", "y"),
    ("rsub.Scalar", "x", 1),
    *((name, "x", "y") for name in ("maximum.default", "minimum.default", "max.other", "min.other")),
    ("where.self", "m", "x", "y"), ("where.ScalarOther", "m", "x", -0.0),
    ("masked_fill.Scalar", "x", "m", 0.3),
    ("softmax.int", "x", 0), ("log_softmax.int", "x", 0), ("topk.default", "x", 2),
    ("cummax.default", "x", 0),
    ("max.dim", "x", 0), ("kthvalue.default", "x", 1), ("flip.default", "x", [0]),
    ("cat.default", ["x", "y"]),
    *(("to.dtype", "x", dtype) for dtype in DTYPES.values()),
    ("div.Tensor_mode", "x", "y", {"rounding_mode": "floor"}), ("full_like.default", "x", 0.1),
    ("sum.dim_IntList", "x", [0]),
    ("softmax.int", "x", 0, torch.float16), ("mean.dim", "x", [0]), ("std.correction", "x", [0]),
]  # fmt: skip

INTERVALS = [
    (-INF, INF, True), (-INF, INF, False), (0.0, 1.0, True), (-0.0, 1.0, False), (-1.0, -0.0, False),
    (0.0, INF, False), (-2.5, 3.0, False), (1e-30, 2e-30, False), (0.1, 0.7, False), (-3e38, 3e38, False),
    (0.0, 0.0, False), (-0.0, -0.0, False), (-5.0, -0.1, True), (300.0, 400.0, False), (1.0, 1.0, False),
    (-1e-41, 1e-41, False), (-INF, -1.0, False), (INF, INF, False), (2.0, 3.0, True), (6e4, 7e4, False),
]  # fmt: skip


def elements(one: tuple[float, float, bool], dtype: torch.dtype) -> torch.Tensor | None:
    """Elements of a dtype within a range, its ends and zeros among them; None where it has none."""
    low, high, nan = one
    generator = torch.Generator().manual_seed(0)
    ends = max(low, -1e300), min(high, 1e300)
    spread = torch.rand(300, generator=generator, dtype=torch.float64)
    numbers = [low, high, 0.0, -0.0, 1.0, -1.0, 0.5, *(ends[0] + (ends[1] - ends[0]) * spread).tolist()]
    numbers += [sign * 2.0**e for e in range(-160, 160, 7) for sign in (-1, 1)]
    if not dtype.is_floating_point:
        limits = torch.iinfo(dtype) if dtype is not torch.bool else None
        least, most = (limits.min, limits.max) if limits else (0, 1)
        numbers = [n for n in map(int, filter(math.isfinite, numbers)) if least <= n <= most] + [least, most]
        made = torch.tensor(numbers, dtype=dtype).tolist()
    else:
        made = torch.tensor(numbers, dtype=torch.float64).to(dtype).tolist()
    inside = [n for n in made if ordered(low) <= ordered(n) <= ordered(high)]
    if not inside:
        return None
    if nan and dtype.is_floating_point:
        inside.append(math.nan)
    picks = torch.randint(0, len(inside), (59,), generator=generator).tolist()
    return torch.tensor([*inside[:8], *(inside[i] for i in picks)], dtype=dtype)


def is_inside(found: Range, result: torch.Tensor) -> bool:
    numbers = result[~result.isnan()]
    if len(numbers) < result.numel() and not found.nan:
        return False
    zeros = numbers[numbers == 0].signbit() if numbers.is_floating_point() else numbers[:0]
    extremes = [numbers.min(), numbers.max()] if len(numbers) else []
    ends = [end.item() for end in extremes if end != 0] + [
        -0.0 if negative else 0.0 for negative in zeros.unique()
    ]
    return all(ordered(found.low) <= ordered(end) <= ordered(found.high) for end in ends)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_results_lie_where_they_are_said_to(operation: tuple[Any, ...]) -> None:
    keywords = operation[-1] if isinstance(operation[-1], dict) else {}
    op, *spelled = operation[:-1] if keywords else operation
    op, tried = f"aten.{op}", 0
    run = resolve(op)
    pairs = [
        (one, other)
        for one in INTERVALS
        for other in (INTERVALS[:9] if "y" in spelled or "cat" in op else INTERVALS[:1])
    ]
    for dtype, (one, other) in itertools.product(DTYPES.values(), pairs):
        x, y = elements(one, dtype), elements(other, dtype)
        if x is None or y is None:
            continue
        mask = torch.arange(len(x)) % 3 == 0
        tensors = {"x": x, "y": y.repeat(2)[: len(x)], "m": mask}
        values = {name: Value(name, TensorType(t.dtype, tuple(t.shape), t.stride(), t.device))
                  for name, t in tensors.items()}  # fmt: skip
        ranges = {"x": Range(*one), "y": Range(*other), "m": Range(0, 1)}
        if op.endswith((".tril.default", ".triu.default")):
            tensors["x"] = x[:49].view(7, 7)
        if not dtype.is_floating_point:
            ranges.update({n: Range(tensors[n].min().item(), tensors[n].max().item()) for n in "xy"})

        def built(arg: Any, table: dict[str, Any]) -> Any:
            if isinstance(arg, list):
                return [built(item, table) for item in arg]
            return table[arg] if isinstance(arg, str) else arg

        try:
            results = run(*built(spelled, tensors), **keywords)
        except (RuntimeError, TypeError, IndexError, OverflowError):
            continue
        node = Node("r", op, tuple(map(as_arg, built(spelled, values))),
                    tuple((n, Lit(v)) for n, v in keywords.items()), ())  # fmt: skip
        for number, result in enumerate(results if isinstance(results, tuple) else (results,)):
            fact = fact_of(op, number)
            assert fact is not None
            if any_of(result.dtype) is None:
                continue
            given = Given(operands_of(node), lambda value, known=ranges: known[value.name], result.dtype)
            found = rounded(fact(given), result.dtype)
            tried += 1
            assert is_inside(found, result), (op, dtype, one, other, found, result)
    assert tried


def as_arg(arg: Any) -> Any:
    if isinstance(arg, list):
        return Sequence("list", tuple(map(as_arg, arg)))
    return arg if isinstance(arg, Value) else Lit(arg)
