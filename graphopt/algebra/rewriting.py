"""One region evaluated in another way: what it costs then, and the nodes that do it, each proven."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from graphopt.algebra.certificate import Certificate, certificate
from graphopt.algebra.emission import Emission, span_of
from graphopt.algebra.equality import resolved
from graphopt.algebra.fingerprint import Field
from graphopt.algebra.pieces import Pieces
from graphopt.algebra.polynomial import NoPolynomial, Polynomial, leaf
from graphopt.algebra.pricing import Prices
from graphopt.algebra.reading import read
from graphopt.algebra.regions import Region
from graphopt.algebra.search import Plan, Search
from graphopt.algebra.showing import Lemma
from graphopt.algebra.views import rearranged
from graphopt.analysis.keeping import price
from graphopt.draft import Draft
from graphopt.ir.graph import Node, Value
from graphopt.ir.operands import shape_of, tensor_of
from graphopt.ir.types import TensorType

_LONGEST = 3  # how far indices run in fingerprints that find what is equal; proofs look further


@dataclass(frozen=True)
class Evaluation:
    """Plans for the roots of a region, and what they take together."""

    region: Region
    plans: tuple[Plan, ...]
    seconds: float


@dataclass(frozen=True)
class Rewritten:
    """A root's value in another way, the nodes that make it, and why it is the same."""

    root: Node
    value: Value
    nodes: tuple[Node, ...]
    certificate: Certificate


def evaluation(region: Region, draft: Draft, fixed: Callable[[Value], bool]) -> Evaluation:
    """The cheapest way that was found to evaluate a region."""
    kind = tensor_of(region.roots[0][0].results[0])
    assert kind is not None
    leaves = {f.leaf for _, p in region.roots for term in p.terms for f in term.factors}
    names = frozenset() if draft.gradients else frozenset(value.name for value in leaves if fixed(value))
    prices = Prices(draft.costs.profile, kind.dtype.itemsize)
    search = Search(Pieces(Field(_LONGEST), names), prices)
    plans = tuple(search.plan(p) for _, p in region.roots)
    costs: dict[bytes, float] = {}
    for plan in plans:
        for key, seconds in plan.costs.items():
            costs.setdefault(key, seconds)
    kinds = [kind for root, _ in region.roots if (kind := tensor_of(root.results[0])) is not None]
    layout = sum(prices.relaid(math.prod(map(int, kind.shape)), span_of(kind)) for kind in kinds)
    return Evaluation(region, plans, sum(costs.values()) + layout)


def rewritten(found: Evaluation, draft: Draft) -> tuple[Rewritten, ...]:
    """The roots of a region, each in the place of its node. Raises NotEmitted, and NoPolynomial where the
    new nodes cannot be proven."""
    emission = Emission(draft, [plan.piece for plan in found.plans])
    known: dict[str, Polynomial] = {}

    def read_back(value: Value) -> Polynomial:
        if value.name in known:
            return known[value.name]
        if not isinstance(value.type, TensorType):
            raise NoPolynomial
        return leaf(value, (int(size) for size in value.type.shape))

    made = []
    lemmas: list[Certificate] = []
    for (root, p), plan in zip(found.region.roots, found.plans, strict=True):
        new = emission.nodes(plan.piece, p, root)
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
        made.append(Rewritten(root, new.value, new.nodes, proof))
    return tuple(made)


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
