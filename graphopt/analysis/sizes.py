"""Numbers for symbolic sizes."""

import math
from collections.abc import Mapping

import sympy

from graphopt.ir.graph import Value
from graphopt.ir.types import Dim, TensorType


class Sizes:
    """What a size is where its symbols are as in `known`, by name; a symbol that is not there is 1."""

    def __init__(self, known: Mapping[str, int] | None = None) -> None:
        self._known = dict(known or {})
        self._found: dict[sympy.Expr, int] = {}

    def number(self, dim: Dim) -> int:
        """The size; never negative, and 1 where the known numbers give none."""
        if isinstance(dim, int):
            return dim
        if dim not in self._found:
            values = {symbol: self._known.get(str(symbol), 1) for symbol in dim.free_symbols}
            number = dim.subs(values)
            self._found[dim] = max(int(number), 0) if number.is_number and number.is_finite else 1
        return self._found[dim]

    def shape(self, value: Value) -> tuple[int, ...]:
        """The shape of a tensor."""
        assert isinstance(value.type, TensorType)
        return tuple(map(self.number, value.type.shape))

    def elements(self, value: Value) -> int:
        """How many elements a tensor has."""
        return math.prod(self.shape(value))

    def bytes(self, value: Value) -> int:
        """How many bytes the elements of a tensor take; 0 for a number."""
        return self.elements(value) * value.type.dtype.itemsize if isinstance(value.type, TensorType) else 0
