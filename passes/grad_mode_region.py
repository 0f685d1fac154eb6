"""Grad-mode regions: where no gradient is wanted, a `no_grad` block is its contents."""

from graphopt.authoring import Claim, Draft, Graph, Lit, Value, written_out

_OP = "higher_order.wrap_with_set_grad_enabled"


class GradModeRegion:
    """with no_grad: y = f(x)  →  y = f(x)

    In a graph that runs without gradients, the nodes of a region that turns them off take its place.

    *Refuses*: graphs that give gradients; regions that turn them on, or return what is no value.

    *Claim*: BITWISE.
    """

    name = "grad-mode-region"
    claim = Claim.BITWISE
    finding = "a region without effect"

    def run(self, draft: Draft) -> None:
        """Visits the regions in order; what they hold in turn is visited in the next round."""
        if draft.gradients:
            return
        for node in draft.graph.nodes:
            if node.op != _OP:
                continue
            enabled, region, *given = node.args
            assert isinstance(region, Graph)
            if enabled != Lit(False):
                draft.miss(node, "turns gradients on")
                continue
            values = tuple(draft.resolve(arg) for arg in given if isinstance(arg, Value))
            if len(values) != len(given):
                draft.miss(node, "reads what is no value")
                continue
            added, returned = written_out(region, values, draft.fresh)
            results = tuple(value for value in returned if isinstance(value, Value))
            if [value.type for value in results] != [value.type for value in node.results]:
                draft.miss(node, "returns what is no value, or another type than its region")
            else:
                draft.replace(node, results, "no gradients are wanted anyway", added=added)
