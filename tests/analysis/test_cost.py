"""FLOPs and bytes of single nodes, by hand."""

import pytest

from graphopt.analysis.cost import Cost, graph_cost, node_cost
from graphopt.ir.text import parse_graph

LINES = {
    "%r: f32[2, 5] = aten.linear.default(%x, %w)": Cost(2 * 2 * 5 * 3, 4 * (6 + 15 + 10)),
    "%r: f32[3, 3] = aten.mm.default(%t, %x)": Cost(2 * 9 * 2, 4 * (6 + 6 + 9)),
    "%r: f32[2, 3] = aten.add.Tensor(%x, %x)": Cost(6, 4 * 18),
    "%r: f32[3, 2]{1, 3} = aten.t.default(%x)": Cost(0, 0),
    "%r: f32[2, 3] = aten.contiguous.default(%x)": Cost(0, 0),
    "%r: f32[3, 2] = aten.contiguous.default(%t)": Cost(6, 4 * 12),
    "%r: f64[2, 3] = aten.to.dtype(%x, torch.float64)": Cost(6, 6 * 4 + 6 * 8),
    "%r: f32[3, 2] = aten.reshape.default(%x, [3, 2])": Cost(0, 0),
    "%r: f32[6] = aten.reshape.default(%t, [6])": Cost(6, 4 * 12),
    "%r: f32[2, 3] = aten.add_.Tensor(%x, %x)": Cost(6, 4 * 18),
    "%r: f32[2, 3] = aten.dropout.default(%x, 0.5, False)": Cost(0, 0),
    '%r: f32[3, 3] = aten.einsum.default("ab,bc->ac", [%q, %q])': Cost(2 * 27, 4 * 27),
}


@pytest.mark.parametrize("line", LINES)
def test_a_node_costs(line: str) -> None:
    graph = parse_graph(
        f"graph {{ %x: f32[2, 3] = argument 0 %t: f32[3, 2]{{1, 3}} = argument 1 %w: f32[5, 3] = argument 2 "
        f"%q: f32[3, 3] = argument 3 "
        f"{line} return %r }}"
    )
    assert node_cost(graph.nodes[0]) == LINES[line]
    assert graph_cost(graph) == LINES[line]
