"""The catalogue of architectures that the sweep runs: `CATALOGUE` maps a name to its entry."""

from __future__ import annotations

from bench.architectures.adapters import adapted_models
from bench.architectures.architecture import Architecture, Inputs
from bench.architectures.audio import audio_models
from bench.architectures.convolution import convolutional_networks
from bench.architectures.detection import detectors
from bench.architectures.encoder_decoder import encoder_decoders, time_series_models
from bench.architectures.experts import mixtures_of_experts
from bench.architectures.graphs import graph_networks
from bench.architectures.modules import torch_modules
from bench.architectures.multimodal import contrastive_pairs, fusion_models
from bench.architectures.state_space import state_space_models
from bench.architectures.steps import decoding_steps
from bench.architectures.text_decoders import text_decoders
from bench.architectures.text_encoders import text_encoders
from bench.architectures.vision import vision_transformers

__all__ = ["CATALOGUE", "Architecture", "Inputs"]


def _catalogue() -> dict[str, Architecture]:
    groups = [
        torch_modules(),
        text_encoders(),
        text_decoders(),
        encoder_decoders(),
        mixtures_of_experts(),
        state_space_models(),
        decoding_steps(),
        adapted_models(),
        vision_transformers(),
        convolutional_networks(),
        detectors(),
        audio_models(),
        contrastive_pairs(),
        fusion_models(),
        time_series_models(),
        graph_networks(),
    ]
    catalogue: dict[str, Architecture] = {}
    for architecture in (entry for group in groups for entry in group):
        if architecture.name in catalogue:
            raise ValueError(f"two architectures are named {architecture.name!r}")
        catalogue[architecture.name] = architecture
    return catalogue


CATALOGUE: dict[str, Architecture] = _catalogue()
