"""Products of polynomials over named dimensions, as einsum has them."""

from collections.abc import Sequence
from functools import partial, reduce

import torch

from graphopt.algebra.families import united
from graphopt.algebra.polynomial import MAX_TERMS, NoPolynomial, Polynomial, times
from graphopt.algebra.views import rearranged

Labels = Sequence[str]


def contracted(operands: Sequence[Polynomial], labels: Sequence[Labels], out: Labels) -> Polynomial:
    """Σ Π operands, summed over the labels that are not in `out`. A label for each dimension; what has size 1
    is broadcast. Raises NoPolynomial where dimensions do not fit."""
    bound = sorted({label for one in labels for label in one} - set(out))
    order = [*out, *bound]
    few = (united(p) if len(p.terms) > MAX_TERMS else p for p in operands)
    arranged = [_arranged(p, list(names), order) for p, names in zip(few, labels, strict=True)]
    return reduce(times, arranged).summed(range(len(out), len(order)))


def _arranged(p: Polynomial, names: list[str], order: Labels) -> Polynomial:
    """With a dimension for each label in order; of size 1 where it has none. A label that stands twice is
    the diagonal."""
    if len(names) != len(p.dims):
        raise NoPolynomial
    for label in dict.fromkeys(names):
        while names.count(label) > 1:
            first = names.index(label)
            second = names.index(label, first + 1)
            names = [*(n for i, n in enumerate(names) if i not in (first, second)), label]
            p = rearranged(p, partial(torch.diagonal, dim1=first, dim2=second))
    dims = tuple(p.dims[names.index(label)] if label in names else () for label in order)
    return Polynomial(dims, p.terms)


def product(a: Polynomial, b: Polynomial) -> Polynomial:
    """The matrix product as torch.matmul has it: vectors as rows and columns, leading dimensions
    broadcast. Raises NoPolynomial for numbers."""
    if not a.dims or not b.dims:
        raise NoPolynomial
    outer = [[f"b{i}" for i in range(len(p.dims) - 2, 0, -1)] for p in (a, b)]
    batch = max(outer, key=len)
    rows, columns = ["i"] * (len(a.dims) > 1), ["j"] * (len(b.dims) > 1)
    return contracted(
        [a, b], [[*outer[0], *rows, "k"], [*outer[1], "k", *columns]], [*batch, *rows, *columns]
    )
