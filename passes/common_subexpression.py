"""Common subexpressions: what was computed before is not computed again."""

from graphopt.authoring import (
    Alias,
    Claim,
    Draft,
    Effect,
    Node,
    Skeleton,
    Substitution,
    effect_of,
    lookup,
    operands_commute,
)


class CommonSubexpression:
    """y = f(a, b) ... z = f(a, b)  →  y = f(a, b), with z read from y

    1. Two nodes compute the same when operator, literals (by type and bits), sub-graphs (by structure),
       operand values and result types are the same, and no operand's storage may have been written
       between them. Operands that commute bit for bit are compared as a set.
    2. The later is merged into the earlier.

    *Refuses*: operators that draw random numbers, write, or are not confirmed; operands written in
    between; results written later (the two would change together); two results that both reach the
    caller (who would see one storage where eager gives two); where gradients are wanted, results that
    one may flow through (the sum of two gradients would round differently).

    *Claim*: BITWISE.
    """

    name = "common-subexpression"
    claim = Claim.BITWISE
    finding = "computed again"

    def run(self, draft: Draft) -> None:
        """Visits the nodes in order; each joins the first equal node that may take it."""
        substitution = draft.substitution()
        known: dict[object, Node] = {}
        alike: dict[object, Node] = {}
        for node in draft.graph.nodes:
            effect = effect_of(node)
            first = node
            if effect is Effect.RANDOM or substitution.memory.is_written:
                first = alike.setdefault(_key(node, draft, None), node)
            if effect not in (Effect.NONE, Effect.RAISES):
                if first is not node and effect is Effect.RANDOM:
                    draft.miss(node, f"like {first.name}, but {node.op} draws random numbers")
                continue
            found = known.setdefault(_key(node, draft, substitution), node)
            if found is not node:
                _merge(node, found, draft, substitution)
            elif first is not node:
                draft.miss(node, f"like {first.name}, but an operand may be written in between")


def _merge(node: Node, found: Node, draft: Draft, substitution: Substitution) -> None:
    if lookup(node.op).alias is Alias.VIEW:
        refusal = substitution.against_view(node, found.results)
    else:
        refusal = substitution.against_copy(node, found.results, since=found)
    if refusal is not None:
        draft.miss(node, refusal)
    elif draft.merge(node, found, f"computed before as {found.name}"):
        substitution.note(node, found.results)


def _key(node: Node, draft: Draft, substitution: Substitution | None) -> object:
    """Equal for nodes that compute the same; without `substitution`, whatever was written in between."""

    read: list[object] = [draft.resolve(value).name for value in node.operands]
    if substitution is not None and substitution.memory.is_written:
        versions = (substitution.memory.version(value, node) for value in node.operands)
        read = [*zip(read, versions, strict=True)]
    return node.fact(Skeleton), frozenset(read) if operands_commute(node) else tuple(read)
