"""What modules write, and the modules of torch, are eager's."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.capture.kept.examples import F, X
from tests.sameness import assert_same


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.tied = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4)
        self.other.weight = self.tied.weight
        self.register_buffer("count", torch.zeros(()))
        self.last = torch.zeros(2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        y = self.other(self.tied(self.norm(x)))
        self.last = y.detach()
        return y * self.count


@pytest.mark.parametrize("training", [True, False])
def test_buffers_attributes_and_statistics_are_written(training: bool, passes: Any) -> None:
    model = Stateful().train(training)
    opt = assert_same(model, X, backward=True, passes=passes)
    result = opt(X)
    assert torch.equal(model.last, result / model.count)
    assert opt.module.last is model.last


class Reassigned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.count = torch.cat([self.count, self.count.new_ones(1)])[1:]
        return x, self.count


def test_a_buffer_that_forward_replaces_is_replaced_not_overwritten(passes: Any) -> None:
    model = Reassigned()
    first = model.count
    opt = assert_same(model, X, passes=passes)
    assert model.count is first
    _, returned = opt(X)
    assert model.count is returned
    assert torch.equal(first, torch.zeros(2))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_modules_go_through(kind: Any, passes: Any) -> None:
    assert_same(kind(4, 5, 2, dropout=0.5), torch.randn(3, 2, 4), backward=True, passes=passes)


def test_the_fused_path_of_transformer_layers_is_taken_where_eager_takes_it(passes: Any) -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    assert_same(model, torch.randn(2, 3, 8), passes=passes)
    with torch.no_grad():
        opt = assert_same(model, torch.randn(2, 3, 8), passes=passes)
    assert any("_transformer_encoder_layer_fwd" in node.op for node in opt.graph.nodes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_grouped_products_are_kept_with_the_strides_of_their_kernels(passes: Any, dtype: torch.dtype) -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.weight = nn.Parameter(torch.randn(2, 7, 8, dtype=dtype))

        def forward(self, x: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = F.grouped_mm(x, self.weight.transpose(1, 2), offs=ends)
            return y, y.contiguous(), y.detach().reshape(-1)

    x, ends = torch.randn(6, 8).to(dtype), torch.tensor([2, 6], dtype=torch.int32)
    assert_same(
        Experts(), x, ends, passes=passes, backward=True, other=(x, torch.tensor([3, 6], dtype=torch.int32))
    )
