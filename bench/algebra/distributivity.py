"""What is taken out of sums, or multiplied out; what cancels; low ranks."""

import torch
from torch import Tensor

from bench.algebra.expression import LAMP, LINNEA, SANKARAN, Expression

N, M, S = 1000, 512, 384
_V, _A, _B, _C = (N,), (N, N), (M, M), (S, S)


def _bfgs(h: Tensor, s: Tensor, y: Tensor, rho: Tensor) -> Tensor:
    left = torch.eye(len(s)) - rho * torch.outer(s, y)
    return left @ h @ left.t() + rho * torch.outer(s, s)


def _bfgs_by_hand(h: Tensor, s: Tensor, y: Tensor, rho: Tensor) -> Tensor:
    hy, yh = h @ y, y @ h
    return h - rho * torch.outer(hy, s) - rho * torch.outer(s, yh - (rho * (yh @ y) + 1) * s)


def _symmetric_rank_2(h: Tensor, s: Tensor, y: Tensor) -> Tensor:
    return h - torch.outer(s, y) @ h - h @ torch.outer(y, s) + torch.outer(s, y) @ h @ torch.outer(y, s)


def _symmetric_rank_2_by_hand(h: Tensor, s: Tensor, y: Tensor) -> Tensor:
    hy = h @ y
    return h - torch.outer(s, y @ h) - torch.outer(hy - (y @ hy) * s, s)


def _reflected_twice(u: Tensor, v: Tensor, a: Tensor) -> Tensor:
    once = a - 2 * torch.outer(v, v) @ a
    return once - 2 * torch.outer(u, u) @ once


def _reflected_twice_by_hand(u: Tensor, v: Tensor, a: Tensor) -> Tensor:
    va = v @ a
    ua = u @ a - 2 * (u @ v) * va
    return a - torch.stack([v, u], 1) @ torch.stack([2 * va, 2 * ua])


def _sketched_inverse(x: Tensor, s: Tensor, m: Tensor, a: Tensor) -> Tensor:
    h = s @ m @ s.t()
    eye = torch.eye(len(a))
    return h + (eye - h @ a) @ x @ (eye - a @ h)


def _sketched_inverse_by_hand(x: Tensor, s: Tensor, m: Tensor, a: Tensor) -> Tensor:
    sm, sa, at = s @ m, s.t() @ a, a @ s
    y = x - sm @ (sa @ x)
    return y + (sm - (y @ at) @ m) @ s.t()


