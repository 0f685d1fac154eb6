"""A run of a graph that may be given up: it leaves nothing behind, and the original makes the call.

Forward may end midway, with some of its effects made and others not; a graph makes those that are no
operators (attributes assigned, arguments filled, streams seeded) at its end. So where a run that made no
other effect raises, random states are put back as they were and the original raises, after the effects
that it makes until then. The same goes for a run that meets a branch which falls otherwise than at
capture, or finds that a kept value cannot be computed, which comes before anything else in a call.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from graphopt.analysis.traces import traces
from graphopt.cache.derived import NotDerived
from graphopt.capture.deferred import is_deferred
from graphopt.capture.flattened import flattened
from graphopt.capture.program import Program
from graphopt.ir.branch import TOOK, OtherBranch
from graphopt.ir.graph import Graph, Node
from graphopt.ir.ops import Effect, effect_of
from graphopt.ir.types import TensorType

_PATIENCE = 8  # runs that may be given up in vain before the graph must prove its worth


class GivenUp(Exception):
    """A run was given up, and left nothing behind. `raised` tells whether it was for an exception."""

    def __init__(self, reason: str, raised: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.raised = raised


class Attempts:
    """Runs one program, such that a run may be given up."""

    def __init__(self, program: Program) -> None:
        self._draws = program.draws
        graphs = [flattened(graph) for graph in (program.graph, program.training) if graph is not None]
        nodes = [node for graph in graphs for node in _nodes(graph)]
        self.asks_within = any(node.op == TOOK for node in nodes) or bool(program.draws.comparisons)
        undone = is_deferred(program.interface, program.draws) and not any(map(traces, graphs))
        self._causes = (Exception,) if undone else (OtherBranch, NotDerived)
        moves = undone or self.asks_within or bool(program.draws)
        self._states = list(_states(program, nodes)) if moves else []
        self.are_needed = moves or any(
            one is not None and one.kept for one in (program.graph, program.training)
        )
        self._balance = _PATIENCE

    @property
    def are_in_vain(self) -> bool:
        """Whether more runs were given up than went through."""
        return self._balance < 0

    def over(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """The run that raises GivenUp where it has to be given up."""
        if not self.are_needed:
            return run
        states, draws, causes = self._states, self._draws, self._causes

        def attempt(*args: Any, **kwargs: Any) -> Any:
            before = [read() for read, _ in states]
            try:
                draws.repeat()
                self._balance -= 1
                result = run(*args, **kwargs)
                draws.settle()
            except causes as error:
                for (_, put_back), state in zip(states, before, strict=True):
                    put_back(state)
                other = isinstance(error, OtherBranch)
                reason = str(error) if other else f"the graph raises {type(error).__name__}: {error}"
            else:
                self._balance = min(self._balance + 2, _PATIENCE)
                return result
            raise GivenUp(reason, not other)  # with no context: the original may raise next

        return attempt


def _nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for region in node.regions:
            yield from _nodes(region)


def _states(program: Program, nodes: list[Node]) -> Iterator[tuple[Callable[[], Any], Callable[[Any], None]]]:
    """How to read, and put back, the states of the random streams that a run may move."""
    for stream in program.draws.streams:
        yield stream.state, stream.put_back
    if not any(effect_of(node) in (Effect.RANDOM, Effect.OPAQUE) for node in nodes):
        return
    yield torch.get_rng_state, torch.set_rng_state
    values = [entry.value for entry in program.graph.inputs] + [v for node in nodes for v in node.results]
    devices = {value.type.device for value in values if isinstance(value.type, TensorType)}
    for device in devices:
        module = None if device.type in ("cpu", "meta") else torch.get_device_module(device)
        if module is not None:
            yield _reading(module, device), _putting_back(module, device)


def _reading(module: Any, device: torch.device) -> Callable[[], Any]:
    return lambda: module.get_rng_state(device)


def _putting_back(module: Any, device: torch.device) -> Callable[[Any], None]:
    return lambda state: module.set_rng_state(state, device)
