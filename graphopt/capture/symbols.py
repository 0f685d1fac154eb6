"""Sizes that stay symbolic: torch's expressions as sympy's own, under names that depend on nothing else."""

from typing import Any

import sympy

_PLAIN_FUNCTIONS = {
    "FloorDiv": lambda a, b: sympy.floor(a / b),
    "CleanDiv": lambda a, b: sympy.floor(a / b),
    "CeilDiv": lambda a, b: sympy.ceiling(a / b),
    "Mod": sympy.Mod,
    "PythonMod": sympy.Mod,
    "Max": sympy.Max,
    "Min": sympy.Min,
}


class Symbols:
    """Names the symbols of one program in order of appearance: s0, s1, ... for sizes of the inputs, and
    u0, u1, ... for numbers that are known inside the graph only. Torch's own names count on."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def plain(self, expr: Any) -> Any:
        """A torch symbolic expression in sympy's own functions, over integer symbols."""
        if expr.is_Symbol:
            return sympy.Symbol(self._name(str(expr)), integer=True)
        if not expr.args:
            return expr
        args = [self.plain(arg) for arg in expr.args]
        name = type(expr).__name__
        if name in _PLAIN_FUNCTIONS:
            return _PLAIN_FUNCTIONS[name](*args)
        if type(expr).__module__.startswith("torch"):
            return sympy.Function(name)(*args)
        return expr.func(*args)

    def _name(self, torchs: str) -> str:
        if torchs not in self._names:
            kind = torchs.rstrip("0123456789")
            count = sum(1 for name in self._names if name.rstrip("0123456789") == kind)
            self._names[torchs] = f"{kind}{count}"
        return self._names[torchs]
