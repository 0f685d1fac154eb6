"""Decoding steps: models that receive a cache of keys and values and hand back a longer one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bench.architectures.architecture import Architecture, Inputs, MakeInputs, from_config
from bench.architectures.encoder_decoder import BART_SIZES, T5_SIZES
from bench.architectures.inputs import VOCABULARY
from bench.architectures.text_decoders import GROUPED, SPECIAL

_FAMILY = "decoding step"


def _filled(generator: torch.Generator, layers: int, *shape: int) -> Any:
    """A `DynamicCache` holding random keys and values of `shape` in each layer."""
    from transformers import DynamicCache

    def states() -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return DynamicCache([(states(), states()) for _ in range(layers)])


def _words(generator: torch.Generator, batch: int, new: int = 2) -> torch.Tensor:
    return torch.randint(4, VOCABULARY, (batch, new), generator=generator)


def _decoder_step(heads: int, head_size: int, new: int = 2) -> MakeInputs:
    """`new` tokens after `length` cached ones."""

    def make(seed: int, batch: int, length: int) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        return (), {
            "input_ids": _words(generator, batch, new),
            "attention_mask": torch.ones(batch, length + new, dtype=torch.long),
            "past_key_values": _filled(generator, 2, batch, heads, length, head_size),
        }

    return make


def _encoder_decoder_step(wrap: Callable[[torch.Tensor], Any]) -> MakeInputs:
    """Two new target tokens after `length`, with the encoder's keys and values cached as well."""

    def make(seed: int, batch: int, length: int) -> Inputs:
        from transformers import EncoderDecoderCache

        generator = torch.Generator().manual_seed(seed)
        own = _filled(generator, 2, batch, 4, length, 8)
        cross = _filled(generator, 2, batch, 4, length + 3, 8)
        return (), {
            "encoder_outputs": wrap(torch.randn(batch, length + 3, 32, generator=generator)),
            "attention_mask": torch.ones(batch, length + 3, dtype=torch.long),
            "decoder_input_ids": _words(generator, batch),
            "past_key_values": EncoderDecoderCache(own, cross),
        }

    return make


def _as_model_output(states: torch.Tensor) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=states)


def decoding_steps() -> list[Architecture]:
    """One step of generation with `DynamicCache` or `EncoderDecoderCache` in and out."""
    gpt: dict[str, Any] = SPECIAL | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    both = _encoder_decoder_step(_as_model_output)
    plain = _encoder_decoder_step(lambda states: (states,))
    return [
        Architecture("llama-step", _FAMILY, from_config("LlamaForCausalLM", **GROUPED), _decoder_step(2, 8)),
        Architecture(
            "llama-step-one-token",
            _FAMILY,
            from_config("LlamaForCausalLM", **GROUPED),
            _decoder_step(2, 8, new=1),
        ),
        Architecture(
            "qwen3-step",
            _FAMILY,
            from_config("Qwen3ForCausalLM", head_dim=8, **GROUPED),
            _decoder_step(2, 8),
        ),
        Architecture("gpt2-step", _FAMILY, from_config("GPT2LMHeadModel", **gpt), _decoder_step(4, 8)),
        Architecture(
            "mixtral-step",
            _FAMILY,
            from_config("MixtralForCausalLM", num_local_experts=4, **GROUPED),
            _decoder_step(2, 8),
        ),
        Architecture("t5-step", _FAMILY, from_config("T5ForConditionalGeneration", **T5_SIZES), both),
        Architecture("bart-step", _FAMILY, from_config("BartForConditionalGeneration", **BART_SIZES), both),
        Architecture(
            "bart-step-tuple",
            _FAMILY,
            from_config("BartForConditionalGeneration", **BART_SIZES),
            plain,
        ),
    ]
