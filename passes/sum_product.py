"""Sum-product regions: products and sums of tensors, evaluated in the cheapest way that is found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphopt.authoring import (
    Claim,
    Dependence,
    Draft,
    Node,
    NoPolynomial,
    NotEmitted,
    Readings,
    Region,
    Regions,
    Rewritten,
    Substitution,
    Value,
    Work,
    differentiable,
    evaluation,
    peak_bytes,
    rewritten,
    seconds_of,
)

WORTH = 0.8
"""What another evaluation may take of the time at most."""
LEAST = 5e-6
TIE = 2.0
"""How far apart the prices of two ways may be that are timed, where ties are settled so."""
MORE_MEMORY, FREE_BYTES = 1.5, 1 << 20
"""How many times the bytes that a region holds at once, its operands among them, another evaluation of it may
hold; or how many more."""
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
    wanted, values that one may flow through; what gains less than it may cost; what holds more memory at
    once, operands included, than 1.5 × what it held, and than 1 MiB more.

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
        left = draft.analysis(differentiable) if draft.gradients else frozenset[str]()
        readings = draft.costs.known.setdefault(Readings, Readings())
        regions = Regions(draft.graph, readings, left)
        work, small = Work(draft.graph), [*regions]
        seen = {one.name for one in small}
        narrow = [*filter(None, (_better(one, draft, fixed, work) for one in small))]
        gains = [(frozenset(node.name for node in one.region.nodes), one.gain) for one in narrow]
        wide = []
        for region in regions.widened():
            if region.name not in seen and len(region.nodes) <= MOST_NODES:
                names = frozenset(node.name for node in region.nodes)
                inside = sum(gain for members, gain in gains if members <= names)
                wide.append(_better(region, draft, fixed, work, inside))
        done: set[str] = set()
        for better in (*filter(None, wide), *narrow):
            names = frozenset(node.name for node in better.region.nodes)
            if done & names:
                continue
            refusal = _against(better, substitution) or _too_large(better, draft, fixed)
            if refusal is None:
                _rewrite(better, draft)
                done |= names
            else:
                draft.miss(better.region.needed[-1], refusal)


@dataclass(frozen=True)
class _Better:
    """A region, the nodes that do the same in less time, and seconds before and after."""

    region: Region
    made: tuple[Rewritten, ...]
    before: float
    after: float

    @property
    def gain(self) -> float:
        return self.before - self.after


def _never(value: Value) -> bool:
    return False


def _better(
    region: Region, draft: Draft, fixed: Callable[[Value], bool], work: Work, least: float = 0.0
) -> _Better | None:
    """A better way for a region, by more than `least` seconds; None where none is found."""
    before = seconds_of(region.nodes, draft, fixed)
    if before < LEAST:
        return None
    found = evaluation(region, draft, fixed, work)
    most = min(WORTH * before, before - LEAST, before - 1.01 * least)
    furthest = most if draft.costs.race is None else TIE * before
    if found.seconds > furthest:
        return None
    if draft.costs.known.get(found.place, 0.0) > furthest:
        return None  # as one of this form, seen before
    last = region.needed[-1]
    try:
        made = rewritten(found, draft)
    except (NotEmitted, NoPolynomial):
        draft.miss(last, "no operators are known that say it otherwise")
        return None
    after = seconds_of([node for one in made for node in one.nodes], draft, fixed)
    draft.costs.known[found.place] = after
    if after > furthest:
        return None
    if not all(one.certificate.holds for one in made):
        draft.miss(last, "the rewritten form is not the same polynomial")
        return None
    if before < TIE * after:
        after = before / _ratio(region, found.place, made, draft, fixed, before / after)
    if after > most:
        return None
    return _Better(region, made, before, after)


def _ratio(
    region: Region,
    place: object,
    made: Sequence[Rewritten],
    draft: Draft,
    fixed: Callable[[Value], bool],
    priced: float,
) -> float:
    """How many times as fast the new nodes are: timed, once for all regions that are alike, or else as
    priced."""
    race, known = draft.costs.race, draft.costs.known
    if race is None:
        return priced
    place = "raced", place, tuple(node.op for node in region.nodes)
    if place not in known:
        known[place] = race(_run(region.nodes, fixed), _run([n for one in made for n in one.nodes], fixed))
    timed: float | None = known[place]
    return priced if timed is None else timed


def _rewrite(better: _Better, draft: Draft) -> None:
    why = f"about {better.before * 1e6:.3g} µs → {better.after * 1e6:.3g} µs"
    roots = {one.root.name for one in better.made}
    inner = [node for node in better.region.nodes if node.name not in roots]  # which only these read
    for one in better.made:
        evidence = f"the same polynomial, but for a chance below {one.certificate.bound:.1g}"
        absorbed = inner if one is better.made[-1] else ()
        draft.replace(
            one.root,
            (one.value,),
            why,
            added=one.nodes,
            absorbed=absorbed,
            evidence=evidence,
            identity=one.statement,
        )


def _against(better: _Better, substitution: Substitution) -> str | None:
    """Why a region stays as it is; None where it need not."""
    memory, region = substitution.memory, better.region
    last = region.needed[-1]
    if any(substitution.changed(node, last) for node in region.nodes):
        return "an operand may be written in between"
    for root in region.needed:
        value = root.results[0]
        reason = substitution.against_gradients(root, root.results)
        if reason is not None:
            return reason
        if memory.storage_written(value) or value.name in memory.reshaped:
            return "the result is written later"
    return None


def _too_large(better: _Better, draft: Draft, fixed: Callable[[Value], bool]) -> str | None:
    """Why the new nodes may not be made, for the memory that they hold at once; None where they may."""
    region, sizes, graph = better.region, draft.costs.sizes, draft.graph
    names = {node.name for node in region.nodes}
    inside = {value.name for node in region.nodes for value in node.results}
    operands = {v.name: v for node in region.nodes for v in node.operands if v.name not in inside}
    dying = [
        value
        for name, value in operands.items()
        if name in graph.producer
        and name not in graph.returned
        and all(user.name in names for user in graph.uses[name])
    ]
    others = sum(map(sizes.bytes, operands.values())) - sum(map(sizes.bytes, dying))
    made = [node for one in better.made for node in one.nodes]
    roots, values = {n.results[0].name for n in region.needed}, {one.value.name for one in better.made}
    before = others + peak_bytes(_run(region.nodes, fixed), roots, sizes, dying)
    after = others + peak_bytes(_run(made, fixed), values, sizes, dying)
    if after <= max(MORE_MEMORY * before, before + FREE_BYTES):
        return None
    return f"it would hold {after / 1e6:.3g} MB at once, and not {before / 1e6:.3g} MB"


def _run(nodes: Sequence[Node], fixed: Callable[[Value], bool]) -> list[Node]:
    """The nodes that calls run: the others depend on what calls do not change."""
    made: set[str] = set()
    for node in nodes:
        if node.operands and all(value.name in made or fixed(value) for value in node.operands):
            made.update(value.name for value in node.results)
    return [node for node in nodes if not {value.name for value in node.results} <= made]
