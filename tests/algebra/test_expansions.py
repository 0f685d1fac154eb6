"""Operators spelled out do what they did, special values and memory included; what may not is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

import graphopt
from graphopt.algebra.expansions import EXPANSIONS, may_pay, spelled_out
from graphopt.algebra.spelling import NotSpelled
from graphopt.authoring import Builder, Claim, Draft
from graphopt.ir.text import parse_graph

INF, NAN = math.inf, math.nan


class SpellOut:
    """Spells out every operator that a law speaks of."""

    name = "spell-out"
    claim = Claim.ROUNDING

    def run(self, draft: Draft) -> None:
        for node in draft.graph.nodes:
            if node.op in EXPANSIONS:
                build = Builder(draft, like=node)
                try:
                    values = spelled_out(node, build)
                except NotSpelled as refusal:
                    draft.miss(node, str(refusal))
                    continue
                draft.replace(node, values, "", added=build.nodes)


def spelled(function: Callable[..., Any], *args: Tensor) -> tuple[graphopt.Optimized, list[str]]:
    with torch.no_grad():
        opt = graphopt.optimize(function, args, passes=[SpellOut()], measure=False, verify=False)
    return opt, [node.op.split(".")[1] for node in opt.graph.nodes]


def steps(tensor: Tensor) -> list[int]:
    """Strides along sizes of more than one: for others, torch's shape functions tell of others than its
    kernels give."""
    return [step for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


Q, K, V = drawn(2, 4, 3, 8), drawn(2, 4, 10, 8), drawn(2, 4, 10, 8) + 1
SEEN = torch.rand(3, 10, generator=torch.Generator().manual_seed(0)) < 0.5
SEEN[1] = False  # a row that sees nothing
ADDED = torch.zeros(2, 1, 3, 10).masked_fill(~SEEN, -INF) + drawn(2, 1, 3, 10)


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return sdpa(q, k, v)


ATTENTION: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "plain": (plain, (Q, K, V)),
    "one query": (plain, (Q[:, :, :1], K, V)),
    "float64": (plain, (Q.double(), K.double(), V.double())),
    "three dimensions": (plain, (Q[0], K[0], V[0])),
    "two dimensions": (plain, (Q[0, 0], K[0, 0], V[0, 0])),
    "five dimensions": (plain, (Q[None], K[None], V[None])),
    "wider values": (plain, (Q, K, drawn(2, 4, 10, 12))),
    "a scale": (lambda q, k, v: sdpa(q, k, v, scale=0.3), (Q, K, V)),
    "a scale of one": (lambda q, k, v: sdpa(q, k, v, scale=1.0), (Q, K, V)),
    "a mask of booleans": (lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), (Q, K, V, SEEN)),
    "a mask that is added": (lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), (Q, K, V, ADDED)),
    "a mask of large numbers": (
        lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), (Q, K, V, torch.full((3, 10), -3e38))
    ),
    "causal": (lambda q, k, v: sdpa(q, k, v, is_causal=True), (Q, K, V)),
    "causal, more queries": (lambda q, k, v: sdpa(q, k, v, is_causal=True), (K, Q, Q)),
    "grouped heads": (lambda q, k, v: sdpa(q, k, v, enable_gqa=True), (Q, K[:, :2], V[:, :2])),
    "one group": (lambda q, k, v: sdpa(q, k, v, enable_gqa=True), (Q, K[:, :1], V[:, :1])),
    "heads that were transposed": (
        lambda q, k, v: sdpa(*(x.transpose(1, 2) for x in (q, k, v))),
        (drawn(2, 3, 4, 8), drawn(2, 10, 4, 8), drawn(2, 10, 4, 8)),
    ),
    "one query of transposed heads": (
        lambda q, k, v: sdpa(*(x.transpose(1, 2) for x in (q, k, v))),
        (drawn(2, 1, 4, 8), drawn(2, 10, 4, 8), drawn(2, 10, 4, 8)),
    ),
    "keys that are infinite": (plain, (Q, K.index_fill(2, torch.tensor(3), INF), V)),
    "scores that all overflow": (plain, (Q.abs() * 1e30, -K.abs() * 1e30, V)),
    "values that are not numbers": (plain, (Q, K, V.index_fill(2, torch.tensor(3), NAN))),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_is_what_it_is_spelled_out_as(name: str) -> None:
    function, args = ATTENTION[name]
    opt, ops = spelled(function, *args)
    assert "scaled_dot_product_attention" not in ops and "_safe_softmax" in ops
    found, expected = opt(*args), function(*args)
    assert (found.dtype, found.shape, steps(found)) == (expected.dtype, expected.shape, steps(expected))
    # Sums of ten products of numbers near one, in another order.
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-6, equal_nan=True)


def test_a_row_that_sees_nothing_is_zero_and_not_nan() -> None:
    opt, _ = spelled(lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), Q, K, V, SEEN)
    found = opt(Q, K, V, SEEN)
    assert torch.equal(found[:, :, 1], torch.zeros(2, 4, 8)) and bool(found[:, :, 0].all())


@pytest.mark.parametrize(
    "function",
    [
        lambda q, k, v: sdpa(q.half(), k.half(), v.half()),
        lambda q, k, v: sdpa(q.bfloat16(), k.bfloat16(), v.bfloat16()),
        lambda q, k, v: sdpa(q, k, v, dropout_p=0.1),
        lambda q, k, v: sdpa(q, k, v, scale=math.inf),
    ],
)
def test_attention_in_narrow_numbers_with_dropout_or_no_scale_stays(function: Callable[..., Any]) -> None:
    opt, ops = spelled(function, Q, K, V)
    assert "scaled_dot_product_attention" in ops and "softmax" not in ops
    assert opt.report.missed


PARTS: dict[str, Callable[[Tensor], Any]] = {
    "split": lambda x: x.split(4, -1),
    "split by sizes": lambda x: x.split([1, 5, 4], 1),
    "split_with_sizes": lambda x: torch.split_with_sizes(x, [3, 7], 1),
    "chunk": lambda x: x.chunk(3, 1),
    "chunk of the first dimension": lambda x: x.chunk(2),
    "tensor_split": lambda x: torch.tensor_split(x, 3, 1),
    "tensor_split by places": lambda x: torch.tensor_split(x, (2, 7), 1),
    "unbind": lambda x: x.unbind(1),
    "unbind of the first dimension": lambda x: x.unbind(),
    "of what was transposed": lambda x: x.t().chunk(2, -1),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_views_of_the_whole(name: str) -> None:
    x = torch.randn(6, 10)
    opt, ops = spelled(lambda x: tuple(y for y in PARTS[name](x)), x)
    assert {*ops} <= {"slice", "select", "t"} and {*ops} & {"slice", "select"}
    for found, expected in zip(opt(x), PARTS[name](x), strict=True):
        assert torch.equal(found, expected) and found.stride() == expected.stride()
        assert found.data_ptr() == expected.data_ptr()


def test_only_attention_with_fewer_queries_than_keys_or_one_head_may_pay() -> None:
    def asked(*args: Tensor) -> bool:
        with torch.no_grad():
            opt = graphopt.optimize(
                lambda q, k, v: sdpa(q, k, v), args, passes=[], measure=False, verify=False
            )
        return may_pay(opt.graph.nodes[-1])

    assert asked(Q, K, V)
    assert not asked(K, Q, Q) and not asked(K, K, V)
    assert asked(K[:, :1], K[:, :1], V[:, :1])


NOT_TAKEN_APART = {
    "integers": """
        %x: i64[8, 3] = argument 0
        n: (%a: i64[8], %b: i64[8], %c: i64[8]) = aten.unbind.int(%x, 1)
        return %a, %b, %c""",
    "a size that is a symbol": """
        %x: f32[<s0>, 2] = argument 0
        n: (%a: f32[<s0>], %b: f32[<s0>]) = aten.unbind.int(%x, 1)
        return %a, %b""",
    "parts by a number that callers pass": """
        %x: f32[6] = argument 0
        %k: int = argument 1
        n: (%a: f32[3], %b: f32[3]) = aten.split.Tensor(%x, %k)
        return %a, %b""",
    "as many keys as there are": """
        %q: f32[1, 1, 4, 8] = argument 0
        %k: f32[1, 1, <s0>, 8] = argument 1
        %n: f32[1, 1, 4, 8] = aten.scaled_dot_product_attention.default(%q, %k, %k)
        return %n""",
}


@pytest.mark.parametrize("what", NOT_TAKEN_APART)
def test_it_is_not_taken_apart(what: str) -> None:
    (node,) = parse_graph("graph {" + NOT_TAKEN_APART[what] + "}").nodes
    assert not may_pay(node)
