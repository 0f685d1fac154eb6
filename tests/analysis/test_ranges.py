"""What operators' results lie between is what execution bears out."""

import itertools
import math
from functools import cache
from typing import Any

import pytest
import sympy
import torch

from graphopt.analysis.intervals import ANY, Range, any_of, ordered, rounded
from graphopt.analysis.range_facts import FACTS, Given, fact_of
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


GIVEN = """%c: c64[6] = argument 3
    %n: f32[6] = aten.nan_to_num.default(%x)
    %m: f32[6] = aten.mul.Tensor(%n, 2)
    %s: f32[6] = aten.sigmoid.default(%x)
    %u: f32[6] = aten.sigmoid.default(%n)
    %e: f32[6] = aten.add.Tensor(%u, 1)
    %z: f32[6] = aten.sub.Tensor(%u, 1)
    %t: f32[6] = aten.full_like.default(%x, 2)
    %v: f32[6] = aten.clamp.default(%x, 2, 2)"""
"""%n: finite, %m: no NaN, %s: [0, 1] or NaN, %u: [0, 1], %e: [1, 2], %z: [−1, 0], %t: 2, %v: 2 or NaN."""


def range_of(lines: str, name: str = "r", kind: str = "f32") -> Range | None:
    """What is known of a value as the graph's last node reads it."""
    graph = parse_graph(
        f"""graph {{ %x: {kind}[6] = argument 0 %y: {kind}[6] = argument 1 %i: i64[6] = argument 2
        {GIVEN if kind == "f32" else ""} {lines}
        %last: {kind}[6] = aten.neg.default(%{name}) return %last }}"""
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
        ("sub.Tensor(%n, %n)", -INF, INF, False),
        ("sin.default(%x)", -1.0, 1.0, True),
        ("sin.default(%n)", -1.0, 1.0, False),
        ("sin.default(%m)", -1.0, 1.0, True),
        ("sigmoid.default(%m)", 0.0, 1.0, False),
        ("sqrt.default(%u)", 0.0, 1.0, False),
        ("sqrt.default(%s)", 0.0, 1.0, True),
        ("sqrt.default(%n)", -0.0, 3.4028234663852886e38, True),
        ("exp.default(%z)", 0.0, 1.0, False),
        ("exp.default(%n)", 0.0, INF, False),
        ("sum.dim_IntList(%u, [0], True)", 0.0, INF, False),
        ("sum.dim_IntList(%s, [0], True)", 0.0, INF, True),
        ("sum.dim_IntList(%z, [0], True)", -INF, INF, False),
        ("sum.dim_IntList(%n, [0], True)", -INF, INF, True),  # overflows either way
        ("prod.dim_int(%u, 0, True)", 0.0, 1.0, False),
        ("prod.dim_int(%s, 0, True)", 0.0, 1.0, True),
        ("prod.dim_int(%e, 0, True)", 0.0, INF, True),
        ("prod.dim_int(%n, 0, True)", -INF, INF, True),
        ("nan_to_num.default(%t)", 2.0, 2.0, False),
        ("nan_to_num.default(%v)", 0.0, 2.0, False),
        ("where.self(%m, %u, %t)", 0.0, 2.0, False),
        ("maximum.default(%u, %t)", 2.0, 2.0, False),
        ("masked_fill.Scalar(%u, %m, 3)", 0.0, 3.0, False),
        ("tril.default(%t)", 0.0, 2.0, False),
        ("cat.default([%u, %t])", 0.0, 2.0, False),
        ("cat.default([%t, %s])", 0.0, 2.0, True),
        ("clamp.default(%u, -1, 0.5)", -0.0, 0.5, False),
        ("clamp.default(%u, 0.5)", 0.5, 1.0, False),
        ("clamp_min.default(%u, 0.5)", 0.5, 1.0, False),
        ("clamp_max.default(%u, 0.5)", 0.0, 0.5, False),
        ("hardtanh.default(%n)", -1.0, 1.0, False),
        ("hardtanh.default(%n, -2, 3)", -2.0, 3.0, False),
        ("relu6.default(%n)", -0.0, 6.0, False),
        ("pow.Tensor_Scalar(%z, 2.0)", 0.0, 1.0, False),
        ("pow.Tensor_Scalar(%z, 4.0)", 0.0, INF, False),
        ("pow.Tensor_Tensor(%z, %t)", -INF, INF, True),
        ("mul.Tensor(%z, %z)", 0.0, 1.0, False),
        ("add.Tensor(%u, %t, alpha=2)", 4.0, 5.0, False),
        ("sub.Tensor(%u, %t)", -2.0, -1.0, False),
        ("rsub.Tensor(%u, %t)", 1.0, 2.0, False),
        ("div.Tensor(%u, %t)", 0.0, 0.5, False),
        ("median.default(%u)", 0.0, 1.0, False),
        ("abs.default(%c)", 0.0, INF, True),
        ("arange.default(6, dtype=torch.float32)", -INF, INF, True),
    ],
)
def test_one_operator(operation: str, low: float, high: float, nan: bool) -> None:
    found = range_of(f"%r: f32[6] = aten.{operation}")
    assert found is not None and found.nan == nan
    assert (ordered(found.low), ordered(found.high)) == (ordered(low), ordered(high))


