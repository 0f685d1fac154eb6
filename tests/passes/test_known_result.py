"""Known results: fires, and refuses each thing it must, in the IR's own text."""

import pytest
import torch

from graphopt.ir.ops import Effect
from passes import known_result
from passes.known_result import KnownResult
from tests.passes.golden import fires_and_refuses
from tests.sameness import assert_same

fires, refuses = fires_and_refuses(KnownResult())
X = "%x: f32[500, 40, 1] = argument 0"
COS = "%c: f32[500, 40] = aten.cos.default(%{})\nreturn %c"
VIEW = "%a_1: f32[500, 40] = aten.view.default(%x, [500, 40])\n"


@pytest.mark.parametrize(
    "reduction", ["amax.default(%x, [2])", "amin.default(%x, [-1])", "prod.dim_int(%x, 2)"]
)
def test_one_element_reduced_is_itself(reduction: str) -> None:
    fires(X, f"%a: f32[500, 40] = aten.{reduction}\n" + COS.format("a"), VIEW + COS.format("a_1"))


@pytest.mark.parametrize(
    "reduction", ["sum.dim_IntList(%x, [2])", "mean.dim(%x, [2])", "logsumexp.default(%x, [2])"]
)
def test_one_element_summed_is_no_negative_zero(reduction: str) -> None:
    fires(
        X,
        f"%a: f32[500, 40] = aten.{reduction}\n" + COS.format("a"),
        VIEW + "%a_2: f32[500, 40] = aten.add.Tensor(%a_1, 0.0)\n" + COS.format("a_2"),
    )


def test_softmax_of_one_element_is_one_unless_it_is_not_finite() -> None:
    fires(
        X,
        "%a: f32[500, 40, 1] = aten.softmax.int(%x, -1)\nreturn %a",
        "%a_1: f32[500, 40, 1] = aten.sub.Tensor(%x, %x)\n"
        "%a_2: f32[500, 40, 1] = aten.add.Tensor(%a_1, 1.0)\nreturn %a_2",
    )


def test_a_result_that_the_caller_gets_has_memory_of_its_own() -> None:
    fires(
        X,
        "%a: f32[500, 40] = aten.amax.default(%x, [2])\nreturn %a",
        VIEW + "%a_2: f32[500, 40] = aten.clone.default(%a_1)\nreturn %a_2",
    )


def test_what_is_taken_from_itself_is_zero_and_what_is_taken_from_another_is_not() -> None:
    inputs = "%x: i64[500, 40] = argument 0;%y: i64[500, 40] = argument 1"
    difference = "%a: i64[500, 40] = aten.sub.Tensor(%x, %{})\nreturn %a"
    zero = "%a_1: i64[500, 40] = aten.full.default([500, 40], 0, "
    zero += 'dtype=torch.int64, device=device("cpu"))\nreturn %a_1'
    fires(inputs, difference.format("x"), zero)
    refuses(inputs, difference.format("y"))


def test_of_a_node_without_results_nothing_is_known() -> None:
    refuses(
        X,
        """r: () = higher_order.wrap_with_set_grad_enabled(False, graph {
        %i: f32[500, 40, 1] = argument 0
        return
        }, %x)
        return %x""",
    )


BOTH = "m: (%v: f32[500, 40], %i: i64[500, 40]) = aten.max.dim(%x, 2)\nreturn %v, %i"


def test_where_one_of_two_results_is_not_known_both_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    law = known_result._law
    monkeypatch.setattr(known_result, "_law", lambda *given: None if given[1] else law(*given))
    refuses(X, BOTH)


def test_what_may_raise_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_result, "effect_of", lambda node: Effect.RAISES)
    refuses(X, BOTH)


def test_the_caller_does_not_get_one_memory_as_two_results() -> None:
    sin = "%y: f32[500, 40, 1] = aten.sin.default(%x)\n"
    fires(
        X,
        sin
        + """%a: f32[500, 40] = aten.amax.default(%y, [2])
        %b: f32[500, 40] = aten.amin.default(%y, [2])
        return %a, %b""",
        sin
        + """%a_1: f32[500, 40] = aten.view.default(%y, [500, 40])
        %b_1: f32[500, 40] = aten.view.default(%y, [500, 40])
        %b_2: f32[500, 40] = aten.clone.default(%b_1)
        return %a_1, %b_2""",
    )


