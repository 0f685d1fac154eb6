"""Dead code: what nothing reads is not computed."""

from graphopt.authoring import Claim, Draft, Effect, Node, effect_of


class DeadCode:
    """y = f(a), y unread  →  nothing

    A pure node goes when no output and no standing node reads its results; then its operands are looked
    at in turn.

    *Refuses*: operators that draw random numbers (the stream would shift), that may raise (the exception
    would be lost), that write, or that are not confirmed.

    *Claim*: BITWISE.
    """

    name = "dead-code"
    claim = Claim.BITWISE
    finding = "nothing reads it"

    def run(self, draft: Draft) -> None:
        """Visits the nodes from the last to the first."""
        read = set(draft.graph.returned)
        for node in reversed(draft.graph.nodes):
            if any(value.name in read for value in node.results):
                read.update(value.name for value in node.operands)
            elif (reason := _refusal(node)) is not None:
                read.update(value.name for value in node.operands)
                if reason:
                    draft.miss(node, reason)
            elif not draft.remove(node, "nothing reads it"):
                read.update(value.name for value in node.operands)


def _refusal(node: Node) -> str | None:
    """Why an unread node must stay: "" where it is there for its effect, None where it may go."""
    match effect_of(node):
        case Effect.NONE:
            return None
        case Effect.RAISES:
            return f"nothing reads it, but {node.op} may raise"
        case Effect.RANDOM:
            return f"nothing reads it, but {node.op} moves the random stream"
        case _:
            return ""