def test_of_what_is_no_number_and_no_real_tensor_nothing_is_known() -> None:
    graph = parse_graph("""graph { %x: c64[6] = argument 0 %n: int = argument 1
        %r: c64[6] = aten.mul.Tensor(%x, %n) return %r }""")
    node, ranges = graph.nodes[0], Ranges(graph)
    for arg in (*node.args, Lit(None), Lit("mean"), Lit(1j), Lit(math.nan), Sequence("list", ()), None):
        assert ranges.of(arg, node) is None
    assert ranges.of(Lit(0.5), node) == Range(0.5, 0.5)


def test_what_is_given_is_a_number_or_has_a_range_of_its_own() -> None:
    kind = TensorType(torch.float32, (3,), (1,), torch.device("cpu"))
    a, b = Value("a", kind), Value("b", kind)
    ranges = {"a": Range(0.0, 1.0), "b": Range(2.0, 3.0, True)}

    def given(arg: Any) -> Given:
        return Given({} if arg is None else {"x": arg}, lambda value: ranges[value.name], torch.float32)

    assert given(a).raw("x") == ranges["a"] and given(Lit(2)).raw("x") == Range(2, 2)
    for arg in (None, Lit(None), Lit("mean"), Lit(1j), Lit(math.nan), Sequence("list", (a,))):
        assert given(arg).raw("x") == ANY
    assert given(Sequence("list", (a, b))).all("x") == Range(0.0, 3.0, True)
    for arg in (
        None,
        a,
        Sequence("list", ()),
        Sequence("list", (a, Lit(None))),
        Sequence("list", (Lit(1.0),)),
    ):
        assert given(arg).all("x") == ANY


def test_how_many_elements_there_are_decides_what_is_a_place_or_a_number() -> None:
    def fact(op: str, result: int, *shape: Any) -> Range:
        kind = TensorType(torch.float32, shape, tuple(1 for _ in shape), torch.device("cpu"))
        found = fact_of(op, result)
        assert found is not None
        return found(Given({"self": Value("x", kind)}, lambda value: Range(0.0, 1.0), torch.float32))

    size = sympy.Symbol("s0", integer=True, positive=True)
    for op, result in (("aten.argmax.default", 0), ("aten.max.dim", 1), ("aten.cummax.default", 1)):
        assert fact(op, result, 2, 3) == Range(0, 5)
        assert fact(op, result) == fact(op, result, 0, 3) == Range(0, 0)
        assert fact(op, result, 2, size) == Range(0, INF)
    for op in ("aten.mean.default", "aten.median.default"):
        assert not fact(op, 0, 2, 3).nan
        assert fact(op, 0, 0, 3).nan and fact(op, 0, 3, 0).nan and fact(op, 0, 2, size).nan
    assert fact("aten.split.Tensor", 1, 2, 3) == Range(0.0, 1.0)
    assert fact_of("mylib.relu.default", 0) is None and fact_of("aten.lgamma.default", 0) is None


