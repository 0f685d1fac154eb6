"""What one node does, told from its operator's facts, its literals and its sub-graphs."""

import pytest

from graphopt.ir.graph import Node
from graphopt.ir.ops import Alias, Effect, effect_of, is_pure, lookup, operands_commute
from graphopt.ir.text import parse_graph

INPUTS = """%x: f32[4, 2] = argument 0 %y: f32[4, 2] = argument 1 %z: f64[4, 2] = argument 2
%c: c64[4, 2] = argument 3 %p: f32[] = argument 4 %b: b8[] = argument 5
%n: int = argument 6 %s: int<s0> = argument 7 %u: int<u0> = argument 8 %m: int<s0 + u1> = argument 9
"""


def node(line: str) -> Node:
    return parse_graph(f"graph {{ {INPUTS} {line} return }}").nodes[-1]


@pytest.mark.parametrize(
    ("line", "effect"),
    [
        ("%r: f32[4, 2] = aten.sin.default(%x)", Effect.NONE),
        ("%r: f32[4, 2] = aten.sin_.default(%x)", Effect.WRITES),
        ("%r: f32[4, 2] = aten.rand_like.default(%x)", Effect.RANDOM),
        ("%r: f32[4, 2] = mylib.unknown.default(%x)", Effect.OPAQUE),
        ("%r: f32[4, 2] = higher_order.unknown(%x)", Effect.OPAQUE),
        ("%r: f32[4, 2] = aten.mul.Tensor(%x, %s)", Effect.NONE),
        ("%r: f32[4, 2] = aten.mul.Tensor(%x, %n)", Effect.RAISES),  # read from a tensor
        ("%r: f32[4, 2] = aten.mul.Tensor(%x, %u)", Effect.RAISES),
        ("%r: f32[4, 2] = aten.mul.Tensor(%x, %m)", Effect.RAISES),
        ("%r: f32[4, 2] = aten.sin_.default(%u)", Effect.WRITES),
    ],
)
def test_a_node_does(line: str, effect: Effect) -> None:
    assert effect_of(node(line)) is effect


@pytest.mark.parametrize(
    ("call", "effect"),
    [
        ("aten.dropout.default(%x, 0.5, False)", Effect.NONE),
        ("aten.dropout.default(%x, 0.5, train=False)", Effect.NONE),
        ("aten.dropout.default(%x, 0.5, True)", Effect.RANDOM),
        ("aten.dropout.default(%x, 0.5, 0)", Effect.RANDOM),  # no bool: not what was confirmed
        ("aten.dropout.default(%x, 0.5)", Effect.RANDOM),
        ("aten.rrelu.default(%x)", Effect.NONE),
        ("aten.rrelu.default(%x, 0.1, 0.3, True)", Effect.RANDOM),
        ("aten.scaled_dot_product_attention.default(%x, %x, %x)", Effect.NONE),
        ("aten.scaled_dot_product_attention.default(%x, %x, %x, dropout_p=0.0)", Effect.NONE),
        ("aten.scaled_dot_product_attention.default(%x, %x, %x, None, 0.1)", Effect.RANDOM),
    ],
)
def test_a_flag_that_is_off_makes_it_harmless(call: str, effect: Effect) -> None:
    assert effect_of(node(f"%r: f32[4, 2] = {call}")) is effect


@pytest.mark.parametrize(
    ("power", "effect"),
    [("3", Effect.NONE), ("0", Effect.NONE), ("-1", Effect.RAISES), ("%s", Effect.RAISES)],
)
def test_a_power_raises_where_it_may_be_that_of_an_inverse(power: str, effect: Effect) -> None:
    power = f"aten.linalg_matrix_power.default(%q, {power})"
    line = f"%q: f32[4, 4] = aten.mm.default(%x, %x) %r: f32[4, 4] = {power}"
    assert effect_of(node(line)) is effect


@pytest.mark.parametrize(
    ("call", "effect"),
    [
        ("linalg_norm.default(%x)", Effect.NONE),
        ("linalg_norm.default(%x, None, [0, 1])", Effect.NONE),
        ("linalg_norm.default(%x, 2)", Effect.RAISES),
        ('linalg_norm.ord_str(%x, "fro")', Effect.NONE),
        ('linalg_norm.ord_str(%x, "nuc")', Effect.RAISES),
        ("linalg_matrix_norm.str_ord(%x)", Effect.NONE),
        ("linalg_matrix_norm.default(%x, 2)", Effect.RAISES),
        ("linalg_svdvals.default(%x)", Effect.RAISES),
    ],
)
def test_a_norm_raises_where_singular_values_are_searched(call: str, effect: Effect) -> None:
    assert effect_of(node(f"%r: f32[] = aten.{call}")) is effect


def region(op: str, body: str) -> str:
    inner = "graph { %i: f32[4, 2] = argument 0 " + body + " return %i }"
    other = "graph { %j: f32[4, 2] = argument 0 return %j }"
    operands = f"%b, {other}, {inner}, (%x,)" if op == "cond" else f"False, {inner}, %x"
    return f"r: (%r: f32[4, 2]) = higher_order.{op}({operands})"


@pytest.mark.parametrize("op", ["wrap_with_set_grad_enabled", "wrap_with_autocast", "cond"])
@pytest.mark.parametrize(
    ("body", "effect"),
    [
        ("", Effect.NONE),
        ("%a: f32[4, 2] = aten.sin.default(%i)", Effect.NONE),
        ("%a: f32[] = aten.sum.default(%i) %o: float = aten.item.default(%a)", Effect.RAISES),
        (
            "%a: f32[4, 2] = aten.rand_like.default(%i) %t: f32[] = aten.sum.default(%i) "
            "%o: float = aten.item.default(%t)",
            Effect.RANDOM,
        ),
        ("%a: f32[4, 2] = aten.rand_like.default(%i) %w: f32[4, 2] = aten.sin_.default(%i)", Effect.OPAQUE),
        ("%a: f32[4, 2] = mylib.unknown.default(%i) %w: f32[4, 2] = aten.sin.default(%a)", Effect.OPAQUE),
    ],
)
def test_a_region_does_the_strongest_of_what_is_in_it(op: str, body: str, effect: Effect) -> None:
    made = node(region(op, body))
    assert effect_of(made) is effect
    assert is_pure(made) is (effect in (Effect.NONE, Effect.RAISES))


def test_what_is_not_confirmed_may_do_anything() -> None:
    op = lookup("mylib.unknown.default")
    assert (op.effect, op.alias, op.commutes) == (Effect.OPAQUE, Alias.MAY, False)


@pytest.mark.parametrize(
    ("call", "commutes"),
    [
        ("aten.mul.Tensor(%x, %y)", True),
        ("aten.sub.Tensor(%x, %y)", False),
        ("aten.mul.Tensor(%x, 2)", False),
        ("aten.mul.Tensor(%x, %n)", False),
        ("aten.mul.Tensor(%x, %z)", False),
        ("aten.mul.Tensor(%c, %c)", False),
        ("aten.add.Tensor(%x, %y, alpha=2)", False),
        ("aten.mse_loss.default(%x, %y, 1)", False),
        ("mylib.unknown.default(%x, %y)", False),
    ],
)
def test_operands_can_be_exchanged(call: str, commutes: bool) -> None:
    assert operands_commute(node(f"%r: f32[4, 2] = {call}")) is commutes
