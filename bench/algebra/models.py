"""What models hold: adapters, attention, graph layers, layers in a row."""

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention, softmax

from bench.algebra.expression import Expression, Tensors

D = 512
_W = (D, D)


def _heads(x: Tensor, count: int = 8) -> Tensor:
    return x.view(*x.shape[:-1], count, -1).transpose(-3, -2)


def _merged(x: Tensor) -> Tensor:
    return x.transpose(-3, -2).flatten(-2)


def _pooled(x: Tensor, q: Tensor, wk: Tensor, bk: Tensor, wv: Tensor, bv: Tensor, wo: Tensor) -> Tensor:
    """A pooling head: one learned query a head, as SigLIP has it."""
    query = _heads(q.expand(len(x), -1, -1))
    out = scaled_dot_product_attention(query, _heads(linear(x, wk, bk)), _heads(linear(x, wv, bv)))
    return linear(_merged(out), wo)


def _pooled_by_hand(
    x: Tensor, q: Tensor, wk: Tensor, bk: Tensor, wv: Tensor, bv: Tensor, wo: Tensor
) -> Tensor:
    query = torch.einsum("hqd,hdi->hqi", _heads(q)[0], wk.view(8, -1, D)) * (D // 8) ** -0.5
    share = softmax(x @ query.flatten(0, 1).t(), 1)  # the keys' bias is the same for all keys
    seen = (share.transpose(1, 2) @ x).view(len(x), 8, -1, D)
    values = torch.einsum("bhqi,hdi->bqhd", seen, wv.view(8, -1, D)).flatten(2) + bv
    return linear(values, wo)


def _few_queries(q: Tensor, x: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    share = softmax(linear(q, torch.eye(D)) @ linear(x, wk).t(), -1)
    return share @ linear(x, wv)


def _few_queries_by_hand(q: Tensor, x: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    return (softmax((q @ wk) @ x.t(), -1) @ x) @ wv.t()


def _cross(q: Tensor, x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    share = softmax((q @ wq) @ (x @ wk).transpose(1, 2) * D**-0.5, -1)
    return share @ (x @ wv)


def _cross_by_hand(q: Tensor, x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    share = softmax(((q @ wq) @ wk.t() * D**-0.5) @ x.transpose(1, 2), -1)
    return (share @ x) @ wv


def _linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (torch.relu(q) @ torch.relu(k).transpose(-1, -2)) @ v


def _linear_attention_by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.relu(q) @ (torch.relu(k).transpose(-1, -2) @ v)


def _absorbed(q: Tensor, c: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    """One token against a compressed cache. q: [heads, d], c: [tokens, rank], wk, wv: [heads, d, rank]"""
    keys = torch.einsum("tr,hdr->htd", c, wk)
    share = softmax(torch.einsum("hd,htd->ht", q, keys), -1)
    return torch.einsum("ht,htd->hd", share, torch.einsum("tr,hdr->htd", c, wv))


def _absorbed_by_hand(q: Tensor, c: Tensor, wk: Tensor, wv: Tensor) -> Tensor:
    query = torch.bmm(q.unsqueeze(1), wk).squeeze(1)
    seen = softmax(query @ c.t(), -1) @ c
    return torch.bmm(wv, seen.unsqueeze(-1)).squeeze(-1)


def _normalised_graph(a: Tensor, x: Tensor, w: Tensor) -> Tensor:
    d = a.abs().sum(1).rsqrt()
    return torch.relu((torch.diag(d) @ a @ torch.diag(d) @ x) @ w)


def _normalised_graph_by_hand(a: Tensor, x: Tensor, w: Tensor) -> Tensor:
    d = a.abs().sum(1).rsqrt()[:, None]
    return torch.relu(d * (a @ (d * (x @ w))))


def _affine_pair(w: Tensor, b: Tensor, v: Tensor, c: Tensor) -> Tensors:
    return v @ w, v @ b + c


CATALOGUE = (
    Expression(
        "LoRA, few tokens",
        lambda x, w, b, a: x @ (w + b @ a),
        lambda x, w, b, a: torch.addmm(x @ w, x @ b, a),
        ((4, 1024), (1024, 1024), (1024, 16), (16, 1024)),
        source="Hu et al., LoRA, 2021",
    ),
    Expression(
        "LoRA, many tokens, of parameters",
        lambda x, w, a, b: linear(x, w) + 2.0 * linear(linear(x, a), b),
        lambda x, t: linear(x, t),
        ((1024, D),),
        (_W, (128, D), (D, 128)),
        lambda w, a, b: (w + 2.0 * (b @ a),),
        source="Hu et al., LoRA, 2021",
    ),
    Expression(
        "LoRA, many tokens, adapters that change",
        lambda x, w, a, b: x @ w + (x @ a) @ b,
        lambda x, w, a, b: x @ torch.addmm(w, a, b),
        ((4096, 256), (256, 256), (256, 64), (64, 256)),
        source="Hu et al., LoRA, 2021",
    ),
    Expression(
        "linear attention",
        _linear_attention,
        _linear_attention_by_hand,
        ((2, 4, 1024, 32),) * 3,
        source="Katharopoulos et al., Transformers are RNNs, 2020",
    ),
    Expression(
        "(Q Kᵀ) V",
        lambda q, k, v: (q @ k.t()) @ v,
        lambda q, k, v: q @ (k.t() @ v),
        ((2048, 64),) * 3,
        source="Shen et al., Efficient Attention, 2018",
        einsum="ik,jk,jl->il",
    ),
    Expression(
        "a retention layer without decay, of heads",
        lambda q, k, v: torch.einsum("bhqk,bhkd->bhqd", torch.einsum("bhqe,bhke->bhqk", q, k), v),
        lambda q, k, v: q @ (k.transpose(-1, -2) @ v),
        ((2, 4, 1024, 32),) * 3,
    ),
    Expression(
        "GCN, (Â X) W",
        lambda a, x, w: torch.relu((a @ x) @ w),
        lambda a, x, w: torch.relu(a @ (x @ w)),
        ((800, 800), (800, D)),
        ((D, 16),),
        source="Kipf and Welling, GCN, 2017",
    ),
    Expression(
        "GCN with its normalisation",
        _normalised_graph,
        _normalised_graph_by_hand,
        ((600, 600), (600, 256)),
        ((256, 16),),
        source="Kipf and Welling, GCN, 2017",
    ),
    Expression(
        "simple graph convolution, Â² X W",
        lambda a, x, w: a @ (a @ x) @ w,
        lambda a, x, w: a @ (a @ (x @ w)),
        ((800, 800), (800, 256)),
        ((256, 16),),
        source="Wu et al., Simplifying GCNs, 2019",
    ),
    Expression(
        "two linear layers in a row",
        lambda x, w, b, v, c: linear(linear(x, w, b), v, c),
        linear,
        ((256, D),),
        ((2048, D), (2048,), (D, 2048), (D,)),
        _affine_pair,
    ),
    Expression(
        "a bottleneck's wide end, summed",
        lambda x, w, v: linear(linear(x, w), v),
        lambda x, t: linear(x, t),
        ((512, D),),
        ((1024, D), (64, 1024)),
        lambda w, v: (v @ w,),
    ),
    Expression(
        "few queries against many keys",
        _cross,
        _cross_by_hand,
        ((4, 4, D), (4, 256, D)),
        (_W,) * 3,
        source="Li et al., BLIP-2, 2023, Q-Former",
    ),
    Expression(
        "few queries, an identity projection",
        _few_queries,
        _few_queries_by_hand,
        ((8, D), (1024, D)),
        (_W, _W),
    ),
    Expression(
        "pooling head over scaled_dot_product_attention",
        _pooled,
        _pooled_by_hand,
        ((4, 196, D), (1, 1, D)),
        (_W, (D,), _W, (D,), _W),
        source="Zhai et al., SigLIP, 2023",
    ),
    Expression(
        "latent attention, one token",
        _absorbed,
        _absorbed_by_hand,
        ((8, 64), (512, 256)),
        ((8, 64, 256),) * 2,
        source="DeepSeek-V2, 2024",
    ),
    Expression(
        "scores without softmax, summed over queries",
        lambda q, k, v: ((q @ k.transpose(1, 2)) @ v).sum(1),
        lambda q, k, v: torch.bmm(torch.bmm(q.sum(1, keepdim=True), k.transpose(1, 2)), v).squeeze(1),
        ((16, 512, 64),) * 3,
    ),
    Expression(
        "a projection back after a mean",
        lambda x, w, b, v: linear(linear(x, w, b).mean(1), v),
        lambda x, w, b, v: linear(linear(x.mean(1), w, b), v),
        ((8, 196, D),),
        (_W, (D,), (100, D)),
    ),
    Expression(
        "residual of linear layers",
        lambda x, w, v: x + linear(x, w) + linear(x, v),
        lambda x, t: linear(x, t),
        ((512, D),),
        (_W, _W),
        lambda w, v: (torch.eye(D) + w + v,),
    ),
    Expression(
        "embedding, then a projection",
        lambda e, w: linear(e, w)[torch.arange(0, 400)],
        lambda e, w: linear(e[torch.arange(0, 400)], w),
        ((4000, 256),),
        ((256, 256),),
    ),
)
