"""Polynomials cut into blocks are, block by block, what they are as a whole."""

from __future__ import annotations

import torch

from graphopt.algebra.cutting import count, cut_of, is_whole_in_blocks
from graphopt.algebra.equality import equalities, resolved
from graphopt.algebra.polynomial import Polynomial, new_index
from tests.algebra.evaluation import evaluated
from tests.algebra.test_reading import captured, integers, polynomial


def in_one(p: Polynomial, values: dict[str, torch.Tensor]) -> torch.Tensor:
    """Evaluated block by block, with a dimension for each free index."""
    cut = cut_of(p)
    if cut is None:
        assert not equalities(p)
        if not p.terms:
            return torch.zeros([index.size for index in p.free], dtype=torch.float64)
        one = new_index(1)  # so that there is one
        return evaluated(Polynomial((*p.dims, (one,)), p.terms), values)[..., 0]
    blocks = [
        in_one(Polynomial(tuple((i,) for i in block.free), block.terms), values).reshape(block.shape)
        for block in cut.blocks(p)
    ]
    return torch.cat(blocks, p.free.index(cut.index))


def test_blocks_are_what_the_whole_is() -> None:
    def program(a: torch.Tensor, b: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        top = torch.cat([a @ b, torch.zeros(3, 2), torch.outer(v, v)[:3, :1]], 1)
        return torch.nn.functional.pad(torch.cat([top, torch.stack([top[0], top[2] * 2])]), (1, 0, 0, 2)) + 3

    args = integers((3, 4), (4, 5), (4,))
    graph = captured(program, args)
    p = resolved(polynomial(graph))
    values = {entry.value.name: arg for entry, arg in zip(graph.inputs, args, strict=True)}
    assert count(p) > 6
    assert torch.equal(in_one(p, values).reshape(p.shape), program(*(arg.double() for arg in args)).double())


def test_a_diagonal_is_in_no_blocks() -> None:
    graph = captured(lambda v: torch.diag(v), integers((4,)))
    assert not is_whole_in_blocks(polynomial(graph))


def test_more_blocks_than_can_be_looked_at_are_none() -> None:
    graph = captured(lambda *rows: torch.stack(rows), integers(*[(4,)] * 70))
    assert not is_whole_in_blocks(polynomial(graph))
