"""One region evaluated in another way: what it costs then, and the nodes that do it, each proven."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from graphopt.algebra.certificate import Certificate, all_of, certificate
from graphopt.algebra.choices import Choice
from graphopt.algebra.emission import Emission, Staged, span_of
from graphopt.algebra.equality import resolved
from graphopt.algebra.fingerprint import Field
from graphopt.algebra.layout import AS_WRITTEN, Loose, reader
from graphopt.algebra.operators import GATHERS
from graphopt.algebra.pieces import Pieces
from graphopt.algebra.polynomial import NoPolynomial, Polynomial, leaf
from graphopt.algebra.pricing import LONGEST_DOT, Prices
from graphopt.algebra.reading import read
from graphopt.algebra.regions import Region
from graphopt.algebra.search import Plan, Search
from graphopt.algebra.showing import Lemma, NotEmitted
from graphopt.algebra.stages import factors_of
from graphopt.algebra.views import rearranged
from graphopt.analysis.contractions import products
from graphopt.analysis.keeping import price
from graphopt.analysis.sizes import Sizes
from graphopt.builder import Builder
from graphopt.draft import Draft
from graphopt.ir.graph import Node, Value
from graphopt.ir.operands import shape_of, tensor_of, type_of
from graphopt.ir.types import TensorType

_LONGEST = 3  # how far indices run in fingerprints that find what is equal; proofs look further


@dataclass(frozen=True)
class Evaluation:
    """Plans for the polynomials of a region's stages, and for its roots, and what they take together, but
    the functions."""

    region: Region
    free: Loose
    stages: tuple[tuple[Plan, ...], ...]
    plans: tuple[Plan, ...]
    seconds: float


@dataclass(frozen=True)
class Rewritten:
    """The value of a root in another way, the nodes that make it, and why it is the same; or that of a
    reader of roots, which is run again for these lie otherwise."""

    root: Node
    value: Value
    nodes: tuple[Node, ...]
    certificate: Certificate
    is_again: bool = False


def longest_sum(region: Region) -> int:
    """The most elements that may be summed up one after the other, as in products that were there."""
    found = (one.k for node in region.nodes for one in products(node, Sizes()))
    return max((LONGEST_DOT, *found))


def _laid_out(region: Region, free: Loose) -> Iterator[TensorType]:
    """The types of the roots that are laid out as parts of larger memory."""
    for root, _ in region.roots:
        kind = type_of(root.results[0])
        if root.results[0].name not in free.roots and span_of(kind) > math.prod(map(int, kind.shape)):
            yield kind


def evaluation(
    region: Region, draft: Draft, fixed: Callable[[Value], bool], free: Loose = AS_WRITTEN
) -> Evaluation:
    """The cheapest way that was found to evaluate a region, some roots of which may lie otherwise."""
    kind = tensor_of(region.roots[0][0].results[0])
    assert kind is not None
    inner = {stage.value.name for stage in region.stages}
    polynomials = [p for stage in region.stages for p in stage.polynomials] + [p for _, p in region.roots]
    leaves = {factor.leaf for p in polynomials for factor in factors_of(p)}
    outer = (value for value in leaves if value.name not in inner)
    names = frozenset() if draft.gradients else frozenset(value.name for value in outer if fixed(value))
    prices = Prices(draft.costs.profile, kind.dtype.itemsize, longest_sum(region))
    search = Search(Pieces(Field(_LONGEST), names), prices)
    stages = tuple(tuple(search.plan(p) for p in stage.polynomials) for stage in region.stages)
    plans = tuple(search.plan(p) for _, p in region.roots)
    costs: dict[bytes, float] = {}
    for plan in (*itertools.chain(*stages), *plans):
        for key, seconds in plan.costs.items():
            costs.setdefault(key, seconds)
    layout = sum(prices.relaid(math.prod(map(int, kind.shape))) for kind in _laid_out(region, free))
    return Evaluation(region, free, stages, plans, sum(costs.values()) + layout)


def rewritten(found: Evaluation, draft: Draft) -> tuple[Rewritten, ...]:
    """The roots of a region, each in the place of its node. Raises NotEmitted, and NoPolynomial where the
    new nodes cannot be proven."""
    staged = {
        stage.value.name: Staged(stage, tuple(plan.piece for plan in plans))
        for stage, plans in zip(found.region.stages, found.stages, strict=True)
    }
    region = found.region
    emission = Emission(draft, [plan.piece for plan in found.plans], staged, longest_sum(region))
    loose = dict[str, Value]()
    known: dict[str, Polynomial] = {}

    def read_back(value: Value) -> Polynomial:
        if value.name in known:
            return known[value.name]
        if not isinstance(value.type, TensorType):
            raise NoPolynomial
        return leaf(value, (int(size) for size in value.type.shape))

    made = []
    lemmas: list[Certificate] = []
    for (root, p), plan in zip(region.roots, found.plans, strict=True):
        value = root.results[0]
        freely = value.name in found.free.roots
        new = emission.nodes(plan.piece, p, root, freely=freely)
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
        made.append(Rewritten(root, new.value, new.nodes, all_of((*proofs, *lemmas))))
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
    nodes, proofs, found = list[Node](), list[Certificate](), list[Rewritten]()
    for one in sorted(made, key=lambda one: place[one.root.name]):
        nodes += one.nodes
        proofs.append(one.certificate)
        if one.root.results[0].name not in loose:
            found.append(replace(one, nodes=tuple(nodes), certificate=all_of(proofs)))
            nodes, proofs = [], []
    return tuple(found)


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
