"""Real architectures from small configurations: the same result, state, gradients and random stream.

The whole catalogue runs in `python -m bench.architecture_sweep`; here stands one of each kind.
"""

import pytest
import torch

from bench.architectures import CATALOGUE
from tests.sameness import assert_same

NAMES = [
    "deberta-v2",  # an encoder with relative positions
    "gpt2",
    "llama-step",  # a DynamicCache that forward fills
    "t5-step",  # an EncoderDecoderCache, and encoder outputs as an object
    "mixtral",  # custom operators with a backward of their own
    "mamba",
    "vit",
    "resnet",
    "wav2vec2",
    "clip",
    "gcn",
    "bert-lora",
]


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_through(name: str) -> None:
    architecture = CATALOGUE[name]
    args, kwargs = architecture.example_inputs()
    with torch.no_grad():
        assert_same(architecture.build().eval(), *args, passes=None, **kwargs)


@pytest.mark.parametrize("name", ["bert", "llama", "gin", "convnext"])
def test_it_trains(name: str) -> None:
    architecture = CATALOGUE[name]
    args, kwargs = architecture.example_inputs()
    assert_same(architecture.build().train(), *args, passes=None, backward=True, **kwargs)
