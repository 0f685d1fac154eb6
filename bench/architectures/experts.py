"""Mixtures of experts: tokens are routed, so shapes inside depend on values."""

from __future__ import annotations

from typing import Any

from bench.architectures.architecture import Architecture, from_config
from bench.architectures.inputs import VOCABULARY, together, tokens
from bench.architectures.text_decoders import GROUPED, SPECIAL, decoder

_FAMILY = "mixture of experts"


def mixtures_of_experts() -> list[Architecture]:
    """Decoders with routed feed-forward layers, and the encoder-decoders of the kind."""
    four: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
    wide: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    latent: dict[str, Any] = {
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    }
    return [
        decoder("mixtral", "MixtralForCausalLM", GROUPED, family=_FAMILY, **four),
        decoder(
            "qwen2-moe",
            "Qwen2MoeForCausalLM",
            GROUPED,
            family=_FAMILY,
            shared_expert_intermediate_size=16,
            **wide,
        ),
        decoder("qwen3-moe", "Qwen3MoeForCausalLM", GROUPED, family=_FAMILY, head_dim=8, **wide),
        decoder(
            "olmoe",
            "OlmoeForCausalLM",
            GROUPED,
            family=_FAMILY,
            num_experts=4,
            num_experts_per_tok=2,
        ),
        decoder("phimoe", "PhimoeForCausalLM", GROUPED, family=_FAMILY, **four),
        decoder("granitemoe", "GraniteMoeForCausalLM", GROUPED, family=_FAMILY, **four),
        decoder("jetmoe", "JetMoeForCausalLM", GROUPED, family=_FAMILY, kv_channels=8, **four),
        decoder("gpt-oss", "GptOssForCausalLM", GROUPED, family=_FAMILY, head_dim=8, **four),
        decoder("deepseek-v2", "DeepseekV2ForCausalLM", GROUPED, family=_FAMILY, **latent),
        decoder("deepseek-v3", "DeepseekV3ForCausalLM", GROUPED, family=_FAMILY, **latent),
        decoder(
            "ernie4.5-moe",
            "Ernie4_5_MoeForCausalLM",
            GROUPED,
            family=_FAMILY,
            moe_num_experts=4,
            moe_k=2,
            moe_intermediate_size=16,
            moe_layer_start_index=1,
        ),
        Architecture(
            "switch-transformers",
            _FAMILY,
            from_config(
                "SwitchTransformersForConditionalGeneration",
                vocab_size=VOCABULARY,
                d_model=32,
                d_kv=8,
                d_ff=64,
                num_layers=2,
                num_decoder_layers=2,
                num_sparse_encoder_layers=1,
                num_sparse_decoder_layers=1,
                num_heads=4,
                num_experts=4,
                decoder_start_token_id=0,
            ),
            together(tokens(), tokens("decoder_input_ids", None)),
        ),
        Architecture(
            "nllb-moe",
            _FAMILY,
            from_config(
                "NllbMoeForConditionalGeneration",
                **SPECIAL,
                d_model=32,
                encoder_layers=2,
                decoder_layers=2,
                encoder_attention_heads=4,
                decoder_attention_heads=4,
                encoder_ffn_dim=64,
                decoder_ffn_dim=64,
                num_experts=4,
                encoder_sparse_step=2,
                decoder_sparse_step=2,
                max_position_embeddings=64,
            ),
            together(tokens(), tokens("decoder_input_ids", None)),
        ),
    ]
