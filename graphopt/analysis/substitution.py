"""When one value may stand for another that holds the same bits."""

from collections.abc import Callable, Iterable, Iterator

from graphopt.analysis.geometry import Views
from graphopt.analysis.memory import Memory
from graphopt.analysis.objects import Objects
from graphopt.ir.graph import Graph, Node, Value, of_nodes
from graphopt.ir.types import TensorType

_BY_REQUIRES_GRAD = ("aten.matmul.default", "aten.linear.default")
"""They fold a batch into a matrix where an operand requires grad, even with gradients off, and multiply batch
by batch where none does: the bits differ. Of torch's other products, none was found to."""


@of_nodes
class _Facts:
    """What is asked of a graph, whatever takes the place of what: names of values, and of objects."""

    def __init__(self, graph: Graph) -> None:
        of = graph.analysis(Objects).of
        self.known = {value.name for value in graph.values}
        self.returned = frozenset(map(of, graph.returned))
        self.inputs = frozenset(of(entry.value.name) for entry in graph.inputs)
        self.asked = frozenset(map(of, _asked_for_requires_grad(graph.nodes)))
        self.has_complex = any(map(_is_complex, graph.values))


class Substitution:
    """What stands against letting other values take the place of a node's results, in one graph.

    A value stands for a *copy*, on memory of its own, or for a *view*, on the same memory; in both cases
    the two hold the same bits where the node stands. It remembers which values took in one that reaches
    the caller, for the caller must not come to hold one storage where eager gives two.
    """

    def __init__(
        self,
        graph: Graph,
        memory: Memory,
        views: Views,
        objects: Objects,
        through: frozenset[str],
        resolve: Callable[[Value], Value],
    ) -> None:
        """`through`: the names of the values whose gradients must stay the same bits. `resolve`: the value
        that stands for a value by now."""
        self.memory = memory
        self.views = views
        self._through = through
        self._resolve = resolve
        self._objects = objects
        self._graph = graph.analysis(_Facts)
        self._callers = {*self._graph.inputs, *self._graph.returned}
        self._reshaped = {self._objects.of(name) for name in memory.reshaped}
        self._handed_out: set[str] = set()

    def against_copy(self, node: Node, values: tuple[Value, ...], since: Node | None = None) -> str | None:
        """Why values, on memory of their own, cannot stand for the node's results; None: they can.
        They hold the same bits once `since`, which does what the node does, has run, or else where the
        node stands."""
        memory, values = self.memory, tuple(map(self._resolve, values))
        if any(value.name not in self._graph.known for value in values):
            return _too_new(values)
        if any(memory.written_after(value, since or node) for value in values):
            return f"like {_names(values)}, which may be written later"
        if any(memory.written_after(value, node) for value in node.results):
            return f"like {_names(values)}, but is written later itself"
        if any(self._is_reshaped(value) for value in (*node.results, *values)):
            return f"like {_names(values)}, but one of the two may be given another shape in place"
        if any(self._reaches_caller(r) and self._held(v) for r, v in self._pairs(node, values)):
            return f"like {_names(values)}, but the caller gets both"
        if since is None and any(
            memory.is_placed(r) and not self.views.is_whole(v) for r, v in self._pairs(node, values)
        ):
            return f"like {_names(values)}, which may be a part of larger memory"
        if self._graph.has_complex and any(map(memory.is_placed, node.results)):
            # A copy is no lazy conjugate, and no lazy negative such as x.conj().imag.
            return f"like {_names(values)}, which may be lazily conjugated"
        return self._against_requires_grad(node, values) or self.against_gradients(node, values)

    def against_view(self, node: Node, values: tuple[Value, ...]) -> str | None:
        """Why values that show the same memory cannot stand for the node's results; None: they can."""
        values = tuple(map(self._resolve, values))
        pairs = list(self._pairs(node, values))
        if all(self._hands_back(r) == v for r, v in pairs):
            return None
        if any(value.name not in self._graph.known for value in values):
            return _too_new(values)
        if any(self._is_reshaped(value) for pair in pairs for value in pair):
            return f"shows what {_names(values)} shows, but one of the two is given another shape in place"
        if any(self._objects.of(r.name) in self._graph.returned and self._is_callers(v) for r, v in pairs):
            return f"shows what {_names(values)} shows, but the caller gets both objects"
        return self._against_requires_grad(node, values) or self.against_gradients(node, values)

    def changed(self, first: Node, second: Node) -> bool:
        """Whether something that `first` reads or makes may be written before `second` runs."""
        return any(
            self.memory.version(value, first) != self.memory.version(value, second)
            for value in (*first.operands, *first.results)
        )

    def note(self, node: Node, values: tuple[Value, ...]) -> None:
        """Remembers that the values now stand for the node's results."""
        for result, value in self._pairs(node, tuple(map(self._resolve, values))):
            if self._reaches_caller(result):
                self._handed_out.add(self.memory.storage(value))
            if self._objects.of(result.name) in self._graph.returned:
                self._callers.add(self._objects.of(value.name))

    def _pairs(self, node: Node, values: tuple[Value, ...]) -> Iterator[tuple[Value, Value]]:
        return zip(node.results, values, strict=True)

    def _reaches_caller(self, value: Value) -> bool:
        return self.memory.escapes(value)

    def _hands_back(self, result: Value) -> Value | None:
        """What stands for the operand that a result is, the very object."""
        operand = self.views.same_object.get(result.name)
        return None if operand is None else self._resolve(operand)

    def _held(self, value: Value) -> bool:
        """Whether the caller holds, or comes to hold, the memory of a value."""
        memory = self.memory
        return (
            memory.storage(value) in self._handed_out
            or memory.storage_escapes(value)
            or memory.is_input(value)
        )

    def _is_reshaped(self, value: Value) -> bool:
        """Whether a node may give the very tensor object, under whatever name, another shape or memory."""
        return self._objects.of(value.name) in self._reshaped

    def _is_callers(self, value: Value) -> bool:
        """Whether the caller holds, or comes to hold, the very tensor object."""
        return self._objects.of(value.name) in self._callers

    def _against_requires_grad(self, node: Node, values: tuple[Value, ...]) -> str | None:
        """Why inputs, which may require grad, cannot stand for results, which do not with gradients off."""
        for result, value in self._pairs(node, values):
            asked = self._objects.of(result.name) in self._graph.asked
            if asked and self._objects.of(value.name) in self._graph.inputs:
                return f"like %{value.name}, which may require grad, by which a product chooses its way"
        return None

    def against_gradients(self, node: Node, values: tuple[Value, ...]) -> str | None:
        """Why a node must stay for the gradients' sake; None: none flows through it."""
        # The sum of the gradients of two values rounds otherwise than that of one value's.
        if any(value.name in self._through for value in node.results):
            return f"like {_names(values)}, but gradients may flow through both"
        return None


def _asked_for_requires_grad(nodes: Iterable[Node]) -> Iterator[str]:
    """The operands of products, and all that a region with one in it reads."""
    for node in nodes:
        if node.op in _BY_REQUIRES_GRAD or any(
            True for region in node.regions for _ in _asked_for_requires_grad(region.nodes)
        ):
            yield from (value.name for value in node.operands)


def _too_new(values: tuple[Value, ...]) -> str:
    return f"like {_names(values)}, of which nothing is known before the next round"


def _names(values: tuple[Value, ...]) -> str:
    return ", ".join(f"%{value.name}" for value in values)


def _is_complex(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype.is_complex
