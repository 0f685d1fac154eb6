"""Sums and means over all positions of a convolution."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, conv1d, conv2d, conv_transpose2d

from bench.algebra.expression import Expression

_X, _W, _B = (8, 64, 56, 56), (64, 64, 3, 3), (64,)


def _valid_sums(x: Tensor, k: int) -> Tensor:
    """The sum under each tap of a k × k kernel that stays inside. → [batch, channels, k, k]"""
    h, w = x.shape[2] - k + 1, x.shape[3] - k + 1
    rows = torch.stack([x[:, :, i : i + h].sum(2) for i in range(k)], 2)
    return torch.stack([rows[..., j : j + w].sum(-1) for j in range(k)], 3)


def _mean_valid(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    k = w.shape[-1]
    positions = (x.shape[2] - k + 1) * (x.shape[3] - k + 1)
    return torch.addmm(b, _valid_sums(x, k).flatten(1), w.flatten(1).t(), alpha=1 / positions)


def _mean_padded(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    whole, first, last = x.sum(2), x[:, :, 0], x[:, :, -1]
    rows = torch.stack([whole - last, whole, whole - first], 2)
    whole, first, last = rows.sum(-1), rows[..., 0], rows[..., -1]
    sums = torch.stack([whole - last, whole, whole - first], 3)
    return torch.addmm(b, sums.flatten(1), w.flatten(1).t(), alpha=1 / (x.shape[2] * x.shape[3]))


def _mean_transposed(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    positions = (2 * x.shape[2]) * (2 * x.shape[3])
    return torch.addmm(b, x.sum((2, 3)), w.sum((2, 3)), alpha=1 / positions)


CATALOGUE = (
    Expression(
        "mean over all positions", lambda x, w, b: conv2d(x, w, b).mean((2, 3)), _mean_valid, (_X,), (_W, _B)
    ),
    Expression(
        "mean over all positions, padded",
        lambda x, w, b: conv2d(x, w, b, padding=1).mean((2, 3)),
        _mean_padded,
        (_X,),
        (_W, _B),
    ),
    Expression(
        "global pooling of a 1 × 1 convolution",
        lambda x, w, b: adaptive_avg_pool2d(conv2d(x, w, b), 1),
        lambda x, w, b: conv2d(x.mean((2, 3), keepdim=True), w, b),
        (_X,),
        ((256, 64, 1, 1), (256,)),
    ),
    Expression(
        "sum over all positions of a 1-D convolution",
        lambda x, w: conv1d(x, w).sum(2),
        lambda x, w: (
            torch.stack([x[:, :, i : 509 + i].sum(2) for i in range(4)], 2).flatten(1) @ w.flatten(1).t()
        ),
        ((16, 64, 512),),
        ((64, 64, 4),),
    ),
    Expression(
        "mean of a transposed convolution",
        lambda x, w, b: conv_transpose2d(x, w, b, stride=2).mean((2, 3)),
        _mean_transposed,
        (_X,),
        ((64, 64, 2, 2), _B),
    ),
    Expression(
        "patches: a convolution that does not overlap, averaged",
        lambda x, w, b: conv2d(x, w, b, stride=8).flatten(2).mean(2),
        lambda x, w, b: torch.addmm(b, x.view(8, 64, 7, 8, 7, 8).mean((2, 4)).flatten(1), w.flatten(1).t()),
        (_X,),
        ((256, 64, 8, 8), (256,)),
    ),
    Expression(
        "a mean of a mean",
        lambda x: avg_pool2d(x, 2).mean((2, 3)),
        lambda x: x.mean((2, 3)),
        ((8, 64, 112, 112),),
    ),
    Expression(
        "two convolutions that add",
        lambda x, w, v: conv2d(x, w, padding=1) + conv2d(x, v, padding=1),
        lambda x, t: conv2d(x, t, padding=1),
        (_X,),
        (_W, _W),
        lambda w, v: (w + v,),
    ),
    Expression(
        "one position of a convolution",
        lambda x, w, b: conv2d(x, w, b)[:, :, 5, 7].clone(),
        lambda x, w, b: torch.addmm(b, x[:, :, 5:8, 7:10].flatten(1), w.flatten(1).t()),
        (_X,),
        (_W, _B),
    ),
    Expression(
        "1 × 1 convolutions in a row",
        lambda x, w, v: conv2d(conv2d(x, w), v),
        lambda x, t: conv2d(x, t),
        (_X,),
        ((256, 64, 1, 1), (64, 256, 1, 1)),
        lambda w, v: ((v.flatten(1) @ w.flatten(1))[:, :, None, None],),
    ),
)
