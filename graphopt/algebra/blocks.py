"""What is decided together: regions, and the operators that are spelled out for them.

A fused attention between two regions is worth taking apart only if both are evaluated otherwise then, and
the whole takes less time. So operators are spelled out in a graph beside the one that stands; regions there
that an operator's parts lie in form one block; and a block is taken as a whole, or nothing of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from graphopt.algebra.expansions import may_pay, spelled_out
from graphopt.algebra.regions import Region
from graphopt.algebra.rewriting import Rewritten
from graphopt.algebra.spelling import NotSpelled
from graphopt.analysis.partition import Partition
from graphopt.analysis.substitution import Substitution
from graphopt.builder import Builder
from graphopt.draft import Draft
from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Graph, Node, Value, replace_values
from graphopt.ir.operands import shape_of
from graphopt.ir.ops import Alias, lookup


@dataclass(frozen=True)
class Site:
    """A node of a graph, the nodes that it is spelled out as, and what stands for its results there."""

    node: Node
    made: tuple[Node, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Spelled:
    """A draft, and one beside it in whose graph some nodes are spelled out: the same one where none is."""

    given: Draft
    draft: Draft
    sites: tuple[Site, ...] = ()
    _site_of: dict[str, Site] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._site_of.update((node.name, site) for site in self.sites for node in site.made)

    def site_of(self, node: Node) -> Site | None:
        """The site that a node of the spelled graph belongs to; None where it stands in the given one."""
        return self._site_of.get(node.name)

    def standing(self, node: Node) -> Node:
        """The node of the given graph that one of the spelled graph is, or is a part of."""
        site = self.site_of(node)
        return node if site is None else site.node

    def blocks(self, regions: Iterable[Region]) -> Iterator["Block"]:
        """The regions in groups, in the order of their first ones."""
        together = Partition()
        groups: dict[str, list[Region]] = {}
        found = [*regions]
        sites = [self._touched(region) for region in found]
        for touched in sites:
            for other in touched[1:]:
                together.unite(touched[0].node.name, other.node.name)
        for number, (region, touched) in enumerate(zip(found, sites, strict=True)):
            key = together.find(touched[0].node.name) if touched else f"{number}"
            groups.setdefault(key, []).append(region)
        by_region = dict(zip(map(id, found), sites, strict=True))
        for members in groups.values():
            every = {site.node.name: site for one in members for site in by_region[id(one)]}
            yield Block(tuple(members), tuple(every.values()))

    def _touched(self, region: Region) -> list[Site]:
        sites = filter(None, map(self.site_of, region.nodes))
        return [*{site.node.name: site for site in sites}.values()]


@dataclass(frozen=True)
class Block:
    """Regions of a spelled graph, and the sites that some of their nodes belong to."""

    regions: tuple[Region, ...]
    sites: tuple[Site, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All that it is about, of the spelled graph."""
        every = (
            *(n for region in self.regions for n in region.nodes),
            *(n for s in self.sites for n in s.made),
        )
        return tuple({node.name: node for node in every}.values())

    @property
    def key(self) -> tuple[frozenset[str], frozenset[str]]:
        """Equal for blocks of the same nodes, of the same of which the results are needed."""
        roots = frozenset(root.name for region in self.regions for root in region.needed)
        return frozenset(node.name for node in self.nodes), roots


@dataclass(frozen=True)
class Place:
    """A node that goes, what stands for its results, and the nodes that make that."""

    node: Node
    values: tuple[Value, ...]
    added: tuple[Node, ...]


@dataclass(frozen=True)
class Change:
    """What a block makes of the given graph: nodes that others take the place of, in order, and nodes that
    nothing reads then."""

    places: tuple[Place, ...]
    absorbed: tuple[Node, ...]
    removed: tuple[Node, ...]
    """The nodes that need not run any more, in order: all of these, and what only dead code reads."""
    last: Node
    """The node of the spelled graph where the last of all this comes to stand."""
    again: tuple[Node, ...] = ()
    """The nodes that have places, and are run again there, of what lies otherwise in memory."""


def spelled(draft: Draft) -> Spelled:
    """The draft's graph with all spelled out that may pay."""
    candidates = [node for node in draft.graph.nodes if may_pay(node) and draft.denial(node) is None]
    if not candidates:
        return Spelled(draft, draft)
    substitution, beside, sites = draft.substitution(), draft.beside(), list[Site]()
    for node in candidates:
        build = Builder(beside, like=node)
        try:
            _check(node, substitution)
            values = spelled_out(node, build)
        except (NotSpelled, InvalidGraph) as error:
            draft.miss(node, f"is not spelled out: {error}")
            continue
        sites.append(Site(node, tuple(build.nodes), values))
        beside.replace(node, values, "", added=build.nodes)
    beside.finish()
    return Spelled(draft, beside, tuple(sites))


