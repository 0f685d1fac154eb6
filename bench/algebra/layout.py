"""Matrices with few columns, which some libraries multiply slowly."""

import torch

from bench.algebra.expression import Expression

N = 2000
_A = (N, N)


def _turned(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (x.t() @ a.t()).t()


CATALOGUE = (
    Expression(
        "A X with 2 columns",
        lambda a, x: torch.relu(a @ x),
        lambda a, x: torch.relu(_turned(a, x)),
        (_A, (N, 2)),
    ),
    Expression(
        "A X with 4 columns",
        lambda a, x: torch.relu(a @ x),
        lambda a, x: torch.relu(_turned(a, x)),
        (_A, (N, 4)),
    ),
    Expression(
        "A X with 8 columns",
        lambda a, x: torch.relu(a @ x),
        lambda a, x: torch.relu(_turned(a, x)),
        (_A, (N, 8)),
    ),
    Expression(
        "A B X with 3 columns",
        lambda a, b, x: a @ b @ x,
        lambda a, b, x: _turned(a, _turned(b, x)).contiguous(),
        ((N // 2, N // 2),) * 2 + ((N // 2, 3),),
    ),
)
