"""Few queries against many keys: keys and values are never projected, however attention is written; and all
stays where that would not pay, or a caller could tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, softmax

import graphopt
from graphopt.analysis.cost import node_cost
from graphopt.analysis.dependence import Dependence
from tests.sameness import assert_same

PASSES = graphopt.LOSSLESS
D, H = 256, 4
KEYS = 300


def heads(x: Tensor) -> Tensor:
    return x.view(*x.shape[:-1], H, -1).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Cross-attention with biases; `attend` says how it is spelled."""

    def __init__(self, attend: Callable[..., Tensor], bias: bool = True) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(D, D, bias=bias) for _ in range(4))
        self._attend = attend

    def forward(self, queries: Tensor, x: Tensor, *mask: Tensor) -> Tensor:
        return self.out(self._attend(self.q(queries), self.k(x), self.v(x), *mask))


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
    return merged(scaled_dot_product_attention(heads(q), heads(k), heads(v), attn_mask=mask, **options))


def by_matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    share = softmax(heads(q) @ heads(k).transpose(-1, -2) / (D // H) ** 0.5, -1)
    return merged(share @ heads(v))


def by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.unflatten(-1, (H, -1)) for x in (q, k, v))
    share = torch.einsum("bqhd,bkhd->bhqk", q, k).mul((D // H) ** -0.5).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", share, v).flatten(2)


def by_bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (heads(x).reshape(-1, x.shape[1], D // H) for x in (q, k, v))
    share = softmax(torch.bmm(q * (D // H) ** -0.5, k.transpose(1, 2)), dim=-1)
    return merged(torch.bmm(share, v).unflatten(0, (-1, H)))


def by_baddbmm(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    q, k, v = (heads(x).reshape(-1, x.shape[1], D // H) for x in (q, k, v))
    share = softmax(torch.baddbmm(mask, q, k.transpose(1, 2), alpha=(D // H) ** -0.5), dim=-1)
    return merged(torch.bmm(share, v).unflatten(0, (-1, H)))


class Packed(nn.Module):
    """Keys and values of one projection, taken apart in one way or another."""

    def __init__(self, apart: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.q, self.kv, self._apart = nn.Linear(D, D), nn.Linear(D, 2 * D), apart

    def forward(self, queries: Tensor, x: Tensor) -> Tensor:
        k, v = self._apart(self.kv(x))
        return fused(self.q(queries), k, v)


class Probe(nn.Module):
    """A learned query."""

    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.query, self._need = nn.Parameter(torch.randn(1, 1, D)), need_weights
        self.attention = nn.MultiheadAttention(D, H, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        found = self.attention(self.query.expand(len(x), -1, -1), x, x, need_weights=self._need)
        return found if self._need else found[0]


class Grouped(nn.Module):
    """More heads of queries than of keys."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(D, D), nn.Linear(D, D // 2), nn.Linear(D, D // 2)

    def forward(self, queries: Tensor, x: Tensor) -> Tensor:
        q = heads(self.q(queries))
        k, v = (one(x).unflatten(-1, (H // 2, -1)).transpose(1, 2) for one in (self.k, self.v))
        return merged(scaled_dot_product_attention(q, k, v, enable_gqa=True))


class Latent(nn.Module):
    """One token against a compressed cache of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.up = nn.Linear(D, H * 64, bias=False), nn.Linear(128, H * 2 * 64, bias=False)
        self.out = nn.Linear(H * 64, D, bias=False)

    def forward(self, token: Tensor, cache: Tensor) -> Tensor:
        q = self.q(token).view(1, 1, H, 64).transpose(1, 2)
        both = self.up(cache).view(1, -1, H, 128).transpose(1, 2)
        k, v = torch.split(both, [64, 64], dim=-1)
        return self.out(merged(scaled_dot_product_attention(q, k, v)))


class Bare(nn.Module):
    """Queries, keys and values as they come."""

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, k)


class Cached(Attention):
    """Keys, and values unless said, are handed out for the next call."""

    def __init__(self, values: bool = True) -> None:
        super().__init__(fused)
        self._values = values

    def forward(self, queries: Tensor, x: Tensor, *mask: Tensor) -> Any:
        k, v = self.k(x), self.v(x)
        found = self.out(fused(self.q(queries), k, v))
        return (found, k, v) if self._values else (found, k)


SEEN = torch.rand(2, 1, 3, KEYS, generator=torch.Generator().manual_seed(0)) < 0.5
SEEN[0, 0, 1] = False
HIDDEN = torch.zeros(2, 1, 3, KEYS).masked_fill(~SEEN, -torch.inf)
QUERIES, X = (3, D), (KEYS, D)

FOUND: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "fused": (lambda: Attention(fused), ((2, *QUERIES), (2, *X))),
    "fused, without biases": (lambda: Attention(fused, bias=False), ((2, *QUERIES), (2, *X))),
    "one query": (lambda: Attention(fused), ((1, 1, D), (1, *X))),
    "a batch of 5 and 16 queries": (lambda: Attention(fused), ((5, 16, D), (5, *X))),
    "a scale": (lambda: Attention(lambda *a: fused(*a, scale=0.1)), ((2, *QUERIES), (2, *X))),
    "causal": (lambda: Attention(lambda *a: fused(*a, is_causal=True)), ((2, *QUERIES), (2, *X))),
    "a mask of booleans": (lambda: Attention(fused), ((2, *QUERIES), (2, *X), SEEN)),
    "a mask that is added": (lambda: Attention(fused), ((2, *QUERIES), (2, *X), HIDDEN)),
    "by matmul": (lambda: Attention(by_matmul), ((2, *QUERIES), (2, *X))),
    "by einsum": (lambda: Attention(by_einsum), ((2, *QUERIES), (2, *X))),
    "by bmm": (lambda: Attention(by_bmm), ((2, *QUERIES), (2, *X))),
    "by baddbmm": (lambda: Attention(by_baddbmm), ((2, *QUERIES), (2, *X), (2 * H, 3, KEYS))),
    "chunk": (lambda: Packed(lambda kv: kv.chunk(2, -1)), ((2, *QUERIES), (2, *X))),
    "split": (lambda: Packed(lambda kv: kv.split(D, dim=-1)), ((2, *QUERIES), (2, *X))),
    "slices": (lambda: Packed(lambda kv: (kv[..., :D], kv[..., D:])), ((2, *QUERIES), (2, *X))),
    "unbind": (lambda: Packed(lambda kv: kv.unflatten(-1, (2, D)).unbind(-2)), ((2, *QUERIES), (2, *X))),
    "unbind of heads": (
        lambda: Packed(lambda kv: kv.view(2, KEYS, 2, D).permute(2, 0, 1, 3).unbind(0)),
        ((2, *QUERIES), (2, *X)),
    ),
    "grouped heads": (Grouped, ((2, *QUERIES), (2, *X))),
    "latent attention": (Latent, ((1, 1, D), (1, 500, 128))),
    "nn.MultiheadAttention": (lambda: Probe(False), ((2, *X),)),
    "nn.MultiheadAttention with its weights": (lambda: Probe(True), ((2, *X),)),
}  # fmt: skip


def optimized(model: nn.Module, shapes: tuple[Any, ...]) -> tuple[graphopt.Optimized, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    args = tuple(one if isinstance(one, Tensor) else torch.randn(one) for one in shapes)
    model.eval().requires_grad_(False)
    with torch.no_grad():
        return graphopt.optimize(model, args, passes=PASSES, measure=False), args


def flops(opt: graphopt.Optimized) -> int:
    """Of the most expensive node that runs in every call."""
    fixed = {node.name for node in opt.graph.analysis(Dependence).nodes}
    return max(node_cost(node).flops for node in opt.graph.nodes if node.name not in fixed)


@pytest.mark.parametrize("name", FOUND)
def test_keys_and_values_are_not_projected(name: str) -> None:
    build, shapes = FOUND[name]
    model = build()
    opt, args = optimized(model, shapes)
    keys = max((one for one in args if one.dtype == torch.float32), key=torch.numel)
    assert not opt.report.rolled_back and opt.report.equivalent, opt.report
    assert flops(opt) < keys.numel() * D  # a projection of the keys takes twice that
    with torch.no_grad():
        found, expected = opt(*args), model(*args)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


LEFT: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "as many queries as keys": (lambda: Attention(fused), ((2, 200, D), (2, 200, D))),
    "few keys": (lambda: Attention(fused), ((2, 3, D), (2, 4, D))),
    "more queries than a head is wide": (lambda: Attention(fused), ((2, 200, D), (2, *X))),
    "keys that are not projected": (Bare, ((2, H, 3, 64), (2, H, KEYS, 64))),
    "keys that are returned": (Cached, ((2, *QUERIES), (2, *X))),
    "a function between projection and attention": (
        lambda: Attention(lambda q, k, v: fused(q, k.relu(), v.relu())), ((2, *QUERIES), (2, *X))
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", LEFT)
def test_attention_stays_fused(why: str) -> None:
    build, shapes = LEFT[why]
    opt, _ = optimized(build(), shapes)
    ops = [node.op.split(".")[1] for node in opt.graph.nodes]
    assert "scaled_dot_product_attention" in ops and "_safe_softmax" not in ops


def test_the_values_alone_are_not_projected_where_the_keys_are_returned() -> None:
    """The block is judged as a whole: here one half of it pays for taking the attention apart."""
    model = Cached(values=False)
    opt, _ = optimized(model, ((2, *QUERIES), (2, *X)))
    assert "_safe_softmax" in [node.op.split(".")[1] for node in opt.graph.nodes]


def test_a_row_that_sees_nothing_stays_as_it_is() -> None:
    model = Attention(fused)
    opt, args = optimized(model, ((2, *QUERIES), (2, *X), SEEN))
    with torch.no_grad():
        found, expected = opt(*args), model(*args)
        assert torch.equal(expected[0, 1], model.out.bias)
        torch.testing.assert_close(found[0, 1], expected[0, 1])


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_attention_of_narrow_numbers_stays_fused(half: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Attention(fused).to(half).eval().requires_grad_(False)
    args = torch.randn(2, *QUERIES, dtype=half), torch.randn(2, *X, dtype=half)
    with torch.no_grad():
        opt = graphopt.optimize(model, args, passes=PASSES, measure=False)
    assert "scaled_dot_product_attention" in str(opt.graph)


def test_attention_with_dropout_stays() -> None:
    model = Attention(lambda *a: fused(*a, dropout_p=0.1)).requires_grad_(False)
    with torch.no_grad():
        assert_same(model, torch.randn(2, *QUERIES), torch.randn(2, *X), passes=PASSES)


def test_where_gradients_are_wanted_attention_stays_fused() -> None:
    opt = assert_same(
        Attention(fused), torch.randn(2, *QUERIES), torch.randn(2, *X), passes=PASSES, backward=True
    )
    assert opt.report.steps


def _written(queries: Tensor, x: Tensor, w: Tensor) -> Tensor:
    k, v = linear(x, w), linear(x, w.t())
    y = scaled_dot_product_attention(queries, k, v)
    x.zero_()
    return linear(y, w)


def test_a_write_after_the_attention_is_respected() -> None:
    args = torch.randn(2, *QUERIES), torch.randn(2, *X), torch.randn(D, D) / 16
    with torch.no_grad():
        assert_same(_written, *args, passes=PASSES)


def test_attention_that_the_caller_gets_keeps_its_strides() -> None:
    """Of one query, torch's shape functions tell of other strides than its kernels give."""

    def program(q: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return scaled_dot_product_attention(heads(q), heads(linear(x, w)), heads(linear(x, w.t())))

    for rows in (1, 3):
        args = torch.randn(2, rows, D), torch.randn(2, *X), torch.randn(D, D) / 16
        with torch.no_grad():
            assert_same(program, *args, passes=PASSES)


def test_other_values_and_other_masks_give_what_they_should() -> None:
    torch.manual_seed(0)
    model = Attention(fused).eval().requires_grad_(False)
    args = torch.randn(2, *QUERIES), torch.randn(2, *X), SEEN
    with torch.no_grad():
        assert_same(model, *args, passes=PASSES, other=(args[0] * 3, args[1] - 1, ~SEEN))