def test_an_operand_that_is_written_later_is_copied() -> None:
    body = """{}
        %w: f32[500, 40, 1] = aten.add_.Tensor(%y, 1)
        %c: f32[500, 40] = aten.cos.default(%{})
        return %c"""
    cos = "%y: f32[500, 40, 1] = aten.sin.default(%x)\n"
    fires(
        X,
        body.format(cos + "%a: f32[500, 40] = aten.amax.default(%y, [2])", "a"),
        body.format(cos + VIEW.replace("%x", "%y") + "%a_2: f32[500, 40] = aten.clone.default(%a_1)", "a_2"),
    )


@pytest.mark.parametrize(
    ("shape", "reduction"),
    [
        ("500, 40", "amax.default(%x, [2])"),  # of several elements
        ("500, 40", "amax.default(%x)"),
        ("500, 40", "mean.dim(%x, [2], dtype=torch.float64)"),
        ("500, 40", "linalg_vector_norm.default(%x, 2, [2])"),  # squares overflow
        ("500, 40", "var.correction(%x, [2], correction=1)"),  # 0 / 0
        ("500, 40", "nansum.default(%x, [2])"),
    ],
)
def test_what_is_no_reduction_of_one_element_stays(shape: str, reduction: str) -> None:
    kind = "f64" if "64" in reduction else "f32"
    shape = "500, 40" if "[2]" in reduction and "dim(" not in reduction else shape
    wide = X.replace("1]", "2]") if "amax" in reduction else X
    made = "[]" if reduction == "amax.default(%x)" else f"[{shape}]"
    refuses(wide, f"%a: {kind}{made} = aten.{reduction}\n%c: {kind}{made} = aten.cos.default(%a)\nreturn %c")


def test_a_size_that_a_call_gives_may_be_another() -> None:
    refuses("%x: f32[500, <s0>] = argument 0", "%a: f32[500] = aten.amax.default(%x, [1])\nreturn %a")
    refuses("%x: f32[<s0>, 1] = argument 0", "%a: f32[<s0>] = aten.amax.default(%x, [1])\nreturn %a",
            "is known without it, but sizes are not")  # fmt: skip


def test_where_strides_depend_on_the_kernel_reductions_stay() -> None:
    """Of one row of a transposed column, tensors without memory and real ones say different strides."""
    for operation in ("mean.dim(%t, [0], True)", "log_softmax.int(%t, 0)"):
        refuses("%x: f32[500, 1] = argument 0",
                f"%t: f32[1, 500]{{1, 1}} = aten.t.default(%x)\n"
                f"%a: f32[1, 500]{{1, 1}} = aten.{operation}\nreturn %a",
                "is known without it, but would lie otherwise in memory")  # fmt: skip


def test_where_gradients_flow_reductions_stay() -> None:
    refuses(X, "%a: f32[500, 40] = aten.mean.dim(%x, [2])\nreturn %a",
            "like %a, but gradients may flow through both", gradients=True)  # fmt: skip


def test_what_costs_more_stays() -> None:
    refuses("%x: f32[1] = argument 0", "%a: f32[1] = aten.softmax.int(%x, 0)\nreturn %a",
            "is known without it, which costs more")  # fmt: skip


def test_values_and_places() -> None:
    fires(
        X,
        "m: (%v: f32[500, 40], %i: i64[500, 40]) = aten.max.dim(%x, 2)\n"
        "%c: f32[500, 40] = aten.cos.default(%v)\n"
        "return %c, %i",
        VIEW.replace("a_1", "m_1")
        + "%m_2: f32[500, 40] = aten.clone.default(%m_1)\n"
        + '%m_3: i64[500, 40] = aten.full.default([500, 40], 0, dtype=torch.int64, device=device("cpu"))\n'
        + "%c: f32[500, 40] = aten.cos.default(%m_2)\nreturn %c, %m_3",
    )


