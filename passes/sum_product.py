"""Sum-product regions: products and sums of tensors, evaluated in the cheapest way that is found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from graphopt.authoring import (
    AS_WRITTEN,
    Block,
    Change,
    Claim,
    Dependence,
    Draft,
    Effect,
    Loose,
    Narrowing,
    NoPolynomial,
    NotEmitted,
    Region,
    Regions,
    Rewritten,
    Spelled,
    Substitution,
    Value,
    change,
    effect_of,
    evaluation,
    laid_freely,
    rewritten,
    seconds_of,
    spelled,
    wide_regions,
)

WORTH = 0.8
"""What another evaluation may take of the time at most."""
LEAST = 5e-6
EVEN = 0.98
"""What one of several regions that are judged together may take of its own."""
MOST_NODES = 40
"""Of wide regions; larger ones are looked at in parts."""


class SumProduct:
    """(A B) x  →  A (B x);  A B + A C  →  A (B + C);  (A B)[i, j]  →  A[i, :] · B[:, j];
    A B C A B  →  T C T with T = A B;  and whatever else is the same polynomial

    1. Nodes that multiply, add, sum, scale and rearrange tensors form regions. What a region computes is a
       polynomial of what comes from outside, however it is spelled.
    2. Orders of multiplication, sums taken out of products and back, and what occurs twice are searched
       for the evaluation that takes the least time.
    3. What is read in part is computed there only: through functions of elements or rows, and gathers.
    4. Where it may pay, operators are spelled out as others: attention as two products around a softmax.
       Then what becomes of all regions that they have a part in is taken together, or nothing of it.
    5. The new nodes are read back, and must be the same polynomial at random points of a finite field.

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
        whole = spelled(draft)
        beside = whole.draft
        dependence = beside.analysis(Dependence)
        fixed = _never if draft.gradients else dependence.is_fixed
        blocks = [*whole.blocks(beside.analysis(Regions))]
        narrow = [*filter(None, (_better(block, whole, fixed, 0.0) for block in blocks))]
        known = {block.key for block in blocks}
        gains = [(better.names, better.gain) for better in narrow]
        wide = []
        seen = (region for region in beside.analysis(wide_regions) if len(region.nodes) <= MOST_NODES)
        for block in whole.blocks(seen):
            if block.key in known:
                continue
            names = frozenset(node.name for node in block.nodes)
            inside = sum(gain for members, gain in gains if members <= names)
            wide.append(_better(block, whole, fixed, inside))
        given = draft.substitution()
        there = given if beside is draft else beside.substitution()
        done: set[str] = set()
        for better in (*_in_parts(whole, fixed), *filter(None, wide), *narrow):
            if done & better.names:
                continue
            refusal = _against(better, whole, given, there)
            if refusal is None:
                _rewrite(better, draft)
                done |= better.names
            else:
                draft.miss(better.change.places[-1].node, refusal)


def _in_parts(whole: Spelled, fixed: Callable[[Value], bool]) -> Iterator["_Better"]:
    """Better ways for what is read in part only: from as far in front as pays."""
    done: set[str] = set()
    for deepest in (None, 1):
        for block in whole.blocks(Narrowing(whole.draft.graph, fixed, deepest)):
            is_done = any(node.name in done for node in block.nodes)
            better = None if is_done else _better(block, whole, fixed, 0.0)
            if better is not None:
                done |= better.names
                yield better


@dataclass(frozen=True)
class _Better:
    """A block, what takes the place of its nodes, and seconds before and after."""

    block: Block
    made: tuple[Rewritten, ...]
    change: Change
    before: float
    after: float

    @property
    def gain(self) -> float:
        return self.before - self.after

    @property
    def names(self) -> frozenset[str]:
        return frozenset(node.name for node in (*self.block.nodes, *self.change.again))


def _never(value: Value) -> bool:
    return False


