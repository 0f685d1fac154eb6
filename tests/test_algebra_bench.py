"""The catalogue of bench.algebra: experts compute the same, in an order that no other beats."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.algebra.catalogue import CATALOGUE
from bench.algebra.expression import LAMP, LINNEA, SANKARAN, Expression, Written
from bench.algebra.measuring import _error, _float64, is_found
from bench.algebra.negatives import CATALOGUE as NEGATIVES

ALL = [pytest.param(one, id=f"{idea}: {one.name}") for idea, many in CATALOGUE.items() for one in many]
PRODUCTS = [pytest.param(one, id=one.name) for many in CATALOGUE.values() for one in many if one.einsum]


@pytest.mark.parametrize("expression", ALL)
def test_the_expert_computes_the_same(expression: Expression) -> None:
    with torch.no_grad(), _float64():
        inputs, parameters = expression.tensors(torch.float64)
        prepared = parameters if expression.prepare is None else expression.prepare(*parameters)
        truth = Written(expression, parameters)(*inputs)
        assert _error(expression.expert(*inputs, *prepared), truth) < 1e-9


class Multiplications(TorchDispatchMode):
    """Counts the multiplications of products, from the shapes of operands."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        operands = [arg for arg in args if isinstance(arg, torch.Tensor)]
        result = func(*args, **(kwargs or {}))
        if name in ("mm", "bmm", "mv", "dot", "addmm", "baddbmm"):
            last = operands[-2:]
            self.count += result.numel() * last[0].shape[-1]
        elif name in ("mul", "outer"):
            self.count += result.numel()
        return result


@pytest.mark.parametrize("expression", PRODUCTS)
def test_no_order_of_multiplication_takes_less_than_the_experts(expression: Expression) -> None:
    inputs, parameters = expression.tensors()
    with torch.no_grad(), Multiplications() as counted:
        expression.expert(*inputs, *parameters)
    labels, _, out = expression.einsum.partition("->")
    operands = labels.split(",")
    shapes = [tuple(one.shape) for one in (*inputs, *parameters)]
    sizes = _sizes(operands, shapes)
    assert counted.count <= 1.1 * least(frozenset(enumerate(operands)), out, sizes)


def _sizes(operands: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """Sizes of the labels. The factors come in any order, some twice: so that each is an input, and each
    input a factor."""
    for chosen in product(dict.fromkeys(shapes), repeat=len(operands)):
        sizes: dict[str, int] = {}
        pairs = [*zip(operands, chosen, strict=True)]
        if set(chosen) == set(shapes) and all(len(text) == len(shape) for text, shape in pairs):
            for text, shape in pairs:
                sizes.update(zip(text, shape, strict=True))
            if all(tuple(sizes[label] for label in text) == shape for text, shape in pairs):
                return sizes
    raise AssertionError


def least(operands: frozenset[tuple[int, str]], out: str, sizes: Mapping[str, int]) -> int:
    """The fewest multiplications: all orders are tried; what has no partner is summed first."""
    many = sorted(operands)
    if len(many) == 1:
        return 0
    best: int | None = None
    for i, (number, a) in enumerate(many):
        for other, b in many[i + 1 :]:
            left = operands - {(number, a), (other, b)}
            needed = set(out).union(*(text for _, text in left))
            mine = [c for c in a if c in needed or c in b]
            yours = [c for c in b if c in needed or c in a]
            work = math.prod(sizes[label] for label in {*mine, *yours})
            made = "".join(dict.fromkeys(c for c in (*mine, *yours) if c in needed))
            rest = least(left | {(number, made)}, out, sizes)
            best = work + rest if best is None else min(best, work + rest)
    assert best is not None
    return best


def test_the_best_order_is_found() -> None:
    sizes = {"a": 8, "b": 8, "c": 8, "d": 1}
    assert least(frozenset(enumerate(("ab", "bc", "cd"))), "ad", sizes) == 2 * 8 * 8
    assert least(frozenset(enumerate(("ab", "cd"))), "", sizes) == 1


def test_enough_is_tried_and_cited() -> None:
    expressions = [one for many in CATALOGUE.values() for one in many]
    assert len(expressions) >= 100
    assert sum(one.source.startswith((SANKARAN, LAMP, LINNEA)) for one in expressions) >= 30
    assert len({one.name for one in expressions}) == len(expressions)
    assert len({one.name for one in NEGATIVES}) == len(NEGATIVES) >= 30


def test_found_is_most_of_what_the_expert_gains() -> None:
    assert is_found(100.0, 1.25)
    assert not is_found(100.0, 1.26)
    assert is_found(1.21, 1.1)
    assert not is_found(1.21, 1.11)
