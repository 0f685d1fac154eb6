"""Models under parameter-efficient fine-tuning (peft), adapters not merged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from bench.architectures.architecture import Architecture, from_config
from bench.architectures.inputs import VOCABULARY, tokens
from bench.architectures.text_decoders import GROUPED

_FAMILY = "adapter"


def _adapted(base: Callable[[], nn.Module], config: str, **settings: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import peft

        adapted: nn.Module = peft.get_peft_model(base(), getattr(peft, config)(**settings))
        return adapted

    return make


def adapted_models() -> list[Architecture]:
    """LoRA and relatives on a small Llama and a small BERT."""
    llama = from_config("LlamaForCausalLM", **GROUPED)
    bert = from_config(
        "BertModel",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    lora: dict[str, Any] = {"r": 4, "lora_alpha": 8}
    attention: dict[str, Any] = {"target_modules": ["q_proj", "v_proj"]}
    variants: dict[str, tuple[Callable[[], nn.Module], str, dict[str, Any]]] = {
        "llama-lora": (llama, "LoraConfig", lora | attention),
        "llama-lora-dropout": (llama, "LoraConfig", lora | attention | {"lora_dropout": 0.1}),
        "llama-dora": (llama, "LoraConfig", lora | attention | {"use_dora": True}),
        "llama-ia3": (
            llama,
            "IA3Config",
            {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
        ),
        "bert-lora": (bert, "LoraConfig", lora | {"target_modules": ["query", "value"]}),
        "bert-loha": (bert, "LoHaConfig", {"r": 4, "target_modules": ["query", "value"]}),
    }
    return [
        Architecture(name, _FAMILY, _adapted(base, config, **settings), tokens())
        for name, (base, config, settings) in variants.items()
    ]
