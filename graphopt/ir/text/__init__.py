"""The text form of a graph: `print_graph` and `parse_graph` are inverses.

    graph {
      %x: f32[2, 4] = argument 0
      %w: f32[4, 4] = param "fc.weight"
      %t: f32[4, 4]{1, 4} = aten.t.default(%w)  # "model.py":12 "x @ self.w.t()" in "fc"
      chunk: (%a: f32[1, 4], %b: f32[1, 4]) = aten.chunk.default(%x, 2)
      return %a, %t
    }

Strides stand in braces where they are not row-major, a device where it is not the CPU, a symbolic size
as `<2*s0>`, and `kept` after the type of a value that is kept from call to call. A sub-graph that returns
one value bare ends in `yield`. The same graph prints the same text in every process.
"""

from graphopt.ir.text.expressions import parse_expression
from graphopt.ir.text.parser import parse_graph
from graphopt.ir.text.printer import print_graph, print_node, print_type

__all__ = ["parse_expression", "parse_graph", "print_graph", "print_node", "print_type"]