CATALOGUE = (
    Expression(
        "A B + A C",
        lambda a, b, c: a @ b + a @ c,
        lambda a, b, c: a @ (b + c),
        (_B, _B, _B),
        source=f"{SANKARAN}: distributivity",
    ),
    Expression(
        "(A − HᵀH) x",
        lambda a, h, x: (a - h.t() @ h) @ x,
        lambda a, h, x: a @ x - h.t() @ (h @ x),
        (_A, _A, _V),
        source=f"{SANKARAN}: distributivity",
    ),
    Expression(
        "A B + C B",
        lambda a, b, c: a @ b + c @ b,
        lambda a, b, c: (a + c) @ b,
        (_B, _B, _B),
        source=f"{LAMP}: distributivity",
    ),
    Expression(
        "A C + A D + B C + B D",
        lambda a, b, c, d: a @ c + a @ d + b @ c + b @ d,
        lambda a, b, c, d: (a + b) @ (c + d),
        (_C,) * 4,
    ),
    Expression(
        "A A + A B + B A + B B",
        lambda a, b: a @ a + a @ b + b @ a + b @ b,
        lambda a, b: (lambda t: t @ t)(a + b),
        (_C, _C),
    ),
    Expression(
        "A X + B X in linear layers",
        lambda x, a, b: torch.nn.functional.linear(x, a) + torch.nn.functional.linear(x, b),
        lambda x, w: torch.nn.functional.linear(x, w),
        ((256, M),),
        (_B, _B),
        lambda a, b: (a + b,),
    ),
    Expression(
        "a matrix scaled before a product",
        lambda a, x: (0.5 * a) @ x,
        lambda a, x: 0.5 * (a @ x),
        ((2000, 2000), (2000,)),
    ),
    Expression(
        "scales along a chain",
        lambda a, b, x: (2 * a) @ (3 * b) @ (x / 5),
        lambda a, b, x: a @ (b @ (1.2 * x)),
        (_A, _A, _V),
    ),
    Expression(
        "(A + B) X − A X", lambda a, b, x: (a + b) @ x - a @ x, lambda a, b, x: b @ x, (_B, _B, (M, 256))
    ),
    Expression(
        "(A + u vᵀ) X",
        lambda a, u, v, x: (a + torch.outer(u, v)) @ x,
        lambda a, u, v, x: torch.addmm(torch.outer(u, v @ x), a, x),
        (_A, _V, _V, (N, 4)),
    ),
    Expression(
        "(A + U Vᵀ) x",
        lambda a, u, v, x: (a + u @ v.t()) @ x,
        lambda a, u, v, x: a @ x + u @ (v.t() @ x),
        ((2000, 2000), (2000, 16), (2000, 16), (2000,)),
    ),
    Expression(
        "a trace of a low-rank update",
        lambda a, u, v, b: torch.trace((a + u @ v.t()) @ b),
        lambda a, u, v, b: torch.sum(a * b.t()) + torch.sum(u * (b.t() @ v)),
        (_A, (N, 8), (N, 8), _A),
    ),
    Expression(
        "Householder, (I − 2 v vᵀ) A",
        lambda v, a: (torch.eye(N) - 2 * torch.outer(v, v)) @ a,
        lambda v, a: a - torch.outer(2 * v, v @ a),
        (_V, _A),
    ),
    Expression(
        "A − 2 v vᵀ A",
        lambda v, a: a - 2 * torch.outer(v, v) @ a,
        lambda v, a: torch.addr(a, v, v @ a, alpha=-2),
        (_V, _A),
    ),
    Expression("two reflections", _reflected_twice, _reflected_twice_by_hand, (_V, _V, _A)),
    Expression("BFGS update", _bfgs, _bfgs_by_hand, (_A, _V, _V, ())),
    Expression("a symmetric update of rank 2", _symmetric_rank_2, _symmetric_rank_2_by_hand, (_A, _V, _V)),
    Expression(
        "A B x + A C x",
        lambda a, b, c, x: a @ b @ x + a @ c @ x,
        lambda a, b, c, x: a @ (b @ x + c @ x),
        (_B, _B, _B, (M, 16)),
    ),
    Expression(
        "Horner, (A³ + 2 A² + A) x",
        lambda a, x: (a @ a @ a + 2 * (a @ a) + a) @ x,
        lambda a, x: a @ (x + a @ (2 * x + a @ x)),
        (_A, _V),
    ),
    Expression(
        "a sum of matrices with weights, on a vector",
        lambda a, b, c, x: (0.2 * a + 0.3 * b + 0.5 * c) @ x,
        lambda a, b, c, x: 0.2 * (a @ x) + 0.3 * (b @ x) + 0.5 * (c @ x),
        (_A, _A, _A, _V),
    ),
    Expression(
        "half of A B + (A B)ᵀ, as Bᵀ Aᵀ",
        lambda a, b: 0.5 * (a @ b) + 0.5 * (b.t() @ a.t()),
        lambda a, b: (lambda t: 0.5 * (t + t.t()))(a @ b),
        (_B, _B),
    ),
    Expression(
        "a gradient step of least squares",
        lambda a, x, b: x - 0.1 * (a.t() @ a @ x - a.t() @ b),
        lambda a, x, b: x - 0.1 * (a.t() @ (a @ x - b)),
        (_A, _V, _V),
    ),
    Expression(
        "ridge gradient",
        lambda a, x, b: (a.t() @ a) @ x + 0.3 * x - a.t() @ b,
        lambda a, x, b: a.t() @ (a @ x - b) + 0.3 * x,
        (_A, _V, _V),
    ),
    Expression(
        "(H_d y) + (I − H_d H) x",
        lambda d, h, y, x: d @ y + (torch.eye(1400) - d @ h) @ x,
        lambda d, h, y, x: x + d @ (y - h @ x),
        ((1400, 700), (700, 1400), (700,), (1400,)),
        source=f"{LINNEA}: image restoration 2",
    ),
    Expression(
        "M⁻¹ (Hᵀ y + λ (v − u))",
        lambda m, h, y, v, u: m @ h.t() @ y + 0.2 * (m @ v - m @ u),
        lambda m, h, y, v, u: m @ (h.t() @ y + 0.2 * (v - u)),
        (_A, (500, N), (500,), _V, _V),
        source=f"{LINNEA}: image restoration 1, inverse given",
    ),
    Expression(
        "C − K A C",
        lambda c, k, a: (torch.eye(M) - k @ a) @ c,
        lambda c, k, a: c - k @ (a @ c),
        (_B, (M, 64), (64, M)),
        source=f"{LINNEA}: linear MMSE estimator 3",
    ),
    Expression(
        "P − K H P, written out",
        lambda p, k, h: p - k @ h @ p,
        lambda p, k, h: p - k @ (h @ p),
        (_B, (M, 64), (64, M)),
        source=f"{LINNEA}: Kalman filter",
    ),
    Expression(
        "x + K z − K H x",
        lambda x, k, z, h: x + k @ z - k @ h @ x,
        lambda x, k, z, h: x + k @ (z - h @ x),
        ((1400,), (1400, 1000), (1000,), (1000, 1400)),
        source=f"{LINNEA}: Kalman filter",
    ),
    Expression(
        "X + W Aᵀ Λ (I − A X)",
        lambda x, w, a, s, m: x + w @ a.t() @ (s @ m @ s.t()) @ (torch.eye(S) - a @ x),
        lambda x, w, a, s, m: x + ((w @ (a.t() @ s)) @ m) @ (s.t() - (s.t() @ a) @ x),
        (_C, _C, _C, (S, 32), (32, 32)),
        source=f"{LINNEA}: randomized matrix inversion 1, inverse given",
    ),
    Expression(
        "X + (I − X Aᵀ) Λ Aᵀ W",
        lambda x, w, a, s, m: x + (torch.eye(S) - x @ a.t()) @ (s @ m @ s.t()) @ a.t() @ w,
        lambda x, w, a, s, m: x + ((s - x @ (a.t() @ s)) @ m) @ ((s.t() @ a.t()) @ w),
        (_C, _C, _C, (S, 32), (32, 32)),
        source=f"{LINNEA}: randomized matrix inversion 2, inverse given",
    ),
    Expression(
        "Λ + (I − Λ A) X (I − A Λ)",
        _sketched_inverse,
        _sketched_inverse_by_hand,
        (_C, (S, 32), (32, 32), _C),
        source=f"{LINNEA}: randomized matrix inversion 4, inverse given",
    ),
    Expression(
        "k B (I − Aᵀ W M⁻¹ Wᵀ A B)",
        lambda b, a, w, m: 1.1 * b @ (torch.eye(S) - a.t() @ w @ m @ w.t() @ a @ b),
        lambda b, a, w, m: (lambda t: 1.1 * (b - ((b @ t) @ m) @ (t.t() @ b)))(a.t() @ w),
        (_C, (1000, S), (1000, 62), (62, 62)),
        source=f"{LINNEA}: stochastic Newton 1, inverse given",
    ),
    Expression(
        "λ (I − Aᵀ W M⁻¹ Wᵀ A)",
        lambda a, w, m: 0.7 * (torch.eye(S) - a.t() @ w @ m @ w.t() @ a),
        lambda a, w, m: (lambda t: torch.addmm(0.7 * torch.eye(S), t @ m, t.t(), alpha=-0.7))(a.t() @ w),
        ((1000, S), (1000, 62), (62, 62)),
        source=f"{LINNEA}: stochastic Newton 2, inverse given",
    ),
    Expression(
        "x + C Aᵀ M⁻¹ (y − A x)",
        lambda x, c, a, m, y: c @ a.t() @ m @ (y - a @ x) + x,
        lambda x, c, a, m, y: c @ (a.t() @ (m @ (y - a @ x))) + x,
        (_V, _A, (500, N), (500, 500), (500,)),
        source=f"{LINNEA}: linear MMSE 1, inverse given",
    ),
    Expression(
        "M⁻¹ (Aᵀ P b + Q x)",
        lambda m, a, p, b, q, x: m @ (a.t() @ p @ b + q @ x),
        lambda m, a, p, b, q, x: m @ (a.t() @ (p @ b) + q @ x),
        ((N, N), (700, N), (700, 700), (700,), (N, N), (N,)),
        source=f"{LINNEA}: Tikhonov regularization 3, inverse given",
    ),
    Expression(
        "W (Aᵀ M⁻¹ b − c)",
        lambda w, a, m, b, c: w @ (a.t() @ m @ b - c),
        lambda w, a, m, b, c: w @ (a.t() @ (m @ b) - c),
        ((700, 700), (700, 700), (700, 700), (700,), (700,)),
        source=f"{LINNEA}: optimisation 1, inverse given",
    ),
    Expression(
        "G Hᵀ R (Y − H X)",
        lambda g, h, r, y, x: g @ h.t() @ r @ y - g @ h.t() @ r @ h @ x,
        lambda g, h, r, y, x: g @ (h.t() @ (r @ (y - h @ x))),
        ((500, 500), (400, 500), (400, 400), (400, 20), (500, 20)),
        source=f"{LINNEA}: ensemble Kalman filter 2, inverse given, multiplied out",
    ),
)
