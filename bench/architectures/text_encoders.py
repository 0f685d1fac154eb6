"""Text encoders: BERT and its descendants."""

from __future__ import annotations

from typing import Any

import torch

from bench.architectures.architecture import Architecture, Inputs, MakeInputs, from_config
from bench.architectures.inputs import VOCABULARY, noise, sometimes_padded, together, tokens

_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_SMALL_XLM: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _encoder(name: str, model: str, inputs: MakeInputs | None = None, **settings: Any) -> Architecture:
    """An encoder whose configuration takes BERT's names."""
    return Architecture(name, "text encoder", from_config(model, **(_SMALL | settings)), inputs or tokens())


def _own_names(
    name: str,
    model: str,
    inputs: MakeInputs | None = None,
    example: tuple[int, int] = (2, 8),
    other: tuple[int, int] = (3, 12),
    **settings: Any,
) -> Architecture:
    """An encoder with a configuration of its own."""
    make = from_config(model, **settings)
    return Architecture(name, "text encoder", make, inputs or tokens(), example, other)


def _boxes() -> MakeInputs:
    """A box (left, top, right, bottom) around every token: [batch, length, 4], integers."""

    def make(seed: int, batch: int, length: int) -> Inputs:
        corners, kwargs = tokens("corner", None, low=0, high=32)(seed, batch, length * 2)
        near = kwargs["corner"].reshape(batch, length, 2)
        return corners, {"bbox": torch.cat([near, near + 8], dim=-1)}

    return make


