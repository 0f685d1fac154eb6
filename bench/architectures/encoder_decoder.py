"""Sequence-to-sequence models on text and on series of numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bench.architectures.architecture import Architecture, Inputs, MakeInputs, from_config
from bench.architectures.inputs import VOCABULARY, noise, sometimes_padded, together, tokens
from bench.architectures.text_decoders import SPECIAL

_FAMILY = "encoder-decoder"
BART_SIZES: dict[str, Any] = SPECIAL | {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
T5_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}


def source_and_target() -> MakeInputs:
    """Padded source tokens and target tokens of the same length."""
    return together(tokens(), tokens("decoder_input_ids", "decoder_attention_mask"))


def _pair(
    name: str, model: str, settings: dict[str, Any], inputs: MakeInputs | None = None, **more: Any
) -> Architecture:
    make = from_config(model, **(settings | more))
    return Architecture(name, _FAMILY, make, inputs or source_and_target())


def _two_berts() -> nn.Module:
    from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    sizes: dict[str, Any] = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    }
    bert = BertConfig(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, **sizes)
    config = EncoderDecoderConfig.from_encoder_decoder_configs(bert, bert)
    return EncoderDecoderModel(config=config)


def _past_and_future(seed: int, batch: int, length: int) -> Inputs:
    """A univariate series: 8 + 3 lags of past values (3 of them for the lags), `length` to come."""
    generator = torch.Generator().manual_seed(seed)
    past = torch.randn(batch, 11, generator=generator)
    return (), {
        "past_values": past,
        "past_time_features": torch.randn(batch, 11, 2, generator=generator),
        "past_observed_mask": torch.ones_like(past),
        "future_values": torch.randn(batch, 4, generator=generator),
        "future_time_features": torch.randn(batch, 4, 2, generator=generator),
    }


def _series(name: str, model: str, **settings: Any) -> Architecture:
    sizes: dict[str, Any] = {
        "prediction_length": 4,
        "context_length": 8,
        "lags_sequence": [1, 2, 3],
        "num_time_features": 2,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
    }
    return Architecture(name, "time series", from_config(model, **(sizes | settings)), _past_and_future)


def encoder_decoders() -> list[Architecture]:
    """T5 and BART families, prefix and n-gram variants, and two BERTs joined."""
    return [
        _pair("t5", "T5ForConditionalGeneration", T5_SIZES),
        _pair("t5-no-cache", "T5ForConditionalGeneration", T5_SIZES, use_cache=False),
        _pair("t5-gated", "T5ForConditionalGeneration", T5_SIZES, feed_forward_proj="gated-gelu"),
        Architecture("t5-encoder", _FAMILY, from_config("T5EncoderModel", **T5_SIZES), tokens()),
        _pair("mt5", "MT5ForConditionalGeneration", T5_SIZES),
        _pair("umt5", "UMT5ForConditionalGeneration", T5_SIZES),
        _pair("longt5", "LongT5ForConditionalGeneration", T5_SIZES, local_radius=3),
        _pair("bart", "BartForConditionalGeneration", BART_SIZES),
        _pair(
            "bart-mask-by-value",
            "BartForConditionalGeneration",
            BART_SIZES,
            sometimes_padded(source_and_target(), "attention_mask", "decoder_attention_mask"),
        ),
        _pair(
            "bart-loss",
            "BartForConditionalGeneration",
            BART_SIZES,
            together(tokens(), tokens("labels", None)),
        ),
        _pair("mbart", "MBartForConditionalGeneration", BART_SIZES),
        _pair("marian", "MarianMTModel", BART_SIZES),
        _pair("pegasus", "PegasusForConditionalGeneration", BART_SIZES),
        _pair(
            "pegasus-x",
            "PegasusXForConditionalGeneration",
            BART_SIZES,
            block_size=4,
            num_global_tokens=2,
        ),
        _pair("blenderbot", "BlenderbotForConditionalGeneration", BART_SIZES),
        _pair("blenderbot-small", "BlenderbotSmallForConditionalGeneration", BART_SIZES),
        _pair("m2m-100", "M2M100ForConditionalGeneration", BART_SIZES),
        _pair("plbart", "PLBartForConditionalGeneration", BART_SIZES),
        _pair("mvp", "MvpForConditionalGeneration", BART_SIZES),
        _pair(
            "led",
            "LEDForConditionalGeneration",
            BART_SIZES,
            attention_window=4,
            max_encoder_position_embeddings=64,
            max_decoder_position_embeddings=64,
        ),
        _pair(
            "prophetnet",
            "ProphetNetForConditionalGeneration",
            SPECIAL,
            hidden_size=32,
            num_encoder_layers=2,
            num_decoder_layers=2,
            num_encoder_attention_heads=4,
            num_decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=64,
            decoder_start_token_id=1,
        ),
        _pair(
            "fsmt",
            "FSMTForConditionalGeneration",
            BART_SIZES,
            langs=["en", "de"],
            src_vocab_size=VOCABULARY,
            tgt_vocab_size=VOCABULARY,
        ),
        Architecture("bert2bert", _FAMILY, _two_berts, source_and_target()),
    ]


def time_series_models() -> list[Architecture]:
    """Forecasters: transformers over lagged values, and patch models."""
    patches: dict[str, Any] = {
        "context_length": 16,
        "patch_length": 4,
        "patch_stride": 4,
        "prediction_length": 4,
    }
    history = noise("past_values", "batch", 16, 2)
    return [
        _series("time-series-transformer", "TimeSeriesTransformerModel"),
        _series("informer", "InformerModel"),
        _series("autoformer", "AutoformerModel", label_length=4, moving_average=3),
        Architecture(
            "patchtst",
            "time series",
            from_config(
                "PatchTSTForPrediction",
                num_input_channels=2,
                d_model=16,
                num_attention_heads=4,
                num_hidden_layers=2,
                ffn_dim=32,
                **patches,
            ),
            history,
        ),
        Architecture(
            "patchtsmixer",
            "time series",
            from_config(
                "PatchTSMixerForPrediction",
                num_input_channels=2,
                d_model=8,
                num_layers=2,
                **patches,
            ),
            history,
        ),
    ]