def _check(node: Node, substitution: Substitution) -> None:
    """Raises NotSpelled where a caller could tell."""
    memory = substitution.memory
    if any(map(memory.storage_written, node.results)):
        raise NotSpelled("a result is written later")
    reason = substitution.against_gradients(node, node.results)
    if reason is not None:
        raise NotSpelled(reason)
    handed = (value for value in node.results if memory.storage_escapes(value))
    if lookup(node.op).alias is Alias.FRESH and any(1 in shape_of(value) for value in handed):
        # Along sizes of one, torch's shape functions tell of other strides than its kernels give.
        raise NotSpelled("the caller gets it, and its strides are not known")


def change(block: Block, spelled: Spelled, made: Sequence[Rewritten]) -> Change:
    """What rewriting roots of a block, in the spelled graph, comes to in the given one."""
    return _Change(block, spelled, made).found()


class _Change:
    def __init__(self, block: Block, spelled: Spelled, made: Sequence[Rewritten]) -> None:
        self._block, self._spelled = block, spelled
        self._made = {one.root.name: one for one in made}
        # What other sites are spelled out for stands as it is in the given graph.
        mine = {site.node.name for site in block.sites}
        others = [site for site in spelled.sites if site.node.name not in mine]
        self._values = {
            value.name: result
            for site in others
            for value, result in zip(site.values, site.node.results, strict=True)
        }
        self._values.update((one.root.results[0].name, one.value) for one in made)
        # Of roots that lie otherwise, only readers are made.
        alone = not block.sites
        regions = [r for r in block.regions if alone or any(root.name in self._made for root in r.needed)]
        self._gone = {node.name: node for region in regions for node in region.nodes}
        self._last = {site.made[-1].name: site for site in block.sites if site.made}

    def found(self) -> Change:
        """Goes through the block's nodes in order; what is made waits for the next place."""
        graph = self._spelled.draft.graph
        again = [one.root for one in self._made.values() if one.is_again]
        members = {node.name for node in (*self._block.nodes, *again)}
        places, waiting, last = list[Place](), list[Node](), self._block.nodes[-1]
        gone = [node for node in self._gone.values() if self._spelled.site_of(node) is None]
        gone += [site.node for site in self._block.sites]
        for node in (node for node in graph.nodes if node.name in members):
            before, one, site = len(places), self._made.get(node.name), self._spelled.site_of(node)
            if one is not None:
                waiting += (_reading(new, self._values) for new in one.nodes)
                if site is None:
                    places.append(Place(node, (one.value,), tuple(waiting)))
                    waiting.clear()
            elif site is not None:
                waiting.append(_reading(node, self._values))
            ended = self._last.get(node.name)
            if ended is not None and self._is_read(ended, graph):
                values = tuple(self._values.get(value.name, value) for value in ended.values)
                places.append(Place(ended.node, values, tuple(waiting)))
                waiting.clear()
            last = node if len(places) > before else last
        places = _needed(places)
        order = {node.name: i for i, node in enumerate(self._spelled.given.graph.nodes)}
        removed = tuple(sorted(gone, key=lambda node: order[node.name]))
        return Change(tuple(places), self._absorbed(removed, places), removed, last, tuple(again))

    def _is_read(self, site: Site, graph: Graph) -> bool:
        """Whether something that stands reads a result."""
        names = {value.name for value in site.values}
        readers = [user for name in names for user in graph.uses.get(name, ())]
        outside = (u for u in readers if u.name not in self._gone and self._spelled.site_of(u) is None)
        return bool(names & {*graph.returned}) or any(True for _ in outside)

    def _absorbed(self, removed: Sequence[Node], places: Sequence[Place]) -> tuple[Node, ...]:
        """The nodes that go and have no place, but for those that what is added still reads."""
        graph = self._spelled.given.graph
        gone = {place.node.name for place in places}
        read = {value.name for place in places for node in place.added for value in node.operands}
        read |= {value.name for place in places for value in place.values} | {*graph.returned}
        found = []
        for node in reversed(removed):
            results = [value.name for value in node.results]
            users = {user.name for name in results for user in graph.uses.get(name, ())}
            if node.name not in gone and not read & {*results} and users <= gone:
                gone.add(node.name)
                found.append(node)
        return tuple(reversed(found))


def _reading(node: Node, values: dict[str, Value]) -> Node:
    """A node that reads other values."""
    if not any(value.name in values for value in node.operands):
        return node
    args = tuple(replace_values(arg, values) for arg in node.args)
    kwargs = tuple((name, replace_values(arg, values)) for name, arg in node.kwargs)
    return Node(node.name, node.op, args, kwargs, node.results, node.many, node.origins)


def _needed(places: Sequence[Place]) -> list[Place]:
    """The places without nodes that nothing reads."""
    read = {value.name for place in places for value in place.values}
    found = list[Place]()
    for place in reversed(places):
        kept = list[Node]()
        for node in reversed(place.added):
            if any(value.name in read for value in node.results):
                kept.append(node)
                read.update(value.name for value in node.operands)
        found.append(Place(place.node, place.values, tuple(reversed(kept))))
    return found[::-1]
