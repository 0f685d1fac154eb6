"""Identity operations: fires, and refuses each thing it must, in the IR's own text."""

from collections.abc import Callable

import pytest
import torch

from passes.identity_operation import IdentityOperation
from tests.passes.golden import fires_and_refuses
from tests.sameness import assert_same

fires, refuses = fires_and_refuses(IdentityOperation())


@pytest.mark.parametrize(
    ("dtype", "operation"),
    [
        ("f32", "aten.mul.Tensor(%x, 1)"),
        ("f32", "aten.mul.Tensor(%x, 1.0)"),
        ("i64", "aten.mul.Tensor(%x, 1)"),
        ("f32", "aten.div.Tensor(%x, 1)"),
        ("f32", "aten.sub.Tensor(%x, 0)"),
        ("f32", "aten.add.Tensor(%x, -0.0)"),
        ("i64", "aten.add.Tensor(%x, 0)"),
        ("f32", "aten.pow.Tensor_Scalar(%x, 1)"),
        ("f32", "aten.clone.default(%x)"),
        ("f32", "aten.clone.default(%x, memory_format=torch.contiguous_format)"),
        ("f32", "aten._to_copy.default(%x, dtype=torch.float32)"),
        ("f32", "aten.maximum.default(%x, %x)"),
        ("b8", "aten.logical_or.default(%x, %x)"),
        ("f32", "aten.where.self(%c, %x, %x)"),
        ("i64", "aten.bitwise_and.Tensor(%x, %x)"),
    ],
)
def test_what_gives_back_its_operand_is_its_operand(dtype: str, operation: str) -> None:
    fires(
        f"%x: {dtype}[5] = argument 0; %c: b8[5] = argument 1",
        f"%a: {dtype}[5] = {operation}\n%b: {dtype}[5] = aten.flip.default(%a, [0])\nreturn %b",
        f"%b: {dtype}[5] = aten.flip.default(%x, [0])\nreturn %b",
    )


@pytest.mark.parametrize(
    ("dtype", "operation"),
    [
        ("f32", "aten.add.Tensor(%x, 0)"),  # −0 + 0 = +0
        ("f32", "aten.add.Tensor(%x, 0.0)"),
        ("f32", "aten.sub.Tensor(%x, -0.0)"),  # −0 + 0, too
        ("f32", "aten.mul.Tensor(%x, 1.0000001)"),
        ("c64", "aten.mul.Tensor(%x, 1)"),  # (∞ + i)(1 + 0i) has a NaN
        ("f32", "aten.mul.Tensor(%x, 0)"),  # ∞ · 0
        ("f32", "aten.add.Tensor(%x, 1, alpha=0)"),
        ("f32", "aten.sub.Tensor(%x, 0, alpha=-1)"),
        ("f32", "aten.sub.Tensor(%x, %x)"),
        ("f32", "aten.where.self(%c, %x, %y)"),
        ("f32", "aten.maximum.default(%x, %y)"),
        ("f32", "aten.sin.default(%x)"),
    ],
)
def test_what_may_change_a_bit_stays(dtype: str, operation: str) -> None:
    refuses(
        f"%x: {dtype}[5] = argument 0; %y: {dtype}[5] = argument 1; %c: b8[5] = argument 2",
        f"%a: {dtype}[5] = {operation}\n%b: {dtype}[5] = aten.flip.default(%a, [0])\nreturn %b",
    )


FILLED = """%one: f32[5] = aten.ones.default([5])
%yes: b8[5] = aten.ones.default([5], dtype=torch.bool)
%no: b8[5] = aten.logical_not.default(%yes)
%zero: f32[] = aten.zeros.default([])
%zeros: f32[5] = aten.zeros.default([5])
%below: f32[5] = aten.neg.default(%zeros)
"""


@pytest.mark.parametrize(
    "operation",
    [
        "aten.mul.Tensor(%x, %one)",
        "aten.div.Tensor(%x, %one)",
        "aten.sub.Tensor(%x, %zero)",
        "aten.add.Tensor(%x, %below)",
        "aten.masked_fill.Scalar(%x, %no, -3.4e38)",
        "aten.where.self(%yes, %x, %y)",
        "aten.where.self(%no, %y, %x)",
        "aten.where.ScalarOther(%yes, %x, 2.0)",
    ],
)
def test_a_tensor_filled_with_one_number_is_that_number(operation: str) -> None:
    body = f"%a: f32[5] = {operation}\n%b: f32[5] = aten.flip.default(%a, [0])\nreturn %b"
    fires(
        "%x: f32[5] = argument 0; %y: f32[5] = argument 1",
        FILLED + body,
        FILLED + "%b: f32[5] = aten.flip.default(%x, [0])\nreturn %b",
    )


