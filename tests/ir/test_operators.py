"""The operator table: what it says, and that executing operators bears it out."""

import functools
import inspect
import math
import operator
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._ops import OpOverload
from torch.testing._internal.common_methods_invocations import op_db

from bench.operators.calls import Call, parameters
from bench.operators.confirm import record
from bench.operators.evidence import Evidence, Excluded
from bench.operators.execution import Budget, gather
from bench.operators.isolation import gather_all
from bench.operators.record import opinfo_programs
from bench.operators.table import PATH
from graphopt.ir.graph import Node, Value
from graphopt.ir.literal import Lit
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.types import TensorType

_FEW = Budget(calls=5, each=1, variants=6)
_SLICE = 60


def _names() -> list[str]:
    lines = PATH.read_text().splitlines()
    return [line.partition("\t")[0] for line in lines if not line.startswith("#")]


def _resolve(name: str) -> Any:
    """The operator or plain function of an IR name."""
    first, *rest = name.split(".")
    root = {"aten": torch.ops.aten, "torch": torch, "math": math, "operator": operator}[first]
    return functools.reduce(getattr, rest, root)


def _recorded(*programs: Callable[[], object]) -> dict[str, tuple[OpOverload, list[Call]]]:
    return {str(op): (op, calls) for op, calls in record(programs).items()}


def _evidence(name: str, *programs: Callable[[], object]) -> Evidence:
    op, calls = _recorded(*programs)[name]
    return gather(op, calls, Budget(calls=8, each=4, variants=16))


def test_the_table_is_sorted_and_names_nothing_twice() -> None:
    names = _names()
    assert names == sorted(set(names))
    assert len(names) > 1000


@pytest.mark.parametrize("namespace", ["aten", "torch", "math", "operator"])
def test_every_entry_names_an_operator_and_its_parameters(namespace: str) -> None:
    for name in _names():
        if not name.startswith(f"{namespace}."):
            continue
        found, claimed = _resolve(name), lookup(name).parameters
        if isinstance(found, OpOverload):
            assert claimed == parameters(found), name
        else:
            assert claimed == tuple(inspect.signature(found).parameters), name
        assert set(lookup(name).written) <= set(claimed), name


def test_writes_are_named_exactly_where_the_effect_is_writes() -> None:
    for op in map(lookup, _names()):
        assert bool(op.written) is (op.effect is Effect.WRITES), op.name


