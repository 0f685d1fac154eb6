"""Identity operations: what gives back the elements of its operand."""

from graphopt.authoring import (
    Alias,
    Claim,
    Draft,
    Effect,
    Form,
    Law,
    Lawful,
    Node,
    Substitution,
    TensorType,
    Value,
    effect_of,
    holds,
    laws_of,
    lookup,
    operands_of,
)


class IdentityOperation:
    """x·1, x − 0, x/1, where(true, x, y), clone(x), x cast to its own dtype  →  x;  f(x, x)  →  x;
    f(f(x))  →  f(x) or x;  cast(cast(x, wide), dtype of x)  →  x;  clamp(sigmoid(x), 0, 1)  →  sigmoid(x)

    1. The laws are those of the operator table, each confirmed bit for bit by execution (x + 0 is none:
       −0 + 0 = +0). The result has the type of the operand, strides included. A tensor that depends on
       nothing and is filled with one number is that number: a mask of ones where none is passed.
    2. Some laws hold for a part of the numbers only: a clamp, relu or abs of what is known to lie there.
    3. A cast there and back is one where the dtype between keeps every value of the first apart.

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
            found = _copied(node, draft) or _undone(node, draft, substitution)
            if found is None or effect_of(node) is not Effect.NONE:
                continue
            if found[0].type != node.results[0].type:
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
    for law in laws_of(node.op, Form.COPY, Form.CAST, Form.SAME):
        given = operands_of(node)
        operands = {given.get(name) for name in law.operands}
        value = operands.pop()
        if not isinstance(value, Value) or operands or not draft.analysis(Lawful).holds(law, node, value):
            continue
        if value.type == node.results[0].type:
            return draft.resolve(value), f"{_short(node)} gives back %{value.name}"
    return None


def _undone(node: Node, draft: Draft, substitution: Substitution) -> tuple[Value, str] | None:
    """The value that a node gives back together with the one before it, and why."""
    for law in laws_of(node.op, Form.IDEMPOTENT, Form.INVOLUTION, Form.CAST):
        middle = operands_of(node).get(law.operands[0])
        if not isinstance(middle, Value) or not draft.analysis(Lawful).holds(law, node, middle):
            continue
        inner = draft.graph.producer.get(draft.resolve(middle).name)
        if inner is None or substitution.changed(inner, node):
            continue
        first = operands_of(inner).get(law.operands[0])
        value = inner.results[0] if law.form is Form.IDEMPOTENT else first
        undoes = _casts_back if law.form is Form.CAST else _repeats
        if isinstance(value, Value) and undoes(inner, node, value, law):
            return draft.resolve(value), f"{_short(node)} twice gives back %{value.name}"
    return None


def _repeats(inner: Node, node: Node, value: Value, law: Law) -> bool:
    """Whether two nodes are the same operator with equal operands, the law's aside."""
    but = {law.operands[0]: None}
    return inner.op == node.op and {**operands_of(inner), **but} == {**operands_of(node), **but}


def _casts_back(inner: Node, node: Node, value: Value, law: Law) -> bool:
    """Whether the first of two casts loses nothing."""
    narrow, wide = value.type, inner.results[0].type
    assert isinstance(wide, TensorType)  # by the law of the second
    if not laws_of(inner.op, Form.CAST) or not isinstance(narrow, TensorType):
        return False
    return holds(narrow.dtype, wide.dtype)


def _short(node: Node) -> str:
    return node.op.split(".")[1]