@pytest.mark.parametrize(
    ("operation", "dtype"),
    [
        ("aten.mul.Tensor(%x, %zero)", "f32[5]"),
        ("aten.add.Tensor(%x, %zero)", "f32[5]"),  # −0 + 0 = +0
        ("aten.mul.Tensor(%x, %double)", "f64[5]"),
        ("aten.mul.Tensor(%x, %more)", "f32[2, 5]"),
        ("aten.masked_fill.Scalar(%x, %yes, 0)", "f32[5]"),
        ("aten.masked_fill.Scalar(%x, %m, 0)", "f32[5]"),
        ("aten.where.self(%m, %x, %y)", "f32[5]"),
        ("aten.where.self(%yes, %zero, %x)", "f32[5]"),
    ],
)
def test_a_tensor_filled_with_another_number_or_of_another_type_stays(operation: str, dtype: str) -> None:
    others = """%double: f64[5] = aten.ones.default([5], dtype=torch.float64)
%more: f32[2, 5] = aten.ones.default([2, 5])
"""
    body = f"%a: {dtype} = {operation}\n%b: {dtype} = aten.flip.default(%a, [0])\nreturn %b"
    inputs = "%x: f32[5] = argument 0; %y: f32[5] = argument 1; %m: b8[5] = argument 2"
    refuses(inputs, FILLED + others + body)


def test_a_mask_that_was_written_is_read_as_it_is_by_then() -> None:
    body = """%one: f32[5] = aten.ones.default([5])
        %w: f32[5] = aten.mul_.Tensor(%one, 2)
        %a: f32[5] = aten.mul.Tensor(%x, %one)
        %b: f32[5] = aten.flip.default(%a, [0])
        return %b"""
    refuses("%x: f32[5] = argument 0", body)


def test_integer_division_by_one_makes_floats_and_stays() -> None:
    refuses("%x: i64[5] = argument 0",
            "%a: f32[5] = aten.div.Tensor(%x, 1)\n%b: f32[5] = aten.neg.default(%a)\nreturn %b")  # fmt: skip


@pytest.mark.parametrize(
    "operation",
    ["aten.mul.Tensor(1, %x)", "aten.maximum.default(%x, 1.0)", "aten.maximum.default(1.0, 1.0)",
     "aten.maximum.default(%x)", "aten.clone.default(3.0)", "aten.relu.default(1.0)",
     "aten.mul.Tensor(%x)"],
)  # fmt: skip
def test_literals_in_the_place_of_operands_are_no_law(operation: str) -> None:
    refuses("%x: f32[5] = argument 0",
            f"%a: f32[5] = {operation}\n%b: f32[5] = aten.cos.default(%a)\nreturn %b")  # fmt: skip


def test_numbers_are_no_tensors() -> None:
    for kind in ("float", "int<s0>"):
        inputs = f"%x: f32[5] = argument 0; %n: {kind} = argument 1"
        refuses(
            inputs, f"%a: {kind} = aten.clone.default(%n)\n%b: f32[5] = aten.mul.Tensor(%x, %a)\nreturn %b"
        )
    body = """%a: f32[] = aten.to.dtype(%n, torch.float32)
        %b: int<s0> = aten.to.dtype(%a, torch.int64)
        %c: f32[5] = aten.mul.Tensor(%x, %b)
        return %c"""
    refuses("%x: f32[5] = argument 0; %n: int<s0> = argument 1", body)


def test_a_function_of_a_literal_undoes_nothing() -> None:
    body = "%a: f32[] = aten.neg.default(1.0)\n%b: f32[] = aten.neg.default(%a)\n"
    refuses(X, body + "%c: f32[] = aten.cos.default(%b)\nreturn %c")


def test_what_is_idempotent_for_other_types_stays() -> None:
    """z/|z| rounds, and does again."""
    body = "%a: c64[5] = aten.sgn.default(%x)\n%b: c64[5] = aten.sgn.default(%a)\n"
    refuses("%x: c64[5] = argument 0", body + "%c: c64[5] = aten.cos.default(%b)\nreturn %c")