def test_a_slice_of_the_table_is_borne_out_by_execution() -> None:
    infos = random.Random(0).sample(op_db, 140)
    calls = record(opinfo_programs(infos, samples=4))
    known = [op for op in sorted(calls, key=str) if lookup(str(op)).effect is not Effect.OPAQUE]
    chosen = random.Random(1).sample(known, _SLICE)
    denied: dict[str, list[str]] = {}
    for op, evidence in gather_all({op: calls[op] for op in chosen}, _FEW):
        assert isinstance(evidence, Evidence), f"{op}: {evidence}"
        denied[str(op)] = list(evidence.contradictions(lookup(str(op))))
    assert {name: found for name, found in denied.items() if found} == {}


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("aten.rand_like.default", Effect.RANDOM),
        ("aten.dropout.default", Effect.RANDOM),
        ("aten.multinomial.default", Effect.RANDOM),
        ("aten.scaled_dot_product_attention.default", Effect.RANDOM),
        ("aten.linalg_cholesky.default", Effect.RAISES),
        ("aten.linalg_solve.default", Effect.RAISES),
        ("aten.linalg_svd.default", Effect.RAISES),
        ("aten.index.Tensor", Effect.RAISES),
        ("aten.embedding.default", Effect.RAISES),
        ("aten.gather.default", Effect.RAISES),
        ("aten.div.Tensor_mode", Effect.RAISES),
        ("aten.remainder.Tensor", Effect.RAISES),
        ("aten.floor_divide.default", Effect.RAISES),
        ("aten.item.default", Effect.RAISES),
        ("aten.nonzero.default", Effect.RAISES),
        ("aten.masked_scatter.default", Effect.RAISES),
        ("aten.searchsorted.Tensor", Effect.RAISES),
        ("aten._assert_scalar.default", Effect.RAISES),
        ("aten.one_hot.default", Effect.RAISES),
        ("aten.cross_entropy_loss.default", Effect.RAISES),
        ("operator.truediv", Effect.RAISES),
        ("operator.add", Effect.NONE),
        ("torch.sym_max", Effect.NONE),
        ("aten.linear.default", Effect.NONE),
        ("aten.matmul.default", Effect.NONE),
        ("aten.softmax.int", Effect.NONE),
        ("aten.div.Tensor", Effect.NONE),
        ("aten.add_.Tensor", Effect.WRITES),
        ("aten.copy_.default", Effect.WRITES),
        ("aten.no_such_operator.default", Effect.OPAQUE),
        ("higher_order.cond", Effect.OPAQUE),
        ("aten.t_.default", Effect.OPAQUE),
        ("aten.resize_.default", Effect.OPAQUE),
        ("aten.empty.memory_format", Effect.OPAQUE),
        ("aten.empty_like.default", Effect.OPAQUE),
        ("aten.new_empty.default", Effect.OPAQUE),
        ("aten.bernoulli_.float", Effect.OPAQUE),
    ],
)
def test_effects_that_are_easily_got_wrong(name: str, effect: Effect) -> None:
    assert lookup(name).effect is effect


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("aten.linear.default", Alias.FRESH),
        ("aten.clone.default", Alias.FRESH),
        ("aten.lstm.input", Alias.FRESH),
        ("aten.batch_norm.default", Alias.FRESH),
        ("aten.t.default", Alias.VIEW),
        ("aten.slice.Tensor", Alias.VIEW),
        ("aten.unbind.int", Alias.VIEW),
        ("aten.detach.default", Alias.VIEW),
        ("aten.reshape.default", Alias.MAY),
        ("aten.reshape_as.default", Alias.MAY),
        ("aten.flatten.using_ints", Alias.MAY),
        ("aten.contiguous.default", Alias.MAY),
        ("aten.resolve_conj.default", Alias.MAY),
        ("aten.to.dtype", Alias.MAY),
        ("aten.type_as.default", Alias.MAY),
        ("aten.dropout.default", Alias.MAY),
        ("aten.einsum.default", Alias.MAY),
        ("aten.broadcast_tensors.default", Alias.MAY),
        ("aten.add_.Tensor", Alias.MAY),
        ("operator.getitem", Alias.MAY),
        ("aten.no_such_operator.default", Alias.MAY),
    ],
)
def test_sharing_that_is_easily_got_wrong(name: str, alias: Alias) -> None:
    assert lookup(name).alias is alias


def test_in_place_and_hidden_writes_are_named() -> None:
    assert lookup("aten.add_.Tensor").written == ("self",)
    assert lookup("aten.add.out").written == ("out",)
    assert lookup("aten.index_put_.default").written == ("self",)
    # The schemas of these two claim that nothing is written.
    assert lookup("aten.batch_norm.default").written == ("running_mean", "running_var")
    assert lookup("aten.instance_norm.default").written == ("running_mean", "running_var")


def test_only_what_is_symmetrical_to_the_bit_commutes() -> None:
    for name in (
        "add.Tensor",
        "mul.Tensor",
        "__and__.Tensor",
        "eq.Tensor",
        "logical_and.default",
        "bitwise_or.Tensor",
    ):
        assert lookup(f"aten.{name}").commutes, name
    # maximum(0.0, -0.0) is its second operand; isclose is relative to its second operand.
    for name in ("sub.Tensor", "maximum.default", "isclose.default", "matmul.default", "lt.Tensor"):
        assert not lookup(f"aten.{name}").commutes, name


def _square() -> torch.Tensor:
    noise = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    return noise @ noise.mT + torch.eye(4)


def _batch_norm() -> torch.Tensor:
    return F.batch_norm(torch.rand(3, 4), torch.zeros(4), torch.ones(4), training=True)


_NAMED: list[tuple[str, Callable[[], object]]] = [
    ("aten.rand_like.default", lambda: torch.rand_like(torch.zeros(3))),
    ("aten.dropout.default", lambda: F.dropout(torch.ones(8))),
    ("aten.reshape.default", lambda: torch.ones(2, 3).reshape(6)),
    ("aten.linalg_cholesky.default", lambda: torch.linalg.cholesky(_square())),
    ("aten.add_.Tensor", lambda: torch.ones(3).add_(torch.ones(3))),
    ("aten.batch_norm.default", _batch_norm),
    ("aten.index.Tensor", lambda: torch.ones(3, 4)[torch.tensor([0, 1])]),
    ("aten.item.default", lambda: torch.ones(()).item()),
    ("aten.sub.Tensor", lambda: torch.ones(3) - torch.ones(3)),
]


@pytest.mark.parametrize(("name", "program"), _NAMED, ids=[name for name, _ in _NAMED])
def test_the_truth_is_not_denied(name: str, program: Callable[[], object]) -> None:
    assert list(_evidence(name, program).contradictions(lookup(name))) == []


