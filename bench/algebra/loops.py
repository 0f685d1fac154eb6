"""Python loops, unrolled by the capture: what does not change in them, and products that are one."""

import torch
from torch import Tensor

from bench.algebra.expression import LAMP, SANKARAN, Expression

N, M = 1000, 512
_A, _B = (N, N), (M, M)


def _invariant(a: Tensor, b: Tensor, v: Tensor) -> Tensor:
    return torch.stack([a @ b + torch.outer(v[i], v[i]) for i in range(3)])


def _invariant_by_hand(a: Tensor, b: Tensor, v: Tensor) -> Tensor:
    t = a @ b
    return torch.stack([t + torch.outer(v[i], v[i]) for i in range(3)])


def _accumulated(a: Tensor, b: Tensor, v: Tensor) -> Tensor:
    x = v
    for _ in range(4):
        x = x + 0.1 * ((a @ b) @ x)
    return x


def _accumulated_by_hand(a: Tensor, b: Tensor, v: Tensor) -> Tensor:
    for _ in range(4):
        v = v + 0.1 * (a @ (b @ v))
    return v


def _landweber(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    for _ in range(4):
        x = x - 0.1 * (a.t() @ a @ x - a.t() @ b)
    return x


def _landweber_by_hand(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    for _ in range(4):
        x = x - 0.1 * (a.t() @ (a @ x - b))
    return x


def _columns(a: Tensor, x: Tensor) -> Tensor:
    return torch.stack([a @ x[:, i] for i in range(x.shape[1])], 1)


def _rows(a: Tensor, x: Tensor) -> Tensor:
    return torch.stack([a @ row for row in x])


def _quadratic(a: Tensor, x: Tensor) -> Tensor:
    return torch.stack([row @ a @ row for row in x])


def _heads(x: Tensor, w: Tensor) -> Tensor:
    return torch.cat([x @ w[:, i * 32 : i * 32 + 32] for i in range(16)], 1)


def _summed(a: Tensor, x: Tensor) -> Tensor:
    total = a @ x[:, 0]
    for i in range(1, x.shape[1]):
        total = total + a @ x[:, i]
    return total


def _rank_1_terms(u: Tensor, v: Tensor) -> Tensor:
    total = torch.zeros(u.shape[1], v.shape[1])
    for i in range(len(u)):
        total = total + torch.outer(u[i], v[i])
    return total


def _powers(a: Tensor, x: Tensor) -> Tensor:
    total, p = x, a
    for _ in range(4):
        total = total + p @ x
        p = p @ a
    return total


def _powers_by_hand(a: Tensor, x: Tensor) -> Tensor:
    total = x
    for _ in range(4):
        x = a @ x
        total = total + x
    return total


CATALOGUE = (
    Expression(
        "A B + vᵢ vᵢᵀ in a loop",
        _invariant,
        _invariant_by_hand,
        (_B, _B, (3, M)),
        source=f"{SANKARAN}: loop-invariant code motion",
    ),
    Expression(
        "A B vᵢ in a loop",
        lambda a, b, v: torch.stack([(a @ b) @ v[i] for i in range(4)]),
        lambda a, b, v: (v @ b.t()) @ a.t(),
        (_B, _B, (4, M)),
        source=f"{LAMP}: code motion",
    ),
    Expression("an iteration with A B", _accumulated, _accumulated_by_hand, (_B, _B, (M,))),
    Expression("Landweber iterations", _landweber, _landweber_by_hand, (_B, (M,), (M,))),
    Expression(
        "A x for each column",
        _columns,
        lambda a, x: a @ x,
        (_A, (N, 16)),
        source=f"{LAMP}: matrix-vector products that are a matrix product",
    ),
    Expression("A x for each row", _rows, lambda a, x: x @ a.t(), (_A, (12, N))),
    Expression("xᵢᵀ A xᵢ in a loop", _quadratic, lambda a, x: ((x @ a) * x).sum(1), (_A, (12, N))),
    Expression("one weight in slices", _heads, lambda x, w: x @ w, ((128, M), (M, M))),
    Expression("Σ A xᵢ in a loop", _summed, lambda a, x: a @ x.sum(1), ((2000, 2000), (2000, 12))),
    Expression("Σ uᵢ vᵢᵀ in a loop", _rank_1_terms, lambda u, v: u.t() @ v, ((12, N), (12, N))),
    Expression("Neumann series on a vector", _powers, _powers_by_hand, (_A, (N,))),
)