def test_an_involution_of_another_type_is_none() -> None:
    refuses("%x: f32[5] = argument 0",
            "%a: b8[5] = aten.logical_not.default(%x)\n%b: b8[5] = aten.logical_not.default(%a)\n"
            "%c: b8[5] = aten.flip.default(%b, [0])\nreturn %c")  # fmt: skip


def test_a_bound_read_at_run_time_may_raise_and_stays() -> None:
    body = """%u: float = aten.item.default(%y)
        %a: f32[5] = aten.clamp_min.default(%x, %u)
        %b: f32[5] = aten.clamp_min.default(%a, %u)
        %c: f32[5] = aten.cos.default(%b)
        return %c"""
    refuses("%x: f32[5] = argument 0; %y: f32[] = argument 1", body)


def test_a_keyword_that_is_none_is_as_by_default() -> None:
    fires("%x: f32[5] = argument 0",
          "%a: f32[5] = aten.clone.default(%x, memory_format=None)\n"
          "%b: f32[5] = aten.cos.default(%a)\nreturn %b",
          "%b: f32[5] = aten.cos.default(%x)\nreturn %b")  # fmt: skip
    fires("%x: f32[5] = argument 0",
          "%a: f32[5] = aten.nan_to_num.default(%x, None)\n%b: f32[5] = aten.nan_to_num.default(%a)\n"
          "%c: f32[5] = aten.cos.default(%b)\nreturn %c",
          "%a: f32[5] = aten.nan_to_num.default(%x, None)\n%c: f32[5] = aten.cos.default(%a)\nreturn %c",
          )  # fmt: skip


def test_a_cast_of_what_is_no_cast_stays() -> None:
    refuses("%x: bf16[5] = argument 0",
            "%a: f32[5] = aten.sum.dim_IntList(%x, [], dtype=torch.float32)\n"
            "%b: bf16[5] = aten.to.dtype(%a, torch.bfloat16)\n"
            "%c: bf16[5] = aten.flip.default(%b, [0])\nreturn %c")  # fmt: skip


def test_a_copy_with_other_strides_stays() -> None:
    refuses("%x: f32[3, 2]{1, 3} = argument 0",
            "%a: f32[3, 2] = aten.clone.default(%x, memory_format=torch.contiguous_format)\n"
            "%b: f32[3, 2] = aten.neg.default(%a)\nreturn %b")  # fmt: skip


def test_what_promotes_stays() -> None:
    body = "%a: f32[5] = aten.mul.Tensor(%x, 1.0)\n%b: f32[5] = aten.neg.default(%a)\nreturn %b"
    refuses("%x: i64[5] = argument 0", body)


@pytest.mark.parametrize(
    "function",
    ["relu.default(%{})", "abs.default(%{})", "floor.default(%{})", "clamp.default(%{}, 0.0, 1.0)",
     "clamp_min.default(%{}, 0.5)"],
)  # fmt: skip
def test_an_idempotent_function_is_applied_once(function: str) -> None:
    fires(
        "%x: f32[5] = argument 0",
        f"%a: f32[5] = aten.{function.format('x')}\n%b: f32[5] = aten.{function.format('a')}\n"
        "%c: f32[5] = aten.cos.default(%b)\nreturn %c",
        f"%a: f32[5] = aten.{function.format('x')}\n%c: f32[5] = aten.cos.default(%a)\nreturn %c",
    )


def test_the_same_function_with_another_bound_is_another_function() -> None:
    refuses("%x: f32[5] = argument 0",
            "%a: f32[5] = aten.clamp.default(%x, 0.0, 1.0)\n%b: f32[5] = aten.clamp.default(%a, 0.0, 0.5)\n"
            "%c: f32[5] = aten.cos.default(%b)\nreturn %c")  # fmt: skip


@pytest.mark.parametrize(("dtype", "op"), [("f32", "neg.default(%{})"), ("b8", "logical_not.default(%{})"),
                                           ("f32", "flip.default(%{}, [0])")])  # fmt: skip
def test_an_involution_twice_is_nothing(dtype: str, op: str) -> None:
    outcome = fires(
        f"%x: {dtype}[5] = argument 0",
        f"%a: {dtype}[5] = aten.{op.format('x')}\n%b: {dtype}[5] = aten.{op.format('a')}\n"
        f"%c: {dtype}[5] = aten.roll.default(%b, [1])\nreturn %c",
        f"%a: {dtype}[5] = aten.{op.format('x')}\n%c: {dtype}[5] = aten.roll.default(%x, [1])\nreturn %c",
    )
    assert outcome.steps[0].evidence == "" and outcome.steps[0].why.endswith("twice gives back %x")


