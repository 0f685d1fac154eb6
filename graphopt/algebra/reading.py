"""Which polynomial of its operands a node computes."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import torch

from graphopt.algebra.convolutions import CONVOLUTIONS
from graphopt.algebra.equality import resolved
from graphopt.algebra.fingerprint import is_told
from graphopt.algebra.gathers import GATHERS
from graphopt.algebra.operators import READERS, Known, Operands
from graphopt.algebra.polynomial import (
    NoPolynomial,
    Polynomial,
)
from graphopt.algebra.views import parts_of, rearranged
from graphopt.analysis.memory import reads_memory
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.laws import Form, is_number, kind_of, laws_of
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of, shape_of, tensor_of
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.resolve import called
from graphopt.ir.types import TensorType

_READERS = READERS | CONVOLUTIONS
_AS_WRITTEN: Mapping[float, Fraction] = {}


def read(node: Node, known: Known, exact: Mapping[float, Fraction] = _AS_WRITTEN) -> Polynomial:
    """The polynomial that a node's only result is of those of its operands, as `read_all` has it."""
    found = read_all(node, known, exact)
    if len(found) != 1:
        raise NoPolynomial
    return found[0]


def read_all(
    node: Node, known: Known, exact: Mapping[float, Fraction] = _AS_WRITTEN
) -> tuple[Polynomial, ...]:
    """The polynomial of each result of a node, of those of its operands, all tensors of one floating dtype;
    of others, where it only rearranges or copies elements.
    `exact`: the fractions that its literals are the nearest numbers to, where they stand for others.
    Raises NoPolynomial."""
    is_pure = effect_of(node) is Effect.NONE or node.op in GATHERS
    if not node.results or node.regions or not is_pure or reads_memory(node):
        raise NoPolynomial  # a sub-graph that is run may leave a mode behind
    result = node.results[0].type
    for kind in (value.type for value in (*node.results, *node.operands)):
        if not isinstance(kind, TensorType) or not kind.is_static or 0 in kind.shape:
            raise NoPolynomial
        if not isinstance(result, TensorType) or kind.dtype.is_complex:
            raise NoPolynomial
        if kind.dtype != result.dtype and (node.op not in GATHERS or kind.dtype.is_floating_point):
            raise NoPolynomial
    found = _parts(node, known) if node.many else (_polynomial(node, known, exact),)
    if [p.shape for p in found] != [shape_of(value) for value in node.results]:
        raise NoPolynomial  # with numbers for symbols, some of which no call has together
    if not all(is_told(term.coefficient) for p in found for term in p.terms):
        raise NoPolynomial  # 1 / (2³¹ − 19) is nothing in a field of so many elements
    return found


def _polynomial(node: Node, known: Known, exact: Mapping[float, Fraction]) -> Polynomial:
    operands = Operands(operands_of(node), known, exact, node.results[0])
    copied = _copied(node, operands)
    if copied is not None:
        return copied
    namespace, _, name = node.op.partition(".")
    reader = _READERS.get(name.partition(".")[0]) if namespace == "aten" else None
    reader = GATHERS.get(node.op, reader)
    if reader is not None and tensor_of(node.results[0]) is None:
        raise NoPolynomial  # integers wrap around, the sum of booleans is "or"
    if reader is not None:
        try:
            return resolved(reader(operands))
        except IndexError as error:  # to torch, a tensor without dimensions has one
            raise NoPolynomial from error
    if lookup(node.op).alias is Alias.FRESH:
        raise NoPolynomial
    return resolved(_shown(node, known))


def _copied(node: Node, operands: Operands) -> Polynomial | None:
    """The operand that a node gives back; None where it gives back none."""
    for law in laws_of(node.op, Form.COPY):
        if law.conditions:
            continue
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
    if node.many:
        raise NoPolynomial
    p, run = _only(node, known)
    try:
        return rearranged(p, run)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise NoPolynomial from error


def _parts(node: Node, known: Known) -> tuple[Polynomial, ...]:
    """What an operator that takes its only tensor apart makes of it, or one that spreads several."""
    if node.op == "aten.broadcast_tensors.default":
        shape = shape_of(node.results[0])
        each = operands_of(node)["tensors"]
        assert isinstance(each, Items)
        values = [value for value in each.items if isinstance(value, Value)]
        return tuple(resolved(rearranged(known(value), lambda t: t.expand(shape))) for value in values)
    p, run = _only(node, known)
    try:
        return tuple(map(resolved, parts_of(p, run)))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise NoPolynomial from error


def _only(node: Node, known: Known) -> tuple[Polynomial, Callable[[torch.Tensor], Any]]:
    """The first tensor among a node's operands, and the node as a function of it, whatever elements of
    others are."""
    if not node.operands:
        raise NoPolynomial
    first, *others = dict.fromkeys(node.operands)
    if others and lookup(node.op).alias is not Alias.VIEW:
        raise NoPolynomial

    def run(operand: torch.Tensor) -> Any:
        def of(arg: Arg) -> object:
            if isinstance(arg, Value):
                return operand if arg == first else torch.empty(shape_of(arg), device="meta")
            return arg.value if isinstance(arg, Lit) else arg

        return called(node, of)

    return known(first), run