DECIDED = [
    ("ge.Scalar(%s, 0)", "True"), ("lt.Scalar(%s, 0)", "False"), ("gt.Scalar(%s, -1)", "True"),
    ("le.Scalar(%s, 1)", "True"), ("isnan.default(%s)", "False"), ("isinf.default(%s)", "False"),
    ("isfinite.default(%s)", "True"), ("eq.Scalar(%s, 2)", "False"), ("ne.Scalar(%s, -0.5)", "True"),
]  # fmt: skip
NUMBERS = "%n: f32[500, 40] = aten.nan_to_num.default(%y)\n%s: f32[500, 40] = aten.sigmoid.default(%n)\n"
Y = "%y: f32[500, 40] = argument 0"


@pytest.mark.parametrize(("comparison", "answer"), DECIDED)
def test_what_a_range_decides_is_known(comparison: str, answer: str) -> None:
    full = (
        f'%a_1: b8[500, 40] = aten.full.default([500, 40], {answer}, dtype=torch.bool, device=device("cpu"))'
    )
    end = "\n%b: b8[500, 40] = aten.logical_not.default(%{})\nreturn %b"
    fires(Y, NUMBERS + f"%a: b8[500, 40] = aten.{comparison}" + end.format("a"),
          NUMBERS + full.replace("True", "1").replace("False", "0") + end.format("a_1"))  # fmt: skip


@pytest.mark.parametrize(
    "comparison",
    ["ge.Scalar(%s, 0)", "isnan.default(%s)", "isfinite.default(%s)", "le.Scalar(%s, 1)", "gt.Scalar(%s, 0)"],
)
def test_what_may_be_nan_or_at_the_bound_is_not_decided(comparison: str) -> None:
    sigmoid = "%s: f32[500, 40] = aten.sigmoid.default(%y)\n"
    refuses(Y, sigmoid + f"%a: b8[500, 40] = aten.{comparison}\nreturn %a")


PROGRAMS = [
    lambda x: (x.mean(-1), x.sum(-1, keepdim=True), x.amax(1), x.logsumexp(1), x.softmax(-1),
               x.log_softmax(-1)),
    lambda x: (x.max(-1), x.min(1, keepdim=True), x.sort(-1), x.topk(1, -1), x.median(1),
               x.kthvalue(1, -1)),
    lambda x: (x.var(1, correction=0), x.std(1, unbiased=False), x.norm(1, -1), x.argmax(-1),
               x.cumprod(1)),
    lambda x: (x.t().amax(0), x.t().mean(0, keepdim=True), x[3].mean(), x[:0].amax(1), x[3].sum().amax()),
    lambda x: (y := x.amax(1), y.add_(1), x + 1),
    lambda x: (x - x.mean(1, keepdim=True), x.half().mean(1), x.double().sum(1), x.bfloat16().softmax(1)),
    lambda x: (x.sigmoid().clamp(0, 1), x.sigmoid() >= 0, x.nan_to_num().sigmoid() >= 0, x.relu().abs()),
    lambda x: ((x * x).abs(), (x * x).relu(), x.exp().clamp_min(0), x.abs().clamp(max=float("inf")),
               x.abs().sqrt().abs()),
    lambda x: (x.tanh().clamp(-1, 1), x.sin().clamp(-1, 1), x.cos().clamp(-2, 2), x.softmax(0).relu()),
    lambda x: torch.where(x.nan_to_num().square() >= 0, x, 0 * x),
    lambda x: torch.maximum(x.exp(), torch.zeros(())).minimum(torch.full((), float("inf"))),
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_stay_what_they_are(program: object) -> None:
    x = torch.randn(300, 1)
    x[:12, 0] = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 3e38, -3e38, 1e-45,
                              -1e-45, 1e-20, 1.0, -1.0])  # fmt: skip
    with torch.no_grad():
        assert_same(program, x, passes=["redundant-view", "identity-operation", "known-result", "dead-code"])  # type: ignore[arg-type]
    assert_same(program, torch.rand(300, 1).requires_grad_(), passes=None)  # type: ignore[arg-type]
