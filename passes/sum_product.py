"""Sum-product regions: products and sums of tensors, evaluated in the cheapest way that is found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from graphopt.authoring import (
    Claim,
    Dependence,
    Draft,
    Effect,
    Narrowing,
    NoPolynomial,
    NotEmitted,
    Region,
    Regions,
    Rewritten,
    Substitution,
    Value,
    effect_of,
    evaluation,
    rewritten,
    seconds_of,
    wide_regions,
)

WORTH = 0.8
"""What another evaluation may take of the time at most."""
LEAST = 5e-6
MOST_NODES = 40
"""Of wide regions; larger ones are looked at in parts."""


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

    *Claim*: ROUNDING. The same sums in another order. A square that is multiplied out loses digits where its
    terms cancel, which `verify` sees for values like the example's.
    """

    name = "sum-product"
    claim = Claim.ROUNDING
    finding = "is cheaper in another order"
    makes_finite = True  # terms cancel, and zeros are not multiplied

    def run(self, draft: Draft) -> None:
        """Visits wide regions first; those in them, where these do not gain more."""
        substitution, dependence = draft.substitution(), draft.analysis(Dependence)
        fixed = _never if draft.gradients else dependence.is_fixed
        narrow = [*filter(None, (_better(one, draft, fixed, 0.0) for one in draft.analysis(Regions)))]
        gains = [(frozenset(node.name for node in one.region.nodes), one.gain) for one in narrow]
        wide = []
        for region in draft.analysis(wide_regions):
            if len(region.nodes) <= MOST_NODES:
                names = frozenset(node.name for node in region.nodes)
                inside = sum(gain for members, gain in gains if members <= names)
                wide.append(_better(region, draft, fixed, inside))
        done: set[str] = set()
        for better in (*_in_parts(draft, fixed), *filter(None, wide), *narrow):
            names = better.names
            if done & names:
                continue
            refusal = _against(better, substitution, draft)
            if refusal is None:
                _rewrite(better, draft)
                done |= names
            else:
                draft.miss(better.region.roots[-1][0], refusal)


def _in_parts(draft: Draft, fixed: Callable[[Value], bool]) -> Iterator["_Better"]:
    """Better ways for what is read in part only: from as far in front as pays."""
    done: set[str] = set()
    for deepest in (None, 1):
        for region in Narrowing(draft.graph, fixed, deepest):
            names = {node.name for node in region.nodes}
            better = None if done & names else _better(region, draft, fixed, 0.0)
            if better is not None:
                done |= names
                yield better


@dataclass(frozen=True)
class _Better:
    """A region, the nodes that do the same in less time, and seconds before and after."""

    region: Region
    made: tuple[Rewritten, ...]
    before: float
    after: float

    @property
    def names(self) -> frozenset[str]:
        """Of all nodes that are replaced."""
        return frozenset(node.name for node in (*self.region.nodes, *(one.root for one in self.made)))

    @property
    def gain(self) -> float:
        return self.before - self.after


def _never(value: Value) -> bool:
    return False


def _better(region: Region, draft: Draft, fixed: Callable[[Value], bool], least: float) -> _Better | None:
    """A better way for a region, by more than `least` seconds; None where none is found."""
    before = seconds_of(region.nodes, draft, fixed)
    if before < LEAST:
        return None
    found = evaluation(region, draft, fixed)
    most = min(WORTH * before, before - LEAST, before - 1.01 * least)
    if found.seconds > most:
        return None
    last = region.roots[-1][0]
    try:
        made = rewritten(found, draft)
    except (NotEmitted, NoPolynomial):
        draft.miss(last, "no operators are known that say it otherwise")
        return None
    after = seconds_of([node for one in made for node in one.nodes], draft, fixed)
    after -= seconds_of([one.root for one in made if one.is_again], draft, fixed)
    if after > most:
        return None
    if not all(one.certificate.holds for one in made):
        draft.miss(last, "the rewritten form is not the same polynomial")
        return None
    return _Better(region, made, before, after)


def _rewrite(better: _Better, draft: Draft) -> None:
    why = f"about {better.before * 1e6:.3g} µs → {better.after * 1e6:.3g} µs"
    roots = {one.root.name for one in better.made}
    inner = [node for node in better.region.nodes if node.name not in roots]  # which only these read
    for one in better.made:
        evidence = f"the same polynomial, but for a chance below {one.certificate.bound:.1g}"
        absorbed = inner if one is better.made[-1] else ()
        again = (one.root,) if one.is_again else ()
        values = (one.value,)
        draft.replace(
            one.root, values, why, added=one.nodes, absorbed=absorbed, redone=again, evidence=evidence
        )


def _against(better: _Better, substitution: Substitution, draft: Draft) -> str | None:
    """Why a region stays as it is; None where it need not."""
    memory, region = substitution.memory, better.region
    last = region.roots[-1][0]
    if any(substitution.changed(node, last) for node in region.nodes):
        return "an operand may be written in between"
    if any(effect_of(node) is Effect.RAISES for node in region.nodes) and _is_between(region, draft):
        return "what is done in between would not be done before it raises"
    for root in [*(root for root, _ in region.roots), *(one.root for one in better.made)]:
        value = root.results[0]
        if (denied := draft.denial(root)) is not None:
            return denied
        reason = substitution.against_gradients(root, root.results)
        if reason is not None:
            return reason
        if memory.storage_written(value) or value.name in memory.reshaped:
            return "the result is written later"
    return None


def _is_between(region: Region, draft: Draft) -> bool:
    """Whether anything happens between a region's first node and its last root, but values being made."""
    names = {node.name for node in region.nodes}
    order = draft.graph.nodes
    places = [place for place, node in enumerate(order) if node.name in names]
    others = (node for node in order[places[0] : places[-1]] if node.name not in names)
    return any(effect_of(node) is not Effect.NONE for node in others)
