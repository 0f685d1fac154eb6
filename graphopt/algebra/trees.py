"""Which two of several tensors are multiplied first: the cheapest order, by sizes alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from graphopt.algebra.polynomial import Index

Tree: TypeAlias = "int | tuple[Tree, Tree]"
"""An order: the number of an operand, or two that are multiplied."""


class Partial(NamedTuple):
    """The product of some operands, those whose bits are in the mask; what it takes, and its indices."""

    mask: int
    seconds: float
    tree: Tree
    indices: frozenset[Index]


def cheapest(
    sets: Sequence[frozenset[Index]],
    kept: frozenset[Index],
    step: Callable[[Partial, Partial, frozenset[Index]], float],
    most: int,
) -> Partial | None:
    """The cheapest order for operands over sets of indices: of all subsets that hang together. `step`: what
    it takes to multiply two, over some indices. None beyond so many pairs that are looked at, and where the
    operands do not hang together."""
    apart = batch_of(sets)
    best = {1 << i: Partial(1 << i, 0.0, i, indices) for i, indices in enumerate(sets)}
    by_size: list[list[int]] = [[], [*best]]
    for size in range(2, len(sets) + 1):
        by_size.append([])
        for a, b in pairs(by_size, size):
            most -= 1
            if most < 0:
                return None
            left, right = best[a], best[b]
            if left.indices & right.indices <= apart:
                continue
            known = best.get(a | b)
            if known is not None:
                out = known.indices
            else:
                by_size[size].append(a | b)
                outside = [s for i, s in enumerate(sets) if not (a | b) >> i & 1]
                out = (left.indices | right.indices) & kept.union(*outside)
            seconds = left.seconds + right.seconds
            if known is None or seconds < known.seconds:
                seconds += step(left, right, out)
                if known is None or seconds < known.seconds:
                    best[a | b] = Partial(a | b, seconds, (left.tree, right.tree), out)
    return best.get((1 << len(sets)) - 1)


def batch_of(sets: Sequence[frozenset[Index]]) -> frozenset[Index]:
    """The indices that all operands have, where these hang together without: in a chain of batches of
    matrices, neighbours alone are worth multiplying."""
    common = frozenset[Index].intersection(*sets)
    rest = [one - common for one in sets]
    met, left = rest[0], rest[1:]
    while near := [one for one in left if one & met]:
        left = [one for one in left if not one & met]
        met = met.union(*near)
    return frozenset() if left else common


def pairs(by_size: Sequence[Sequence[int]], size: int) -> Iterator[tuple[int, int]]:
    """Subsets that have no operand in common, and as many as `size` together."""
    for small in range(1, size // 2 + 1):
        for a in by_size[small]:
            for b in by_size[size - small]:
                if not a & b and (small * 2 < size or a < b):
                    yield a, b
