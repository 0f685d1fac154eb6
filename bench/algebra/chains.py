"""Chains of products: their order, the vector in the middle, products that are repeated."""

from itertools import pairwise

import torch

from bench.algebra.expression import LAMP, LINNEA, SANKARAN, Expression

N, M, S = 1000, 512, 384
_V, _A, _B, _C = (N,), (N, N), (M, M), (S, S)


def _power(a: torch.Tensor, times: int) -> torch.Tensor:
    found = a
    for _ in range(times - 1):
        found = found @ a
    return found


def _power_on(a: torch.Tensor, x: torch.Tensor, times: int) -> torch.Tensor:
    for _ in range(times):
        x = a @ x
    return x


def _chain(*factors: torch.Tensor) -> torch.Tensor:
    found = factors[0]
    for one in factors[1:]:
        found = found @ one
    return found


def _nested(*factors: torch.Tensor) -> torch.Tensor:
    return factors[0] @ _nested(*factors[1:]) if len(factors) > 1 else factors[0]


def _best(*factors: torch.Tensor) -> torch.Tensor:
    """In the best order: torch finds it for matrices."""
    return torch.linalg.multi_dot(factors)


def _shapes(*sizes: int) -> tuple[tuple[int, int], ...]:
    return tuple(pairwise(sizes))


def _square(t: torch.Tensor) -> torch.Tensor:
    return t @ t


