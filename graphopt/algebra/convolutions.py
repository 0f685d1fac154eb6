"""What convolutions and means over windows compute, as polynomials of their operands.

    y[n, o, p] = Σ_c Σ_k w[o, c, k] · x[n, c, s p + d k − a]        x is 0 outside: a zeros before and after

A transposed convolution whose outputs are s apart is s others, each of which makes every s-th output:

    y[n, o, s q + v] = Σ_c Σ_j w[c, o, k] · x[n, c, q − u]          for all k with d k − a = s u + v
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import torch

from graphopt.algebra.contraction import contracted
from graphopt.algebra.equality import placed
from graphopt.algebra.operators import Operands, Reader
from graphopt.algebra.polynomial import NoPolynomial, Polynomial, plus
from graphopt.algebra.reaches import sampled, windows
from graphopt.algebra.views import rearranged
from graphopt.ir.literal import Lit
from graphopt.ir.operands import shape_of


def _convolution(o: Operands, is_transposed: bool = False) -> Polynomial:
    x, weight = o.tensor("input"), o.tensor("weight")
    rank = len(weight.dims) - 2
    made = _batched(x, rank)
    groups = int(o.number("groups", 1))
    strides, apart = _each(o, "stride", rank, 1), _each(o, "dilation", rank, 1)
    if is_transposed:
        found = _transposed(o, made, weight, groups, list(zip(strides, apart, strict=True)))
    else:
        spans = [d * (k - 1) for d, k in zip(apart, weight.shape[2:], strict=True)]
        pads = _pads(o, spans)
        counts = [
            (n + sum(pad) - span - 1) // s + 1
            for n, pad, span, s in zip(made.shape[2:], pads, spans, strides, strict=True)
        ]
        x, weight = _grouped(made, 1, groups), _grouped(weight, 0, groups)
        for i, (count, length) in enumerate(zip(counts, weight.shape[3:], strict=True)):
            x = windows(x, 3 + i, count, strides[i], length, apart[i], -pads[i][0])
        found = _applied(x, weight, "goc", rank)
    if len(o.tensor("input").dims) < rank + 2:
        found = Polynomial(found.dims[1:], found.terms)
    return _as_made(_with_bias(found, o, rank), o)


def _transposed(
    o: Operands, x: Polynomial, weight: Polynomial, groups: int, by: Sequence[tuple[int, int]]
) -> Polynomial:
    rank = len(by)
    pads, more = _each(o, "padding", rank, 0), _each(o, "output_padding", rank, 0)
    sizes = [
        (n - 1) * s - 2 * pad + d * (k - 1) + out + 1
        for n, k, pad, out, (s, d) in zip(x.shape[2:], weight.shape[2:], pads, more, by, strict=True)
    ]
    x, weight = _grouped(x, 1, groups), _grouped(weight, 0, groups)
    each = [
        [*_shares(s, d, pad, k, size)]
        for (s, d), pad, k, size in zip(by, pads, weight.shape[3:], sizes, strict=True)
    ]
    found = []
    for shares in itertools.product(*each):
        shown, taps = x, weight
        for i, one in enumerate(shares):
            shown = windows(shown, 3 + i, one.count, 1, one.length, one.apart, one.start)
            taps = sampled(taps, 3 + i, one.last, -one.between, one.length)
        made = _applied(shown, taps, "gco", rank)
        for i, (one, size, (s, _)) in enumerate(zip(shares, sizes, by, strict=True)):
            if s > 1:
                made = placed(made, 2 + i, one.first, size, o.result, s)
        found.append(made)
    if not found:
        raise NoPolynomial
    return reduce(plus, found)


@dataclass(frozen=True, slots=True)
class _Share:
    """Every s-th output from `first`, `count` in all: what elements of the kernel contribute, the last of
    them first and `between` each other, and the windows of the input that they meet."""

    first: int
    count: int
    last: int
    between: int
    length: int
    start: int
    apart: int


def _shares(s: int, d: int, pad: int, k: int, size: int) -> Iterator[_Share]:
    for first in range(min(s, size)):
        taps = [tap for tap in range(k) if (d * tap - pad - first) % s == 0]
        if taps:
            behind = (d * taps[-1] - pad - first) // s
            between = s // math.gcd(s, d)
            count = -((first - size) // s)
            yield _Share(first, count, taps[-1], between, len(taps), -behind, d * between // s)


def _applied(x: Polynomial, weight: Polynomial, order: str, rank: int) -> Polynomial:
    """A kernel at all positions. x: [n, g, c, *positions, *kernel]; the result: [n, g·o, *positions]."""
    p, k = [f"p{i}" for i in range(rank)], [f"k{i}" for i in range(rank)]
    found = contracted([x, weight], [["n", "g", "c", *p, *k], [*order, *k]], ["n", "g", "o", *p])
    n, g, o, *positions = found.dims
    return Polynomial((n, (*g, *o), *positions), found.terms)


def _with_bias(found: Polynomial, o: Operands, rank: int) -> Polynomial:
    if "bias" not in o:
        return found
    bias = o.tensor("bias")
    return plus(found, Polynomial((*bias.dims, *[()] * rank), bias.terms))


def _batched(x: Polynomial, rank: int) -> Polynomial:
    """With a dimension for the batch."""
    return x if len(x.dims) == rank + 2 else Polynomial(((), *x.dims), x.terms)


def _grouped(p: Polynomial, dim: int, groups: int) -> Polynomial:
    """With a dimension for the groups before another."""
    if groups == 1:
        return Polynomial((*p.dims[:dim], (), *p.dims[dim:]), p.terms)
    return rearranged(p, lambda operand: torch.unflatten(operand, dim, (groups, -1)))


def _each(o: Operands, name: str, rank: int, default: int) -> list[int]:
    found = o.integers(name) or [default]
    return found * rank if len(found) == 1 else found


def _pads(o: Operands, spans: Sequence[int]) -> list[tuple[int, int]]:
    """The zeros before and after each dimension, where a kernel spans so many elements but one."""
    match o.given.get("padding"):
        case Lit("same"):
            return [(span // 2, span - span // 2) for span in spans]
        case Lit("valid"):
            return [(0, 0)] * len(spans)
    return [(pad, pad) for pad in _each(o, "padding", len(spans), 0)]


def _as_made(p: Polynomial, o: Operands) -> Polynomial:
    """Raises NoPolynomial where it has not the shape of the result."""
    if p.shape != shape_of(o.result):
        raise NoPolynomial
    return p


def _mean_over_windows(rank: int) -> Reader:
    def read(o: Operands) -> Polynomial:
        x = o.tensor("self")
        lengths = _each(o, "kernel_size", rank, 1)
        strides = _each(o, "stride", rank, 1) if o.integers("stride") else lengths
        pads = _each(o, "padding", rank, 0)
        if any(pads) and o.given.get("count_include_pad", Lit(True)) != Lit(True):
            raise NoPolynomial  # at the edges it is a mean of fewer
        first = len(x.dims) - rank
        for i, (length, step, pad) in enumerate(zip(lengths, strides, pads, strict=True)):
            count = shape_of(o.result)[first + i]
            if (count - 1) * step + length > x.shape[first + i] + 2 * pad:
                raise NoPolynomial  # the last window is a mean of fewer
            x = windows(x, first + i, count, step, length, 1, -pad)
        found = x.summed(range(len(x.dims) - rank, len(x.dims)))
        by = o.number("divisor_override") if "divisor_override" in o else Fraction(math.prod(lengths))
        if not by:
            raise NoPolynomial
        return _as_made(found.scaled(1 / by), o)

    return read


def _mean_over_parts(rank: int) -> Reader:
    """Into so many parts, where they are equal."""

    def read(o: Operands) -> Polynomial:
        x = o.tensor("self")
        first = len(x.dims) - rank
        by = 1
        for i, count in enumerate(shape_of(o.result)[first:]):
            length, over = divmod(x.shape[first + i], count)
            if over:
                raise NoPolynomial
            x, by = windows(x, first + i, count, length, length, 1), by * length
        return _as_made(x.summed(range(len(x.dims) - rank, len(x.dims))).scaled(Fraction(1, by)), o)

    return read


def _patches(o: Operands) -> Polynomial:
    """Windows as columns: [n, channels · kernel, positions]."""
    x = _batched(o.tensor("self"), 2)
    lengths, strides, apart, pads = (
        _each(o, name, 2, 1) for name in ("kernel_size", "stride", "dilation", "padding")
    )
    for i, (length, step, d, pad) in enumerate(zip(lengths, strides, apart, pads, strict=True)):
        count = (x.shape[2 + i] + 2 * pad - d * (length - 1) - 1) // step + 1
        x = windows(x, 2 + i, count, step, length, d, -pad)
    n, c, *rest = x.dims
    dims = (n, (*c, *rest[2], *rest[3]), (*rest[0], *rest[1]))
    return _as_made(Polynomial(dims if len(o.tensor("self").dims) == 4 else dims[1:], x.terms), o)


CONVOLUTIONS: dict[str, Reader] = {
    **{f"conv{rank}d": _convolution for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": lambda o: _convolution(o, True) for rank in (1, 2, 3)},
    **{f"avg_pool{rank}d": _mean_over_windows(rank) for rank in (1, 2, 3)},
    **{f"adaptive_avg_pool{rank}d": _mean_over_parts(rank) for rank in (1, 2, 3)},
    "_adaptive_avg_pool2d": _mean_over_parts(2),
    "im2col": _patches,
}
"""By the operator's name, whatever the overload."""
