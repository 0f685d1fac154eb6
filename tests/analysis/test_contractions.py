"""The FLOPs of contractions, against torch's own count of what they call."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from graphopt.analysis.contractions import products
from graphopt.analysis.cost import graph_cost
from graphopt.analysis.sizes import Sizes
from graphopt.capture import as_module, capture
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse_graph


def randn(*shape: int) -> Tensor:
    return torch.zeros(shape)


def attention(**options: Any) -> Callable[..., Tensor]:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options)


CASES: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "mm": (torch.mm, (randn(3, 4), randn(4, 5))),
    "bmm": (torch.bmm, (randn(2, 3, 4), randn(2, 4, 5))),
    "addmm": (torch.addmm, (randn(5), randn(3, 4), randn(4, 5))),
    "baddbmm": (torch.baddbmm, (randn(2, 3, 5), randn(2, 3, 4), randn(2, 4, 5))),
    "matmul, broadcast": (torch.matmul, (randn(6, 1, 3, 4), randn(2, 4, 5))),
    "matmul, folded": (torch.matmul, (randn(6, 2, 3, 4), randn(4, 5))),
    "matmul, vector left": (torch.matmul, (randn(4), randn(4, 5))),
    "matmul, vector left of a batch": (torch.matmul, (randn(4), randn(2, 4, 5))),
    "linear, 1-D": (F.linear, (randn(4), randn(5, 4), randn(5))),
    "linear, 4-D": (F.linear, (randn(2, 2, 3, 4), randn(5, 4))),
    "conv1d, groups": (lambda x, w: F.conv1d(x, w, groups=2), (randn(2, 4, 9), randn(6, 2, 3))),
    "conv2d, same": (lambda x, w: F.conv2d(x, w, padding="same"), (randn(2, 4, 9, 9), randn(6, 4, 3, 3))),
    "conv2d, no batch": (F.conv2d, (randn(4, 9, 9), randn(6, 4, 3, 3))),
    "conv3d": (lambda x, w: F.conv3d(x, w, stride=2), (randn(2, 4, 5, 5, 5), randn(6, 4, 3, 3, 3))),
    "transposed": (lambda x, w: F.conv_transpose2d(x, w, stride=2), (randn(2, 4, 5, 5), randn(4, 6, 3, 3))),
    "transposed, groups": (
        lambda x, w: F.conv_transpose1d(x, w, groups=2), (randn(2, 4, 5), randn(4, 6, 3))
    ),
    "convolution": (
        lambda x, w: torch.convolution(x, w, None, [2], [1], [1], False, [0], 2),
        (randn(2, 4, 9), randn(6, 2, 3))
    ),
    "convolution, transposed": (
        lambda x, w: torch.convolution(x, w, None, [2], [1], [1], True, [0], 2),
        (randn(2, 4, 9), randn(4, 3, 3))
    ),
    "attention, wide": (attention(), (randn(2, 4, 7, 8), randn(2, 4, 9, 8), randn(2, 4, 9, 6))),
    "attention, 3-D": (attention(), (randn(4, 7, 8), randn(4, 9, 8), randn(4, 9, 8))),
    "attention, broadcast": (attention(), (randn(2, 4, 7, 8), randn(1, 1, 9, 8), randn(1, 1, 9, 8))),
    "einsum, batch": (lambda a, b: torch.einsum("bij,bjk->bik", a, b), (randn(2, 3, 4), randn(2, 4, 5))),
    "einsum, chain": (
        lambda a, b, c: torch.einsum("ij, jk, kl -> il", a, b, c), (randn(3, 4), randn(4, 5), randn(5, 6))
    ),
    "einsum, dots": (lambda a, b: torch.einsum("...ij,...jk", a, b), (randn(2, 3, 4), randn(2, 4, 5))),
    "einsum, implicit": (lambda a, b: torch.einsum("ij,jk", a, b), (randn(3, 4), randn(4, 5))),
    "inner": (torch.inner, (randn(3, 4), randn(5, 4))),
    "tensordot": (lambda a, b: torch.tensordot(a, b, 2), (randn(2, 3, 4), randn(3, 4, 5))),
    "multi_dot": (lambda *a: torch.linalg.multi_dot(a), (randn(3, 9), randn(9, 2), randn(2, 6), randn(6, 1))),
    "matrix_power": (lambda a: torch.linalg.matrix_power(a, 5), (randn(4, 4),)),
    "lstm_cell": (nn.LSTMCell(4, 5).requires_grad_(False), (randn(3, 4),)),
    "gru_cell": (nn.GRUCell(4, 5).requires_grad_(False), (randn(3, 4),)),
    "gru": (nn.GRU(4, 5, 2, bidirectional=True).requires_grad_(False), (randn(7, 3, 4),)),
    "rnn": (nn.RNN(4, 5, batch_first=True).requires_grad_(False), (randn(7, 3, 4),)),
    "lstm, projected": (nn.LSTM(4, 5, proj_size=3).requires_grad_(False), (randn(7, 3, 4),)),
}  # fmt: skip

# What torch.utils.flop_counter does not count, by hand.
UNCOUNTED: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], int]] = {
    "mv": (torch.mv, (randn(3, 4), randn(4)), 2 * 12),
    "matmul, vectors": (torch.matmul, (randn(4), randn(4)), 2 * 4),
    "matmul, vector right": (torch.matmul, (randn(2, 3, 4), randn(4)), 2 * 24),
    "linear, one output": (F.linear, (randn(2, 3, 4), randn(4)), 2 * 24),
    "vecdot": (torch.linalg.vecdot, (randn(3, 4), randn(3, 4)), 2 * 12),
    "addbmm": (torch.addbmm, (randn(3, 5), randn(2, 3, 4), randn(2, 4, 5)), 2 * 2 * 60),
    "bilinear": (F.bilinear, (randn(3, 4), randn(3, 5), randn(6, 4, 5)), 2 * 3 * 6 * 20),
    "lstm": (nn.LSTM(4, 5).requires_grad_(False), (randn(7, 3, 4),), 2 * 21 * 20 * (4 + 5)),
    "attention": (attention(), (randn(2, 4, 7, 8),) * 3, 2 * 2 * 8 * 7 * 7 * 8),
    "attention, grouped": (
        attention(enable_gqa=True), (randn(2, 4, 7, 8), randn(2, 2, 9, 8), randn(2, 2, 9, 8)),
        2 * 2 * 8 * 7 * 9 * 8,
    ),
    "einsum, elementwise": (lambda a, b: torch.einsum("ij,ij->ij", a, b), (randn(3, 4), randn(3, 4)), 2 * 12),
    "einsum, sums first": (lambda a, b: torch.einsum("ij,kl->k", a, b), (randn(3, 4), randn(5, 6)), 2 * 5),
}  # fmt: skip


def captured(function: Callable[..., Any], args: tuple[Tensor, ...]) -> Graph:
    model = function if isinstance(function, nn.Module) else lambda *args: function(*args)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return capture(as_module(model), args, {}, None).graph


def counted(graph: Graph) -> int:
    return sum(product.flops for node in graph.nodes for product in products(node, Sizes()))


@pytest.mark.parametrize("name", CASES)
def test_flops_are_those_that_torch_counts(name: str) -> None:
    function, args = CASES[name]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(*args)
    assert counter.get_total_flops() > 0
    assert counted(captured(function, args)) == counter.get_total_flops()


@pytest.mark.parametrize("name", UNCOUNTED)
def test_flops_by_hand(name: str) -> None:
    function, args, flops = UNCOUNTED[name]
    assert counted(captured(function, args)) == flops


def test_einsum_follows_its_path() -> None:
    text = (
        "graph { %a: f32[3, 4] = argument 0 %b: f32[4, 5] = argument 1 %c: f32[5, 6] = argument 2 "
        '%r: f32[3, 6] = aten.einsum.default("ij,jk,kl->il", [%a, %b, %c], path=[1, 2, 0, 1]) return %r }'
    )
    assert counted(parse_graph(text)) == 2 * 4 * 5 * 6 + 2 * 3 * 4 * 6


def test_a_symbolic_size_counts_as_it_is_known() -> None:
    graph = parse_graph(
        "graph { %x: f32[<s0>, 3] = argument 0 %w: f32[5, 3] = argument 1 "
        "%r: f32[<s0>, 5] = aten.linear.default(%x, %w) return %r }"
    )
    assert graph_cost(graph).flops == 2 * 15
    assert graph_cost(graph, Sizes({"s0": 7})).flops == 2 * 7 * 15
    assert graph_cost(graph, Sizes({"s0": 7})).bytes == 4 * (7 * 3 + 15 + 7 * 5)
