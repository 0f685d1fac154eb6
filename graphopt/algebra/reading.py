"""Which polynomial of its operands a node computes."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch

from graphopt.algebra.equality import resolved
from graphopt.algebra.fingerprint import is_told
from graphopt.algebra.operators import GATHERS, READERS, Known, Operands
from graphopt.algebra.polynomial import (
    NoPolynomial,
    Polynomial,
)
from graphopt.algebra.views import rearranged
from graphopt.analysis.memory import reads_memory
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.laws import Form, is_number, kind_of, laws_of
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of, shape_of, tensor_of
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.resolve import called
from graphopt.ir.types import TensorType

_AS_WRITTEN: Mapping[float, Fraction] = {}


def read(node: Node, known: Known, exact: Mapping[float, Fraction] = _AS_WRITTEN) -> Polynomial:
    """The polynomial that a node computes of those of its operands, all tensors of one floating dtype; of
    others, where it only rearranges or copies elements.
    `exact`: the fractions that its literals are the nearest numbers to, where they stand for others.
    Raises NoPolynomial."""
    is_pure = effect_of(node) is Effect.NONE or node.op in GATHERS
    if len(node.results) != 1 or not is_pure or reads_memory(node):
        raise NoPolynomial
    result = node.results[0].type
    for kind in (result, *(value.type for value in node.operands)):
        if not isinstance(kind, TensorType) or not kind.is_static or 0 in kind.shape:
            raise NoPolynomial
        if not isinstance(result, TensorType) or kind.dtype.is_complex:
            raise NoPolynomial
        if kind.dtype != result.dtype and (node.op not in GATHERS or kind.dtype.is_floating_point):
            raise NoPolynomial
    found = _polynomial(node, known, exact)
    if not all(is_told(term.coefficient) for term in found.terms):
        raise NoPolynomial  # 1 / (2³¹ − 19) is nothing in a field of so many elements
    return found


def _polynomial(node: Node, known: Known, exact: Mapping[float, Fraction]) -> Polynomial:
    operands = Operands(operands_of(node), known, exact, node.results[0])
    copied = _copied(node, operands)
    if copied is not None:
        return copied
    namespace, _, name = node.op.partition(".")
    reader = READERS.get(name.partition(".")[0]) if namespace == "aten" else None
    reader = GATHERS.get(node.op, reader)
    if reader is not None and tensor_of(node.results[0]) is None:
        raise NoPolynomial  # integers wrap around, the sum of booleans is "or"
    if reader is not None:
        return resolved(reader(operands))
    if lookup(node.op).alias is Alias.FRESH:
        raise NoPolynomial
    return resolved(_shown(node, known))


def _copied(node: Node, operands: Operands) -> Polynomial | None:
    """The operand that a node gives back; None where it gives back none."""
    for law in laws_of(node.op, Form.COPY):
        value, literals = operands.given.get(law.operands[0]), dict(law.literals)
        kind = tensor_of(value) if isinstance(value, Value) else None
        if not isinstance(value, Value) or kind is None or kind_of(kind.dtype) not in tuple(law.kinds):
            continue
        named = all(is_number(operands.given.get(name), wanted) for name, wanted in literals.items())
        if named and set(operands.given) <= {*law.operands, *literals, *law.free}:
            return operands.known(value)
    return None


def _shown(node: Node, known: Known) -> Polynomial:
    """What an operator that rearranges its first tensor makes of it; of others it reads the sizes alone."""

    def run(operand: torch.Tensor) -> Any:
        def of(arg: Arg) -> object:
            if isinstance(arg, Value):
                return operand if arg == first else torch.empty(shape_of(arg), device="meta")
            return arg.value if isinstance(arg, Lit) else arg

        return called(node, of)

    if not node.operands or node.many:
        raise NoPolynomial
    first, *others = dict.fromkeys(node.operands)
    if others and lookup(node.op).alias is not Alias.VIEW:
        raise NoPolynomial
    try:
        return rearranged(known(first), run)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise NoPolynomial from error
