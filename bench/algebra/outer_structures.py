"""Sums over outer products and over all pairs, which never have to be there."""

import torch
from torch import Tensor

from bench.algebra.expression import Expression

N, M = 1000, 512
_A = (N, N)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return ((a[:, None] - b[None]) ** 2).sum(-1)


def _distances_by_hand(a: Tensor, b: Tensor) -> Tensor:
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None]
    return torch.addmm(squares, a, b.t(), alpha=-2)


def _kernel_alignment(x: Tensor, y: Tensor) -> Tensor:
    return torch.trace(x @ x.t() @ y @ y.t())


def _centred(x: Tensor) -> Tensor:
    n = len(x)
    return (torch.eye(n) - torch.ones(n, n) / n) @ x


def _cka(x: Tensor, y: Tensor) -> Tensor:
    k, o = x @ x.t(), y @ y.t()
    return (k * o).sum() / ((k * k).sum() * (o * o).sum()).sqrt()


def _on_blocks(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """(A ⊗ B) X"""
    inner = b @ x.view(len(a), len(b), -1)
    return (a @ inner.view(len(a), -1)).view(x.shape)


def _norm(t: Tensor) -> Tensor:
    return (t * t).sum()


CATALOGUE = (
    Expression(
        "xᵀ A x of a batch, by outer products",
        lambda x, a: (x[:, :, None] * x[:, None, :] * a).sum((1, 2)),
        lambda x, a: ((x @ a) * x).sum(1),
        ((128, 256), (256, 256)),
    ),
    Expression(
        "xᵀ A x of a batch, as a diagonal",
        lambda x, a: torch.diag(x @ a @ x.t()),
        lambda x, a: ((x @ a) * x).sum(1),
        ((2000, 64), (64, 64)),
    ),
    Expression(
        "bilinear form by einsum",
        lambda x, a, y: torch.einsum("bi,ij,bj->b", x, a, y),
        lambda x, a, y: ((x @ a) * y).sum(1),
        ((2000, 128), (128, 128), (2000, 128)),
        einsum="bi,ij,bj->b",
    ),
    Expression(
        "Σ A ∘ (B C)",
        lambda a, b, c: (a * (b @ c)).sum(),
        lambda a, b, c: ((a @ c.t()) * b).sum(),
        (_A, (N, 16), (16, N)),
        einsum="ij,ik,kj->",
    ),
    Expression(
        "Σ (u vᵀ) ∘ A",
        lambda u, v, a: (torch.outer(u, v) * a).sum(),
        lambda u, v, a: torch.dot(u, a @ v),
        ((N,), (N,), _A),
        einsum="i,j,ij->",
    ),
    Expression(
        "‖AᵀA‖²",
        lambda a: torch.linalg.matrix_norm(a.t() @ a).square(),
        lambda a: _norm(a @ a.t()),
        ((64, 2000),),
    ),
    Expression("Σ (AᵀA)²", lambda a: (a.t() @ a).square().sum(), lambda a: _norm(a @ a.t()), ((64, 2000),)),
    Expression(
        "Σ (U Vᵀ)²",
        lambda u, v: ((u @ v.t()) ** 2).sum(),
        lambda u, v: ((u.t() @ u) * (v.t() @ v)).sum(),
        ((3000, 32), (3000, 32)),
    ),
    Expression("‖aᵢ − bⱼ‖² by broadcasting", _distances, _distances_by_hand, ((M, 64), (M, 64))),
    Expression(
        "Σ of all ‖aᵢ − bⱼ‖²",
        lambda a, b: _distances(a, b).sum(),
        lambda a, b: len(b) * _norm(a) + len(a) * _norm(b) - 2 * torch.dot(a.sum(0), b.sum(0)),
        ((800, 64), (800, 64)),
    ),
    Expression(
        "factorisation machine, all pairs",
        lambda x, v: torch.einsum("bi,bj,ik,jk->b", x, x, v, v),
        lambda x, v: (x @ v).square().sum(1),
        ((1024, 128), (128, 32)),
        source="Rendle, Factorization Machines, 2010",
    ),
    Expression(
        "factorisation machine, pairs by outer products",
        lambda x, v: ((x[:, :, None] * x[:, None, :]) * (v @ v.t())).sum((1, 2)),
        lambda x, v: (x @ v).square().sum(1),
        ((1024, 128), (128, 32)),
        source="Rendle, Factorization Machines, 2010",
    ),
    Expression(
        "trace(X Xᵀ Y Yᵀ)",
        _kernel_alignment,
        lambda x, y: _norm(y.t() @ x),
        ((1500, 64), (1500, 64)),
        source="Kornblith et al., Similarity of Neural Network Representations Revisited, 2019",
    ),
    Expression(
        "linear CKA",
        _cka,
        lambda x, y: _norm(y.t() @ x) / (_norm(x.t() @ x) * _norm(y.t() @ y)).sqrt(),
        ((1500, 64), (1500, 48)),
        source="Kornblith et al., Similarity of Neural Network Representations Revisited, 2019",
    ),
    Expression(
        "centring by a matrix",
        _centred,
        lambda x: x - x.mean(0),
        ((1500, 256),),
        source="Kornblith et al., Similarity of Neural Network Representations Revisited, 2019",
    ),
    Expression(
        "(A ⊗ B) x",
        lambda a, b, x: torch.kron(a, b) @ x,
        _on_blocks,
        ((32, 32), (40, 40), (1280, 64)),
        source="Van Loan, The ubiquitous Kronecker product, 2000",
    ),
    Expression(
        "(A ⊗ B)(C ⊗ D) x",
        lambda a, b, c, d, x: torch.kron(a, b) @ torch.kron(c, d) @ x,
        lambda a, b, c, d, x: (
            a @ (b @ (c @ (d @ x.view(24, 24, 64)).view(24, -1)).view(24, 24, 64)).view(24, -1)
        ).view(576, 64),
        (*((24, 24),) * 4, (576, 64)),
        source="Van Loan, The ubiquitous Kronecker product, 2000",
    ),
    Expression(
        "a product by broadcasting and a sum",
        lambda a, b: (a[:, :, None] * b[None]).sum(1),
        lambda a, b: a @ b,
        ((192, 192), (192, 192)),
        einsum="ik,kj->ij",
    ),
    Expression(
        "weighted Gram matrix, a term a row",
        lambda x, w: (w[:, None, None] * (x[:, :, None] * x[:, None, :])).sum(0),
        lambda x, w: (x * w[:, None]).t() @ x,
        ((1000, 64), (1000,)),
        einsum="b,bi,bj->ij",
    ),
    Expression(
        "D A D with diagonals as matrices",
        lambda d, a: torch.diag(d) @ a @ torch.diag(d),
        lambda d, a: d[:, None] * a * d,
        ((N,), (N, N)),
        source="Kipf and Welling, GCN, 2017",
    ),
    Expression(
        "covariance by outer products",
        lambda x, y: torch.einsum("bi,bj->bij", x, y).mean(0),
        lambda x, y: x.t() @ y / len(x),
        ((500, 96), (500, 96)),
    ),
    Expression(
        "sums of outer products",
        lambda x, y: torch.einsum("bi,bj->bij", x, y).sum((1, 2)),
        lambda x, y: x.sum(1) * y.sum(1),
        ((4000, 64), (4000, 64)),
        einsum="bi,bj->b",
    ),
    Expression(
        "cosine of all pairs, summed over one",
        lambda a, b: (a @ b.t()).sum(1),
        lambda a, b: a @ b.sum(0),
        ((4000, 128), (4000, 128)),
        einsum="ik,jk->i",
    ),
)
