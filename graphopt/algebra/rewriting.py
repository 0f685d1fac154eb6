"""One region evaluated in another way: what it costs then, and the nodes that do it, each proven."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from graphopt.algebra.bounds import least
from graphopt.algebra.certificate import Certificate, all_of, certificate
from graphopt.algebra.choices import Choice, read_by
from graphopt.algebra.emission import Emission, Staged, span_of
from graphopt.algebra.equality import resolved
from graphopt.algebra.fingerprint import Field
from graphopt.algebra.forms import Together
from graphopt.algebra.gathers import GATHERS
from graphopt.algebra.layout import AS_WRITTEN, Loose, reader
from graphopt.algebra.orders import MOST_WORK
from graphopt.algebra.pieces import Pieces, over_leaves
from graphopt.algebra.polynomial import NoPolynomial, Polynomial, leaf
from graphopt.algebra.pricing import LONGEST_DOT, Prices, prices_of
from graphopt.algebra.reading import read
from graphopt.algebra.regions import Region
from graphopt.algebra.search import Plan, Search
from graphopt.algebra.showing import Lemma, NotEmitted
from graphopt.algebra.stages import factors_of
from graphopt.algebra.statement import statement
from graphopt.algebra.views import rearranged
from graphopt.analysis.contractions import products
from graphopt.analysis.keeping import price
from graphopt.analysis.sizes import Sizes
from graphopt.builder import Builder
from graphopt.draft import Draft
from graphopt.ir.graph import Graph, Node, State, Value
from graphopt.ir.operands import shape_of, type_of
from graphopt.ir.ops import Alias, lookup
from graphopt.ir.types import TensorType

_LONGEST = 3  # how far indices run in fingerprints that find what is equal; proofs look further


WORK_A_NODE = 20
"""Prices that searching a graph may ask for, for each of its nodes, besides those of one region: some 0.2 ms,
where torch.export takes 1.5 ms."""


class Work:
    """What may still be looked at in one graph: counted, not timed, so that decisions are the same always."""

    def __init__(self, graph: Graph) -> None:
        self._left = MOST_WORK + WORK_A_NODE * len(graph.nodes)

    @property
    def most(self) -> int:
        """What one region may take of it."""
        return min(self._left, MOST_WORK)

    def take(self, work: int) -> None:
        """What was looked at."""
        self._left -= work


@dataclass(frozen=True)
class Evaluation:
    """Plans for the polynomials of a region's stages, and for its roots, and what they take together, but
    the functions. The plans are over `leaves` by the names that they have there. `place` is equal for those
    only that the same nodes make, but for names."""

    region: Region
    free: Loose
    leaves: Mapping[str, Value]
    stages: tuple[tuple[Plan, ...], ...]
    plans: tuple[Plan, ...]
    seconds: float
    place: object


@dataclass(frozen=True)
class Rewritten:
    """The value of a root in another way, the nodes that make it, why it is the same, and what that says; or
    that of a reader of roots, which is run again for these lie otherwise."""

    root: Node
    value: Value
    nodes: tuple[Node, ...]
    certificate: Certificate
    statement: str = ""
    is_again: bool = False


def longest_sum(region: Region) -> int:
    """The most elements that may be summed up one after the other, as in products that were there."""
    found = (one.k for node in region.nodes for one in products(node, Sizes()))
    return max((LONGEST_DOT, *found))


def _laid_out(region: Region, free: Loose) -> Iterator[TensorType]:
    """The types of the roots that are laid out as parts of larger memory."""
    for root in region.needed:
        kind = type_of(root.results[0])
        if root.results[0].name not in free.roots and span_of(kind) > math.prod(map(int, kind.shape)):
            yield kind


def evaluation(
    region: Region,
    draft: Draft,
    fixed: Callable[[Value], bool],
    work: Work,
    most: float = math.inf,
    free: Loose = AS_WRITTEN,
) -> Evaluation | None:
    """The cheapest way that was found to evaluate a region, some roots of which may lie otherwise, in at most
    `most` seconds; None where none was found. Regions of one form are searched once, but those with
    polynomials of their own."""
    kinds = [type_of(root.results[0]) for root in region.needed]
    itemsize, longest = kinds[0].dtype.itemsize, longest_sum(region)
    place: object = free.roots, tuple(node.name for node in region.nodes), draft.gradients
    prices, known = prices_of(draft.costs, itemsize, longest), draft.costs.known
    layout = sum(prices.relaid(math.prod(map(int, kind.shape))) for kind in _laid_out(region, free))
    most -= layout
    if region.polynomials:
        inner = {stage.value.name for stage in region.stages}
        staged = [p for stage in region.stages for p in stage.polynomials]
        polynomials = (*staged, *region.polynomials)
        leaves = {value.name: value for p in polynomials for value in map(read_by, factors_of(p))}
        outer = {name: value for name, value in leaves.items() if name not in inner}
        every = _searched(polynomials, _names(outer, draft, fixed), prices, work, most)
    else:
        together = Together.of(region.readings)
        leaves = {str(number): value for number, value in enumerate(together.leaves)}
        names = _names(leaves, draft, fixed)
        form = evaluation, itemsize, longest, names, together.key
        # Where there was none for so much time, there is none for less.
        if known.get(form) is None and most > known.get((form, "most"), -math.inf):
            united = together.polynomials(lambda one: one.united)
            known[form] = _searched(united, names, prices, work, most)
            known[form, "most"] = most
        every = known[form]
        numbers = {value.name: number for number, value in leaves.items()}
        # What is added last is added last again: where it stands in the root counts.
        roots = ((root.op, *(numbers.get(value.name) for value in root.operands)) for root in region.needed)
        place = place if free.roots else (form, tuple(kinds), tuple(roots))
    if every is None:
        return None
    left = iter(every)
    stages = tuple(tuple(itertools.islice(left, len(stage.polynomials))) for stage in region.stages)
    seconds = layout + sum({k: s for plan in reversed(every) for k, s in plan.costs.items()}.values())
    return Evaluation(region, free, leaves, stages, tuple(left), seconds, place)


def _names(leaves: Mapping[str, Value], draft: Draft, fixed: Callable[[Value], bool]) -> frozenset[str]:
    """Those of the leaves that calls do not change."""
    return frozenset() if draft.gradients else frozenset(name for name, v in leaves.items() if fixed(v))


def _searched(
    polynomials: Iterable[Polynomial], fixed: frozenset[str], prices: Prices, work: Work, most: float
) -> tuple[Plan, ...] | None:
    """Plans that take at most `most` seconds together; None where none were found."""
    every, given = [*polynomials], work.most
    bounds = least(every, fixed, prices)
    search = Search(Pieces(Field(_LONGEST), fixed), prices, given)
    plans, costs = list[Plan](), dict[bytes, float]()
    for number, p in enumerate(every):
        left = most - sum(costs.values()) - sum(bounds[number + 1 :])
        if left < bounds[number]:
            break
        plans.append(search.plan(p, left))
        # What was made before costs nothing now.
        costs = {**plans[-1].costs, **costs}
    work.take(given - search.left)
    return tuple(plans) if len(plans) == len(every) and sum(costs.values()) <= most else None


def rewritten(found: Evaluation, draft: Draft) -> tuple[Rewritten, ...]:
    """The roots of a region, each in the place of its node. Raises NotEmitted, and NoPolynomial where the
    new nodes cannot be proven."""
    region = found.region
    pieces = [over_leaves(plan.piece, found.leaves) for plan in found.plans]
    staged = {
        stage.value.name: Staged(stage, tuple(over_leaves(plan.piece, found.leaves) for plan in plans))
        for stage, plans in zip(region.stages, found.stages, strict=True)
    }
    emission = Emission(draft, pieces, staged, longest_sum(region))
    loose = dict[str, Value]()
    known: dict[str, Polynomial] = {}
    names = _called(found, draft.graph)

    def read_back(value: Value) -> Polynomial:
        if value.name in known:
            return known[value.name]
        if not isinstance(value.type, TensorType):
            raise NoPolynomial
        return leaf(value, (int(size) for size in value.type.shape))

    made = []
    lemmas: list[Certificate] = []
    for (root, p), piece in zip(region.roots, pieces, strict=True):
        value = root.results[0]
        freely = value.name in found.free.roots
        new = emission.nodes(piece, p, root, freely=freely)
        proofs = []
        for node in new.nodes:
            name = node.results[0].name
            if new.dense.name in known:
                break  # what follows lays it out
            lemma = emission.lemmas.get(name)
            if lemma is not None and node is not lemma.nodes[-1]:
                continue
            stage, claimed = emission.standing.get(name, (None, None))
            if lemma is not None:
                lemmas.append(proven(lemma, emission.exact))
                known[name] = lemma.applied(read_back(lemma.source))
            elif stage is None or claimed is not None:
                known[name] = read(node, read_back, emission.exact)
            if claimed is not None:
                proofs.append(certificate(claimed, known[name]))
            if stage is not None:
                # What a function makes is what its stage stands for where its operands are those claimed.
                known[name] = leaf(stage, shape_of(stage))
        proofs += [certificate(claim, read_back(value)) for claim, value in emission.claims]
        emission.claims.clear()
        proofs.append(certificate(p, read_back(new.dense)))
        is_said = not region.stages and not any(isinstance(one, Choice) for one in factors_of(p))
        nodes = _seen_through(root, found, draft.graph)
        said = statement(root, nodes, p, piece, names) if is_said else ""
        made.append(Rewritten(root, new.value, new.nodes, all_of((*proofs, *lemmas)), said))
        if freely:
            loose[value.name] = new.value
    for node in found.free.readers:
        build = Builder(draft, node)
        value = reader(node, loose, build)
        if value.type != node.results[0].type:
            raise NotEmitted
        made.append(Rewritten(node, value, tuple(build.nodes), all_of(()), is_again=True))
    if not _choices(region.nodes) <= emission.raising:
        raise NotEmitted  # an index that is out of range would not raise
    return _in_order(made, loose, draft)


def _choices(nodes: Iterable[Node]) -> set[str]:
    """What nodes raise by, if it is out of range."""
    found = set[str]()
    for node in nodes:
        if node.op in GATHERS:
            p = read(node, lambda value: leaf(value, shape_of(value)))
            found.update(factor.leaf.name for factor in factors_of(p) if isinstance(factor, Choice))
    return found


def _in_order(made: Sequence[Rewritten], loose: Mapping[str, Value], draft: Draft) -> tuple[Rewritten, ...]:
    """Without the roots that nothing reads any more: the next one in the graph has their nodes, and proof."""
    place = {node.name: number for number, node in enumerate(draft.graph.nodes)}
    nodes, proofs, said, found = list[Node](), list[Certificate](), list[str](), list[Rewritten]()
    for one in sorted(made, key=lambda one: place[one.root.name]):
        nodes += one.nodes
        proofs.append(one.certificate)
        said.append(one.statement)
        if one.root.results[0].name not in loose:
            statements = "; ".join(filter(None, said))
            found.append(replace(one, nodes=tuple(nodes), certificate=all_of(proofs), statement=statements))
            nodes, proofs, said = [], [], []
    return tuple(found)


def _called(found: Evaluation, graph: Graph) -> dict[str, str]:
    """What the user calls leaves."""
    names = {value.name: value.name for value in found.leaves.values()}
    return names | {e.value.name: e.source.path for e in graph.inputs if isinstance(e.source, State)}


def _seen_through(root: Node, found: Evaluation, graph: Graph) -> list[Node]:
    """The nodes that a root is seen through to its leaves, in order, itself last."""
    leaves = {value.name for value in found.leaves.values()} | {
        one.results[0].name for one in found.region.needed
    }
    region = {node.name for node in found.region.nodes}
    order: dict[str, Node] = {}

    def visit(node: Node) -> None:
        for value in node.operands:
            maker = graph.producer.get(value.name)
            if maker is None or maker.name in order or maker.many or value.name in leaves:
                continue
            if maker.name in region or lookup(maker.op).alias is Alias.VIEW:
                visit(maker)
        order[node.name] = node

    visit(root)
    return [*order.values()]


def proven(lemma: Lemma, exact: Mapping[float, Fraction]) -> Certificate:
    """Whether the nodes of a lemma do what it says: each of its sums on its own, in full. Raises
    NoPolynomial."""
    source = lemma.source
    known = {source.name: leaf(source, shape_of(source))}
    for node in lemma.nodes:
        known[node.results[0].name] = read(node, lambda value: known[value.name], exact)
    wanted, found = lemma.applied(known[source.name]), known[lemma.nodes[-1].results[0].name]
    proofs = []
    for number in range(lemma.sums.count):
        one, other = (
            resolved(rearranged(p, lambda operand: operand.select(lemma.dim, number)))  # noqa: B023
            for p in (wanted, found)
        )
        proofs.append(certificate(one, other, whole=True))
    return proofs[0].with_(proofs[1:])


def seconds_of(nodes: Sequence[Node], draft: Draft, fixed: Callable[[Value], bool]) -> float:
    """What nodes take in a call: those that make what calls do not change take the memory for what the
    others read of it."""
    made: set[str] = set()
    seconds = 0.0
    held: dict[str, Value] = {}
    for node in nodes:
        if node.operands and all(value.name in made or fixed(value) for value in node.operands):
            made.update(value.name for value in node.results)
            continue
        seconds += draft.costs.seconds(node)
        held.update((value.name, value) for value in node.operands if value.name in made)
    return seconds + sum(price(draft.costs.bytes(value), 1) for value in held.values())