@pytest.mark.parametrize(
    ("name", "lie"),
    [
        ("aten.rand_like.default", {"effect": Effect.NONE}),
        ("aten.dropout.default", {"effect": Effect.RAISES}),
        ("aten.dropout.default", {"alias": Alias.FRESH}),
        ("aten.reshape.default", {"alias": Alias.FRESH}),
        ("aten.reshape.default", {"alias": Alias.VIEW}),
        ("aten.linalg_cholesky.default", {"effect": Effect.NONE}),
        ("aten.index.Tensor", {"effect": Effect.NONE}),
        ("aten.item.default", {"effect": Effect.NONE}),
        ("aten.add_.Tensor", {"effect": Effect.NONE}),
        ("aten.add_.Tensor", {"effect": Effect.RANDOM}),
        ("aten.add_.Tensor", {"written": ("other",)}),
        ("aten.add_.Tensor", {"alias": Alias.FRESH}),
        ("aten.batch_norm.default", {"written": ("running_mean",)}),
        ("aten.sub.Tensor", {"commutes": True}),
        ("aten.sub.Tensor", {"parameters": ("other", "self")}),
    ],
)
def test_a_planted_lie_is_caught(name: str, lie: dict[str, Any]) -> None:
    evidence = _evidence(name, dict(_NAMED)[name])
    assert list(evidence.contradictions(replace(lookup(name), **lie)))


def test_uninitialised_memory_is_caught_without_its_name() -> None:
    op = torch.ops.aten.empty_like.default
    calls = [Call(op, {"self": torch.zeros(size)}) for size in (2, 5, 40)]
    entry = gather(op, calls, _FEW).entry()
    assert isinstance(entry, Excluded)
    assert "two runs differ" in entry.reason


def test_a_change_of_metadata_is_caught_without_its_tag() -> None:
    op = torch.ops.aten.t_.default
    calls = [Call(op, {"self": torch.zeros(size, 3)}) for size in (2, 3, 4)]
    entry = gather(op, calls, _FEW).entry()
    assert isinstance(entry, Excluded)
    assert "metadata" in entry.reason


def test_too_few_executions_confirm_nothing() -> None:
    op = torch.ops.aten.relu.default
    entry = gather(op, [Call(op, {"self": torch.zeros(0)})], _FEW).entry()
    assert isinstance(entry, Excluded)
    assert "unconfirmed" in entry.reason


@pytest.mark.parametrize(
    "name",
    [
        "aten.dropout.default",
        "aten.feature_dropout.default",
        "aten.alpha_dropout.default",
        "aten.feature_alpha_dropout.default",
        "aten.rrelu.default",
        "aten.batch_norm.default",
        "aten.instance_norm.default",
    ],
)
def test_a_flag_that_is_off_silences_the_operator(name: str) -> None:
    silent = {
        "aten.rrelu.default": lambda: F.rrelu(torch.randn(3, 4), training=False),
        "aten.batch_norm.default": lambda: F.batch_norm(torch.rand(3, 4), torch.ones(4), torch.ones(4)),
        "aten.instance_norm.default": lambda: F.instance_norm(
            torch.rand(3, 4, 5), torch.ones(4), torch.ones(4), use_input_stats=False
        ),
        "aten.feature_dropout.default": lambda: F.dropout2d(torch.rand(2, 3, 4, 4), training=False),
        "aten.alpha_dropout.default": lambda: F.alpha_dropout(torch.rand(3, 4), training=False),
        "aten.feature_alpha_dropout.default": lambda: F.feature_alpha_dropout(
            torch.rand(2, 3, 4, 4), training=False
        ),
        "aten.dropout.default": lambda: F.dropout(torch.rand(3, 4), training=False),
    }
    op, (call, *_) = _recorded(silent[name])[name]
    evidence = gather(op, [call], Budget(calls=1, each=1, variants=0))
    assert evidence.ran > 3
    assert not evidence.drew and not evidence.written and not evidence.raised
    assert effect_of(_node(call)) is Effect.NONE


def _node(call: Call) -> Node:
    """A node of the IR with the operands of a call."""

    def arg(name: str, operand: Any) -> Value | Lit:
        if not isinstance(operand, torch.Tensor):
            return Lit(operand)
        shape = tuple(operand.shape)
        return Value(name, TensorType(operand.dtype, shape, operand.stride(), operand.device))

    given = {name: arg(name, operand) for name, operand in call.operands.items()}
    return Node("node", str(call.op), (), tuple(given.items()), ())
