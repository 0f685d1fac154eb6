"""Running a graph node by node, each value freed after its last use."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphopt.ir.graph import Arg, Graph, Node, Value, values_in
from graphopt.ir.literal import Lit
from graphopt.ir.resolve import resolve, spelled


class Interpreter:
    """Runs graphs as they stand; a subclass changes what a node does."""

    def run(self, graph: Graph, inputs: Sequence[Any]) -> list[Any]:
        """The outputs for the values of the graph's inputs, in order. Raises what a node raises."""
        env = {entry.value.name: value for entry, value in zip(graph.inputs, inputs, strict=True)}
        last = last_uses(graph)
        for node in graph.nodes:
            results = self.execute(node, env)
            env.update(zip((value.name for value in node.results), results, strict=True))
            for name in last.get(node.name, ()):
                env.pop(name, None)
        return [self.operand(output, env) for output in graph.outputs]

    def execute(self, node: Node, env: Mapping[str, Any]) -> Sequence[Any]:
        """The results of one node on the values in `env`."""
        args = [self.operand(arg, env) for arg in node.args]
        kwargs = {name: self.operand(arg, env) for name, arg in node.kwargs}
        return self.call(node, resolve(node.op), args, kwargs)

    def call(
        self, node: Node, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Sequence[Any]:
        """The results of an operator on run-time operands."""
        result = function(*args, **kwargs)
        return tuple(result) if node.many else (result,)

    def operand(self, arg: Arg, env: Mapping[str, Any]) -> Any:
        """What an operand stands for at run time."""

        def of(leaf: Arg) -> Any:
            match leaf:
                case Value():
                    return env[leaf.name]
                case Lit():
                    return leaf.value
                case Graph():
                    return self._region(leaf)

        return spelled(arg, of)

    def _region(self, graph: Graph) -> Callable[..., Any]:
        def region(*inputs: Any) -> Any:
            outputs = self.run(graph, inputs)
            return outputs[0] if graph.bare else tuple(outputs)

        return region


def last_uses(graph: Graph) -> dict[str, list[str]]:
    """The values that nothing reads after a node, by the node's name."""
    kept = {value.name for output in graph.outputs for value in values_in(output)}
    found: dict[str, list[str]] = {}
    seen = set(kept)
    for node in reversed(graph.nodes):
        for value in (*node.operands, *node.results):
            if value.name not in seen:
                seen.add(value.name)
                found.setdefault(node.name, []).append(value.name)
    return found
