"""Finding affine forms in a graph: what around a linear map could be done by its weight."""

from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.affine.channelwise import Channelwise, channelwise
from graphopt.affine.forms import (
    Applied,
    Form,
    Itself,
    Scaled,
    Total,
    input_of,
    margins,
    nodes_of,
    widest,
)
from graphopt.affine.maps import LinearMap, linear_map
from graphopt.analysis.dependence import Dependence
from graphopt.analysis.geometry import Views
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.operands import operands_of
from graphopt.ir.ops import Alias, lookup
from graphopt.ir.types import TensorType

_DEEPEST = 32  # nodes in front of a map, after it, or in a branch; what lies further is taken as it is


@dataclass(frozen=True, slots=True)
class Fold:
    """`root` gives `form`, seen through `views`: nodes that show what is computed in another shape."""

    root: Node
    form: Form
    views: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Prelude:
    """Channelwise nodes, as a form, whose result only linear maps read."""

    form: Scaled
    maps: tuple[LinearMap, ...]


class AffineForms:
    """The linear maps of a graph, and the affine forms that they are the heart of."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._dependence = graph.analysis(Dependence)
        self._views = graph.analysis(Views)
        found = ((node.name, linear_map(node, self._fixed)) for node in graph.nodes)
        self.maps = {name: one for name, one in found if one is not None}
        """By node."""

    def preludes(self) -> Iterator[Prelude]:
        """What stands in front of linear maps and could be done by them."""
        readers: dict[str, list[LinearMap]] = {}
        for one in self.maps.values():
            readers.setdefault(one.x.name, []).append(one)
        for name, maps in readers.items():
            users = self._graph.uses[name]
            if len(users) == len(maps) and name not in self._graph.returned:
                form = self._prelude(maps[0].x, maps)
                if isinstance(form, Scaled):
                    yield Prelude(form, tuple(maps))

    def _prelude(self, x: Value, maps: list[LinearMap]) -> Form:
        channels = {one.channel for one in maps}
        takes_shifts = all(one.window is not None and not any(one.window.padding) for one in maps)
        chain: list[Channelwise] = []
        while len(channels) == 1 and len(chain) < _DEEPEST:
            node = self._graph.producer.get(x.name)
            found = None if node is None else self._channelwise(node, min(channels))
            if found is None or not (takes_shifts or found.only_scales):
                break
            chain.append(found)
            x = found.u
            if self._only_user(x) is None:
                break
        form: Form = Itself(x)
        for one in reversed(chain):
            form = Scaled(form, one)
        return form

    def sources(self, form: Form) -> int:
        """How many tensors that calls do not change it is made from."""
        return len({v.name for node in nodes_of(form) for v in node.operands if self._fixed(v)})

    def fold(self, leaf: LinearMap | Applied) -> Fold:
        """The largest form that grows out of a linear map."""
        core = leaf.map if isinstance(leaf, Applied) else leaf
        form: Form = leaf
        node, views = core.node, tuple[Node, ...]()
        best = Fold(node, form)
        for _ in range(_DEEPEST):
            user = self._only_user(node.results[0])
            if user is None:
                break
            value, node = node.results[0], user
            if self._rearranges(user):
                views = (*views, user)
                continue
            grown = self._grown(form, value, user, core.channel if not views else None)
            if grown is None:
                break
            form = grown
            best = Fold(user, form, views)
        return best

    def _grown(self, form: Form, value: Value, user: Node, channel: int | None) -> Form | None:
        """The form after one more node, which reads its value."""
        step = channelwise(user, value, channel, self._fixed)
        if step is not None:
            return Scaled(form, step)
        return None if channel is None else self._total(user, value, form, channel, 0)

    def _total(self, node: Node, value: Value, form: Form, channel: int, depth: int) -> Form | None:
        """A node that adds a form to another one of the same x."""
        given = operands_of(node)
        if node.op not in _SUMS or set(given) != {"self", "other"}:
            return None
        first, second = given["self"], given["other"]
        assert isinstance(first, Value)
        if not isinstance(second, Value) or first == second or first.type != second.type:
            return None
        other = self._branch(second if value == first else first, channel, depth)
        pair = (form, other) if value == first else (other, form)
        if input_of(form) != input_of(other):
            return None
        total = Total(node, *pair, _SUMS[node.op])
        return total if depth or _fits(total) else None

    def _branch(self, value: Value, channel: int, depth: int) -> Form:
        """The largest form of a value that only its one reader needs."""
        node = self._graph.producer.get(value.name)
        if node is None or self._only_user(value) is None or depth > _DEEPEST:
            return Itself(value)
        if node.name in self.maps:
            found = self.maps[node.name]
            return found if found.channel == channel else Itself(value)
        step = self._channelwise(node, channel)
        if step is not None:
            return Scaled(self._branch(step.u, channel, depth + 1), step)
        if node.op not in _SUMS:
            return Itself(value)
        form = self._branch(node.operands[0], channel, depth + 1)
        return self._total(node, node.operands[0], form, channel, depth + 1) or Itself(value)

    def _channelwise(self, node: Node, channel: int) -> Channelwise | None:
        found = (channelwise(node, value, channel, self._fixed) for value in node.operands)
        return next((one for one in found if one is not None), None)

    def _fixed(self, value: Value) -> bool:
        return self._dependence.is_fixed(value)

    def _only_user(self, value: Value) -> Node | None:
        users = self._graph.uses.get(value.name, ())
        return users[0] if len(users) == 1 and value.name not in self._graph.returned else None

    def _rearranges(self, node: Node) -> bool:
        """Whether a node shows its only tensor's elements in another order or shape, or some of them."""
        if node.many or node.op == "aten._neg_view.default":
            return False  # the last is the one view within a dtype that shows other numbers
        kinds = [v.type for v in (*node.operands, *node.results) if isinstance(v.type, TensorType)]
        if len(kinds) != 2 or kinds[0].dtype != kinds[1].dtype:
            return False
        return lookup(node.op).alias is Alias.VIEW or bool(self._views.sharing(node.results[0]))


_SUMS = {"aten.add.Tensor": 1, "aten.sub.Tensor": -1}


def _fits(form: Form) -> bool:
    """Whether one linear map can do the whole form."""
    return _all_fit(form, widest(form))


def _all_fit(form: Form, wide: LinearMap) -> bool:
    match form:
        case Scaled(inner):
            return _all_fit(inner, wide)
        case Total(_, first, second):
            return _all_fit(first, wide) and _all_fit(second, wide)
        case Itself():
            return margins(None, wide) is not None
        case Applied(map):
            return margins(map, wide) is not None
        case _:
            return margins(form, wide) is not None
