"""Operators that only rearrange elements: each element of the result is the very one that torch shows."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from graphopt.algebra.polynomial import NoPolynomial, Polynomial, leaf
from graphopt.algebra.views import rearranged
from graphopt.ir.graph import Value
from graphopt.ir.types import TensorType
from tests.algebra.evaluation import evaluated

View = Callable[[Tensor], Tensor]


def _split(size: int, rng: random.Random) -> list[int]:
    factors = [n for n in range(2, size) if size % n == 0]
    return [size] if not factors else [(n := rng.choice(factors)), size // n]


def _view(shape: tuple[int, ...], rng: random.Random) -> View:
    """Some operator that rearranges."""
    dim = rng.randrange(len(shape))
    pairs = [(i, j) for i in range(len(shape)) for j in range(i) if shape[i] == shape[j]]
    start, step = rng.randrange(shape[dim]), rng.choice((1, 1, 2, 3))
    order = rng.sample(range(len(shape)), len(shape))
    ways: list[View] = [
        lambda t: t.permute(order),
        lambda t: t.unflatten(dim, _split(shape[dim], rng)),
        lambda t: t[(slice(None),) * dim + (slice(start, None, step),)],
        lambda t: t.unsqueeze(dim).expand(*shape[:dim], 2, *shape[dim:]),
        lambda t: t.flatten() if rng.random() < 0.5 else t.flatten(0, min(1, len(shape) - 1)),
    ]
    if pairs:
        ways += [lambda t: t.diagonal(0, *rng.choice(pairs))] * 3
    if len(shape) > 1:
        ways.append(lambda t: t.select(dim, start))
    return rng.choice(ways)


@pytest.mark.parametrize("seed", range(8))
def test_each_element_is_the_one_that_torch_shows(seed: int) -> None:
    rng, known = random.Random(seed), 0
    for _ in range(40):
        shape = rng.choice([(4, 4), (6, 6), (4, 6), (2, 3, 6), (3, 4, 12), (8, 8), (12,), (2, 2, 4)])
        kind = TensorType(torch.float32, shape, torch.empty(shape).stride(), torch.device("cpu"))
        p: Polynomial = leaf(Value("a", kind), shape)
        a = shown = torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)
        for _ in range(5):
            if not shown.dim() or shown.numel() > 2000:
                break
            state, view = rng.getstate(), _view(tuple(shown.shape), rng)
            drawn = rng.getstate()

            def run(operand: Tensor, view: View = view, drawn: object = drawn) -> Tensor:
                rng.setstate(drawn)  # type: ignore[arg-type]
                return view(operand)

            try:
                p = rearranged(p, run)
            except (NoPolynomial, RuntimeError):
                rng.setstate(state)
                rng.random()
                continue
            shown = run(shown).contiguous()
            assert torch.equal(evaluated(p, {"a": a}), shown.double())
            known += 1
    assert known > 60


def test_a_diagonal_runs_through_all_that_its_two_dimensions_are_made_of() -> None:
    kind = TensorType(torch.float32, (2, 3, 2, 3), (18, 6, 3, 1), torch.device("cpu"))
    p = leaf(Value("a", kind), (2, 3, 2, 3))
    p = rearranged(rearranged(p, lambda t: t.flatten(2)), lambda t: t.flatten(0, 1))
    a = torch.arange(36.0).reshape(2, 3, 2, 3)
    found = rearranged(p, lambda t: t.diagonal())
    assert torch.equal(evaluated(found, {"a": a}), a.reshape(6, 6).diagonal().double())
    with pytest.raises(NoPolynomial):
        rearranged(p, lambda t: t.diagonal(1))
