"""Graph neural networks of torch_geometric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench.architectures.architecture import Architecture, Inputs

_FAMILY = "graph network"
_FEATURES = 16


def _random_graph(seed: int, batch: int, length: int) -> Inputs:
    """`batch` x `length` nodes with 16 features, and four edges a node: (x, edge_index)."""
    generator = torch.Generator().manual_seed(seed)
    nodes = batch * length
    x = torch.randn(nodes, _FEATURES, generator=generator)
    return (x, torch.randint(nodes, (2, 4 * nodes), generator=generator)), {}


def _graph(name: str, make: Callable[[Any], nn.Module]) -> Architecture:
    """`make` receives `torch_geometric.nn`."""

    def build() -> nn.Module:
        import torch_geometric.nn

        return make(torch_geometric.nn)

    return Architecture(name, _FAMILY, build, _random_graph)


def graph_networks() -> list[Architecture]:
    """Message passing over a random graph: scatter, gather and attention along edges."""
    sizes: dict[str, Any] = {
        "in_channels": _FEATURES,
        "hidden_channels": 32,
        "num_layers": 2,
        "out_channels": 8,
    }
    return [
        _graph("gcn", lambda pyg: pyg.GCN(**sizes)),
        _graph("gcn-batch-norm", lambda pyg: pyg.GCN(norm="batch_norm", dropout=0.2, **sizes)),
        _graph("gat", lambda pyg: pyg.GAT(heads=2, **sizes)),
        _graph("gatv2", lambda pyg: pyg.GAT(v2=True, heads=2, dropout=0.2, **sizes)),
        _graph("gin", lambda pyg: pyg.GIN(**sizes)),
        _graph("graph-sage", lambda pyg: pyg.GraphSAGE(**sizes)),
        _graph("graph-sage-max", lambda pyg: pyg.GraphSAGE(aggr="max", jk="cat", **sizes)),
        _graph("edge-conv", lambda pyg: pyg.EdgeCNN(**sizes)),
        _graph("chebyshev", lambda pyg: pyg.ChebConv(_FEATURES, 8, K=3)),
        _graph("appnp", lambda pyg: pyg.APPNP(K=3, alpha=0.1)),
        _graph("transformer-conv", lambda pyg: pyg.TransformerConv(_FEATURES, 8, heads=2)),
        _graph("light-gcn", lambda pyg: pyg.LGConv()),
        _graph("gated-graph", lambda pyg: pyg.GatedGraphConv(_FEATURES, num_layers=2)),
    ]
