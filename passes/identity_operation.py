"""Identity operations: what gives back the elements of its operand."""

from graphopt.authoring import (
    Alias,
    Claim,
    Draft,
    Effect,
    Form,
    Law,
    Lit,
    Node,
    Substitution,
    TensorType,
    Value,
    effect_of,
    has_laws,
    holds,
    is_number,
    kind_of,
    laws_of,
    lookup,
)


class IdentityOperation:
    """x·1, x − 0, x/1, clone(x), x cast to its own dtype  →  x;  f(x, x)  →  x;
    f(f(x))  →  f(x) or x;  cast(cast(x, wide), dtype of x)  →  x

    1. The laws are those of the operator table, each confirmed bit for bit by execution (x + 0 is none:
       −0 + 0 = +0). The result has the type of the operand, strides included.
    2. A cast there and back is one where the dtype between represents every value of the first.

    *Refuses*: operands or results written later; memory that the caller would see shared; where gradients
    are wanted, values that one may flow through.

    *Claim*: BITWISE.
    """

    name = "identity-operation"
    claim = Claim.BITWISE
    finding = "changes nothing"

    def run(self, draft: Draft) -> None:
        """Visits the nodes in order."""
        substitution = draft.substitution()
        for node in draft.graph.nodes:
            if not has_laws(node.op) or effect_of(node) is not Effect.NONE:
                continue
            found = _copied(node, draft) or _undone(node, draft, substitution)
            if found is None:
                continue
            value, why = found
            shared = lookup(node.op).alias is Alias.VIEW
            against = substitution.against_view if shared else substitution.against_copy
            refusal = against(node, (value,))
            if refusal is not None:
                draft.miss(node, refusal)
            elif draft.replace(node, (value,), why):
                substitution.note(node, (value,))


def _copied(node: Node, draft: Draft) -> tuple[Value, str] | None:
    """The operand that a node copies, and why."""
    given, result = _given(node), node.results[0]
    for form in (Form.COPY, Form.CAST, Form.SAME):
        for law in laws_of(node.op, form):
            values = {draft.resolve(v) for name in law.operands if isinstance(v := given.get(name), Value)}
            if len(values) == 1 and all(name in given for name in law.operands):
                (value,) = values
                if value.type == result.type and _applies(law, node, value):
                    return value, f"{node.op.split('.')[1]} gives back %{value.name}"
    return None


def _undone(node: Node, draft: Draft, substitution: Substitution) -> tuple[Value, str] | None:
    """The value that a node gives back together with the one before it, and why."""
    for form in (Form.IDEMPOTENT, Form.INVOLUTION, Form.CAST):
        for law in laws_of(node.op, form):
            middle = _given(node).get(law.operands[0])
            if not isinstance(middle, Value) or not _applies(law, node, middle):
                continue
            inner = draft.graph.producer.get(draft.resolve(middle).name)
            if inner is None or effect_of(inner) is not Effect.NONE or substitution.changed(inner, node):
                continue
            first = _given(inner).get(law.operands[0])
            if form is Form.CAST:
                if not any(_applies(cast, inner, first) for cast in laws_of(inner.op, form)):
                    continue
                if not _there_and_back(first, middle, node.results[0]):
                    continue
            elif inner.op != node.op or not _alike(inner, node, law.operands[0]):
                continue
            value = inner.results[0] if form is Form.IDEMPOTENT else first
            if isinstance(value, Value) and value.type == node.results[0].type:
                return draft.resolve(value), f"{node.op.split('.')[1]} twice gives back %{value.name}"
    return None


def _applies(law: Law, node: Node, operand: object) -> bool:
    """Whether a node is as the law says: literals as named, all but the free parameters at defaults."""
    if not isinstance(operand, Value) or not isinstance(operand.type, TensorType):
        return False
    given, literals = _given(node), dict(law.literals)
    return (
        kind_of(operand.type.dtype) in tuple(law.kinds)
        and all(name in given and is_number(given[name], value) for name, value in literals.items())
        and set(given) <= {*law.operands, *literals, *law.free}
    )


def _given(node: Node) -> dict[str, object]:
    """The operands of a node by parameter, without those that are None, as by default."""
    named = {**dict(zip(lookup(node.op).parameters, node.args, strict=False)), **dict(node.kwargs)}
    return {name: arg for name, arg in named.items() if arg != Lit(None)}


def _alike(a: Node, b: Node, but: str) -> bool:
    """Whether two nodes have equal operands, one aside."""
    return {**_given(a), but: None} == {**_given(b), but: None}


def _there_and_back(first: object, middle: object, last: Value) -> bool:
    if not (isinstance(first, Value) and isinstance(middle, Value) and first.type == last.type):
        return False
    narrow, wide = first.type, middle.type
    return isinstance(narrow, TensorType) and isinstance(wide, TensorType) and holds(narrow.dtype, wide.dtype)
