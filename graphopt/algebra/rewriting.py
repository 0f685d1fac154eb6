"""One region evaluated in another way: what it costs then, and the nodes that do it, each proven."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphopt.algebra.certificate import Certificate, certificate
from graphopt.algebra.emission import Emission, span_of
from graphopt.algebra.fingerprint import Field
from graphopt.algebra.forms import Together
from graphopt.algebra.orders import MOST_WORK
from graphopt.algebra.pieces import Pieces
from graphopt.algebra.polynomial import NoPolynomial, Polynomial, leaf
from graphopt.algebra.pricing import prices_of
from graphopt.algebra.reading import read
from graphopt.algebra.regions import Region
from graphopt.algebra.search import Plan, Search
from graphopt.algebra.statement import statement
from graphopt.analysis.keeping import price
from graphopt.draft import Draft
from graphopt.ir.graph import Graph, Node, State, Value
from graphopt.ir.operands import type_of
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
    polynomials: tuple[Polynomial, ...]
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
        polynomials = together.polynomials(lambda form: form.united)
        known[place] = polynomials, tuple(map(search.plan, polynomials))
        work.take(most - search.left)
    polynomials, plans = known[place]
    costs: dict[bytes, float] = {}
    for plan in plans:
        for key, seconds in plan.costs.items():
            costs.setdefault(key, seconds)
    layout = sum(prices.relaid(math.prod(map(int, kind.shape)), span_of(kind)) for kind in kinds)
    seconds = sum(costs.values()) + layout
    return Evaluation(region, leaves, polynomials, plans, seconds, (place, tuple(kinds)))


def rewritten(found: Evaluation, draft: Draft) -> tuple[Rewritten, ...]:
    """The roots of a region, each in the place of its node. Raises NotEmitted, and NoPolynomial where the
    new nodes cannot be proven."""
    emission = Emission(draft, [plan.piece for plan in found.plans], found.leaves)
    known: dict[str, Polynomial] = {}
    names = _called(found, draft.graph)

    def read_back(value: Value) -> Polynomial:
        if value.name in known:
            return known[value.name]
        if not isinstance(value.type, TensorType):
            raise NoPolynomial
        return leaf(value, (int(size) for size in value.type.shape))

    made = []
    for (root, p), named, plan in zip(found.region.roots, found.polynomials, found.plans, strict=True):
        new = emission.nodes(plan.piece, named, root)
        others = {one.name for one in found.region.needed if one is not root}
        nodes = [node for node in found.region.nodes if node.name not in others]
        for node in new.nodes:
            if new.dense.name not in known:
                known[node.results[0].name] = read(node, read_back, emission.exact)
        said = statement(root, nodes, named, plan.piece, names)
        made.append(Rewritten(root, new.value, new.nodes, certificate(p, read_back(new.dense)), said))
    return tuple(made)


def _called(found: Evaluation, graph: Graph) -> dict[str, str]:
    """What the user calls leaves, by their names in the graph and by their numbers."""
    names = {e.value.name: e.source.path for e in graph.inputs if isinstance(e.source, State)}
    return names | {number: names.get(value.name, value.name) for number, value in found.leaves.items()}


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