@pytest.mark.parametrize("by", [0, 1.5, -1.5])
def test_steps_that_are_rounded_or_none_are_anything(by: float) -> None:
    lines = f"%r: i64[6] = aten.arange.start_step(10, 0, {by}, dtype=torch.int64)"
    assert range_of(lines, kind="i64") == any_of(torch.int64)


def test_bits_read_as_another_type_are_anything() -> None:
    lines = "%r: i32[6] = aten.view.dtype(%u, torch.int32)"
    assert range_of(lines) == any_of(torch.int32)


def test_a_graph_of_any_depth_is_looked_at_as_far_as_is_needed() -> None:
    lines = "\n".join(f"%r{i + 1}: f32[6] = aten.relu.default(%r{i})" for i in range(2000))
    assert range_of(f"%r0: f32[6] = aten.sigmoid.default(%x) {lines}", "r2000") == Range(-0.0, INF, True)


def test_what_may_wrap_around_is_anything() -> None:
    assert range_of("%r: i8[6] = aten.mul.Tensor(%x, %x)", kind="i8") == Range(-128, 127)
    assert range_of("%r: i8[6] = aten.abs.default(%x)", kind="i8") == Range(-128, 127)
    for operation in (
        "pow.Tensor_Scalar(%x, 4)",
        "sum.dim_IntList(%p, [0], True)",
        "prod.dim_int(%p, 0, True)",
    ):
        lines = f"%p: i8[6] = aten.clamp.default(%x, 1, 7) %r: i8[6] = aten.{operation}"
        assert range_of(lines, kind="i8") == Range(-128, 127)
    lines = "%p: i8[6] = aten.clamp.default(%x, 1, 7) %r: i8[6] = aten.nan_to_num.default(%p)"
    assert range_of(lines, kind="i8") == Range(1, 7)
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


def test_what_is_written_into_a_given_tensor_was_computed_in_another_type() -> None:
    lines = "%o: f64[6] = argument 4 %r: f64[6] = aten.mul.out(%u, %u, out=%o)"
    assert range_of(lines) == Range(-INF, INF, True)


def test_facts_are_of_operators_that_were_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTS, "nobody_knows_it", lambda given: Range(0.0, 1.0))
    assert range_of("%r: f32[6] = aten.nobody_knows_it.default([6])") == ANY


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
    ("split.Tensor", "x", 20), ("unbind.int", "x"), ("view.dtype", "x", torch.int32),
    ("view.dtype", "x", torch.float32), ("pow.Tensor_Scalar", "x", 4.0), ("pow.Tensor_Scalar", "x", 1.5),
    ("pow.Tensor_Tensor", "x", "y"),
    ("softmax.int", "x", 0, torch.float16), ("mean.dim", "x", [0]), ("std.correction", "x", [0]),
]  # fmt: skip

INTERVALS = [
    (-INF, INF, True), (-INF, INF, False), (0.0, 1.0, True), (-0.0, 1.0, False), (-1.0, -0.0, False),
    (0.0, INF, False), (-2.5, 3.0, False), (1e-30, 2e-30, False), (0.1, 0.7, False), (-3e38, 3e38, False),
    (0.0, 0.0, False), (-0.0, -0.0, False), (-5.0, -0.1, True), (300.0, 400.0, False), (1.0, 1.0, False),
    (-1e-41, 1e-41, False), (-INF, -1.0, False), (INF, INF, False), (2.0, 3.0, True), (6e4, 7e4, False),
]  # fmt: skip


