"""Effects of forward that are no operators, which a graph makes at its end: are they made in time?

Where a run raises midway, eager has made those that stand before. A graph that leaves no trace until its
end is given up then, and the original runs (see graphopt.attempt). One that writes memory on its way
cannot be: it must not raise once forward may have made such an effect.
"""

from graphopt.analysis.traces import may_raise, traces
from graphopt.capture.flattened import flattened
from graphopt.capture.foreign import Draws
from graphopt.errors import Unsupported
from graphopt.ir.graph import Graph, Node
from graphopt.ir.structure import Interface


def is_deferred(interface: Interface, draws: Draws) -> bool:
    """Whether forward has effects that the graph makes at its end, or before it starts."""
    return bool(interface.state_writes or interface.object_writes or draws)


def refuse_untimely(graph: Graph, interface: Interface, draws: Draws) -> None:
    """Raises Unsupported where a run may end midway with a trace left and an effect not made in time."""
    if not is_deferred(interface, draws):
        return
    flat = flattened(graph)
    left = traces(flat)
    raising = next((node for node in flat.nodes if may_raise(node)), None) if left else None
    if raising is not None:
        raise Unsupported(
            f"forward {_effect(interface, draws)} and writes in place ({left[0].op}); where {raising.op} "
            "raises, a graph could not tell which of it was done before",
            remedy="write in place with copy_() what is assigned, or return it",
            where=_where(left[0]),
        )


def _effect(interface: Interface, draws: Draws) -> str:
    if interface.state_writes:
        return f"assigns {interface.state_writes[0].name}"
    return "fills an argument" if interface.object_writes else "draws random numbers from outside torch"


def _where(node: Node) -> str:
    return next((f"{origin.file}:{origin.line}" for origin in node.origins if origin.file), node.name)
