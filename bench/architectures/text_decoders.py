"""Decoder-only language models."""

from __future__ import annotations

from typing import Any

from bench.architectures.architecture import Architecture, MakeInputs, from_config
from bench.architectures.inputs import VOCABULARY, sometimes_padded, together, tokens

SPECIAL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SMALL_DECODER: dict[str, Any] = SPECIAL | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
GROUPED: dict[str, Any] = SMALL_DECODER | {"num_key_value_heads": 2}
"""A decoder with grouped queries: two query heads share one key-value head."""


def decoder(
    name: str,
    model: str,
    settings: dict[str, Any],
    inputs: MakeInputs | None = None,
    family: str = "text decoder",
    **more: Any,
) -> Architecture:
    """A causal language model; the configuration is `settings` overlaid with `more`."""
    return Architecture(name, family, from_config(model, **(settings | more)), inputs or tokens())


def text_decoders() -> list[Architecture]:
    """GPT and Llama descendants with dense feed-forward layers."""
    gpt: dict[str, Any] = SPECIAL | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    with_labels = together(tokens(), tokens("labels", None))
    sliding: dict[str, Any] = {"sliding_window": 4}
    return [
        decoder("gpt2", "GPT2LMHeadModel", gpt),
        decoder("gpt2-unpadded", "GPT2LMHeadModel", gpt, tokens(mask=None)),
        decoder("gpt2-no-cache", "GPT2LMHeadModel", gpt, use_cache=False),
        decoder("openai-gpt", "OpenAIGPTLMHeadModel", gpt),
        decoder("gpt-bigcode", "GPTBigCodeForCausalLM", gpt, multi_query=True),
        decoder("gptj", "GPTJForCausalLM", gpt, rotary_dim=4),
        decoder("codegen", "CodeGenForCausalLM", gpt, rotary_dim=4),
        decoder(
            "gpt-neo",
            "GPTNeoForCausalLM",
            SPECIAL,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=4,
            max_position_embeddings=64,
        ),
        decoder("gpt-neox", "GPTNeoXForCausalLM", SMALL_DECODER),
        decoder(
            "ctrl",
            "CTRLLMHeadModel",
            SPECIAL,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            dff=64,
        ),
        decoder("opt", "OPTForCausalLM", SMALL_DECODER, ffn_dim=64, word_embed_proj_dim=32),
        decoder("bloom", "BloomForCausalLM", SPECIAL, hidden_size=32, n_layer=2, n_head=4),
        decoder("falcon", "FalconForCausalLM", SMALL_DECODER, multi_query=True),
        decoder("falcon-alibi", "FalconForCausalLM", SMALL_DECODER, alibi=True),
        decoder("mpt", "MptForCausalLM", SPECIAL, d_model=32, n_layers=2, n_heads=4, max_seq_len=64),
        decoder(
            "xglm",
            "XGLMForCausalLM",
            SPECIAL,
            d_model=32,
            ffn_dim=64,
            num_layers=2,
            attention_heads=4,
            max_position_embeddings=64,
        ),
        decoder("biogpt", "BioGptForCausalLM", SMALL_DECODER),
        decoder("llama", "LlamaForCausalLM", GROUPED),
        decoder("llama-unpadded", "LlamaForCausalLM", GROUPED, tokens(mask=None)),
        decoder(
            "llama-mask-by-value",
            "LlamaForCausalLM",
            GROUPED,
            sometimes_padded(tokens(fixed_length=48), "attention_mask"),
        ),
        decoder("llama-no-cache", "LlamaForCausalLM", GROUPED, use_cache=False),
        decoder("llama-eager-attention", "LlamaForCausalLM", GROUPED, attn_implementation="eager"),
        decoder("llama-loss", "LlamaForCausalLM", GROUPED, with_labels),
        decoder("mistral", "MistralForCausalLM", GROUPED, **sliding),
        decoder("ministral", "MinistralForCausalLM", GROUPED, head_dim=8, **sliding),
        decoder("qwen2", "Qwen2ForCausalLM", GROUPED),
        decoder("qwen3", "Qwen3ForCausalLM", GROUPED, head_dim=8),
        decoder("gemma", "GemmaForCausalLM", GROUPED, head_dim=8),
        decoder("gemma2", "Gemma2ForCausalLM", GROUPED, head_dim=8, **sliding),
        decoder("gemma3", "Gemma3ForCausalLM", GROUPED, head_dim=8, **sliding),
        decoder("phi", "PhiForCausalLM", SMALL_DECODER),
        decoder("phi3", "Phi3ForCausalLM", GROUPED),
        decoder("stablelm", "StableLmForCausalLM", GROUPED),
        decoder("cohere", "CohereForCausalLM", GROUPED),
        decoder("cohere2", "Cohere2ForCausalLM", GROUPED, **sliding),
        decoder("olmo", "OlmoForCausalLM", GROUPED),
        decoder("olmo2", "Olmo2ForCausalLM", GROUPED),
        decoder("starcoder2", "Starcoder2ForCausalLM", GROUPED),
        decoder("persimmon", "PersimmonForCausalLM", SMALL_DECODER),
        decoder("nemotron", "NemotronForCausalLM", GROUPED),
        decoder("granite", "GraniteForCausalLM", GROUPED),
        decoder("glm", "GlmForCausalLM", GROUPED, head_dim=8),
        decoder("glm4", "Glm4ForCausalLM", GROUPED, head_dim=8),
        decoder("helium", "HeliumForCausalLM", GROUPED, head_dim=8),
        decoder("smollm3", "SmolLM3ForCausalLM", GROUPED),
        decoder("bitnet", "BitNetForCausalLM", GROUPED),
        decoder("diffllama", "DiffLlamaForCausalLM", GROUPED),
        decoder("exaone4", "Exaone4ForCausalLM", GROUPED, **sliding),
        decoder("arcee", "ArceeForCausalLM", GROUPED),
        decoder("apertus", "ApertusForCausalLM", GROUPED),
        decoder("ernie4.5", "Ernie4_5ForCausalLM", GROUPED, head_dim=8),
        decoder("nanochat", "NanoChatForCausalLM", GROUPED),
        decoder("bert-generation", "BertGenerationDecoder", SMALL_DECODER, is_decoder=True),
    ]
