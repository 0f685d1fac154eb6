"""Transformers over images and videos, and dense prediction with them."""

from __future__ import annotations

from typing import Any

from bench.architectures.architecture import Architecture, MakeInputs, from_config
from bench.architectures.inputs import images, noise, tokens

_FAMILY = "vision"
PATCHES: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 3,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
"""A vision transformer: 16 patches and usually a class token."""
_WINDOWS: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}


def fixed_size(name: str, model: str, settings: dict[str, Any], **more: Any) -> Architecture:
    """A model whose position table fits images of 32 x 32 alone: another call differs in batch."""
    make = from_config(model, **(settings | more))
    return Architecture(name, _FAMILY, make, images(), (2, 32), (3, 32))


def any_size(
    name: str,
    model: str,
    settings: dict[str, Any],
    inputs: MakeInputs | None = None,
    sides: tuple[int, int] = (32, 64),
    **more: Any,
) -> Architecture:
    """A model that takes images of several sizes: another call is wider and higher too."""
    make = from_config(model, **(settings | more))
    return Architecture(name, _FAMILY, make, inputs or images(), (2, sides[0]), (3, sides[1]))


def vision_transformers() -> list[Architecture]:
    """Transformers over patches, windows and tubes of frames."""
    return [
        fixed_size("vit", "ViTForImageClassification", PATCHES),
        fixed_size("deit", "DeiTModel", PATCHES),
        fixed_size("vit-msn", "ViTMSNModel", PATCHES),
        fixed_size("ijepa", "IJepaModel", PATCHES),
        fixed_size(
            "vit-mae",
            "ViTMAEForPreTraining",
            PATCHES,
            decoder_hidden_size=16,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=32,
        ),
        fixed_size("beit", "BeitModel", PATCHES, use_relative_position_bias=True),
        fixed_size("data2vec-vision", "Data2VecVisionModel", PATCHES, use_relative_position_bias=True),
        any_size("dinov2", "Dinov2Model", PATCHES),
        any_size("dinov2-registers", "Dinov2WithRegistersModel", PATCHES),
        any_size("dinov3-vit", "DINOv3ViTModel", PATCHES),
        fixed_size(
            "hiera",
            "HieraModel",
            {},
            image_size=[32, 32],
            patch_size=[3, 3],
            patch_stride=[2, 2],
            patch_padding=[1, 1],
            embed_dim=8,
            num_heads=[1, 2],
            depths=[1, 1],
            query_stride=[2, 2],
            masked_unit_size=[4, 4],
            num_query_pool=1,
        ),
        fixed_size(
            "vitdet",
            "VitDetModel",
            PATCHES,
            window_size=2,
            window_block_indices=[0],
            use_relative_position_embeddings=True,
        ),
        any_size("swin", "SwinModel", _WINDOWS),
        any_size("swinv2", "Swinv2Model", _WINDOWS),
        any_size("donut-swin", "DonutSwinModel", _WINDOWS),
        any_size(
            "swin2sr",
            "Swin2SRForImageSuperResolution",
            {},
            image_size=16,
            patch_size=1,
            embed_dim=16,
            depths=[2],
            num_heads=[2],
            window_size=4,
            sides=(16, 24),
        ),
        fixed_size("yolos", "YolosForObjectDetection", PATCHES, image_size=[32, 32], num_detection_tokens=4),
        fixed_size(
            "dpt",
            "DPTForDepthEstimation",
            PATCHES,
            backbone_out_indices=[0, 1, 2, 3],
            num_hidden_layers=4,
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
            is_hybrid=False,
        ),
        any_size(
            "segformer",
            "SegformerForSemanticSegmentation",
            {},
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 3, 4],
            sr_ratios=[4, 2, 1, 1],
            decoder_hidden_size=16,
        ),
        any_size(
            "glpn",
            "GLPNForDepthEstimation",
            {},
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 3, 4],
            sr_ratios=[4, 2, 1, 1],
            decoder_hidden_size=16,
        ),
        fixed_size(
            "pvt",
            "PvtModel",
            {},
            image_size=32,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 3, 4],
            sequence_reduction_ratios=[4, 2, 1, 1],
            mlp_ratios=[2, 2, 2, 2],
        ),
        any_size(
            "pvt-v2",
            "PvtV2Model",
            {},
            image_size=32,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 3, 4],
            sr_ratios=[4, 2, 1, 1],
            mlp_ratios=[2, 2, 2, 2],
        ),
        any_size("cvt", "CvtModel", {}, embed_dim=[8, 16, 24], num_heads=[1, 2, 3], depth=[1, 2, 3]),
        Architecture(
            "imagegpt",
            _FAMILY,
            from_config("ImageGPTModel", vocab_size=97, n_positions=64, n_embd=32, n_layer=2, n_head=4),
            tokens(mask=None),
        ),
        Architecture(
            "videomae",
            _FAMILY,
            from_config("VideoMAEModel", num_frames=4, tubelet_size=2, **PATCHES),
            noise("pixel_values", "batch", 4, 3, 32, 32),
        ),
        Architecture(
            "vivit",
            _FAMILY,
            from_config("VivitModel", num_frames=4, tubelet_size=[2, 8, 8], **PATCHES),
            noise("pixel_values", "batch", 4, 3, 32, 32),
        ),
        Architecture(
            "timesformer",
            _FAMILY,
            from_config("TimesformerModel", num_frames=4, **PATCHES),
            noise("pixel_values", "batch", 4, 3, 32, 32),
        ),
        Architecture(
            "vjepa2",
            _FAMILY,
            from_config(
                "VJEPA2Model",
                crop_size=32,
                frames_per_clip=4,
                patch_size=8,
                tubelet_size=2,
                hidden_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                pred_hidden_size=24,
                pred_num_attention_heads=2,
                pred_num_hidden_layers=1,
                pred_num_mask_tokens=2,
            ),
            noise("pixel_values_videos", "batch", 4, 3, 32, 32),
        ),
    ]
