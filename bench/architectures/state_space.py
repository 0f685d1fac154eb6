"""State-space and linear-recurrence models, and hybrids of them with attention."""

from __future__ import annotations

from typing import Any

from bench.architectures.architecture import Architecture
from bench.architectures.text_decoders import GROUPED, SPECIAL, decoder

_FAMILY = "state space"


def state_space_models() -> list[Architecture]:
    """Mamba and its descendants, RWKV, xLSTM, and hybrids with attention layers."""
    plain: dict[str, Any] = SPECIAL | {"hidden_size": 32, "num_hidden_layers": 2}
    scan: dict[str, Any] = {"mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2}
    chunks: dict[str, Any] = scan | {
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_n_groups": 1,
        "mamba_chunk_size": 4,
    }
    return [
        decoder("mamba", "MambaForCausalLM", plain, family=_FAMILY, state_size=8),
        decoder(
            "mamba2",
            "Mamba2ForCausalLM",
            plain,
            family=_FAMILY,
            state_size=8,
            num_heads=8,
            head_dim=8,
            n_groups=2,
            chunk_size=4,
        ),
        decoder("falcon-mamba", "FalconMambaForCausalLM", plain, family=_FAMILY, state_size=8),
        decoder(
            "rwkv",
            "RwkvForCausalLM",
            plain,
            family=_FAMILY,
            attention_hidden_size=32,
            intermediate_size=64,
            context_length=64,
        ),
        decoder(
            "jamba",
            "JambaForCausalLM",
            GROUPED,
            family=_FAMILY,
            attn_layer_period=2,
            attn_layer_offset=1,
            expert_layer_period=2,
            expert_layer_offset=1,
            num_experts=4,
            use_mamba_kernels=False,
            mamba_dt_rank=4,
            **scan,
        ),
        decoder("bamba", "BambaForCausalLM", GROUPED, family=_FAMILY, attn_layer_indices=[1], **chunks),
        decoder("falcon-h1", "FalconH1ForCausalLM", GROUPED, family=_FAMILY, mamba_d_ssm=64, **chunks),
        decoder(
            "granite-hybrid",
            "GraniteMoeHybridForCausalLM",
            GROUPED,
            family=_FAMILY,
            layer_types=["mamba", "attention"],
            num_local_experts=4,
            num_experts_per_tok=2,
            shared_intermediate_size=32,
            **chunks,
        ),
        decoder(
            "recurrent-gemma",
            "RecurrentGemmaForCausalLM",
            GROUPED,
            family=_FAMILY,
            lru_width=32,
            attention_window_size=8,
            num_hidden_layers=3,
        ),
        decoder(
            "lfm2",
            "Lfm2ForCausalLM",
            GROUPED,
            family=_FAMILY,
            layer_types=["conv", "full_attention"],
            block_multiple_of=8,
        ),
        decoder(
            "qwen3-next",
            "Qwen3NextForCausalLM",
            GROUPED,
            family=_FAMILY,
            head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            layer_types=["linear_attention", "full_attention"],
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        ),
        decoder(
            "minimax",
            "MiniMaxForCausalLM",
            GROUPED,
            family=_FAMILY,
            head_dim=8,
            num_local_experts=4,
            block_size=4,
            layer_types=["linear_attention", "full_attention"],
        ),
        decoder(
            "xlstm",
            "xLSTMForCausalLM",
            SPECIAL,
            family=_FAMILY,
            hidden_size=64,
            num_hidden_layers=2,
            num_blocks=2,
            num_heads=4,
            qk_dim_factor=1.0,
            chunk_size=4,
        ),
    ]
