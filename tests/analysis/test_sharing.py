"""Whether a result has memory of its own, as the analysis says and as it is in memory.

Every operator of the table that may return a view is run on tensors that lie in their memory in many ways.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from graphopt.analysis.geometry import Views
from graphopt.analysis.memory import Memory
from graphopt.ir.graph import Arg, Argument, Graph, Input, Node, Sequence, State, Value
from graphopt.ir.literal import Lit
from graphopt.ir.ops import Alias, Effect, _table
from graphopt.ir.resolve import resolve
from graphopt.ir.text import parse_graph
from graphopt.ir.types import TensorType

Call = Callable[[Value, Value], tuple[Any, ...]]


def _lists(*operands: Value) -> Sequence:
    return Sequence("list", operands)


def _ints(*numbers: int) -> Sequence:
    return Sequence("list", tuple(map(Lit, numbers)))


# By operator: calls on tensors of 2 × 4 × 3 × 3 and of 1.
CALLS: dict[str, list[Call]] = {
    "aten._unsafe_view.default": [lambda x, y: (x, _ints(2, 4, 3, 3))],
    "aten.atleast_1d.default": [lambda x, y: (x,)],
    "aten.atleast_1d.Sequence": [lambda x, y: (_lists(x, y),)],
    "aten.atleast_2d.default": [lambda x, y: (x,)],
    "aten.atleast_2d.Sequence": [lambda x, y: (_lists(x, y),)],
    "aten.atleast_3d.default": [lambda x, y: (y,)],
    "aten.atleast_3d.Sequence": [lambda x, y: (_lists(x, y),)],
    "aten.broadcast_tensors.default": [lambda x, y: (_lists(x, y),)],
    "aten.cartesian_prod.default": [lambda x, y: (_lists(y),), lambda x, y: (_lists(y, y),)],
    "aten.channel_shuffle.default": [lambda x, y: (x, Lit(1)), lambda x, y: (x, Lit(2))],
    "aten.conj_physical.default": [lambda x, y: (x,)],
    "aten.contiguous.default": [lambda x, y: (x,)],
    "aten.diff.default": [lambda x, y: (x,), lambda x, y: (x, Lit(0))],
    "aten.einsum.default": [
        lambda x, y: (Lit("abcd->bacd"), _lists(x)),
        lambda x, y: (Lit("abcc->cab"), _lists(x)),
        lambda x, y: (Lit("abcd->ab"), _lists(x)),
        lambda x, y: (Lit("abcd,e->abcd"), _lists(x, y)),
        lambda x, y: (Lit("abcd,e->abce"), _lists(x, y)),
        lambda x, y: (Lit("abcd,efcd->abef"), _lists(x, x)),
        lambda x, y: (Lit("a,b,c->c"), _lists(y, y, y)),
    ],
    "aten.flatten.using_ints": [
        lambda x, y: (x,), lambda x, y: (x, Lit(1), Lit(2)), lambda x, y: (x, Lit(1), Lit(1)),
    ],
    "aten.histogramdd.TensorList_bins": [],  # one result is a list
    "aten.lift.default": [lambda x, y: (x,)],
    "aten.meshgrid.default": [lambda x, y: (_lists(y),)],
    "aten.meshgrid.indexing": [],  # wants its indexing by name
    "aten.ravel.default": [lambda x, y: (x,)],
    "aten.reshape.default": [lambda x, y: (x, _ints(8, 9)), lambda x, y: (x, _ints(4, 18))],
    "aten.reshape_as.default": [lambda x, y: (x, x), lambda x, y: (y, y)],
    "aten.resolve_conj.default": [lambda x, y: (x,)],
    "aten.resolve_neg.default": [lambda x, y: (x,)],
    "aten.sum_to_size.default": [lambda x, y: (x, _ints(4, 3, 3)), lambda x, y: (x, _ints(2, 4, 3, 3))],
    "aten.to.device": [
        lambda x, y: (x, Lit(torch.device("cpu")), Lit(torch.complex128)),
        lambda x, y: (x, Lit(torch.device("cpu")), Lit(torch.float32)),
    ],
    "aten.to.dtype": [lambda x, y: (x, Lit(torch.float64)), lambda x, y: (x, Lit(torch.float32))],
    "aten.to.dtype_layout": [lambda x, y: (x,)],
    "aten.to.other": [lambda x, y: (x, y)],
    "aten.type_as.default": [lambda x, y: (x, y), lambda x, y: (y, x)],
    "aten.unsafe_chunk.default": [lambda x, y: (x, Lit(2)), lambda x, y: (x, Lit(1))],
    "aten.unsafe_split.Tensor": [lambda x, y: (x, Lit(1)), lambda x, y: (x, Lit(2))],
    "aten.unsafe_split_with_sizes.default": [lambda x, y: (x, _ints(1, 1))],
}  # fmt: skip
CHANNELS_LAST: dict[str, list[Call]] = {
    "aten.contiguous.default": [lambda x, y: (x,)],
    "aten.to.dtype": [lambda x, y: (x, Lit(torch.float64)), lambda x, y: (x, Lit(torch.float32))],
}


def test_every_pure_operator_that_may_return_a_view_is_run() -> None:
    assert set(CALLS) == {
        op.name for op in _table().values() if op.alias is Alias.MAY and op.effect is Effect.NONE
    }


@st.composite
def _tensors(draw: st.DrawFn) -> torch.Tensor:
    """2 × 4 × 3 × 3, in some order of memory, padded or not, lazily conjugated or negated or not."""
    order = draw(st.permutations(range(4)))
    pad = draw(st.sampled_from([0, 0, 1]))
    shape = (2, 4, 3, 3)
    made = torch.zeros([shape[i] + pad for i in order], dtype=draw(st.sampled_from(_DTYPES)))
    view = made.permute([order.index(i) for i in range(4)])[:2, :4, :3, :3]
    if draw(st.integers(0, 3)) == 0:
        view = view[:, :1].expand(2, 4, 3, 3)
    lazy = draw(st.sampled_from(["", "", "conjugate", "negative"]))
    if lazy == "negative" or (lazy and view.is_complex()):
        view = torch._neg_view(view) if lazy == "negative" else torch._conj(view)
    return view


_DTYPES = (torch.float32, torch.complex64)


def _type(tensor: torch.Tensor) -> TensorType:
    return TensorType(tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.device)


def _run(op: str, call: Call, kwargs: dict[str, Arg], tensors: dict[str, torch.Tensor]) -> Any:
    def made(arg: Arg) -> Any:
        match arg:
            case Value():
                return tensors[arg.name]
            case Lit():
                return arg.value
            case Sequence(_, items):
                return [made(item) for item in items]
        raise AssertionError(arg)

    x, y = (Value(name, _type(tensors[name])) for name in "xy")
    return resolve(op)(*map(made, call(x, y)), **{name: made(arg) for name, arg in kwargs.items()})


def _graph(
    op: str, call: Call, kwargs: dict[str, Arg], tensors: dict[str, torch.Tensor], made: bool
) -> Graph:
    """The call on state, or on what an operator makes that is declared to lie like it."""
    result = _run(op, call, kwargs, tensors)
    many = isinstance(result, list | tuple)
    items = list(result) if many else [result]
    values = tuple(Value(f"r{i}", _type(one)) for i, one in enumerate(items))
    x, y = (Value(name, _type(tensors[name])) for name in "xy")
    node = Node("r", op, call(x, y), tuple(kwargs.items()), values, many)
    if not made:
        return Graph((Input(x, State("param", "x")), Input(y, State("param", "y"))), (node,), values)
    given = [Value(f"{one.name}0", one.type) for one in (x, y)]
    makers = [
        Node(one.name, "aten.sin.default", (g,), (), (one,)) for one, g in zip((x, y), given, strict=True)
    ]
    inputs = tuple(Input(one, Argument(i)) for i, one in enumerate(given))
    return Graph(inputs, (*makers, node), values)


def _shares(op: str, call: Call, kwargs: dict[str, Arg], tensors: dict[str, torch.Tensor]) -> list[set[str]]:
    """By result: the operands whose memory it shows."""
    result = _run(op, call, kwargs, tensors)
    items = list(result) if isinstance(result, list | tuple) else [result]

    def place(one: torch.Tensor) -> int:
        return one.untyped_storage()._cdata

    return [{name for name, one in tensors.items() if place(one) == place(item)} for item in items]


CASES = (
    [(op, {}, call) for op, calls in CALLS.items() for call in calls]
    + [
        (op, {"memory_format": Lit(torch.channels_last)}, call)
        for op, calls in CHANNELS_LAST.items()
        for call in calls
    ]
    + [("aten.meshgrid.indexing", {"indexing": Lit("ij")}, lambda x, y: (_lists(y, y),))]
)


@pytest.mark.parametrize(
    ("op", "kwargs", "call"), CASES, ids=[f"{op}-{i}" for i, (op, _, _) in enumerate(CASES)]
)
def test_what_is_said_to_have_memory_of_its_own_has(op: str, kwargs: dict[str, Arg], call: Call) -> None:
    @settings(max_examples=60, deadline=None, database=None)
    @seed(1)
    @given(_tensors(), _tensors(), st.booleans())
    def check(declared: torch.Tensor, other: torch.Tensor, made: bool) -> None:
        y = torch.zeros(1)
        tensors = {"x": declared, "y": y}
        graph = _graph(op, call, kwargs, tensors, made)
        views, memory, node = Views(graph), Memory(graph), graph.nodes[-1]
        shared = _shares(op, call, kwargs, tensors)
        # What a kernel makes may lie otherwise than its meta kernel says.
        if made and other.dtype == declared.dtype:
            for some, more in zip(shared, _shares(op, call, kwargs, {"x": other, "y": y}), strict=True):
                some |= more
        for value, names in zip(node.results, shared, strict=True):
            known = views.sharing(value)
            assert known is None or names <= {operand.name for operand in known}
            assert all(memory.storage(value) == memory.storage(Value(n, value.type)) for n in names)

    check()


def _storage(text: str) -> dict[str, str]:
    graph = parse_graph(f"graph {{ {text} }}")
    memory = Memory(graph)
    return {value.name: memory.storage(value) for value in graph.values}


INPUTS = """%x: f32[2, 4] = argument 0 %p: f32[4, 3] = param "p" %n: int<s0> = argument 1
%d: f32[<s0>, 4] = argument 2 %s: f32[2, 4] = aten.sin.default(%x) %c: f32[3] = argument 3
%z: c64[3] = argument 4 %b: f32[2, 4] = buffer "b" %i: f32[2, 4, 3, 3] = argument 5
%k: f32[2, 4, 3, 3] = aten.sin.default(%i)"""


@pytest.mark.parametrize(
    "line",
    [
        '%a: f32[2, 3] = aten.einsum.default("ab,bc->ac", [%x, %p])',
        '%a: f32[2] = aten.einsum.default("ab->a", [%x])',
        "%a: f64[2, 4] = aten.to.dtype(%x, torch.float64)",
        "%t: f32[3, 4]{1, 3} = aten.t.default(%p) %a: f32[12] = aten.reshape.default(%t, [12])",
        "%t: f32[3, 4]{1, 3} = aten.t.default(%p) %a: f32[3, 4] = aten.contiguous.default(%t)",
        "%a: f64[2, 4] = aten.to.dtype(%s, torch.float64)",
    ],
)
def test_new_memory_is_nobody_elses(line: str) -> None:
    storage = _storage(f"{INPUTS} {line} return %a")
    assert storage["a"] not in {name: one for name, one in storage.items() if name != "a"}.values()


@pytest.mark.parametrize(
    ("line", "of"),
    [
        ('%a: f32[4, 2]{1, 4} = aten.einsum.default("ab->ba", [%x])', "x"),
        ('%a: f32[4, 2]{1, 4} = aten.einsum.default("ab->ba", [%s])', "s"),
        ('%a: f32[4, <s0>]{1, 4} = aten.einsum.default("ab->ba", [%d])', "d"),
        ('%a: f32[<s0>, 3] = aten.einsum.default("ab,bc->ac", [%d, %p])', "d"),  # not known
        ("%a: f32[<s0>, 4] = aten.contiguous.default(%d)", "d"),
        ("%a: f32[8] = aten.reshape.default(%x, [8])", "x"),
        ("%a: f32[2, 4] = aten.to.dtype(%x, torch.float32)", "x"),
        ("%a: c64[3] = aten.resolve_conj.default(%z)", "z"),
        # It may have made, or been passed, what can be viewed so after all.
        ("%t: f32[4, 2]{1, 4} = aten.t.default(%s) %a: f32[2, 4] = aten.reshape_as.default(%t, %b)", "s"),
        ("%t: f32[4, 2]{1, 4} = aten.t.default(%x) %a: f32[8] = aten.reshape.default(%t, [8])", "x"),
        ("%t: f32[4, 2]{1, 4} = aten.t.default(%s) %a: f32[8] = aten.reshape.default(%t, [8])", "s"),
        ("%t: f32[4, 2]{1, 4} = aten.t.default(%s) %a: f32[4, 2] = aten.contiguous.default(%t)", "s"),
        (
            "%a: f32[2, 4, 3, 3]{36, 1, 12, 4} = "
            "aten.contiguous.default(%k, memory_format=torch.channels_last)",
            "k",
        ),
        # The types are not those that the operator gives.
        ('%a: f32[3, 2] = aten.einsum.default("ab,bc->ac", [%x, %p])', "x"),
        ('%a: f64[2, 3] = aten.einsum.default("ab,bc->ac", [%x, %p])', "x"),
        ('%a: f32[2, 3]{1, 2} = aten.einsum.default("ab,bc->ac", [%x, %p])', "x"),
        ('%a: int = aten.einsum.default("ab,bc->ac", [%x, %p])', "x"),
        ('%a: f32[9, 9] = aten.einsum.default("ab,bc->ac", [%x, %x])', "x"),  # it raises
        ("%a: f64[2, 4] = mylib.unknown.default(%x)", "x"),
    ],
)
def test_what_may_be_a_view_is_memory_of_its_operand(line: str, of: str) -> None:
    storage = _storage(f"{INPUTS} {line} return %a")
    assert storage["a"] == storage[of]


def test_what_is_known_of_state_is_not_of_what_is_made_alike() -> None:
    storage = _storage(
        f"""{INPUTS} %t: f32[4, 2]{{1, 4}} = aten.t.default(%b) %u: f32[4, 2]{{1, 4}} = aten.t.default(%s)
        %a: f32[8] = aten.reshape.default(%t, [8]) %g: f32[8] = aten.reshape.default(%u, [8])
        return %a, %g"""
    )
    assert storage["a"] != storage["b"] and storage["g"] == storage["s"]


def test_of_several_operands_only_the_one_that_a_result_shows_is_its_memory() -> None:
    storage = _storage(
        """%x: f32[4] = argument 0 %a: f32[4] = aten.sin.default(%x) %b: f32[4] = aten.cos.default(%x)
        m: (%c: f32[4], %e: f32[4]) = aten.broadcast_tensors.default([%a, %b])
        %f: f32[4] = aten.view_as.default(%a, %x)
        return %c"""
    )
    assert storage["c"] == storage["a"] == storage["f"] and storage["e"] == storage["b"]
    assert len({storage["x"], storage["a"], storage["b"]}) == 3


def test_results_that_share_one_new_memory_are_not_told_apart() -> None:
    storage = _storage(
        """%x: f32[4, 2]{1, 4} = argument 0 %y: f32[4, 2] = argument 1
        m: (%a: f32[2, 2], %b: f32[2, 2]) = aten.unsafe_chunk.default(%y, 2)
        return %a"""
    )
    assert storage["a"] == storage["b"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_of_what_may_have_another_shape_by_now_nothing_is_known(name: str) -> None:
    storage = _storage(
        f"""%x: f32[4, 2] = argument 0
        %a: f32[2]{{3}} = aten.empty_strided.default([2], [3])
        %b: f32[2]{{3}} = aten.detach_.default(%a)
        %w: f32[4, 2] = aten.mul.out(%x, %x, out=%a)
        %c: f64[2] = aten.to.dtype(%{name}, torch.float64)
        return %c"""
    )
    assert storage["c"] == storage["a"]


def test_the_caller_comes_to_hold_nothing_through_new_memory() -> None:
    graph = parse_graph(
        f"""graph {{ {INPUTS}
        %a: f64[2, 4] = aten.to.dtype(%s, torch.float64)
        %q: f32[2, 4] = aten.cos.default(%x)
        %v: f32[4, 2]{{1, 4}} = aten.einsum.default("ab->ba", [%q])
        %w: f64[2, 4] = aten.mul_.Tensor(%a, 2)
        return %a, %v }}"""
    )
    memory, value = Memory(graph), {value.name: value for value in graph.values}
    assert [name for name in "sqav" if memory.escapes(value[name])] == ["q", "a", "v"]
    assert [name for name in "xsqav" if memory.storage_written(value[name])] == ["a"]
