"""Common subexpressions: what was computed before is not computed again."""

from graphopt.authoring import (
    Alias,
    Arg,
    Claim,
    Draft,
    Effect,
    Memory,
    Node,
    Sequence,
    Value,
    differentiable,
    effect_of,
    lookup,
)


class CommonSubexpression:
    """y = f(a, b) ... z = f(a, b)  →  y = f(a, b), with z read from y

    1. Two nodes compute the same when operator, literals (by type and bits), operand values and result
       types are the same, and no operand's storage may have been written between them. Operands that
       commute bit for bit are compared as a set.
    2. The later is merged into the earlier.

    *Refuses*: operators that draw random numbers, write, or are not confirmed; operands written in
    between; results written later (the two would change together); two results that both reach the
    caller (who would see one storage where eager gives two); where gradients are wanted, results that
    one may flow through (the sum of two gradients would round differently).

    *Claim*: BITWISE.
    """

    name = "common-subexpression"
    claim = Claim.BITWISE

    def run(self, draft: Draft) -> None:
        """Visits the nodes in order; each joins the first equal node that may take it."""
        memory = Memory(draft.graph)
        through = differentiable(draft.graph) if draft.gradients else frozenset()
        known: dict[object, Node] = {}
        alike: dict[object, Node] = {}
        reached: set[str] = set()  # nodes that took in one whose results reach the caller
        for node in draft.graph.nodes:
            anywhere = _key(node, draft, None)
            first = alike.setdefault(anywhere, node)
            effect = effect_of(node)
            if effect not in (Effect.NONE, Effect.RAISES):
                if first is not node and effect is Effect.RANDOM:
                    draft.miss(node, f"like {first.name}, but {node.op} draws random numbers")
                continue
            found = known.setdefault(_key(node, draft, memory), node)
            if found is node:
                if first is not node:
                    draft.miss(node, f"like {first.name}, but an operand may be written in between")
                continue
            refusal = _refusal(node, found, memory, found.name in reached)
            if refusal is None and any(value.name in through for value in node.results):
                refusal = f"like {found.name}, but gradients may flow through both"
            if refusal is None:
                if any(memory.escapes(value) for value in node.results):
                    reached.add(found.name)
                draft.merge(node, found, f"computed before as %{found.results[0].name}")
            else:
                draft.miss(node, refusal)


def _key(node: Node, draft: Draft, memory: Memory | None) -> object:
    """Equal for nodes that compute the same; without `memory`, whatever was written in between."""

    def canonical(arg: Arg) -> object:
        if isinstance(arg, Value):
            version = 0 if memory is None else memory.version(arg, node)
            return draft.resolve(arg).name, version
        if isinstance(arg, Sequence):
            return arg.kind, tuple(canonical(item) for item in arg.items)
        return arg

    args: tuple[object, ...] = tuple(canonical(arg) for arg in node.args)
    if lookup(node.op).commutes and len(args) == 2 and not node.kwargs:
        args = (frozenset(args), args[0] == args[1])
    kwargs = tuple((name, canonical(arg)) for name, arg in node.kwargs)
    return node.op, args, kwargs, tuple(value.type for value in node.results)


def _refusal(node: Node, found: Node, memory: Memory, reached: bool) -> str | None:
    """Why an equal node must stay, or None."""
    if lookup(node.op).alias is not Alias.VIEW and any(
        memory.written_after(value, found) for value in (*found.results, *node.results)
    ):
        return f"like {found.name}, but one of the two may be written later"
    for mine, other in zip(node.results, found.results, strict=True):
        if memory.escapes(mine) and (reached or memory.escapes(other)):
            return f"like {found.name}, but the caller gets both"
    return None
