"""Analyses are pure functions of a graph: each is computed once for a graph."""

from collections.abc import Callable
from typing import TypeVar

from graphopt.ir.graph import Graph

_Analysis = TypeVar("_Analysis")


def known(graph: Graph, kind: Callable[[Graph], _Analysis]) -> _Analysis:
    """What an analysis finds out about a graph."""
    if kind not in graph.analyses:
        graph.analyses[kind] = kind(graph)
    found: _Analysis = graph.analyses[kind]
    return found
