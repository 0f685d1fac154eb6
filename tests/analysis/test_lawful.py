"""Which laws hold of a call: what its conditions ask of the operand, and nothing less."""

import pytest

from graphopt.analysis.lawful import Lawful
from graphopt.ir.graph import Value
from graphopt.ir.laws import Form, laws_of
from graphopt.ir.operands import operands_of
from graphopt.ir.text import parse_graph

GIVEN = """%x: f32[6] = argument 0 %k: f32[6] = argument 1 %j: i64[6] = argument 2 %n: int = argument 3
    %p: f32[6] = aten.nan_to_num.default(%x)
    %u: f32[6] = aten.sigmoid.default(%p)
    %z: f32[6] = aten.sub.Tensor(%u, 1)
    %r: f32[6] = aten.relu.default(%z)
    %h: f32[6] = aten.mul.Tensor(%u, 0.10000000149011612)
    %one: f32[6] = aten.full_like.default(%x, 1.0)
    %none: f32[6] = aten.full_like.default(%x, 0.0)
    %minus: f32[6] = aten.full_like.default(%x, -0.0)
    %less: f32[6] = aten.full_like.default(%x, -1.0)
    %i: i64[6] = aten.arange.default(6)
    %five: i64[6] = aten.full_like.default(%i, 5)
    %small: i8[6] = aten.clamp.default(%b, 0, 127)"""
"""%p: finite, %u: [0, 1], %z: [−1, 0], %r: 0 or −0, %h: [0, 0.1] as it is rounded, %i: [0, 5]."""


def holds(operation: str, form: Form, given: str = GIVEN, kind: str = "f32[6]") -> bool:
    """Whether a law of a form holds of an operation."""
    graph = parse_graph(
        f"graph {{ %b: i8[6] = argument 4 {given} %last: {kind} = aten.{operation} return %last }}"
    )
    node = graph.nodes[-1]
    return any(
        Lawful(graph).holds(law, node, operand)
        for law in (*laws_of(node.op, form), *laws_of(f"{node.op}/0", form))
        if isinstance(operand := operands_of(node)[law.operands[0]], Value)
    )


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("maximum.default(%u, %none)", True),
        ("maximum.default(%u, %minus)", False),  # of two zeros either
        ("maximum.default(%r, %none)", False),
        ("maximum.default(%u, %less)", True),
        ("maximum.default(%z, %less)", True),
        ("maximum.default(%z, %none)", False),
        ("maximum.default(%x, %less)", False),
        ("maximum.default(%one, %u)", True),
        ("maximum.default(%one, %x)", False),
        ("minimum.default(%u, %one)", True),
        ("minimum.default(%z, %one)", True),
        ("minimum.default(%z, %none)", False),
        ("minimum.default(%one, %u)", False),
        ("maximum.default(%five, %i)", True),
        ("maximum.default(%i, %five)", False),
        ("maximum.default(%i, %j)", False),
        ("minimum.default(%i, %five)", True),
        ("clamp.default(%u, 0, 1)", True),
        ("clamp.default(%u, 0.5, 1)", False),
        ("clamp.default(%u, 0, 0.5)", False),
        ("clamp.default(%u, None, 1)", True),
        ("clamp.default(%i, 0, 5)", True),
        ("clamp.default(%i, 0.0, 5.0)", False),
        ("clamp.default(%i, False, 5)", False),
        ("clamp_min.default(%u, %n)", False),
        ("hardtanh.default(%u)", True),
        ("hardtanh.default(%u, -1, 0.5)", False),
        ("relu.default(%u)", True),
        ("relu.default(%z)", False),
        ("leaky_relu.default(%u)", True),
        ("leaky_relu.default(%u, 0.1)", False),
        ("leaky_relu.default(%one, 0.1)", True),
        ("threshold.default(%one, 0.5, 7)", True),
        ("threshold.default(%one, 1, 7)", False),
        ("fmod.Scalar(%u, 2)", True),
        ("fmod.Scalar(%u, 1)", False),
        ("fmod.Scalar(%r, 2)", False),
    ],
)
def test_an_operand_is_given_back_where_it_lies_within_the_bounds(operation: str, expected: bool) -> None:
    assert holds(operation, Form.COPY) == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("lt.Scalar(%u, 1.5)", True),
        ("lt.Scalar(%u, 1)", False),
        ("lt.Scalar(%h, 0.100000002)", False),  # which is rounded to what %h may be
        ("lt.Scalar(%h, 0.11)", True),
        ("lt.Scalar(%u, nan)", False),
        ("lt.Scalar(%u, inf)", True),
        ("lt.Scalar(%i, 6)", True),
        ("lt.Scalar(%i, 6.0)", False),  # both are made floats
        ("lt.Scalar(%small, 128)", False),  # which no i8 is
        ("ge.Scalar(%small, -200)", False),
        ("ge.Scalar(%small, 0)", True),
        ("isnan.default(%p)", True),
        ("isnan.default(%x)", False),
        ("isinf.default(%u)", True),
        ("isinf.default(%x)", False),
    ],
)
def test_a_comparison_is_known_where_all_numbers_decide_it_alike(operation: str, expected: bool) -> None:
    assert holds(operation, Form.FILLED, kind="b8[6]") == expected


@pytest.mark.parametrize(
    ("shape", "operation", "expected"),
    [
        ("1, 5", "amax.default(%x, [0])", True),
        ("1, 5", "amax.default(%x, [-2])", True),
        ("1, 5", "amax.default(%x, [1])", False),
        ("1, 5", "amax.default(%x, [-1])", False),
        ("1, 5", "amax.default(%x, [0, 1])", False),
        ("1, 5", "amax.default(%x)", False),
        ("1, 5", "amax.default(%x, [])", False),
        ("1, 1", "amax.default(%x)", True),
        ("1, 1", "amax.default(%x, [])", True),
        ("1, 1", "amax.default(%x, [0, 7])", False),
        ("1, 1", "amax.default(%x, [%n])", False),
        ("1, 1", 'amax.default(%x, ["N"])', False),
        ("", "amax.default(%x, [0])", True),
        ("", "amax.default(%x)", True),
        ("<s0>, 1", "amax.default(%x, [0])", False),
        ("<s0>, 1", "amax.default(%x, [1])", True),
        ("5, 1", "sort.default(%x)", True),
        ("1, 5", "sort.default(%x)", False),
        ("5, 1", "sort.default(%x, 0)", False),
        ("1, 5", "sort.default(%x, 0)", True),
        ("5, 1", "topk.default(%x, 1)", True),
        ("5, 1", "topk.default(%x, 1, 0)", False),
        ("5, 1", "topk.default(%x, 0)", False),
        ("1, 1", "sort.default(%x, %n)", False),
    ],
)
def test_what_has_one_element_along_the_dimensions_is_its_own_extreme(
    shape: str, operation: str, expected: bool
) -> None:
    given = f"%x: f32[{shape}] = argument 0 %n: int = argument 1"
    assert holds(operation, Form.COPY, given, "f32[5]") == expected


def test_a_law_is_of_tensors_of_its_kinds_of_dtypes() -> None:
    given = "%x: {}[6] = argument 0 %n: int = argument 1"
    for kind, times_one, itself in (("f32", True, False), ("b8", True, True), ("c64", False, False)):
        typed = given.format(kind), f"{kind}[6]"
        assert holds("mul.Tensor(%x, 1)", Form.COPY, *typed) == times_one
        assert holds("bitwise_and.Tensor(%x, %x)", Form.SAME, *typed) == itself
    assert not holds("mul.Tensor(%n, 1)", Form.COPY, given.format("f32"), "int")
