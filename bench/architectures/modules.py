"""What torch.nn itself brings: recurrent layers, transformers, and a small network of each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench.architectures.architecture import Architecture, Inputs

_FAMILY = "torch.nn"
_WIDTH = 16


def _sequence(seed: int, batch: int, length: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(batch, length, _WIDTH, generator=generator),), {}


def _two_sequences(seed: int, batch: int, length: int) -> Inputs:
    source, target = _sequence(seed, batch, length), _sequence(seed + 100, batch, length - 2)
    return (*source[0], *target[0]), {}


def _image(seed: int, batch: int, length: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(batch, 3, length, length, generator=generator),), {}


def _padded_sequence(seed: int, batch: int, length: int) -> Inputs:
    padding = torch.zeros(batch, length, dtype=torch.bool)
    padding[1:, -2:] = True
    return _sequence(seed, batch, length)[0], {"src_key_padding_mask": padding}


def _attention_inputs(seed: int, batch: int, length: int) -> Inputs:
    query, memory = _two_sequences(seed, batch, length)[0]
    return (query, memory, memory), {}


def _module(
    name: str,
    make: Callable[[], nn.Module],
    inputs: Callable[[int, int, int], Inputs] = _sequence,
    example: tuple[int, int] = (2, 8),
    other: tuple[int, int] = (3, 12),
) -> Architecture:
    return Architecture(name, _FAMILY, make, inputs, example, other)


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, groups=2),
        nn.GroupNorm(4, 16),
        nn.SiLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, 4),
    )


def torch_modules() -> list[Architecture]:
    """nn.RNN, GRU, LSTM, Transformer and their parts, and plain stacks of layers."""
    sizes: dict[str, Any] = {"dim_feedforward": 32, "batch_first": True}

    def layer() -> nn.TransformerEncoderLayer:
        return nn.TransformerEncoderLayer(_WIDTH, 4, **sizes)

    return [
        _module("mlp", lambda: nn.Sequential(nn.Linear(_WIDTH, 32), nn.GELU(), nn.Linear(32, 8))),
        _module("convolutions", _convolutions, _image, (2, 16), (3, 24)),
        _module("rnn", lambda: nn.RNN(_WIDTH, 32, num_layers=2, batch_first=True)),
        _module("gru", lambda: nn.GRU(_WIDTH, 32, num_layers=2, batch_first=True, dropout=0.1)),
        _module("lstm", lambda: nn.LSTM(_WIDTH, 32, num_layers=2, batch_first=True, dropout=0.1)),
        _module(
            "lstm-bidirectional",
            lambda: nn.LSTM(_WIDTH, 32, bidirectional=True, batch_first=True),
        ),
        _module("lstm-projected", lambda: nn.LSTM(_WIDTH, 32, proj_size=8, batch_first=True)),
        _module(
            "multihead-attention",
            lambda: nn.MultiheadAttention(_WIDTH, 4, batch_first=True),
            _attention_inputs,
        ),
        _module("transformer-encoder-layer", layer),
        _module(
            "transformer-encoder",
            lambda: nn.TransformerEncoder(layer(), 2, enable_nested_tensor=False),
        ),
        _module(
            "transformer-encoder-padded",
            lambda: nn.TransformerEncoder(layer(), 2),
            _padded_sequence,
        ),
        _module(
            "transformer-decoder",
            lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(_WIDTH, 4, **sizes), 2),
            _two_sequences,
        ),
        _module(
            "transformer",
            lambda: nn.Transformer(_WIDTH, 4, num_encoder_layers=2, num_decoder_layers=2, **sizes),
            _two_sequences,
        ),
    ]
