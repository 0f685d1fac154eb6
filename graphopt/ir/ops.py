"""What each operator is: its effect and whether its results share storage with its operands.

The table `operators.tsv` is generated from torch's schemas and tags and then confirmed by execution
(`python -m bench.operators.confirm`). It is an allow-list: an operator that is not in it is OPAQUE, and
no pass may merge, move or remove it.
"""

import enum
import importlib.resources
from dataclasses import dataclass
from functools import cache

from graphopt.ir.branch import TOOK
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.literal import Lit
from graphopt.ir.types import SymType, TensorType


class Effect(enum.Enum):
    """What running an operator does besides returning results."""

    NONE = "none"  # a pure function of its operands: same operands, same bits, on every call
    RAISES = "raises"  # pure, but may raise depending on the operands' values
    RANDOM = "random"  # draws from the random stream
    WRITES = "writes"  # writes into operands
    OPAQUE = "opaque"  # unknown: may do anything to its operands, and must stay where it is


class Alias(enum.Enum):
    """Whether a result may share storage with an operand."""

    FRESH = "fresh"  # never
    MAY = "may"  # depends on the operands: reshape, contiguous, to
    VIEW = "view"  # always, and no element is read


@dataclass(frozen=True, slots=True)
class Op:
    """One operator's facts. `written` names the operands it writes, by schema argument name."""

    name: str
    effect: Effect
    alias: Alias
    written: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()  # the schema's argument names, in order
    commutes: bool = False  # bit for bit, as `operands_commute` says


@cache
def _table() -> dict[str, Op]:
    text = importlib.resources.files("graphopt.ir").joinpath("operators.tsv").read_text()
    found: dict[str, Op] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, effect, alias, commutes, written, parameters = line.split("\t")
        found[name] = Op(
            name,
            Effect(effect),
            Alias(alias),
            tuple(filter(None, written.split(","))),
            tuple(filter(None, parameters.split(","))),
            commutes == "commutes",
        )
    return found


@cache
def lookup(name: str) -> Op:
    """The facts of an operator; OPAQUE where none are confirmed."""
    return _table().get(name) or _OWN.get(name) or Op(name, Effect.OPAQUE, Alias.MAY)


ONEDNN_LINEAR = "mkldnn._linear_pointwise.default"

# Graphopt's own, which raises and does nothing else: it stays behind what was drawn before it was asked. And
# what only passes make.
_OWN = {
    TOOK: Op(TOOK, Effect.RAISES, Alias.FRESH, (), ("asked", "answer", "where")),
    ONEDNN_LINEAR: Op(
        ONEDNN_LINEAR, Effect.NONE, Alias.FRESH, (), ("X", "W", "B", "attr", "scalars", "algorithm")
    ),
}


def _read_at_run_time(value: Value) -> bool:
    kind = value.type
    if not isinstance(kind, SymType):
        return False
    return kind.expr is None or any(str(symbol).startswith("u") for symbol in kind.expr.free_symbols)


# These draw random numbers or write statistics only where a flag among their arguments says so.
_HARMLESS_WHEN_FALSE = {
    "aten.dropout.default": "train",
    "aten.feature_dropout.default": "train",
    "aten.alpha_dropout.default": "train",
    "aten.feature_alpha_dropout.default": "train",
    "aten.rrelu.default": "training",
    "aten.batch_norm.default": "training",
    "aten.instance_norm.default": "use_input_stats",
}
_FALSE_BY_DEFAULT = frozenset({"aten.rrelu.default"})


# These draw random numbers only where they drop something.
_HARMLESS_AT_ZERO = {"aten.scaled_dot_product_attention.default": "dropout_p"}


# These raise only of a negative number: theirs is an inverse, which may not exist.
_SAFE_FROM_ZERO = {"aten.linalg_matrix_power.default": "n"}


# These run their sub-graphs and do nothing else.
_TRANSPARENT = frozenset(
    f"higher_order.{name}" for name in ("wrap_with_set_grad_enabled", "wrap_with_autocast", "cond")
)
_STRONGEST = (Effect.OPAQUE, Effect.WRITES, Effect.RANDOM, Effect.RAISES, Effect.NONE)


_FROBENIUS = frozenset(
    ("aten.linalg_norm.default", "aten.linalg_norm.ord_str", "aten.linalg_matrix_norm.str_ord")
)
"""Norms that are roots of sums of squares unless another order is given, for which singular values may be
searched in vain."""


def effect_of(node: Node) -> Effect:
    """The effect of one node: its operator's, narrowed by literal flags such as `train=False`; a pure
    operator on a number that is read from a tensor may raise. Effects in sub-graphs are the node's."""
    return node.fact(_effect)


def _effect(node: Node) -> Effect:
    if node.op in _TRANSPARENT:
        inner = min((_STRONGEST.index(effect_of(n)) for g in node.regions for n in g.nodes), default=4)
        # What a region writes is not followed to the operands here.
        return Effect.OPAQUE if _STRONGEST[inner] is Effect.WRITES else _STRONGEST[inner]
    op = lookup(node.op)
    if op.effect is Effect.NONE:
        return Effect.RAISES if any(map(_read_at_run_time, node.operands)) else Effect.NONE
    least = _given(node, _SAFE_FROM_ZERO.get(node.op))
    if isinstance(least, Lit):
        assert isinstance(least.value, int)
        if least.value >= 0:
            return Effect.NONE
    share = _HARMLESS_AT_ZERO.get(node.op)
    if share is not None and _given(node, share) in (None, Lit(0.0)):
        return Effect.NONE
    if node.op in _FROBENIUS and _given(node, "ord") in (None, Lit(None), Lit("fro")):
        return Effect.NONE
    flag = _HARMLESS_WHEN_FALSE.get(node.op)
    if flag is not None:
        given = _given(node, flag)
        if given == Lit(False) or (given is None and node.op in _FALSE_BY_DEFAULT):
            return Effect.NONE
    return op.effect


def _given(node: Node, parameter: str | None) -> "Arg | None":
    """The operand for a parameter; None where none is given."""
    if parameter is None:
        return None
    position = lookup(node.op).parameters.index(parameter)
    return node.args[position] if position < len(node.args) else dict(node.kwargs).get(parameter)


def operands_commute(node: Node) -> bool:
    """Whether a node's operands can be exchanged without changing a bit: two tensors of one real dtype,
    and nothing else given. (A float32 number times bfloat16 elements rounds by the order.)"""
    if not lookup(node.op).commutes or len(node.args) != 2 or node.kwargs:
        return False
    kinds = [arg.type for arg in node.args if isinstance(arg, Value) and isinstance(arg.type, TensorType)]
    dtypes = {kind.dtype for kind in kinds}
    return len(kinds) == 2 and len(dtypes) == 1 and not dtypes.pop().is_complex


def is_pure(node: Node) -> bool:
    """Whether all that running the node does is return results or raise."""
    return effect_of(node) in (Effect.NONE, Effect.RAISES)
