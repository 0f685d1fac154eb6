"""Size expressions: sympy over integer symbols, and nothing that Python would run."""

import ast
from typing import Any

import sympy

from graphopt.errors import InvalidGraph

_FUNCTIONS: dict[str, Any] = {
    "floor": sympy.floor,
    "ceiling": sympy.ceiling,
    "Mod": sympy.Mod,
    "Max": sympy.Max,
    "Min": sympy.Min,
}


def parse_expression(text: str) -> Any:
    """A sympy expression over integer symbols. Only arithmetic and named functions are accepted, and
    nothing is evaluated as Python. Raises InvalidGraph."""
    try:
        return _sympy(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError) as error:
        raise InvalidGraph(f"{text!r} is no size expression: {error}") from error


def _sympy(node: ast.AST) -> Any:
    match node:
        case ast.Constant(value=int() as value):
            return sympy.Integer(value)
        case ast.Constant(value=float() as value):
            return sympy.Float(value)
        case ast.Name(id=name):
            return sympy.Symbol(name, integer=True)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_sympy(operand)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _sympy(left), _sympy(right)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
                case ast.Pow():
                    return a**b
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return _FUNCTIONS.get(name, sympy.Function(name))(*map(_sympy, args))
    raise ValueError(f"{type(node).__name__} is not allowed")
