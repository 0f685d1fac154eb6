"""An optimised module inside a training loop: the same loss curve, with no call to graphopt in between."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

import graphopt
from graphopt.module import serving_of


class SimplifiedLSTM(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(8, 16, batch_first=True)
        self.head = torch.nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.lstm(x)
        return self.head(hidden[:, -1])


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
    "fused adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, fused=True),
}


def _curve(
    run: Callable[..., Any], parameters: Any, optimizer: str, batches: list[Any], loss: Callable[..., Any]
) -> list[float]:
    """The loss of every step, and every 20 steps that without gradients too."""
    chosen = OPTIMIZERS[optimizer](parameters)
    curve = []
    torch.manual_seed(0)
    for step, (given, target) in enumerate(batches):
        chosen.zero_grad()
        value = loss(run(given), target)
        value.backward()
        chosen.step()
        curve.append(value.item())
        if step % 20 == 0:
            with torch.no_grad():
                curve.append(loss(run(given), target).item())
    return curve


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_lstm_trains_along_the_same_curve(optimizer: str) -> None:
    torch.manual_seed(1)
    batches = [(x := torch.randn(4, 6, 8), x.mean((1, 2))[:, None]) for _ in range(200)]
    model = SimplifiedLSTM()
    twin = copy.deepcopy(model)
    opt = graphopt.optimize(model, (batches[0][0],), measure=False)
    expected = _curve(twin, twin.parameters(), optimizer, batches, torch.nn.functional.mse_loss)
    found = _curve(opt.module, opt.module.parameters(), optimizer, batches, torch.nn.functional.mse_loss)
    assert found == expected
    assert expected[-1] < expected[0]
    assert serving_of(opt.module).variants


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_bert_trains_along_the_same_curve(optimizer: str) -> None:
    torch.manual_seed(1)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=50
    )
    batches = [(torch.randint(0, 50, (4, 8)), torch.randint(0, 2, (4,))) for _ in range(200)]
    model = BertForSequenceClassification(config).train()
    twin = copy.deepcopy(model)
    opt = graphopt.optimize(model, (batches[0][0],), measure=False)

    def loss(outputs: Any, target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs.logits, target)

    expected = _curve(twin, twin.parameters(), optimizer, batches, loss)
    assert _curve(opt.module, opt.module.parameters(), optimizer, batches, loss) == expected
    assert serving_of(opt.module).variants
