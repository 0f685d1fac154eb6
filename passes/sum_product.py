"""Sum-product regions: products and sums of tensors, evaluated in the cheapest way that is found."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from graphopt.authoring import (
    AS_WRITTEN,
    SMALLEST,
    Block,
    Change,
    Claim,
    Dependence,
    Draft,
    Effect,
    Evaluation,
    Graph,
    Instance,
    Instances,
    Loose,
    Narrowing,
    Node,
    NoPolynomial,
    NotEmitted,
    NotGeneral,
    Readings,
    Region,
    Regions,
    Rewritten,
    Spelled,
    Substitution,
    TensorType,
    Value,
    Work,
    change,
    differentiable,
    effect_of,
    evaluation,
    general,
    instances,
    laid_freely,
    particular,
    peak_bytes,
    rewritten,
    seconds_of,
    spelled,
)

WORTH = 0.8
"""What another evaluation may take of the time at most."""
LEAST = 5e-6
EVEN = 0.98
"""What one of several regions that are judged together may take of its own."""
TIE = 2.0
"""How far apart the prices of two ways may be that are timed, where ties are settled so."""
MORE_MEMORY, FREE_BYTES = 1.5, 1 << 20
"""How many times the bytes that a block holds at once, its operands among them, another evaluation of it may
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
    3. What is read in part is computed there only: through functions of elements or rows, and gathers.
    4. Where it may pay, operators are spelled out as others: attention as two products around a softmax.
       Then what becomes of all regions that they have a part in is taken together, or nothing of it.
    5. The new nodes are read back, and must be the same polynomial at random points of a finite field.
    6. Symbolic sizes are numbers for all this, once and once again: what is found and proven both times,
       but for the numbers, is taken.

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
        """Rewrites the graph; one with symbolic sizes as two with numbers for them would be."""
        if draft.is_settled(_is_floating):
            return
        if not draft.graph.symbols:
            _rewritten_at_once(draft)
            return
        done = set[str]()
        for least in SMALLEST:
            draft.missed = [one for one in draft.missed if one.pass_name != self.name]
            apart = instances(draft.graph, draft.costs.sizes, least)
            if apart is None or not _rewritten_for_all(draft, apart, done):
                return


def _rewritten_for_all(draft: Draft, apart: Instances, done: set[str]) -> bool:
    """Rewrites a graph with symbols, but for nodes that are `done`, as two with numbers for them would be.
    Whether something would be rewritten in one, and not or otherwise in the other."""
    one, other = (draft.beside(instance.graph) for instance in (apart.first, apart.second))
    first = _by_place(_rewritten_at_once(one, apart.first))
    second = _by_place(_rewritten_at_once(other, apart.second))
    nodes = {node.name: node for node in draft.graph.nodes}
    differing = []
    for name, better in first.items():
        if done & better.names:
            continue
        try:
            _rewrite(better.general(second[name], apart, draft), draft)
            done |= better.names
        except (KeyError, NotGeneral):
            differing.append(nodes[name])
    for missed in one.missed:
        draft.miss(nodes[missed.node.name], missed.why_not)
    for node in differing:
        draft.miss(node, "it would be done another way at other sizes")
    return bool(differing)


