"""Text with images: contrastive pairs, fusion encoders, captioners, promptable segmentation."""

from __future__ import annotations

from typing import Any

import torch

from bench.architectures.architecture import Architecture, Inputs, MakeInputs, from_config
from bench.architectures.inputs import VOCABULARY, constant, images, noise, together, tokens
from bench.architectures.text_decoders import GROUPED, SPECIAL
from bench.architectures.vision import PATCHES

_FAMILY = "multimodal"
_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 95,
    "projection_dim": 16,
}
_VISION: dict[str, Any] = PATCHES | {"projection_dim": 16}


def _text_and_image() -> MakeInputs:
    return together(tokens(), images(size=32))


def _image_tokens(token: int, count: int) -> MakeInputs:
    """Tokens of which the first `count` in each row are placeholders for the image's patches."""

    def make(seed: int, batch: int, length: int) -> Inputs:
        ids = tokens(high=VOCABULARY - 1)(seed, batch, length)[1]["input_ids"]
        ids = torch.cat([torch.full((batch, count), token), ids], dim=1)
        return (), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return make


def _flat_patches(seed: int, batch: int, length: int) -> Inputs:
    """Patches [batch, length, 2 + 48]: row, column, then the pixels."""
    pixels = noise("pixels", "batch", "length", 48)(seed, batch, length)[1]["pixels"]
    place = torch.arange(1, length + 1).float()[None, :, None].expand(batch, -1, 2)
    return (), {"flattened_patches": torch.cat([place, pixels], dim=-1)}


def _model(
    name: str,
    model: str,
    inputs: MakeInputs | None = None,
    example: tuple[int, int] = (2, 8),
    other: tuple[int, int] = (3, 12),
    **settings: Any,
) -> Architecture:
    make = from_config(model, **settings)
    return Architecture(name, _FAMILY, make, inputs or _text_and_image(), example, other)


def _towers(name: str, model: str, **settings: Any) -> Architecture:
    """A text tower and a vision tower that meet in a matrix of similarities."""
    parts: dict[str, Any] = {"text_config": _TEXT, "vision_config": _VISION, "projection_dim": 16}
    return _model(name, model, **(parts | settings))


def contrastive_pairs() -> list[Architecture]:
    """CLIP and its like: one caller often keeps one of the two towers' inputs."""
    return [
        _towers("clip", "CLIPModel"),
        _model("clip-text", "CLIPTextModelWithProjection", tokens(), **_TEXT),
        _model("clip-vision", "CLIPVisionModelWithProjection", images(size=32), **_VISION),
        _towers("siglip", "SiglipModel"),
        _model("siglip-vision", "SiglipVisionModel", images(size=32), **PATCHES),
        _towers("chinese-clip", "ChineseCLIPModel"),
        _towers("altclip", "AltCLIPModel", text_config=_TEXT | {"project_dim": 16}),
        _towers("metaclip-2", "MetaClip2Model"),
        _towers(
            "clipseg",
            "CLIPSegForImageSegmentation",
            reduce_dim=16,
            extract_layers=[0, 1],
            decoder_num_attention_heads=4,
            decoder_intermediate_size=32,
        ),
        _towers(
            "blip-retrieval",
            "BlipForImageTextRetrieval",
            image_text_hidden_size=16,
            text_config=_TEXT | {"encoder_hidden_size": 32},
        ),
        _towers("owlvit", "OwlViTModel", text_config=_TEXT | {"max_position_embeddings": 16}),
        _towers(
            "groupvit",
            "GroupViTModel",
            vision_config=_VISION
            | {"depths": [1, 1, 1], "num_group_tokens": [4, 2, 0], "num_output_groups": [4, 2, 0]},
        ),
        _model(
            "siglip2",
            "Siglip2Model",
            together(
                tokens(),
                noise("pixel_values", "batch", 16, 192),
                lambda seed, batch, length: (
                    (),
                    {
                        "pixel_attention_mask": torch.ones(batch, 16, dtype=torch.long),
                        "spatial_shapes": torch.full((batch, 2), 4),
                    },
                ),
            ),
            text_config=_TEXT,
            vision_config={k: v for k, v in PATCHES.items() if k != "image_size"} | {"num_patches": 16},
        ),
    ]