def test_an_involution_along_other_dimensions_is_none() -> None:
    refuses("%x: f32[2, 2] = argument 0",
            "%a: f32[2, 2] = aten.flip.default(%x, [0])\n%b: f32[2, 2] = aten.flip.default(%a, [1])\n"
            "%c: f32[2, 2] = aten.cos.default(%b)\nreturn %c")  # fmt: skip


NAMES = {"f32": "torch.float32", "bf16": "torch.bfloat16", "f16": "torch.float16", "f64": "torch.float64",
         "i64": "torch.int64", "i32": "torch.int32", "i8": "torch.int8", "b8": "torch.bool"}  # fmt: skip


def _cast(narrow: str, wide: str) -> str:
    return (f"%a: {wide}[5] = aten.to.dtype(%x, {NAMES[wide]})\n"
            f"%b: {narrow}[5] = aten.to.dtype(%a, {NAMES[narrow]})\n"
            f"%c: {narrow}[5] = aten.flip.default(%b, [0])\nreturn %c")  # fmt: skip


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [("bf16", "f32"), ("f16", "f32"), ("f32", "f64"), ("i32", "i64"), ("i32", "f64"), ("b8", "f32"),
     ("i8", "f16")],
)  # fmt: skip
def test_a_cast_to_a_wider_type_and_back_is_nothing(narrow: str, wide: str) -> None:
    fires(
        f"%x: {narrow}[5] = argument 0",
        _cast(narrow, wide),
        f"%a: {wide}[5] = aten.to.dtype(%x, {NAMES[wide]})\n"
        f"%c: {narrow}[5] = aten.flip.default(%x, [0])\nreturn %c",
    )


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [("f32", "bf16"), ("f32", "f16"), ("bf16", "f16"), ("f16", "bf16"), ("i64", "f64"), ("i32", "f32"),
     ("i64", "i32"), ("f32", "b8"), ("f32", "i64")],
)  # fmt: skip
def test_a_cast_that_rounds_stays(narrow: str, wide: str) -> None:
    refuses(f"%x: {narrow}[5] = argument 0", _cast(narrow, wide))


X = "%x: f32[5] = argument 0"


def test_an_operand_that_is_written_later_keeps_its_copy() -> None:
    body = """%y: f32[5] = aten.sin.default(%x)
        %a: f32[5] = aten.clone.default(%y)
        %w: f32[5] = aten.add_.Tensor(%y, 1)
        %c: f32[5] = aten.add.Tensor(%a, %w)
        return %c"""
    refuses(X, body, "like %y, which may be written later")


def test_a_copy_that_is_written_later_stays_a_copy() -> None:
    body = """%y: f32[5] = aten.sin.default(%x)
        %a: f32[5] = aten.clone.default(%y)
        %w: f32[5] = aten.add_.Tensor(%a, 1)
        %c: f32[5] = aten.add.Tensor(%y, %w)
        return %c"""
    refuses(X, body, "like %y, but is written later itself")


def test_an_operand_written_before_the_copy_may_stand_for_it() -> None:
    fires(
        X,
        """%y: f32[5] = aten.sin.default(%x)
        %w: f32[5] = aten.add_.Tensor(%y, 1)
        %a: f32[5] = aten.clone.default(%y)
        %c: f32[5] = aten.cos.default(%a)
        return %c""",
        """%y: f32[5] = aten.sin.default(%x)
        %w: f32[5] = aten.add_.Tensor(%y, 1)
        %c: f32[5] = aten.cos.default(%y)
        return %c""",
    )


def test_two_applications_around_a_write_stay() -> None:
    refuses(
        X,
        """%y: f32[5] = aten.sin.default(%x)
        %a: f32[5] = aten.relu.default(%y)
        %w: f32[5] = aten.sub_.Tensor(%a, 1)
        %b: f32[5] = aten.relu.default(%a)
        %c: f32[5] = aten.cos.default(%b)
        return %c""",
    )


def test_the_caller_gets_memory_of_its_own() -> None:
    refuses(X, "%a: f32[5] = aten.clone.default(%x)\nreturn %a", "like %x, but the caller gets both")
    refuses(X, "%a: f32[5] = aten.clone.default(%x)\n%b: f32[4] = aten.slice.Tensor(%a, 0, 0, 4)\nreturn %b",
            "like %x, but the caller gets both")  # fmt: skip


