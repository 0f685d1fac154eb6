"""Polynomials by definition: every element a sum of products, in exact integers."""

from collections.abc import Mapping
from fractions import Fraction

import torch

from graphopt.algebra.equality import Equal
from graphopt.algebra.polynomial import Polynomial


def evaluated(p: Polynomial, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The tensor that a polynomial is for integer leaves, by name: float64, exact for small numbers."""
    total = torch.zeros([index.size for index in p.free], dtype=torch.float64)
    for term in p.terms:
        indices = [*p.free, *sorted(p.bound(term))]
        runs = [torch.arange(i.size) for i in indices]
        grids = torch.meshgrid(*runs, indexing="ij") if runs else ()
        grid = dict(zip(indices, grids, strict=True))
        product = torch.ones([i.size for i in indices], dtype=torch.float64)
        for factor in term.factors:
            places = [
                sum((grid[i] * step for i, step in access.steps), torch.tensor(access.start))
                for access in factor.accesses
            ]
            if isinstance(factor, Equal):
                product = product * (places[0] == places[1])
            else:
                value = values[factor.leaf.name].double()
                inside = torch.ones([i.size for i in indices], dtype=torch.bool)
                for place, size in zip(places, value.shape, strict=True):
                    inside = inside & (place >= 0) & (place < size)
                places = [place.clamp(0, size - 1) for place, size in zip(places, value.shape, strict=True)]
                product = product * value[tuple(places)] * inside
        bound = tuple(range(len(p.free), len(indices)))
        total += (product.sum(bound) if bound else product) * float(Fraction(term.coefficient))
    return total.reshape(p.shape)