def _is_floating(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype.is_floating_point


def _by_place(found: Iterable["_Better"]) -> dict[str, "_Better"]:
    return {better.change.places[-1].node.name: better for better in found}


def _rewritten_at_once(draft: Draft, instance: Instance | None = None) -> list["_Better"]:
    """Rewrites a graph without symbols: wide regions first; those in them, where these do not gain more. What
    holds in an `instance` of one with symbols only stays as it is."""
    whole = spelled(draft)
    beside = whole.draft
    dependence = beside.analysis(Dependence)
    fixed = _never if draft.gradients else dependence.is_fixed
    left = beside.analysis(differentiable) if draft.gradients else frozenset[str]()
    readings = draft.costs.known.setdefault(Readings, Readings())
    stays = frozenset[str]() if instance is None else particular(whole, instance, readings)
    regions = Regions(beside.graph, readings, left | stays)
    work = Work(beside.graph)
    blocks = [*whole.blocks(regions)]
    narrow = [*filter(None, (_better(block, whole, fixed, work) for block in blocks))]
    known = {block.key for block in blocks}
    gains = [(better.names, better.gain) for better in narrow]
    wide = []
    seen = (region for region in regions.widened() if len(region.nodes) <= MOST_NODES)
    for block in whole.blocks(seen):
        if block.key in known:
            continue
        names = frozenset(node.name for node in block.nodes)
        inside = sum(gain for members, gain in gains if members <= names)
        wide.append(_better(block, whole, fixed, work, inside))
    given = draft.substitution()
    there = given if beside is draft else beside.substitution()
    done, taken = set[str](), list[_Better]()
    for better in (*_in_parts(whole, regions.plain(), fixed), *filter(None, wide), *narrow):
        if done & better.names:
            continue
        refusal = _against(better, whole, given, there) or _too_large(better, whole, fixed)
        if refusal is None:
            _rewrite(better, draft)
            done |= better.names
            taken.append(better)
        else:
            draft.miss(better.change.places[-1].node, refusal)
    return taken


def _in_parts(whole: Spelled, plain: Regions, fixed: Callable[[Value], bool]) -> Iterator["_Better"]:
    """Better ways for what is read in part only: from as far in front as pays."""
    graph = whole.draft.graph
    work, done = Work(graph), set[str]()
    for deepest in (None, 1):
        blocks = [*whole.blocks(Narrowing(graph, plain, fixed, deepest))]
        if not blocks:
            return  # nor from nearer by
        for block in blocks:
            is_done = any(node.name in done for node in block.nodes)
            better = None if is_done else _better(block, whole, fixed, work)
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

    def general(self, other: "_Better", apart: Instances, draft: Draft) -> "_Better":
        """For all sizes, of what this is in one instance, and another in the other. Raises NotGeneral."""
        if len(self.made) != len(other.made):
            raise NotGeneral
        made = zip(self.made, other.made, strict=True)
        return replace(
            self,
            change=general(self.change, other.change, apart, draft),
            made=tuple(replace(a, statement=apart.said(a.statement, b.statement)) for a, b in made),
        )

    def gone(self, whole: Spelled) -> list[Node]:
        """The nodes that need not run any more as they do, in order, and what only shows them something."""
        shown = {node.name for region in self.block.regions for node in region.shown}
        shown |= {node.name for node in (*self.change.removed, *self.change.again)}
        return [node for node in whole.given.graph.nodes if node.name in shown]

    @property
    def added(self) -> list[Node]:
        """The new nodes, in order."""
        return [node for place in self.change.places for node in place.added]


def _never(value: Value) -> bool:
    return False


def _better(
    block: Block, whole: Spelled, fixed: Callable[[Value], bool], work: Work, least: float = 0.0
) -> _Better | None:
    """A better way for a block, by more than `least` seconds; None where none is found."""
    ways = [*filter(None, (_evaluated(one, block, whole, fixed, work, least) for one in block.regions))]
    made = tuple(one for _, roots in ways for one in roots)
    if not made:
        return None
    found = change(block, whole, made)
    if not found.places:
        return None
    before = seconds_of(found.removed, whole.draft, fixed)
    after = seconds_of([node for place in found.places for node in place.added], whole.draft, fixed)
    after -= seconds_of(found.again, whole.draft, fixed)
    better = _Better(block, made, found, before, after)
    close = before / TIE < after <= TIE * before
    # What is run again is in no form.
    if close and not found.again:
        places = [one.place for one, _ in ways]
        place = None if None in places else (tuple(places), tuple(node.op for node in found.removed))
        better = _timed(better, place, whole, fixed)
    return better if better.after <= _most(before, least) else None


def _most(before: float, least: float) -> float:
    return min(WORTH * before, before - LEAST, before - 1.01 * least)


def _timed(better: _Better, place: object, whole: Spelled, fixed: Callable[[Value], bool]) -> _Better:
    """With the seconds after as timing says, once for all blocks that are alike, which have one `place`: or
    else as priced."""
    race = whole.draft.costs.race
    known = {} if place is None else whole.draft.costs.known
    place = "raced", place
    if race is not None and place not in known:
        known[place] = race(_run(better.gone(whole), fixed), _run(better.added, fixed))
    timed: float | None = known.get(place)
    return better if timed is None else replace(better, after=better.before / timed)


def _evaluated(
    region: Region,
    block: Block,
    whole: Spelled,
    fixed: Callable[[Value], bool],
    work: Work,
    least: float,
) -> tuple[Evaluation, tuple[Rewritten, ...]] | None:
    """A region's roots in another way; None where none is found that takes less of its time. Where operators
    are spelled out, whatever a region gains may count: it is the block that has to gain enough."""
    draft = whole.draft
    before = seconds_of((*region.shown, *region.nodes), draft, fixed)
    if before < LEAST:
        return None
    most = max(WORTH, EVEN) * before if block.sites else _most(before, least)
    if draft.costs.race is not None and not block.sites:
        most = TIE * before
    found = evaluation(region, draft, fixed, work, _free(region, block, whole))
    seen = 0.0 if found.place is None else draft.costs.known.get(found.place, 0.0)
    if max(found.seconds, seen) > most:
        return None  # or as one of this form, seen before
    last = whole.standing(region.needed[-1])
    try:
        made = rewritten(found, draft)
    except (NotEmitted, NoPolynomial):
        whole.given.miss(last, "no operators are known that say it otherwise")
        return None
    after = seconds_of([node for one in made for node in one.nodes], draft, fixed)
    after -= seconds_of([one.root for one in made if one.is_again], draft, fixed)
    if found.place is not None:
        draft.costs.known[found.place] = after
    if after > most:
        return None
    if not all(one.certificate.holds for one in made):
        whole.given.miss(last, "the rewritten form is not the same polynomial")
        return None
    return found, made


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
    said = {one.root.name: one.statement for one in better.made if one.statement}
    for place in better.change.places:
        is_last = place is better.change.places[-1]
        own = said.pop(place.node.name, "")
        draft.replace(
            place.node,
            place.values,
            why,
            added=place.added,
            absorbed=better.change.absorbed if is_last else (),
            redone=[node for node in better.change.again if node is place.node],
            evidence=evidence,
            # Roots within what is spelled out have no place of their own.
            identity="; ".join(filter(None, (*said.values(), own))) if is_last else own,
        )


def _against(better: _Better, whole: Spelled, given: Substitution, beside: Substitution) -> str | None:
    """Why a block stays as it is; None where it need not. Either all of its places are taken, or none."""
    if any(beside.changed(node, better.change.last) for node in better.block.nodes):
        return "an operand may be written in between"
    if any(effect_of(node) is Effect.RAISES for node in better.block.nodes) and _is_between(better, whole):
        return "what is done in between would not be done before it raises"
    regions = () if better.block.sites else better.block.regions  # with sites, each root has a place
    roots = (root for region in regions for root in region.needed)
    for node in {node.name: node for node in (*roots, *(p.node for p in better.change.places))}.values():
        reason = given.against_gradients(node, node.results) or whole.given.denial(node)
        if reason is not None:
            return reason
        for value in node.results:
            if given.memory.storage_written(value) or value.name in given.memory.reshaped:
                return "the result is written later"
    return None


def _too_large(better: _Better, whole: Spelled, fixed: Callable[[Value], bool]) -> str | None:
    """Why the new nodes may not be made, for the memory that they hold at once; None where they may."""
    graph, sizes = whole.given.graph, whole.given.costs.sizes
    gone = better.gone(whole)
    operands, dying = _operands(gone, graph)
    others = sum(map(sizes.bytes, operands)) - sum(map(sizes.bytes, dying))
    places = better.change.places
    roots = {value.name for place in places for value in place.node.results}
    values = {value.name for place in places for value in place.values}
    before = others + peak_bytes(_run(gone, fixed), roots, sizes, dying)
    after = others + peak_bytes(_run(better.added, fixed), values, sizes, dying)
    if after <= max(MORE_MEMORY * before, before + FREE_BYTES):
        return None
    return f"it would hold {after / 1e6:.3g} MB at once, and not {before / 1e6:.3g} MB"


def _operands(nodes: Sequence[Node], graph: Graph) -> tuple[list[Value], list[Value]]:
    """What nodes read that they do not make; and of this, what the graph makes for them alone."""
    names, made = {node.name for node in nodes}, {value.name for node in nodes for value in node.results}
    read = {v.name: v for node in nodes for v in node.operands if v.name not in made}
    kept = graph.returned | {name for name in read if {user.name for user in graph.uses[name]} - names}
    return [*read.values()], [v for name, v in read.items() if name in graph.producer and name not in kept]


def _run(nodes: Sequence[Node], fixed: Callable[[Value], bool]) -> list[Node]:
    """The nodes that calls run: the others depend on what calls do not change."""
    made: set[str] = set()
    for node in nodes:
        if node.operands and all(value.name in made or fixed(value) for value in node.operands):
            made.update(value.name for value in node.results)
    return [node for node in nodes if not {value.name for value in node.results} <= made]


def _is_between(better: _Better, whole: Spelled) -> bool:
    """Whether anything happens between a block's first node and its last place, but values being made."""
    names = {node.name for node in better.block.nodes}
    order = whole.draft.graph.nodes
    places = [place for place, node in enumerate(order) if node.name in names | {better.change.last.name}]
    others = (node for node in order[places[0] : places[-1]] if node.name not in names)
    return any(effect_of(node) is not Effect.NONE for node in others)