def fusion_models() -> list[Architecture]:
    """Text and image tokens in one sequence, or one attending to the other."""
    patch_count = 16
    boxes = noise("visual_pos", "batch", 5, 4)
    return [
        _model("vilt", "ViltModel", **(PATCHES | _TEXT | {"max_image_length": -1})),
        _model(
            "blip-captioning",
            "BlipForConditionalGeneration",
            text_config=_TEXT | {"encoder_hidden_size": 32, "is_decoder": True},
            vision_config=_VISION,
            projection_dim=16,
        ),
        _model("git", "GitForCausalLM", vision_config=_VISION, **_TEXT),
        _model(
            "visual-bert",
            "VisualBertModel",
            together(tokens(), noise("visual_embeds", "batch", 5, 16)),
            visual_embedding_dim=16,
            **_TEXT,
        ),
        _model(
            "lxmert",
            "LxmertModel",
            together(tokens(), noise("visual_feats", "batch", 5, 16), boxes),
            l_layers=1,
            x_layers=1,
            r_layers=1,
            visual_feat_dim=16,
            **{k: v for k, v in _TEXT.items() if k != "num_hidden_layers"},
        ),
        _model(
            "flava",
            "FlavaModel",
            text_config=_TEXT,
            image_config=PATCHES,
            multimodal_config={
                k: _TEXT[k]
                for k in (
                    "hidden_size",
                    "num_hidden_layers",
                    "num_attention_heads",
                    "intermediate_size",
                )
            },
            hidden_size=32,
            projection_dim=16,
        ),
        _model(
            "bridgetower",
            "BridgeTowerModel",
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            text_config=_TEXT | {"hidden_size": 64},
            vision_config={
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "patch_size": 8,
                "image_size": 32,
            },
        ),
        _model(
            "llava",
            "LlavaForConditionalGeneration",
            together(_image_tokens(95, patch_count), images(size=32)),
            text_config=GROUPED | {"model_type": "llama"},
            vision_config=_VISION | {"model_type": "clip_vision_model"},
            image_token_index=95,
            vision_feature_layer=-1,
        ),
        _model(
            "paligemma",
            "PaliGemmaForConditionalGeneration",
            together(_image_tokens(95, patch_count), images(size=32)),
            text_config=GROUPED | {"model_type": "gemma", "head_dim": 8},
            vision_config=PATCHES | {"model_type": "siglip_vision_model"},
            image_token_index=95,
            projection_dim=32,
        ),
        _model(
            "pix2struct",
            "Pix2StructForConditionalGeneration",
            together(_flat_patches, tokens("decoder_input_ids", None)),
            text_config={
                "vocab_size": VOCABULARY,
                "hidden_size": 32,
                "d_kv": 8,
                "d_ff": 64,
                "num_layers": 2,
                "num_heads": 4,
            },
            vision_config={
                "hidden_size": 32,
                "patch_embed_hidden_size": 48,
                "d_ff": 64,
                "d_kv": 8,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "seq_len": 64,
            },
        ),
        _model(
            "trocr",
            "TrOCRForCausalLM",
            together(tokens(), noise("encoder_hidden_states", "batch", 5, 32)),
            d_model=32,
            decoder_layers=2,
            decoder_attention_heads=4,
            decoder_ffn_dim=64,
            cross_attention_hidden_size=32,
            **SPECIAL,
        ),
        _model(
            "sam",
            "SamModel",
            together(
                images(size=32),
                noise("input_points", "batch", 1, 2, 2, scale=8.0),
                constant("multimask_output", False),
            ),
            vision_config={
                "hidden_size": 32,
                "output_channels": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": 32,
                "patch_size": 8,
                "mlp_dim": 64,
                "window_size": 2,
                "global_attn_indexes": [1],
                "num_pos_feats": 8,
            },
            prompt_encoder_config={
                "hidden_size": 16,
                "image_size": 32,
                "patch_size": 8,
                "mask_input_channels": 4,
            },
            mask_decoder_config={
                "hidden_size": 16,
                "mlp_dim": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "iou_head_hidden_dim": 16,
            },
        ),
        _model(
            "layoutlmv3",
            "LayoutLMv3Model",
            together(tokens(), images(size=32), lambda s, b, n: ((), {"bbox": torch.full((b, n, 4), 3)})),
            input_size=32,
            patch_size=8,
            coordinate_size=6,
            shape_size=4,
            max_2d_position_embeddings=64,
            **_TEXT,
        ),
    ]
