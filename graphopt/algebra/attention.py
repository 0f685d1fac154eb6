"""Attention as what it is made of: a product, a softmax of its rows, and a product."""

import math
from collections.abc import Mapping

import torch

from graphopt.algebra.spelling import NotSpelled, laid_as, tensor
from graphopt.builder import Builder
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of, shape_of, type_of

_WIDE = torch.float32, torch.float64
"""Attention of narrower numbers is computed in wider ones inside, and would round after each product."""


def has_few_queries(node: Node) -> bool:
    """Whether keys and values might not be worth projecting: fewer queries than keys, or one head."""
    given = operands_of(node)
    query, key = (shape_of(tensor(given.get(name))) for name in ("query", "key"))
    one_head = len(query) < 4 or query[-3] == 1
    return one_head or query[-2] < key[-2]


def attention(node: Node, build: Builder) -> tuple[Value]:
    """softmax(scale · q kᵀ + mask) v, a row of which is zero where its mask is −inf throughout: so torch's
    kernels have it, and `_safe_softmax`."""
    given = operands_of(node)
    query, key, value = (tensor(given.get(name)) for name in ("query", "key", "value"))
    result = type_of(node.results[0])
    if result.dtype not in _WIDE:
        raise NotSpelled("it is computed in wider numbers")
    if given.get("dropout_p", Lit(0.0)) != Lit(0.0):
        raise NotSpelled("it drops some at random")
    if given.get("enable_gqa", Lit(False)) != Lit(False):
        count = shape_of(query)[-3]
        key, value = _for_each(key, count, build), _for_each(value, count, build)
    query = build("aten.mul.Scalar", query, _scale(given.get("scale"), shape_of(query)[-1]))
    scores = build("aten.matmul.default", query, build("aten.transpose.int", key, -2, -1))
    hidden = _hidden(given, scores, build)
    if hidden is not None:
        scores = build("aten.add.Tensor", scores, hidden)
    share = build("aten._safe_softmax.default", scores, -1)
    return (laid_as(build("aten.matmul.default", share, value), result, build),)


def _scale(given: "Arg | None", width: int) -> float:
    match given:
        case None:
            return 1 / math.sqrt(width)
        case Lit(int() | float() as scale) if math.isfinite(scale):
            return float(scale)
        case _:
            raise NotSpelled("its scale is no number")


def _for_each(shared: Value, count: int, build: Builder) -> Value:
    """Keys or values of some heads, for as many heads as the queries have."""
    *outer, heads, rows, width = shape_of(shared)
    wide = build("aten.unsqueeze.default", shared, -3)
    wide = build("aten.expand.default", wide, [*outer, heads, count // heads, rows, width])
    return build("aten.reshape.default", wide, [*outer, count, rows, width])


def _hidden(given: Mapping[str, Arg], scores: Value, build: Builder) -> Value | None:
    """−inf where a query must not look, as what is added to the scores; None where it may everywhere."""
    mask, kind = given.get("attn_mask"), type_of(scores)
    causal = given.get("is_causal", Lit(False)) != Lit(False)
    if causal and mask is not None:
        raise NotSpelled("torch takes one mask only")
    if causal:
        shape = list(shape_of(scores)[-2:])
        ones = build("aten.ones.default", shape, dtype=torch.bool, device=kind.device)
        return _minus_infinity(build("aten.triu.default", ones, 1), kind.dtype, build)
    if mask is None:
        return None
    seen = type_of(tensor(mask))
    if seen.dtype == torch.bool:
        return _minus_infinity(build("aten.logical_not.default", mask), kind.dtype, build)
    if seen.dtype != kind.dtype:
        raise NotSpelled("its mask has another dtype")
    return tensor(mask)


def _minus_infinity(where: Value, dtype: torch.dtype, build: Builder) -> Value:
    zeros = build("aten.zeros.default", shape_of(where), dtype=dtype, device=type_of(where).device)
    return build("aten.masked_fill.Scalar", zeros, where, -math.inf)
