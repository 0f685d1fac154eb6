"""Which values may be one and the same Python object, as the caller can tell by `is`."""

from graphopt.analysis.geometry import Views
from graphopt.analysis.partition import Partition
from graphopt.ir.graph import Graph, of_nodes


@of_nodes
class Objects:
    """The values of a graph by tensor object: in-place operators return what they wrote, and operators
    such as contiguous hand back what needs no work."""

    def __init__(self, graph: Graph) -> None:
        self._classes = Partition()
        views = graph.analysis(Views)
        for node in graph.nodes:
            for value in node.results:
                handed_back = views.same_object.get(value.name)
                if handed_back is not None:
                    self._classes.unite(value.name, handed_back.name)
                elif not views.follows(value):
                    for operand in node.operands:
                        self._classes.unite(value.name, operand.name)

    def of(self, name: str) -> str:
        """A name that stands for all values that may be the same object."""
        return self._classes.find(name)
