"""`Architecture`: one model of the catalogue, how it is built, and inputs of any seed and size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of one call."""
MakeInputs = Callable[[int, int, int], Inputs]
"""(seed, batch, length) -> the arguments; the same three give the same bits."""


@dataclass(frozen=True)
class Architecture:
    """A real architecture made small: random weights, no download, well under a second a call.

    `example` and `other` are two (batch, length) that the model accepts; length is what the family
    counts in: tokens, pixels of a side, audio samples or frames, graph nodes.
    """

    name: str
    family: str
    make: Callable[[], nn.Module]
    inputs: MakeInputs
    example: tuple[int, int] = (2, 8)
    other: tuple[int, int] = (3, 12)

    def build(self, seed: int = 0) -> nn.Module:
        """A fresh model in eval mode; `seed` decides its weights. The caller's random stream stays.

        Every weight gets noise and running statistics leave (0, 1): with the biases of zero and
        norm weights of one that models start from, a rewrite that forgets them would go unseen.
        """
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model = self.make()
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    parameter.add_(0.05 * torch.randn_like(parameter))
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(0.0, 0.1)
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 1.5)
        return model.eval()

    def example_inputs(self, seed: int = 0) -> Inputs:
        """Inputs of the shape that the model is captured with."""
        return self.inputs(seed, *self.example)

    def other_inputs(self, seed: int = 0) -> Inputs:
        """Inputs of another batch, and of another length where the model has one."""
        return self.inputs(seed, *self.other)


def from_config(model: str, **settings: Any) -> Callable[[], nn.Module]:
    """A builder for the transformers class `model` from its own config class and `settings`."""

    def make() -> nn.Module:
        import transformers

        model_class = getattr(transformers, model)
        made: nn.Module = model_class(model_class.config_class(**settings))
        return made

    return make
