"""Euclidean norms: no polynomials, but their squares are.

‖A B‖² = Σᵢⱼ Σₖₗ A[i, k] · B[k, j] · A[i, l] · B[l, j]
"""

from collections.abc import Iterator, Mapping

import torch

from graphopt.algebra.operators import Known, Operands, summed
from graphopt.algebra.polynomial import MAX_FACTORS, NoPolynomial, Polynomial, Term, times
from graphopt.ir.graph import Arg, Node
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of, tensor_of
from graphopt.ir.ops import Effect, effect_of

_NORMS = frozenset(("linalg_vector_norm", "linalg_matrix_norm", "linalg_norm", "frobenius_norm", "norm"))
_ORDERS = frozenset(("ord", "p"))
_WIDE = torch.float32, torch.float64
"""Of narrower ones, squares may overflow that norms do not make."""


def is_norm(node: Node) -> bool:
    """Whether its only result is the root of a sum of squares."""
    name = node.op.removeprefix("aten.").partition(".")[0]
    if name not in _NORMS or node.many or effect_of(node) is not Effect.NONE:
        return False
    given = operands_of(node)
    kinds = [tensor_of(value) for value in (*node.results, *node.operands)]
    if any(k is None or not k.is_static or 0 in k.shape or k.dtype not in _WIDE for k in kinds):
        return False
    if len({kind.dtype for kind in kinds if kind is not None}) > 1 or "dtype" in given:
        return False
    order = next((arg for parameter, arg in given.items() if parameter in _ORDERS), Lit("fro"))
    if order == Lit("fro"):
        return True
    # Of a matrix, linalg_norm and linalg_matrix_norm make the largest singular value of an order of 2.
    dims = given.get("dim")
    along_one = name == "linalg_norm" and dims is not None and len(getattr(dims, "items", (dims,))) == 1
    return order in (Lit(2), Lit(2.0)) and (name in ("linalg_vector_norm", "norm") or along_one)


def square_of(node: Node, known: Known) -> Polynomial:
    """The square of a norm. Raises NoPolynomial."""
    given = operands_of(node)
    of = next(name for name in ("self", "A", "x") if name in given)
    own: dict[str, Arg] = {name: given[name] for name in ("dim", "keepdim") if name in given}
    if node.op.startswith("aten.linalg_matrix_norm."):
        own.setdefault("dim", Items("list", (Lit(-2), Lit(-1))))
    own["self"] = given[of]
    operands = Operands(own, known, {}, node.results[0])
    p = operands.tensor("self")
    return summed(times(p, p), operands)


def with_squares(p: Polynomial, squares: Mapping[str, Polynomial]) -> Polynomial:
    """A polynomial where a norm that is multiplied by itself is the polynomial that it is the root of."""
    if not any(factor.leaf.name in squares for term in p.terms for factor in term.factors):
        return p
    return Polynomial(p.dims, tuple(one for term in p.terms for one in _with_squares(term, squares)))


def _with_squares(term: Term, squares: Mapping[str, Polynomial]) -> Iterator[Term]:
    for place, factor in enumerate(term.factors):
        if factor.leaf.name not in squares or factor not in term.factors[place + 1 :]:
            continue
        square = squares[factor.leaf.name].apart()
        if any(len(dim) > 1 for dim in square.dims):
            continue
        rest = [*term.factors]
        rest.remove(factor)
        rest.remove(factor)
        at = {dim[0]: access for dim, access in zip(square.dims, factor.accesses, strict=True) if dim}
        for one in square.terms:
            factors = (*rest, *one.with_(at).factors)
            if len(factors) > MAX_FACTORS:
                raise NoPolynomial
            yield from _with_squares(Term(term.coefficient * one.coefficient, factors), squares)
        return
    yield term
