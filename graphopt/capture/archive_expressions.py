"""The two little languages inside a `.pt2`: sizes that sympy evaluates, guards that torch executes.

`torch.export.load` passes size expressions to `sympy.sympify`, which is `eval`;
`ExportedProgram.module` compiles guards with `exec`. Here both are parsed, never evaluated, and
accepted only where every node is on an allow-list.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
from typing import NoReturn

from graphopt.capture.archive_refusal import Refusal

MAX_EXPRESSION = 1 << 16
"""Characters of one expression; real ones have a few hundred."""

MAX_EXPONENT = 64
"""The largest exponent or shift, a literal: with one power inside another refused, the numbers
stay small enough to evaluate at once (`9**9**9` would not end)."""

_MAX_INTEGER = 1 << 64

_OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr),
    *(ast.USub, ast.UAdd, ast.Not, ast.Invert, ast.And, ast.Or),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
_POWERS = (ast.Pow, ast.LShift, ast.RShift)

_SIZE_CONSTANT = re.compile(r"true|false|oo|int_oo|nan|zoo")
_SIZE_POWER = re.compile(r"Pow|PowByNatural|FloatPow|LShift|RShift")
_SIZE_FUNCTION = re.compile(
    r"Integer|Rational|Add|Mul|Max|Min|Abs|Mod|floor|ceiling|And|Or|Not|ITE|Piecewise|ExprCondPair"
    r"|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality|(Strict)?(Less|Greater)Than"
    # torch.utils._sympy.functions
    r"|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv|FloatTrueDiv|PythonMod|ModularIndexing|Where|Identity"
    r"|(Ceil|Floor|Trunc|Round)ToInt|TruncToFloat|ToFloat|RoundDecimal"
    r"|IsNonOverlappingAndDenseIndicator"
    r"|OpaqueUnaryFn_(sqrt|a?(cos|sin|tan)|(cos|sin|tan)h|asinh|exp|log|log2)"
)
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_BARE_SYMBOL = re.compile(r"[a-z]{1,4}[0-9]+")

_GUARD_FUNCTION = re.compile(
    r"abs|max|min|round|int|float|IsNonOverlappingAndDenseIndicator"
    r"|cast_symbool_to_symint_guardless"
    r"|math\.(floor|ceil|trunc|sqrt|isnan|a?(cos|sin|tan)|(cos|sin|tan)h|log2)"
    r"|torch\.(_sym_sqrt|sym_(float|int|ite|max|min|not|sqrt))"
)


def check_size(text: str) -> None:
    """Accepts a size as sympy's `srepr` or `str` writes it; raises `Refusal` on anything else."""
    _Size().visit(_parse(text))


def check_guard(text: str) -> None:
    """Accepts a guard like `L['x'].size()[0] % 2 == 0`; raises `Refusal` on anything else."""
    _Guard().visit(_parse(text))


def check_symbol(name: str) -> None:
    """Accepts the name of a size symbol, such as `s77` or `u0`."""
    if not _SYMBOL.fullmatch(name) or name.startswith("__") or keyword.iskeyword(name):
        raise Refusal(f"{name[:80]!r} is no symbol")
    # torch counts up to the number in `u123`: u999999999999 would never end.
    if re.search(r"[0-9]{7}", name):
        raise Refusal(f"{name!r} has a number out of range")


def check_plain(text: str) -> None:
    """Accepts text that cannot end a string literal: torch pastes it between quotes into code."""
    if not text.isprintable() or set(text) & set("'\"\\"):
        raise Refusal(f"{text[:80]!r} holds a quote, a backslash or a control character")


def _parse(text: str) -> ast.Expression:
    if len(text) > MAX_EXPRESSION:
        raise Refusal(f"an expression of {len(text)} characters; the limit is {MAX_EXPRESSION}")
    # A comment, an escape or a second line would survive into the code that torch builds.
    if not text.isprintable() or set(text) & set('"\\#'):
        raise Refusal(f"{text[:80]!r} holds a character that no expression needs")
    try:
        return ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refusal(f"{text[:80]!r} is no expression") from error


