"""The text difference of two graphs, in the IR's own text."""

import difflib

from graphopt.ir.graph import Graph
from graphopt.ir.text import print_graph


def diff_text(before: Graph, after: Graph) -> str:
    """A unified diff; empty where the graphs are equal. Source lines are left out."""
    return "\n".join(
        difflib.unified_diff(
            print_graph(before, origins=False).splitlines(),
            print_graph(after, origins=False).splitlines(),
            "before",
            "after",
            lineterm="",
        )
    )
