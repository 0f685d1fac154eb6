"""One region evaluated in another way: what it costs then, and the nodes that do it, each proven."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from graphopt.algebra.certificate import Certificate, certificate
from graphopt.algebra.emission import Emission, span_of
from graphopt.algebra.equality import resolved
from graphopt.algebra.fingerprint import Field
from graphopt.algebra.forms import Together
from graphopt.algebra.orders import MOST_WORK
from graphopt.algebra.pieces import Pieces, over_leaves
from graphopt.algebra.polynomial import NoPolynomial, Polynomial, leaf
from graphopt.algebra.pricing import prices_of
from graphopt.algebra.reading import read
from graphopt.algebra.regions import Region
from graphopt.algebra.search import Plan, Search
from graphopt.algebra.showing import Lemma
from graphopt.algebra.statement import statement
from graphopt.algebra.views import rearranged
from graphopt.analysis.keeping import price
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
    """Plans for the roots of a region, over leaves called by numbers, and what they take together. `place` is
    equal for those that the same nodes make, but for names."""

    region: Region
    leaves: Mapping[str, Value]
    plans: tuple[Plan, ...]
    seconds: float
    place: object


@dataclass(frozen=True)
class Rewritten:
    """A root's value in another way, the nodes that make it, why it is the same, and what that says."""

    root: Node
    value: Value
    nodes: tuple[Node, ...]
    certificate: Certificate
    statement: str


def evaluation(region: Region, draft: Draft, fixed: Callable[[Value], bool], work: Work) -> Evaluation:
    """The cheapest way that was found to evaluate a region; regions of one form are searched once."""
    kinds = [type_of(root.results[0]) for root in region.needed]
    itemsize = kinds[0].dtype.itemsize
    together = Together.of(region.readings)
    leaves = {str(number): value for number, value in enumerate(together.leaves)}
    names = frozenset() if draft.gradients else frozenset(name for name, v in leaves.items() if fixed(v))
    prices, known = prices_of(draft.costs, itemsize), draft.costs.known
    place = evaluation, itemsize, names, together.key
    if place not in known:
        most = work.most
        search = Search(Pieces(Field(_LONGEST), names), prices, most)
        known[place] = tuple(map(search.plan, together.polynomials(lambda form: form.united)))
        work.take(most - search.left)
    plans = known[place]
    costs: dict[bytes, float] = {}
    for plan in plans:
        for key, seconds in plan.costs.items():
            costs.setdefault(key, seconds)
    layout = sum(prices.relaid(math.prod(map(int, kind.shape)), span_of(kind)) for kind in kinds)
    seconds = sum(costs.values()) + layout
    numbers = {value.name: number for number, value in leaves.items()}
    # What is added last is added last again: where it stands in the root counts.
    roots = ((root.op, *(numbers.get(value.name) for value in root.operands)) for root in region.needed)
    return Evaluation(region, leaves, plans, seconds, (place, tuple(kinds), tuple(roots)))


def rewritten(found: Evaluation, draft: Draft) -> tuple[Rewritten, ...]:
    """The roots of a region, each in the place of its node. Raises NotEmitted, and NoPolynomial where the
    new nodes cannot be proven."""
    pieces = [over_leaves(plan.piece, found.leaves) for plan in found.plans]
    emission = Emission(draft, pieces)
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
    for (root, p), piece in zip(found.region.roots, pieces, strict=True):
        new = emission.nodes(piece, p, root)
        for node in new.nodes:
            name = node.results[0].name
            lemma = emission.lemmas.get(name)
            if new.dense.name in known or (lemma is not None and node is not lemma.nodes[-1]):
                continue
            if lemma is not None:
                lemmas.append(proven(lemma, emission.exact))
                known[name] = lemma.applied(read_back(lemma.source))
            else:
                known[name] = read(node, read_back, emission.exact)
        proof = certificate(p, read_back(new.dense)).with_(lemmas)
        said = statement(root, _seen_through(root, found, draft.graph), p, piece, names)
        made.append(Rewritten(root, new.value, new.nodes, proof, said))
    return tuple(made)


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
