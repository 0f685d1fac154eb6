"""Derived parameters: what depends on the model's state alone is not computed again on every call."""

from graphopt.authoring import Claim, Dependence, Draft, Value, choose_kept, differentiable


class DerivedParameter:
    """y = f(w) for a parameter w  →  y, kept until w changes

    1. Derived values are computed from parameters, buffers, constants and the sizes of arguments alone.
    2. Of those that a call reads, the set is kept that makes a call cheapest: seconds saved against the
       price of the memory held, a minimum cut.

    *Refuses*: values whose memory the caller can come to hold, or that is written; where gradients are
    wanted, values that one may flow through.

    *Claim*: BITWISE. The same operators compute the value, earlier.
    """

    name = "derived-parameter"
    claim = Claim.BITWISE
    finding = "depends on parameters and shapes alone"

    def run(self, draft: Draft) -> None:
        """Chooses once for the whole graph."""
        dependence = draft.analysis(Dependence)
        through = draft.analysis(differentiable) if draft.gradients else frozenset()

        def may_keep(value: Value) -> bool:
            return (
                value.name not in through
                and dependence.may_be_kept(value)
                and draft.denial(draft.graph.producer[value.name]) is None
            )

        choice = choose_kept(draft.graph, dependence, may_keep, draft.costs.seconds, draft.costs.bytes)
        known = frozenset(draft.graph.kept)
        for keep in choice.keeps:
            if keep.value.name not in known:
                evidence = f"saves {keep.seconds * 1e6:.3g} µs a call, holds {keep.bytes / 1e6:.3g} MB"
                draft.keep(keep.value, keep.spared, "computed once, until a source changes", evidence)
        for value, why_not in choice.reasons:
            draft.miss(draft.graph.producer[value.name], why_not)