def _sandwich(t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return t @ c @ t


def _eighth(a: torch.Tensor) -> torch.Tensor:
    b = a @ a
    c = b @ b
    return c @ c


def _sixth(a: torch.Tensor) -> torch.Tensor:
    b = a @ a @ a
    return b @ b


CATALOGUE = (
    Expression(
        "HᵀH x",
        lambda h, x: h.t() @ h @ x,
        lambda h, x: h.t() @ (h @ x),
        (_A, _V),
        source=f"{SANKARAN}: chain from right to left",
        einsum="ji,jk,k->i",
    ),
    Expression(
        "yᵀ(HᵀH)",
        lambda h, y: y @ (h.t() @ h),
        lambda h, y: (y @ h.t()) @ h,
        (_A, _V),
        source=f"{SANKARAN}: chain from left to right",
        einsum="ji,jk,i->k",
    ),
    Expression(
        "Hᵀ y xᵀ H",
        lambda h, y, x: h.t() @ y @ x.t() @ h,
        lambda h, y, x: (h.t() @ y) @ (x.t() @ h),
        (_A, (N, 1), (N, 1)),
        source=f"{SANKARAN}: mixed chain",
        einsum="ji,ja,ka,kl->il",
    ),
    Expression(
        "chain of four, from the left",
        _chain,
        _best,
        _shapes(800, 600, 400, 100, 20),
        source=f"{LAMP}: matrix chain",
        einsum="ab,bc,cd,de->ae",
    ),
    Expression(
        "chain of four, nested to the right",
        _nested,
        _best,
        _shapes(20, 100, 400, 600, 800),
        source=f"{LAMP}: matrix chain",
        einsum="ab,bc,cd,de->ae",
    ),
    Expression(
        "chain of four, mixed",
        _chain,
        _best,
        _shapes(600, 50, 800, 40, 700),
        source=f"{LAMP}: matrix chain",
        einsum="ab,bc,cd,de->ae",
    ),
    Expression(
        "A B v",
        lambda a, b, v: (a @ b) @ v,
        lambda a, b, v: a @ (b @ v),
        (_A, _A, _V),
        source=f"{LAMP}: matrix chain",
        einsum="ab,bc,c->a",
    ),
    Expression(
        "y xᵀ Z",
        lambda x, y, z: torch.outer(y, x) @ z,
        lambda x, y, z: torch.outer(y, x @ z),
        ((3000,), (3000,), (3000, 400)),
        einsum="b,a,bc->ac",
    ),
    Expression("chain of three", _chain, _best, _shapes(500, 500, 500, 4), einsum="ab,bc,cd->ad"),
    Expression(
        "chain of five", _chain, _best, _shapes(300, 500, 40, 600, 30, 400), einsum="ab,bc,cd,de,ef->af"
    ),
    Expression(
        "chain of six",
        _nested,
        _best,
        _shapes(40, 500, 300, 600, 50, 400, 200),
        einsum="ab,bc,cd,de,ef,fg->ag",
    ),
    Expression("chain of eight", _chain, _best, _shapes(300, 350, 150, 50, 100, 200, 250, 400, 30)),
    Expression("chain of ten, a column at its end", _chain, _nested, _shapes(*[600] * 10, 1)),
    Expression(
        "chain of twelve",
        _chain,
        _best,
        _shapes(200, 300, 20, 400, 250, 30, 300, 200, 350, 40, 300, 100, 250),
    ),
    Expression(
        "a vector in the middle",
        lambda a, b, x, y, c: a @ b @ x @ y.t() @ c,
        lambda a, b, x, y, c: (a @ (b @ x)) @ (y.t() @ c),
        (_A, _A, (N, 1), (N, 1), _A),
        einsum="ab,bc,cx,dx,de->ae",
    ),
    Expression(
        "outer product between matrices",
        lambda a, x, y, b: a @ torch.outer(x, y) @ b,
        lambda a, x, y, b: torch.outer(a @ x, y @ b),
        (_A, _V, _V, _A),
        einsum="ab,b,c,cd->ad",
    ),
    Expression(
        "Gram matrix on a block",
        lambda x, y: (x @ x.t()) @ y,
        lambda x, y: x @ (x.t() @ y),
        ((2000, 64), (2000, 8)),
        einsum="ab,cb,cd->ad",
    ),
    Expression(
        "batched chain",
        lambda a, b, x: a @ b @ x,
        lambda a, b, x: a @ (b @ x),
        ((8, 256, 256), (8, 256, 256), (8, 256, 1)),
        einsum="zab,zbc,zcd->zad",
    ),
    Expression(
        "einsum of three",
        lambda a, b, x: torch.einsum("zij,zjk,zk->zi", a, b, x),
        lambda a, b, x: torch.bmm(a, torch.bmm(b, x.unsqueeze(-1))).squeeze(-1),
        ((8, 256, 256), (8, 256, 256), (8, 256)),
        einsum="zij,zjk,zk->zi",
    ),
    Expression(
        "mm, t and mv mixed",
        lambda a, b, x: torch.mv(torch.mm(b.t(), a.t()).t(), x),
        lambda a, b, x: torch.mv(a, torch.mv(b, x)),
        (_A, _A, _V),
        einsum="ab,bc,c->a",
    ),
    Expression(
        "few rows through three weights",
        lambda x, a, b, c: x @ (a @ b @ c),
        lambda x, a, b, c: x @ a @ b @ c,
        ((4, M), _B, _B, _B),
        einsum="ab,bc,cd,de->ae",
    ),
    Expression(
        "steps of a Markov chain",
        lambda p, q: q @ torch.linalg.matrix_power(p, 6),
        lambda p, q: q @ p @ p @ p @ p @ p @ p,
        (_B, (M,)),
    ),
    Expression("A⁸ x", lambda a, x: _power(a, 8) @ x, lambda a, x: _power_on(a, x, 8), (_B, (M,))),
    Expression("A⁸", lambda a: _power(a, 8), _eighth, (_C,)),
    Expression("A⁶", lambda a: _power(a, 6), _sixth, (_C,)),
    Expression(
        "A B C A B",
        lambda a, b, c: a @ b @ c @ a @ b,
        lambda a, b, c: _sandwich(a @ b, c),
        (_C, _C, _C),
        source=f"{LAMP}: common subexpressions",
    ),
    Expression(
        "A (B C) (A B)",
        lambda a, b, c: a @ (b @ c) @ (a @ b),
        lambda a, b, c: _sandwich(a @ b, c),
        (_C, _C, _C),
    ),
    Expression("A B A B", lambda a, b: a @ b @ a @ b, lambda a, b: _square(a @ b), (_C, _C)),
    Expression(
        "AᵀB + AᵀB",
        lambda a, b: a.t() @ b + a.t() @ b,
        lambda a, b: 2 * (a.t() @ b),
        (_B, _B),
        source=f"{SANKARAN}: common subexpressions",
    ),
    Expression(
        "(AᵀB)ᵀ (AᵀB)",
        lambda a, b: (a.t() @ b).t() @ (a.t() @ b),
        lambda a, b: (lambda s: s.t() @ s)(a.t() @ b),
        (_C, _C),
        source=f"{SANKARAN}: common subexpressions",
    ),
    Expression(
        "(AᵀB)ᵀ Aᵀ B",
        lambda a, b: (a.t() @ b).t() @ a.t() @ b,
        lambda a, b: (lambda s: s.t() @ s)(a.t() @ b),
        (_C, _C),
        source=f"{SANKARAN}: common subexpressions",
    ),
    Expression(
        "(AᵀB)ᵀ + BᵀA", lambda a, b: (a.t() @ b).t() + b.t() @ a, lambda a, b: 2 * (b.t() @ a), (_B, _B)
    ),
    Expression(
        "two results with a product in common",
        lambda a, b, c, d: (a @ b @ c, d @ (a @ b)),
        lambda a, b, c, d: (lambda t: (t @ c, d @ t))(a @ b),
        (_C, _C, _C, _C),
    ),
    Expression(
        "W Aᵀ M⁻¹ (b − A x)",
        lambda w, a, m, b, x: w @ a.t() @ m @ (b - a @ x),
        lambda w, a, m, b, x: w @ (a.t() @ (m @ (b - a @ x))),
        ((N, N), (M, N), _B, (M,), (N,)),
        source=f"{LINNEA}: optimisation 2, inverse given",
    ),
    Expression(
        "K = P Hᵀ M⁻¹, x + K (z − H x)",
        lambda p, h, m, z, x: x + p @ h.t() @ m @ (z - h @ x),
        lambda p, h, m, z, x: x + p @ (h.t() @ (m @ (z - h @ x))),
        (_A, (M, N), _B, (M,), _V),
        source=f"{LINNEA}: Kalman filter, inverse given",
    ),
    Expression(
        "S M⁻¹ Sᵀ in W Aᵀ S M⁻¹ Sᵀ x",
        lambda w, a, s, m, x: w @ a.t() @ (s @ m @ s.t()) @ x,
        lambda w, a, s, m, x: w @ (a.t() @ (s @ (m @ (s.t() @ x)))),
        (_A, _A, (N, 100), (100, 100), _V),
        source=f"{LINNEA}: randomized matrix inversion 1, on a vector, inverse given",
    ),
    Expression(
        "X Xᵀ Hᵀ M⁻¹ (Y − H X_b)",
        lambda x, h, m, y, b: x @ (h @ x).t() @ m @ (y - h @ b),
        lambda x, h, m, y, b: x @ (x.t() @ (h.t() @ (m @ (y - h @ b)))),
        ((500, 500), (100, 500), (100, 100), (100, 20), (500, 20)),
        source=f"{LINNEA}: ensemble Kalman filter 3, inverse given",
    ),
    Expression(
        "M⁻¹ Aᵀ P A x",
        lambda m, a, p, x: m @ a.t() @ p @ a @ x,
        lambda m, a, p, x: m @ (a.t() @ (p @ (a @ x))),
        (_B, (800, M), (800, 800), (M,)),
        source=f"{LINNEA}: Tikhonov regularization 4, inverse given",
        einsum="ab,cb,cd,de,e->a",
    ),
    Expression(
        "A⁻ᵀ Bᵀ B A⁻¹ y",
        lambda a, b, y: a.t() @ b.t() @ b @ a @ y,
        lambda a, b, y: a.t() @ (b.t() @ (b @ (a @ y))),
        (_A, _A, _V),
        source=f"{LINNEA}: signal processing, inverse given",
        einsum="ji,kj,kl,lm,m->i",
    ),
    Expression(
        "pseudo-inverse Hᵀ M⁻¹ y",
        lambda h, m, y: h.t() @ m @ y,
        lambda h, m, y: h.t() @ (m @ y),
        ((800, N), (800, 800), (800,)),
        source=f"{LINNEA}: image restoration 2, inverse given",
        einsum="ab,ac,c->b",
    ),
)
