"""Operands put together of blocks: concatenated, block-diagonal, padded."""

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from bench.algebra.expression import LAMP, SANKARAN, Expression

M, S = 512, 384
_A, _B, _H = (M, M), (S, S), (M, M // 2)


def _block_diagonal(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    top = torch.cat([a, torch.zeros(len(a), b.shape[1])], 1)
    bottom = torch.cat([torch.zeros(len(b), a.shape[1]), b], 1)
    return torch.cat([top, bottom]) @ torch.cat([c, d])


def _pairs(x: Tensor, w: Tensor) -> Tensor:
    n = len(x)
    left, right = x[:, None].expand(n, n, -1), x[None].expand(n, n, -1)
    return linear(torch.cat([left, right], -1), w)


def _pairs_by_hand(x: Tensor, w: Tensor) -> Tensor:
    d = x.shape[1]
    return (x @ w[:, :d].t())[:, None] + (x @ w[:, d:].t())[None]


def _conditioned(x: Tensor, c: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return linear(torch.cat([x, c[:, None].expand(-1, x.shape[1], -1)], -1), w, b)


def _conditioned_by_hand(x: Tensor, c: Tensor, w: Tensor, b: Tensor) -> Tensor:
    d = x.shape[-1]
    return linear(x, w[:, :d]) + linear(c, w[:, d:], b)[:, None]


CATALOGUE = (
    Expression(
        "[A 0; 0 B] [C; D]",
        _block_diagonal,
        lambda a, b, c, d: torch.cat([a @ c, b @ d]),
        (_B, _B, _B, _B),
        source=f"{SANKARAN}: blocked matrices",
    ),
    Expression(
        "block_diag(A, B) x",
        lambda a, b, x: torch.block_diag(a, b) @ x,
        lambda a, b, x: torch.cat([a @ x[:1024], b @ x[1024:]]),
        ((1024, 1024), (1024, 1024), (2048,)),
        source=f"{LAMP}: blocked matrices",
    ),
    Expression(
        "[A B] [C; D] with D = C",
        lambda a, b, c: torch.cat([a, b], 1) @ torch.cat([c, c]),
        lambda a, b, c: (a + b) @ c,
        (_A, _A, _A),
    ),
    Expression(
        "[A 0] [C; D]",
        lambda a, c, d: torch.cat([a, torch.zeros(M, M)], 1) @ torch.cat([c, d]),
        lambda a, c, d: a @ c,
        (_A, _A, _A),
    ),
    Expression(
        "zero-padded columns", lambda a, b: pad(a, (0, 2 * M)) @ b, lambda a, b: a @ b[:M], (_A, (3 * M, 256))
    ),
    Expression(
        "zero-padded, then cut",
        lambda a, b: (pad(a, (0, 0, 0, M)) @ b)[:M].clone(),
        lambda a, b: a @ b,
        (_A, _A),
    ),
    Expression(
        "[A; B] x, one part wanted",
        lambda a, b, x: (torch.cat([a, b]) @ x)[:M].clone(),
        lambda a, b, x: a @ x,
        (_A, _A, (M, 64)),
    ),
    Expression("[x_i, x_j] W of all pairs", _pairs, _pairs_by_hand, ((192, 64),), ((64, 128),)),
    Expression(
        "[x, condition] W",
        _conditioned,
        _conditioned_by_hand,
        ((8, 128, 128), (8, 512)),
        ((256, 640), (256,)),
    ),
    Expression(
        "stacked products that are summed",
        lambda a, b, x: torch.stack([a @ x, b @ x]).sum(0),
        lambda a, b, x: (a + b) @ x,
        (_A, _A, (M, 256)),
    ),
    Expression(
        "a concatenation that is summed",
        lambda a, b: torch.cat([a @ b, b @ a]).sum(0),
        lambda a, b: a.sum(0) @ b + b.sum(0) @ a,
        (_A, _A),
    ),
    Expression(
        "column of a concatenation of products",
        lambda a, b, x: torch.cat([a @ x, b @ x], 1)[:, -1].clone(),
        lambda a, b, x: b @ x[:, -1],
        (_A, _A, _A),
    ),
)