def _better(block: Block, whole: Spelled, fixed: Callable[[Value], bool], least: float) -> _Better | None:
    """A better way for a block, by more than `least` seconds; None where none is found."""
    made = [one for region in block.regions for one in _evaluated(region, block, whole, fixed, least)]
    if not made:
        return None
    found = change(block, whole, made)
    if not found.places:
        return None
    before = seconds_of(found.removed, whole.draft, fixed)
    after = seconds_of([node for place in found.places for node in place.added], whole.draft, fixed)
    after -= seconds_of(found.again, whole.draft, fixed)
    if after > _most(before, least):
        return None
    return _Better(block, tuple(made), found, before, after)


def _most(before: float, least: float) -> float:
    return min(WORTH * before, before - LEAST, before - 1.01 * least)


def _evaluated(
    region: Region, block: Block, whole: Spelled, fixed: Callable[[Value], bool], least: float
) -> tuple[Rewritten, ...]:
    """A region's roots in another way; empty where none is found that takes less of its time. Where operators
    are spelled out, whatever a region gains may count: it is the block that has to gain enough."""
    draft = whole.draft
    before = seconds_of((*region.shown, *region.nodes), draft, fixed)
    if before < LEAST:
        return ()
    most = max(WORTH, EVEN) * before if block.sites else _most(before, least)
    found = evaluation(region, draft, fixed, _free(region, block, whole))
    if found.seconds > most:
        return ()
    last = whole.standing(region.roots[-1][0])
    try:
        made = rewritten(found, draft)
    except (NotEmitted, NoPolynomial):
        whole.given.miss(last, "no operators are known that say it otherwise")
        return ()
    again = seconds_of([one.root for one in made if one.is_again], draft, fixed)
    if seconds_of([node for one in made for node in one.nodes], draft, fixed) - again > most:
        return ()
    if not all(one.certificate.holds for one in made):
        whole.given.miss(last, "the rewritten form is not the same polynomial")
        return ()
    return made


def _free(region: Region, block: Block, whole: Spelled) -> Loose:
    """The roots that may lie otherwise, where what reads them stands in the given graph."""
    found = AS_WRITTEN if block.sites else laid_freely(region, whole.draft)
    return AS_WRITTEN if any(map(whole.site_of, found.readers)) else found


def _rewrite(better: _Better, draft: Draft) -> None:
    why = f"about {better.before * 1e6:.3g} µs → {better.after * 1e6:.3g} µs"
    bound = sum(one.certificate.bound for one in better.made)
    evidence = f"the same polynomial, but for a chance below {bound:.1g}"
    if better.block.sites:
        names = dict.fromkeys(site.node.op.split(".")[1] for site in better.block.sites)
        evidence = f"{evidence}, with {', '.join(names)} spelled out"
    for place in better.change.places:
        absorbed = better.change.absorbed if place is better.change.places[-1] else ()
        draft.replace(
            place.node,
            place.values,
            why,
            added=place.added,
            absorbed=absorbed,
            redone=[node for node in better.change.again if node is place.node],
            evidence=evidence,
        )


def _against(better: _Better, whole: Spelled, given: Substitution, beside: Substitution) -> str | None:
    """Why a block stays as it is; None where it need not. Either all of its places are taken, or none."""
    if any(beside.changed(node, better.change.last) for node in better.block.nodes):
        return "an operand may be written in between"
    if any(effect_of(node) is Effect.RAISES for node in better.block.nodes) and _is_between(better, whole):
        return "what is done in between would not be done before it raises"
    regions = () if better.block.sites else better.block.regions  # with sites, each root has a place
    roots = (root for region in regions for root, _ in region.roots)
    for node in {node.name: node for node in (*roots, *(p.node for p in better.change.places))}.values():
        reason = given.against_gradients(node, node.results) or whole.given.denial(node)
        if reason is not None:
            return reason
        for value in node.results:
            if given.memory.storage_written(value) or value.name in given.memory.reshaped:
                return "the result is written later"
    return None


def _is_between(better: _Better, whole: Spelled) -> bool:
    """Whether anything happens between a block's first node and its last place, but values being made."""
    names = {node.name for node in better.block.nodes}
    order = whole.draft.graph.nodes
    places = [place for place, node in enumerate(order) if node.name in names | {better.change.last.name}]
    others = (node for node in order[places[0] : places[-1]] if node.name not in names)
    return any(effect_of(node) is not Effect.NONE for node in others)
