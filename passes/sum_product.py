"""Sum-product regions: products and sums of tensors, evaluated in the cheapest way that is found."""

from collections.abc import Callable, Iterable, Iterator

from graphopt.authoring import (
    SMALLEST,
    Better,
    Claim,
    Dependence,
    Draft,
    Instance,
    Instances,
    Memory,
    Narrowing,
    NotGeneral,
    Readings,
    Regions,
    Spelled,
    TensorType,
    Value,
    Work,
    against,
    better_way,
    differentiable,
    instances,
    particular,
    spelled,
    too_large,
)

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
            if not _rewritten_for_all(draft, instances(draft.graph, draft.costs.sizes, least), done):
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


def _by_place(found: Iterable["Better"]) -> dict[str, "Better"]:
    return {better.change.places[-1].node.name: better for better in found}


def _rewritten_at_once(draft: Draft, instance: Instance | None = None) -> list["Better"]:
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
    narrow = [*filter(None, (better_way(block, whole, fixed, work) for block in blocks))]
    known = {block.key for block in blocks}
    gains = [(better.names, better.gain) for better in narrow]
    wide = []
    seen = (region for region in regions.widened() if len(region.nodes) <= MOST_NODES)
    for block in whole.blocks(seen):
        if block.key in known:
            continue
        names = frozenset(node.name for node in block.nodes)
        inside = sum(gain for members, gain in gains if members <= names)
        wide.append(better_way(block, whole, fixed, work, inside))
    memory, substitution = draft.analysis(Memory), beside.substitution()
    done, taken = set[str](), list[Better]()
    for better in (*_in_parts(whole, regions.plain(), fixed), *filter(None, wide), *narrow):
        if done & better.names:
            continue
        refusal = against(better, whole, memory, substitution) or too_large(better, whole, fixed)
        if refusal is None:
            _rewrite(better, draft)
            done |= better.names
            taken.append(better)
        else:
            draft.miss(better.change.places[-1].node, refusal)
    return taken


def _in_parts(whole: Spelled, plain: Regions, fixed: Callable[[Value], bool]) -> Iterator["Better"]:
    """Better ways for what is read in part only: from as far in front as pays."""
    graph = whole.draft.graph
    work = Work(graph)
    for deepest in (None, 1):
        blocks = [*whole.blocks(Narrowing(graph, plain, fixed, deepest))]
        if not blocks:
            return  # nor from nearer by
        yield from filter(None, (better_way(block, whole, fixed, work) for block in blocks))


def _never(value: Value) -> bool:
    return False


def _rewrite(better: Better, draft: Draft) -> None:
    why = f"about {better.before * 1e6:.3g} µs → {better.after * 1e6:.3g} µs"
    bound = sum(one.certificate.bound for one in better.made)
    evidence = f"the same polynomial, but for a chance below {bound:.1g}"
    if better.block.sites:
        names = dict.fromkeys(site.node.op.split(".")[1] for site in better.block.sites)
        evidence = f"{evidence}, with {', '.join(names)} spelled out"
    said = {one.root.name: one.statement for one in better.made}
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