@cache
def elements(interval: int, dtype: torch.dtype) -> torch.Tensor | None:
    """Elements of a dtype within an interval, its ends and zeros among them; None where it has none."""
    low, high, nan = INTERVALS[interval]
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
    first = [math.nan] if nan and dtype.is_floating_point else []
    picks = torch.randint(0, len(inside), (59,), generator=generator).tolist()
    return torch.tensor([*first, *inside[: 8 - len(first)], *(inside[i] for i in picks)], dtype=dtype)


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
    op, tried = operation[0], 0
    pairs = [
        (one, other)
        for one in range(len(INTERVALS))
        for other in range(9 if "y" in operation or "cat" in op else 1)
    ]
    for dtype, (one, other) in itertools.product(DTYPES.values(), pairs):
        x, y = elements(one, dtype), elements(other, dtype)
        if x is None or y is None:
            continue
        ranges = {"x": Range(*INTERVALS[one]), "y": Range(*INTERVALS[other])}
        if not dtype.is_floating_point:
            ranges = {n: Range(t.min().item(), t.max().item()) for n, t in (("x", x), ("y", y))}
        if op in ("tril.default", "triu.default"):
            x = x[:49].view(7, 7)
        mask = torch.arange(len(x)) % 3 == 0
        tensors = {"x": x, "y": y.repeat(2)[: len(x)], "m": mask}
        tried += checked(operation, tensors, {**ranges, "m": Range(0, 1)})
    assert tried


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "numbers", [(5,), (5.5,), (0,), (-3, 4), (0.5, 5), (10, 0, -1), (10, 0, -1.5), (0, 300, 7), (249, 267, 1)]
)
def test_numbers_in_a_row_lie_where_they_are_said_to(numbers: tuple[float, ...], dtype: torch.dtype) -> None:
    name = ("default", "start", "start_step")[len(numbers) - 1]
    assert checked((f"arange.{name}", *numbers, {"dtype": dtype}), {}, {})


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_results_of_no_elements_lie_where_they_are_said_to(operation: tuple[Any, ...]) -> None:
    for dtype in (torch.float32, torch.int64):
        x, mask = torch.empty(0, dtype=dtype), torch.empty(0, dtype=torch.bool)
        checked(
            operation, {"x": x, "y": x, "m": mask}, {"x": Range(2, 3), "y": Range(2, 3), "m": Range(0, 1)}
        )


def checked(operation: tuple[Any, ...], tensors: dict[str, torch.Tensor], ranges: dict[str, Range]) -> int:
    """Runs an operation on tensors that lie within ranges; how many results were seen to lie as said."""
    keywords = operation[-1] if isinstance(operation[-1], dict) else {}
    op, *spelled = operation[:-1] if keywords else operation
    op, tried = f"aten.{op}", 0
    values = {name: Value(name, TensorType(t.dtype, tuple(t.shape), t.stride(), t.device))
              for name, t in tensors.items()}  # fmt: skip

    def built(arg: Any, table: dict[str, Any]) -> Any:
        if isinstance(arg, list):
            return [built(item, table) for item in arg]
        return table[arg] if isinstance(arg, str) else arg

    try:
        results = resolve(op)(*built(spelled, tensors), **keywords)
    except (RuntimeError, TypeError, IndexError, OverflowError):
        return 0
    node = Node("r", op, tuple(map(as_arg, built(spelled, values))),
                tuple((n, Lit(v)) for n, v in keywords.items()), ())  # fmt: skip
    for number, result in enumerate(results if isinstance(results, tuple | list) else (results,)):
        fact = fact_of(op, number)
        assert fact is not None
        if any_of(result.dtype) is None:
            continue
        found = rounded(
            fact(Given(operands_of(node), lambda value: ranges[value.name], result.dtype)), result.dtype
        )
        assert is_inside(found, result), (tensors, ranges, found, result)
        tried += 1
    return tried


def as_arg(arg: Any) -> Any:
    if isinstance(arg, list):
        return Sequence("list", tuple(map(as_arg, arg)))
    return arg if isinstance(arg, Value) else Lit(arg)
