"""Sum-product regions: products and sums of tensors, evaluated in the cheapest way that is found."""

from graphopt.authoring import (
    Claim,
    Dependence,
    Draft,
    Evaluation,
    NoPolynomial,
    NotEmitted,
    Regions,
    Substitution,
    evaluation,
    rewritten,
)


class SumProduct:
    """(A B) x  →  A (B x);  A B + A C  →  A (B + C);  (A B)[i, j]  →  A[i, :] · B[:, j];
    A B C A B  →  T C T with T = A B;  and whatever else is the same polynomial

    1. Nodes that multiply, add, sum, scale and rearrange tensors form regions. What a region computes is a
       polynomial of what comes from outside, however it is spelled.
    2. Orders of multiplication, sums taken out of products and back, and what occurs twice are searched
       for the evaluation that takes the least time.
    3. The new nodes are read back, and must be the same polynomial at random points of a finite field.

    *Refuses*: what is written in between, or handed out as a part of larger memory; where gradients are
    wanted, values that one may flow through; what gains less than it may cost.

    *Claim*: ROUNDING. The same sums in another order.
    """

    name = "sum-product"
    claim = Claim.ROUNDING
    finding = "is cheaper in another order"

    def run(self, draft: Draft) -> None:
        """Visits the regions in order."""
        substitution, dependence = draft.substitution(), draft.analysis(Dependence)
        for region in draft.analysis(Regions):
            before = sum(map(draft.costs.seconds, region.nodes))
            found = evaluation(region, draft, dependence.is_fixed)
            last = region.roots[-1][0]
            if found.seconds > 0.8 * before or before - found.seconds < 5e-6:
                continue
            refusal = _against(found, substitution)
            if refusal is not None:
                draft.miss(last, refusal)
                continue
            self._rewrite(found, before, draft)

    def _rewrite(self, found: Evaluation, before: float, draft: Draft) -> None:
        try:
            made = [*rewritten(found, draft)]
        except (NotEmitted, NoPolynomial):
            draft.miss(
                found.region.roots[-1][0], "operators cannot say it so that it lies in memory as before"
            )
            return
        for one in made:
            if not one.certificate.holds:
                draft.miss(one.root, "the rewritten form is not the same polynomial")
                return
        for one in made:
            draft.replace(
                one.root,
                (one.value,),
                f"about {before * 1e6:.3g} µs → {found.seconds * 1e6:.3g} µs for all",
                added=one.nodes,
                evidence=f"the same polynomial, but for a chance below {one.certificate.bound:.1g}",
            )


def _against(found: Evaluation, substitution: Substitution) -> str | None:
    """Why a region stays as it is; None where it need not."""
    memory, region = substitution.memory, found.region
    last = region.roots[-1][0]
    if any(substitution.changed(node, last) for node in region.nodes):
        return "an operand may be written in between"
    for root, _ in region.roots:
        value = root.results[0]
        reason = substitution.against_gradients(root, root.results)
        if reason is not None:
            return reason
        if memory.storage_written(value) or value.name in memory.reshaped:
            return "the result is written later"
    return None