class _Arithmetic(ast.NodeVisitor):
    """Numbers and operators, common to both languages; a node without a method is refused."""

    def __init__(self) -> None:
        self._inside_power = False

    def visit_Expression(self, node: ast.Expression) -> None:
        self.visit(node.body)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, _POWERS):
            self.check_power(node.left, node.right)
        else:
            self._check_operator(node, node.op)
            self.visit(node.left)
            self.visit(node.right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self._check_operator(node, node.op)
        self.visit(node.operand)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for value in node.values:
            self.visit(value)

    def visit_Compare(self, node: ast.Compare) -> None:
        for operator in node.ops:
            self._check_operator(node, operator)
        for value in (node.left, *node.comparators):
            self.visit(value)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        for value in (node.test, node.body, node.orelse):
            self.visit(value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, (int, float)):
            self.refuse(node)
        if isinstance(node.value, int) and abs(node.value) > _MAX_INTEGER:
            raise Refusal("an integer beyond 64 bits")

    def generic_visit(self, node: ast.AST) -> None:
        self.refuse(node)

    def check_power(self, base: ast.expr, exponent: ast.expr) -> None:
        if self._inside_power or not _is_small(exponent):
            raise Refusal(f"a power that is not of the form x ** number up to {MAX_EXPONENT}")
        self._inside_power = True
        self.visit(base)
        self._inside_power = False

    def _check_operator(self, node: ast.AST, operator: ast.AST) -> None:
        if not isinstance(operator, _OPERATORS):
            self.refuse(node)

    def refuse(self, node: ast.AST) -> NoReturn:
        raise Refusal(f"{ast.unparse(node)[:80]!r} is not allowed in an expression")


class _Size(_Arithmetic):
    def visit_Name(self, node: ast.Name) -> None:
        # sympify looks a bare name up in sympy and builtins; torch's own symbols are not there.
        if not _SIZE_CONSTANT.fullmatch(node.id):
            if not _BARE_SYMBOL.fullmatch(node.id):
                self.refuse(node)
            check_symbol(node.id)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func.id if isinstance(node.func, ast.Name) else ""
        if function == "Symbol":
            self._check_symbol(node)
        elif function == "Float":
            if _number(node) is None:
                self.refuse(node)
        elif node.keywords:
            self.refuse(node)
        elif _SIZE_POWER.fullmatch(function) and len(node.args) == 2:
            self.check_power(*node.args)
        elif not _SIZE_FUNCTION.fullmatch(function):
            self.refuse(node)
        else:
            for argument in node.args:
                self.visit(argument)

    def _check_symbol(self, node: ast.Call) -> None:
        match node.args:
            case [ast.Constant(value=str(name))]:
                check_symbol(name)
            case _:
                self.refuse(node)
        for assumption in node.keywords:
            match assumption.value:
                case ast.Constant(value=bool()) if assumption.arg:
                    pass
                case _:
                    self.refuse(node)


class _Guard(_Arithmetic):
    def visit_Name(self, node: ast.Name) -> None:
        if node.id not in ("L", "inf"):
            self.refuse(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._visit_path(node.value)
        match node.slice:
            case ast.Constant(value=str(key)):
                check_plain(key)
            case ast.Constant(value=int()):
                pass
            case _:
                self.refuse(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        match node:
            case ast.Attribute(value=ast.Name(id="math"), attr="inf" | "nan"):
                return
        if node.attr.startswith("_"):
            self.refuse(node)
        self._visit_path(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Attribute(value=path, attr="size" | "stride" | "storage_offset"):
                self._visit_path(path)
            case function if not _GUARD_FUNCTION.fullmatch(ast.unparse(function)):
                self.refuse(node)
        if node.keywords:
            self.refuse(node)
        for argument in node.args:
            self.visit(argument)

    def _visit_path(self, node: ast.expr) -> None:
        """Only what hangs on `L`, the arguments by name, has parts."""
        if not isinstance(node, (ast.Name, ast.Subscript, ast.Attribute, ast.Call)):
            self.refuse(node)
        self.visit(node)


def _is_small(node: ast.expr) -> bool:
    number = _number(node)
    return number is not None and abs(number) <= MAX_EXPONENT


def _number(node: ast.expr) -> float | None:
    """The value of a literal number in Python's or `srepr`'s writing, else None."""
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _number(operand)
            return None if value is None else -value
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int() | float() as value) if abs(value) <= _MAX_INTEGER:
            return float(value)
        case ast.Call(func=ast.Name(id="Integer"), args=[argument], keywords=[]):
            return _number(argument)
        case ast.Call(func=ast.Name(id="Rational"), args=[above, below], keywords=[]):
            over, under = _number(above), _number(below)
            return None if over is None or not under else over / under
        case ast.Call(func=ast.Name(id="Float"), args=[argument], keywords=options):
            if any(_is_small(option.value) is False or not option.arg for option in options):
                return None
            return _float_text(argument)
    return None


def _float_text(node: ast.expr) -> float | None:
    match node:
        case ast.Constant(value=str(text)) if re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", text):
            try:
                value = float(text)
            except ValueError:
                return None
            return value if math.isfinite(value) else None
    return _number(node)
