"""Rewrites as equations: a pattern, a check that refuses with a reason, and what takes its place."""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from graphopt.analysis.substitution import Substitution
from graphopt.draft import Draft
from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.literal import Lit
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.types import TensorType
from graphopt.steps import Claim


@dataclass
class Match:
    """Where a pattern fits: the node it ends at, the nodes inside, and what its variables stand for."""

    node: Node
    inner: list[Node] = field(default_factory=list)
    bound: dict[str, Arg] = field(default_factory=dict)

    def type(self, variable: str) -> TensorType:
        """The type of the tensor that a variable stands for. Raises InvalidGraph where it is none."""
        value = self.bound.get(variable)
        if not isinstance(value, Value) or not isinstance(value.type, TensorType):
            raise InvalidGraph(f"{variable} stands for no tensor", where=f"node {self.node.name}")
        return value.type


def _never_refuses(match: Match) -> str | None:
    return None


@dataclass(frozen=True)
class Rule:
    """`pattern` → `rewrite`, both as Python expressions over operators by name.

    A name is a variable: a value or a literal, the same wherever it occurs. Numbers, strings and None
    are literals, by type and bits. `(a := f(x))` names what a part of the pattern makes. `rewrite` is a
    variable, or one operator on variables and literals, whose result has the type of what it replaces.

        Rule("aten.relu.default((a := aten.abs.default(x)))", "a")

    `check` returns the reason why a match stays as it is, or None.
    """

    pattern: str
    rewrite: str
    check: Callable[[Match], str | None] = _never_refuses

    def __str__(self) -> str:
        return f"{self.pattern} → {self.rewrite}"


class Rules:
    """A pass made of rules. They are tried in order at each node; the first that fits is applied.

    *Refuses*: operators with effects; operands written between the nodes of a match; memory that the
    caller would see shared, or that is written later; where gradients are wanted, values that one may
    flow through; and what the rules' own checks refuse.
    """

    def __init__(self, name: str, rules: Sequence[Rule], claim: Claim = Claim.BITWISE) -> None:
        self.name, self.claim, self.rules = name, claim, tuple(rules)
        self._parsed = [(rule, _expression(rule.pattern), _expression(rule.rewrite)) for rule in rules]

    def run(self, draft: Draft) -> None:
        """Visits the nodes in order."""
        substitution = draft.substitution()
        for node in draft.graph.nodes:
            for rule, pattern, rewrite in self._parsed:
                match = Match(node)
                if len(node.results) == 1 and _fits(pattern, node, match, draft):
                    reason = _refusal(match, rewrite, substitution) or rule.check(match)
                    if reason is not None:
                        draft.miss(node, reason)
                        continue
                    _apply(match, rule, rewrite, draft, substitution)
                    break


def _apply(match: Match, rule: Rule, rewrite: ast.expr, draft: Draft, substitution: Substitution) -> None:
    node, added = match.node, []
    if isinstance(rewrite, ast.Name):
        value = match.bound[rewrite.id]
        assert isinstance(value, Value)
    else:
        assert isinstance(rewrite, ast.Call)
        args = [_operand(arg, match.bound) for arg in rewrite.args]
        kwargs = {word: _operand(value, match.bound) for word, value in _words(rewrite).items()}
        made = draft.node(_name(rewrite.func), args, node.results[0].type, kwargs=kwargs, like=node)
        added, value = [made], made.results[0]
    if draft.replace(node, (value,), str(rule), added=added):
        substitution.note(node, (value,))


def _refusal(match: Match, rewrite: ast.expr, substitution: Substitution) -> str | None:
    node = match.node
    if any(effect_of(one) is not Effect.NONE for one in (node, *match.inner)):
        return "has an effect"
    if any(substitution.changed(inner, node) for inner in match.inner):
        return "an operand may be written in between"
    if not isinstance(rewrite, ast.Name):
        assert isinstance(rewrite, ast.Call)
        if any(lookup(op).alias is not Alias.FRESH for op in (node.op, _name(rewrite.func))):
            return "may share memory with an operand"
        return substitution.against_gradients(node, node.results)
    value = match.bound[rewrite.id]
    if not isinstance(value, Value) or value.type != node.results[0].type:
        return f"{rewrite.id} is of another type"
    if lookup(node.op).alias is Alias.VIEW:
        return substitution.against_view(node, (value,))
    return substitution.against_copy(node, (value,))


def _fits(pattern: ast.expr, arg: "Arg | Node", found: Match, draft: Draft) -> bool:
    """Whether an operand, or the node that the match ends at, is as the pattern says."""
    match pattern:
        case ast.NamedExpr(target=ast.Name(id=name), value=inner):
            return _bind(name, arg, found) and _fits(inner, arg, found, draft)
        case ast.Name(id=name):
            return _bind(name, arg, found)
        case ast.Constant(value=value):
            return arg == Lit(value)  # type: ignore[arg-type]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return arg == Lit(-value)
        case ast.Call():
            node = arg if isinstance(arg, Node) else None
            if isinstance(arg, Value):
                node = draft.graph.producer.get(draft.resolve(arg).name)
                if node is not None:
                    found.inner.append(node)
            return node is not None and _calls(pattern, node, found, draft)
        case _:
            return False


def _calls(pattern: ast.Call, node: Node, match: Match, draft: Draft) -> bool:
    given = dict(node.kwargs)
    if node.op != _name(pattern.func) or len(node.results) != 1 or len(node.args) != len(pattern.args):
        return False
    words = _words(pattern)
    return (
        given.keys() == words.keys()
        and all(_fits(p, a, match, draft) for p, a in zip(pattern.args, node.args, strict=True))
        and all(_fits(p, given[word], match, draft) for word, p in words.items())
    )


def _bind(name: str, arg: "Arg | Node", match: Match) -> bool:
    operand = arg.results[0] if isinstance(arg, Node) else arg
    return match.bound.setdefault(name, operand) == operand


def _operand(expression: ast.expr, bound: Mapping[str, Arg]) -> Arg:
    if isinstance(expression, ast.Name):
        return bound[expression.id]
    value: object = ast.literal_eval(expression)
    return Lit(value)  # type: ignore[arg-type]


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _words(call: ast.Call) -> dict[str, ast.expr]:
    return {str(word.arg): word.value for word in call.keywords}


def _name(function: ast.expr) -> str:
    return ast.unparse(function)
