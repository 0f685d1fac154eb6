"""The mutants: each refusal of a file removed, each condition flipped, one at a time."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).parent.parent.parent
FILES = (
    *sorted(path for path in (ROOT / "passes").glob("*.py") if path.name != "__init__.py"),
    *(ROOT / "graphopt" / name for name in (
        "affine/applying.py", "affine/channelwise.py", "affine/finding.py", "affine/forms.py",
        "affine/maps.py", "affine/operands.py", "affine/weights.py", "algebra/attention.py",
        "algebra/certificate.py", "algebra/choices.py", "algebra/contraction.py",
        "algebra/convolutions.py", "algebra/equality.py", "algebra/expansions.py",
        "algebra/fingerprint.py", "algebra/functions.py", "algebra/gathers.py", "algebra/generality.py",
        "algebra/improving.py", "algebra/layout.py", "algebra/narrowing.py", "algebra/norms.py",
        "algebra/operators.py", "algebra/polynomial.py", "algebra/reaches.py", "algebra/reading.py",
        "algebra/refusing.py", "algebra/regions.py", "algebra/stages.py", "algebra/views.py",
        "analysis/dependence.py", "analysis/filled.py", "analysis/geometry.py",
        "analysis/gradients.py", "analysis/intervals.py", "analysis/lawful.py", "analysis/memory.py",
        "analysis/objects.py", "analysis/range_facts.py", "analysis/ranges.py",
        "analysis/substitution.py", "builder.py", "draft.py", "ir/laws.py", "ir/ops.py",
        "ir/regions.py", "kernels.py", "rules.py", "steps.py",
    )),
)  # fmt: skip
"""Of the algebra those that read, prove, and do what no proof covers. What searches, prices and emits is left
out: a proof judges what it makes."""

_FLIPPED: dict[type, type] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE,
    ast.LtE: ast.Gt, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_CHANGED = (ast.If, ast.IfExp, ast.While, ast.comprehension, ast.BoolOp, ast.Compare, ast.Return, ast.Call)


@dataclass(frozen=True)
class Mutant:
    """One change: where, the lines that evaluate it, what it was, and the whole file with it, compiled."""

    file: Path
    lines: range
    change: str
    code: CodeType = field(repr=False)

    @property
    def module(self) -> str:
        """The name that the file is imported by."""
        return ".".join(self.file.relative_to(ROOT).with_suffix("").parts)

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.lines.start}: {self.change}"


def mutants(file: Path, text: str) -> Iterator[Mutant]:
    """Every mutant of a file, in order of place."""
    tree = ast.parse(text)
    for position, original in enumerate(ast.walk(tree)):
        for number in range(8 if isinstance(original, _CHANGED) else 0):
            changed = ast.parse(text)
            node = next(node for i, node in enumerate(ast.walk(changed)) if i == position)
            described = _mutate(node, number)
            if described is None:
                break
            code = compile(ast.fix_missing_locations(changed), str(file), "exec")
            yield Mutant(file, _lines(original), described, code)


def _lines(node: ast.AST) -> range:
    """The lines that run where what is changed in a node is evaluated."""
    evaluated = node.test if isinstance(node, ast.If | ast.While) else node
    places = [part for part in ast.walk(evaluated) if isinstance(part, ast.expr | ast.stmt)]
    return range(min(p.lineno for p in places), max(p.end_lineno or p.lineno for p in places) + 1)


def _mutate(node: ast.AST, number: int) -> str | None:
    """Makes the change of a number to a node, in place, and describes it; None where there is none."""
    match node:
        case ast.If() | ast.IfExp() | ast.While() if number == 0:
            was = ast.unparse(node.test)
            node.test = ast.UnaryOp(ast.Not(), node.test)
            return f"if not ({was})"
        case ast.comprehension() if number < len(node.ifs):
            was = ast.unparse(node.ifs[number])
            node.ifs[number] = _without(node.ifs[number], ast.Constant(True))
            return f"in a comprehension, without: if {was}"
        case ast.BoolOp() if number < len(node.values):
            was, gone = ast.unparse(node), node.values.pop(number)
            if len(node.values) == 1:
                node.values.append(copy.deepcopy(node.values[0]))
            described = f"{was}  →  {ast.unparse(node)}"
            node.values[0] = _without(gone, node.values[0])
            return described
        case ast.Compare() if number == 0 and type(node.ops[0]) in _FLIPPED:
            was = ast.unparse(node)
            node.ops[0] = _FLIPPED[type(node.ops[0])]()
            return f"{was}  →  {ast.unparse(node)}"
        case ast.Return(value=ast.Constant(value=str()) | ast.JoinedStr()) if number == 0:
            was = ast.unparse(node)
            node.value = ast.Constant(None)
            return f"{was}  →  return None"
        case ast.Call(func=ast.Name(id="any" | "all" as name)) if number == 0:
            assert isinstance(node.func, ast.Name)
            was = ast.unparse(node)
            node.func.id = "all" if name == "any" else "any"
            return f"{was}  →  {node.func.id}"
        case _:
            return None


def _without(gone: ast.expr, instead: ast.expr) -> ast.expr:
    """What is there instead of an expression; the names of this stay names of the function, in which the code
    of the mutant is to have the place of its own code."""
    return ast.IfExp(ast.Constant(True), instead, gone)
