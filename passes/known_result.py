"""Results that are known, or simple, without the operator: reductions of one element, decided comparisons."""

from graphopt.authoring import (
    Builder,
    Claim,
    Draft,
    Effect,
    Form,
    InvalidGraph,
    Law,
    Lawful,
    Node,
    Substitution,
    TensorType,
    Type,
    Value,
    effect_of,
    laws_of,
    operands_of,
    type_of,
)

_FORMS = (Form.FILLED, Form.COPY, Form.PLUS_ZERO, Form.ABSOLUTE, Form.MINUS_ITSELF, Form.ONE)


class KnownResult:
    """amax(x), max(x)  →  x;  sum(x), mean(x), logsumexp(x)  →  x + 0;  norm(x)  →  |x|;  softmax(x)  →
    x − x + 1;  log_softmax(x), var(x)  →  x − x, along dimensions of size 1;  argmax(x) there  →  0;
    n >= 0  →  true, isnan(n)  →  false, of what is known to lie there

    1. The laws are those of the operator table, each confirmed bit for bit by execution: −0 + 0 = +0, as the
       sum of one −0 is; ∞ − ∞ is NaN, as the softmax of one ∞ is.
    2. What elements lie between, and whether one may be NaN, follows from the operators that made them.

    *Refuses*: operands written later; where gradients are wanted, values that one may flow through; results
    that lie otherwise in memory; what would cost more.

    *Claim*: BITWISE.
    """

    name = "known-result"
    claim = Claim.BITWISE
    finding = "is known without it"

    def run(self, draft: Draft) -> None:
        """Visits the nodes in order."""
        substitution = draft.substitution()
        for node in draft.graph.nodes:
            laws = [law for number in range(len(node.results)) if (law := _law(node, number, draft))]
            if not laws or len(laws) < len(node.results) or effect_of(node) is not Effect.NONE:
                continue
            refusal = substitution.against_gradients(node, node.results) or _rewrite(
                node, laws, draft, substitution
            )
            if refusal is not None:
                draft.miss(node, refusal)


def _law(node: Node, result: int, draft: Draft) -> Law | None:
    """The law of one result of a node that holds; of those alone that ask for conditions, for a node that
    the others hold of is no more than its operand."""
    op = f"{node.op}/{result}" if node.many else node.op
    for law in laws_of(op, *_FORMS):
        if not law.conditions:
            continue
        given = operands_of(node)
        operands = {given.get(name) for name in law.operands}
        value = operands.pop()
        if isinstance(value, Value) and not operands and draft.analysis(Lawful).holds(law, node, value):
            return law
    return None


def _rewrite(node: Node, laws: list[Law], draft: Draft, substitution: Substitution) -> str | None:
    """Lets simpler nodes take the place of one; or says why not."""
    operand = operands_of(node)[laws[0].operands[0]]
    assert isinstance(operand, Value)
    shared = substitution.against_copy(node, (operand,) * len(laws)) is None
    build = Builder(draft, node)
    try:
        pairs = zip(laws, node.results, strict=True)
        found = [_made(build, law, draft.resolve(operand), made.type, shared) for law, made in pairs]
    except InvalidGraph:
        return "is known without it, but sizes are not"
    made = [value for value in found if value is not None]
    if [one.type for one in made] != [result.type for result in node.results]:
        return "is known without it, but would lie otherwise in memory"
    if sum(map(draft.costs.seconds, build.nodes)) > draft.costs.seconds(node):
        return "is known without it, which costs more"
    why = f"{node.op.split('.')[1]} is {', '.join(law.form.value for law in laws)} of %{operand.name}"
    if draft.replace(node, made, why, added=build.nodes) and shared:
        substitution.note(node, (operand,) * len(laws))
    return None


def _made(build: Builder, law: Law, operand: Value, kind: Type, shared: bool) -> Value | None:
    """The result that a law speaks of; None where it cannot be told how it would lie in memory."""
    assert isinstance(kind, TensorType)  # laws are of tensors
    if not kind.is_static:
        raise InvalidGraph("no static tensor")
    shape = [int(size) for size in kind.shape]
    if law.form is Form.FILLED:
        number = law.number if kind.dtype.is_floating_point else int(law.number)
        return build("aten.full.default", shape, number, dtype=kind.dtype, device=kind.device)
    value = operand
    if kind.shape != type_of(operand).shape:  # dimensions of size 1 are gone
        value = build("aten.view.default", operand, shape)
    if law.form is Form.COPY and shared:
        return value
    if not type_of(value).is_contiguous:  # then how sizes of 1 stride depends on the kernel
        return None
    match law.form:
        case Form.COPY:
            return build("aten.clone.default", value)
        case Form.PLUS_ZERO:
            return build("aten.add.Tensor", value, 0.0)
        case Form.ABSOLUTE:
            return build("aten.abs.default", value)
        case Form.MINUS_ITSELF:
            return build("aten.sub.Tensor", value, value)
    return build("aten.add.Tensor", build("aten.sub.Tensor", value, value), 1.0)
