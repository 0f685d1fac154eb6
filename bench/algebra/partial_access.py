"""A part of a result: an element, a row, a diagonal, a sum; only what is asked for has to be computed."""

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from bench.algebra.expression import LAMP, SANKARAN, Expression

N, M = 1400, 1000
_V, _A, _B = (N,), (N, N), (M, M)


def _gathered(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b)[torch.tensor([3, 14, 159, 265])]


def _gathered_by_hand(a: Tensor, b: Tensor) -> Tensor:
    return a[torch.tensor([3, 14, 159, 265])] @ b


def _block(x: Tensor, w: Tensor, b: Tensor, v: Tensor, c: Tensor) -> Tensor:
    return linear(gelu(linear(x, w, b)), v, c)[:, -1]


def _block_by_hand(x: Tensor, w: Tensor, b: Tensor, v: Tensor, c: Tensor) -> Tensor:
    return linear(gelu(linear(x[:, -1], w, b)), v, c)


CATALOGUE = (
    Expression(
        "(A + B)[2, 2]",
        lambda a, b: (a + b)[2, 2].clone(),
        lambda a, b: a[2, 2] + b[2, 2],
        (_A, _A),
        source=f"{SANKARAN}: partial operand access, sum",
    ),
    Expression(
        "(A B)[2, 2]",
        lambda a, b: (a @ b)[2, 2].clone(),
        lambda a, b: torch.dot(a[2], b[:, 2]),
        ((48, 60_000), (60_000, 48)),
        source=f"{SANKARAN}: partial operand access, product",
    ),
    Expression(
        "a row of a product",
        lambda a, b: (a @ b)[2].clone(),
        lambda a, b: a[2] @ b,
        (_A, _A),
        source=f"{LAMP}: partial operand access",
    ),
    Expression(
        "a column of a product",
        lambda a, b: (a @ b)[:, 2].clone(),
        lambda a, b: a @ b[:, 2],
        (_A, _A),
        source=f"{LAMP}: partial operand access",
    ),
    Expression(
        "the diagonal of a product",
        lambda a, b: torch.diag(a @ b),
        lambda a, b: (a * b.t()).sum(1),
        (_B, _B),
        source=f"{LAMP}: diagonal access",
    ),
    Expression(
        "a row, its memory a part of the product's", lambda a, b: (a @ b)[2], lambda a, b: a[2] @ b, (_A, _A)
    ),
    Expression(
        "some rows", lambda a, b: torch.relu((a @ b)[10:14]), lambda a, b: torch.relu(a[10:14] @ b), (_B, _B)
    ),
    Expression(
        "every eighth row and some columns",
        lambda a, b: (a @ b)[::8, 5:25].clone(),
        lambda a, b: a[::8] @ b[:, 5:25],
        (_B, _B),
    ),
    Expression(
        "an element of a chain",
        lambda a, b, c: (a @ b @ c)[1, 2].clone(),
        lambda a, b, c: torch.dot(a[1] @ b, c[:, 2]),
        (_B, _B, _B),
    ),
    Expression(
        "a row of a sum of products",
        lambda a, b, c: (a @ b + b @ c)[7].clone(),
        lambda a, b, c: a[7] @ b + b[7] @ c,
        (_B, _B, _B),
    ),
    Expression("gathered rows", _gathered, _gathered_by_hand, (_B, _B)),
    Expression(
        "rows by index_select",
        lambda a, b: torch.index_select(a @ b, 0, torch.tensor([5, 6, 400])),
        lambda a, b: torch.index_select(a, 0, torch.tensor([5, 6, 400])) @ b,
        (_B, _B),
    ),
    Expression("trace(A B)", lambda a, b: torch.trace(a @ b), lambda a, b: torch.sum(a * b.t()), (_B, _B)),
    Expression(
        "trace(A B C)",
        lambda a, b, c: torch.trace(a @ b @ c),
        lambda a, b, c: torch.sum((a @ b) * c.t()),
        ((M, 32), (32, M), _B),
    ),
    Expression(
        "trace as the sum of a diagonal",
        lambda a, b: (a @ b).diagonal().sum(),
        lambda a, b: torch.sum(a * b.t()),
        (_B, _B),
    ),
    Expression("sum(A B)", lambda a, b: (a @ b).sum(), lambda a, b: torch.dot(a.sum(0), b.sum(1)), (_B, _B)),
    Expression("rows of A B summed", lambda a, b: (a @ b).sum(0), lambda a, b: a.sum(0) @ b, (_B, _B)),
    Expression(
        "mean over the columns of A B", lambda a, b: (a @ b).mean(1), lambda a, b: a @ b.mean(1), (_B, _B)
    ),
    Expression(
        "mean of a linear layer over tokens",
        lambda x, w, b: linear(x, w, b).mean(1),
        lambda x, w, b: linear(x.mean(1), w, b),
        ((8, 128, 512),),
        ((512, 512), (512,)),
    ),
    Expression(
        "last token before the head",
        lambda x, w: linear(x, w)[:, -1].clone(),
        lambda x, w: linear(x[:, -1], w),
        ((8, 64, 512),),
        ((4000, 512),),
    ),
    Expression(
        "first token of a layer with a bias",
        lambda x, w, b: torch.relu(linear(x, w, b)[:, 0]),
        lambda x, w, b: torch.relu(linear(x[:, 0], w, b)),
        ((8, 128, 512),),
        ((512, 512), (512,)),
    ),
    Expression(
        "last token, taken after gelu",
        lambda x, w, b: gelu(linear(x, w, b))[:, -1].clone(),
        lambda x, w, b: gelu(linear(x[:, -1], w, b)),
        ((8, 128, 512),),
        ((2048, 512), (2048,)),
    ),
    Expression(
        "last token, taken after a whole block",
        _block,
        _block_by_hand,
        ((8, 64, 512),),
        ((2048, 512), (2048,), (512, 2048), (512,)),
    ),
    Expression(
        "slice after an elementwise function",
        lambda a: torch.tanh(a)[:200].clone(),
        lambda a: torch.tanh(a[:200]),
        (_A,),
    ),
    Expression(
        "some heads of a projection",
        lambda x, w: linear(x, w).view(8, 128, 8, 64)[:, :, 3].clone(),
        lambda x, w: linear(x, w.view(8, 64, 512)[3]),
        ((8, 128, 512),),
        ((512, 512),),
    ),
    Expression(
        "x[i] of a matrix-vector product",
        lambda a, x: (a @ x)[5].clone(),
        lambda a, x: torch.dot(a[5], x),
        ((16, 400_000), (400_000,)),
    ),
    Expression(
        "a corner of A³",
        lambda a: torch.linalg.matrix_power(a, 3)[:4, :4].clone(),
        lambda a: (a[:4] @ a) @ a[:, :4],
        (_B,),
    ),
    Expression(
        "sum of squares of a row",
        lambda a, b: ((a @ b)[3] ** 2).sum(),
        lambda a, b: (lambda r: torch.dot(r, r))(a[3] @ b),
        (_A, _A),
    ),
)
