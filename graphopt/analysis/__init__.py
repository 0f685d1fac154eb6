"""Pure functions of a graph: memory, equal values, cost."""
