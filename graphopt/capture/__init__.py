"""From a model to a Program: the graph, its interface and the facts it rests on."""

from graphopt.capture.capture import capture
from graphopt.capture.program import Program
from graphopt.capture.sources import as_module

__all__ = ["Program", "as_module", "capture"]