def text_encoders() -> list[Architecture]:
    """BERT, its descendants, and encoders that mix tokens otherwise (Fourier, random hashes)."""
    return [
        _encoder("bert", "BertModel"),
        _encoder("bert-unpadded", "BertModel", tokens(mask=None)),
        _encoder(
            "bert-mask-by-value",
            "BertModel",
            sometimes_padded(tokens(fixed_length=48), "attention_mask"),
        ),
        _encoder("bert-eager-attention", "BertModel", attn_implementation="eager"),
        _encoder(
            "bert-classification",
            "BertForSequenceClassification",
            together(tokens(), tokens("labels", None, fixed_length=1, low=0, high=2)),
        ),
        _encoder("bert-masked-lm", "BertForMaskedLM", together(tokens(), tokens("labels", None))),
        _encoder("roberta", "RobertaForTokenClassification"),
        _encoder("roberta-prelayernorm", "RobertaPreLayerNormModel"),
        _encoder("xlm-roberta", "XLMRobertaModel"),
        _encoder("xlm-roberta-xl", "XLMRobertaXLModel"),
        _encoder("albert", "AlbertForMaskedLM", embedding_size=16),
        _encoder("electra", "ElectraForPreTraining", embedding_size=16),
        _own_names(
            "distilbert",
            "DistilBertForQuestionAnswering",
            vocab_size=VOCABULARY,
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=64,
            max_position_embeddings=64,
        ),
        _encoder(
            "deberta",
            "DebertaModel",
            relative_attention=True,
            pos_att_type=["c2p", "p2c"],
            position_biased_input=False,
        ),
        _encoder(
            "deberta-v2",
            "DebertaV2Model",
            relative_attention=True,
            pos_att_type=["c2p", "p2c"],
            position_buckets=16,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            position_biased_input=False,
        ),
        _own_names(
            "xlnet",
            "XLNetModel",
            vocab_size=VOCABULARY,
            d_model=32,
            n_layer=2,
            n_head=4,
            d_inner=64,
        ),
        _own_names(
            "xlm",
            "XLMModel",
            **_SMALL_XLM,
            emb_dim=32,
            n_layers=2,
            n_heads=4,
            max_position_embeddings=64,
        ),
        _own_names(
            "flaubert",
            "FlaubertModel",
            **_SMALL_XLM,
            emb_dim=32,
            n_layers=2,
            n_heads=4,
            max_position_embeddings=64,
        ),
        _encoder("mpnet", "MPNetModel"),
        _own_names(
            "funnel",
            "FunnelModel",
            vocab_size=VOCABULARY,
            block_sizes=[1, 1],
            num_decoder_layers=1,
            d_model=32,
            n_head=4,
            d_head=8,
            d_inner=64,
        ),
        _encoder("convbert", "ConvBertModel", embedding_size=32),
        _encoder(
            "mobilebert",
            "MobileBertModel",
            embedding_size=16,
            intra_bottleneck_size=16,
            true_hidden_size=16,
        ),
        _encoder("squeezebert", "SqueezeBertModel", embedding_size=32),
        _encoder("fnet", "FNetModel", tokens(mask=None), tpu_short_seq_length=8),
        _encoder("roformer", "RoFormerModel", embedding_size=16),
        _encoder("rembert", "RemBertModel", input_embedding_size=16, output_embedding_size=16),
        _encoder("ernie", "ErnieModel"),
        _encoder("megatron-bert", "MegatronBertModel"),
        _encoder("ibert", "IBertModel"),
        _encoder("esm", "EsmModel", mask_token_id=3, position_embedding_type="rotary"),
        _encoder("data2vec-text", "Data2VecTextModel"),
        _encoder("splinter", "SplinterModel"),
        _encoder(
            "roc-bert",
            "RoCBertModel",
            pronunciation_vocab_size=16,
            pronunciation_embed_dim=8,
            shape_vocab_size=16,
            shape_embed_dim=8,
        ),
        _encoder(
            "modernbert",
            "ModernBertModel",
            cls_token_id=1,
            sep_token_id=2,
            bos_token_id=1,
            eos_token_id=2,
            local_attention=4,
        ),
        _encoder("eurobert", "EuroBertModel", bos_token_id=1, eos_token_id=2, mask_token_id=3),
        _encoder("nomic-bert", "NomicBertModel"),
        _encoder("layoutlm", "LayoutLMModel", together(tokens(), _boxes())),
        _encoder(
            "lilt",
            "LiltModel",
            together(tokens(), _boxes()),
            hidden_size=48,
            channel_shrink_ratio=2,
        ),
        _encoder(
            "bros",
            "BrosModel",
            together(tokens(), noise("bbox", "batch", "length", 4)),
            hidden_size=64,
        ),
        _encoder(
            "canine",
            "CanineModel",
            tokens(),
            type_vocab_size=4,
            num_hash_functions=2,
            num_hash_buckets=32,
            local_transformer_stride=4,
            downsampling_rate=4,
        ),
        _own_names(
            "longformer",
            "LongformerModel",
            **(_SMALL | {"attention_window": 4, "sep_token_id": 2}),
        ),
        _own_names(
            "big-bird",
            "BigBirdModel",
            example=(2, 32),
            other=(3, 48),
            **(_SMALL | {"block_size": 4, "num_random_blocks": 1, "bos_token_id": 1}),
        ),
        _own_names(
            "reformer",
            "ReformerModel",
            example=(2, 16),
            vocab_size=VOCABULARY,
            hidden_size=32,
            attention_head_size=8,
            num_attention_heads=2,
            feed_forward_size=64,
            attn_layers=["local", "lsh"],
            local_attn_chunk_length=4,
            lsh_attn_chunk_length=4,
            num_buckets=4,
            num_hashes=1,
            hash_seed=0,
            axial_pos_shape=[4, 4],
            axial_pos_embds_dim=[16, 16],
            is_decoder=False,
        ),
        _encoder(
            "luke",
            "LukeModel",
            entity_vocab_size=16,
            entity_emb_size=16,
        ),
        _own_names(
            "perceiver-text",
            "PerceiverForMaskedLM",
            tokens("inputs", "attention_mask"),
            vocab_size=VOCABULARY,
            d_model=32,
            d_latents=32,
            num_latents=4,
            num_blocks=1,
            num_self_attends_per_block=2,
            num_self_attention_heads=2,
            num_cross_attention_heads=2,
            qk_channels=32,
            v_channels=32,
            max_position_embeddings=16,
        ),
    ]