def test_two_copies_of_one_value_stay_two_for_the_caller() -> None:
    fires(
        X,
        """%y: f32[5] = aten.sin.default(%x)
        %a: f32[5] = aten.clone.default(%y)
        %b: f32[5] = aten.clone.default(%y)
        return %a, %b""",
        """%y: f32[5] = aten.sin.default(%x)
        %b: f32[5] = aten.clone.default(%y)
        return %y, %b""",
    )


def test_where_gradients_flow_copies_stay() -> None:
    body = "%a: f32[5] = aten.clone.default(%x)\n%b: f32[5] = aten.neg.default(%a)\nreturn %b"
    refuses(X, body, "like %x, but gradients may flow through both", gradients=True)


def test_lazy_conjugates_do_not_reach_the_caller() -> None:
    refuses(
        "%x: c64[5] = argument 0",
        """%y: c64[5] = aten.exp.default(%x)
        %a: c64[5] = aten._conj.default(%y)
        %b: c64[5] = aten.clone.default(%a)
        return %b""",
        "like %a, which may be lazily conjugated",
    )


PROGRAMS = [
    lambda x: (x * 1 + (x - 0) + x.clone()) / 1,
    lambda x: (x + 0, x * 1, x.clone(), x.double().float(), x.bfloat16().float()),
    lambda x: torch.relu(torch.relu(x)) + torch.abs(torch.abs(x)).clamp(0, 1).clamp(0, 1) - x.neg().neg(),
    lambda x: (y := x.clone(), y.mul_(2), y.clone().add_(1), x.clone()),
    lambda x: (x[:0] * 1).clone().sum() + (x[:1].t() * 1).sum() + (x[0, 0] * 1) ** 1,
    lambda x: (x.long() * 1).float() + (x.long() // 1) + (x > 0).logical_not().logical_not(),
]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("special", [0.0, -0.0, float("inf"), float("nan"), 1e-45])
def test_programs_stay_what_they_are(program: object, special: float) -> None:
    x = torch.randn(3, 4)
    x[1] = special
    with torch.no_grad():
        assert_same(program, x, passes=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("program", PROGRAMS)
def test_gradients_stay_what_they_are(program: object) -> None:
    assert_same(program, torch.randn(3, 4).requires_grad_(), passes=None, backward=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "function",
    [
        lambda v: (v.clone(), v.view(-1).clone()),
        lambda v: tuple(part.clone() for part in v.chunk(2)),
        lambda v: (v.view(-1), v.view(2, 8).clone()),
    ],
)
def test_copies_of_parts_of_one_memory_do_not_come_to_share_it(function: Callable[..., object]) -> None:
    with torch.no_grad():
        assert_same(lambda x: function(x.cos()), torch.randn(4, 4), passes=["identity-operation"])


@pytest.mark.parametrize(
    "function",
    [
        lambda v: v.clone(),
        lambda v: v * 1,
        lambda v: v.neg().neg(),
        lambda v: v.clone().view(-1),
        lambda v: v.clone().as_strided((2,), (1,), 0) * 3,
        lambda v: v.clone().as_strided_scatter(torch.ones(2), (2,), (1,), 0) * 3,
        lambda v: v.view(-1)[1:9].clone().view(torch.int64) + 1,
        lambda v: torch.view_as_complex(v.view(-1)[1:9].clone().view(4, 2)).abs(),
    ],
)
def test_a_copy_of_a_part_starts_its_own_memory(function: Callable[..., object]) -> None:
    whole = torch.randn(24)
    with torch.no_grad():
        assert_same(lambda x: function(x.cos()[1:]), torch.randn(4, 4), passes=["identity-operation"])
        assert_same(function, whole[4:].view(5, 4), passes=["identity-operation"])


def test_a_copy_of_all_of_a_memory_goes_even_where_the_caller_gets_it() -> None:
    with torch.no_grad():
        opt = assert_same(lambda x: x.cos().t().clone(), torch.randn(4, 4), passes=["identity-operation"])
    assert [step.site.node for step in opt.report.steps] == ["clone"]


def test_a_copy_that_is_viewed_as_real_is_no_lazy_conjugate() -> None:
    z = torch.randn(3, dtype=torch.complex64)
    with torch.no_grad():
        assert_same(lambda x: torch.view_as_real(x.conj().clone()).sum(), z, passes=["identity-operation"])
