"""Image and video encoders, and dense prediction."""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.architectures.architecture import Architecture, MakeInputs, from_config
from bench.architectures.inputs import images, noise, tokens

_FAMILY = "vision"
PATCHES = {
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 3,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
"""A vision transformer: 16 patches and usually a class token."""
_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
_WINDOWS = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}


def _fixed(name: str, model: str, settings: dict[str, Any], **more: Any) -> Architecture:
    """A model whose position table fits images of 32 x 32 alone: another call differs in batch."""
    make = from_config(model, **(settings | more))
    return Architecture(name, _FAMILY, make, images(), (2, 32), (3, 32))


def _any_size(
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


def _resnet_config() -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )


def _detector(model: str, **settings: Any) -> nn.Module:
    import transformers

    model_class = getattr(transformers, model)
    return model_class(model_class.config_class(backbone_config=_resnet_config(), **settings))


def _detr(name: str, model: str, **more: Any) -> Architecture:
    """A DETR: ResNet features, an encoder and a decoder over 6 object queries."""
    sizes = {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "num_queries": 6,
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
    }
    return Architecture(
        name, "detection", lambda: _detector(model, **(sizes | more)), images(), (2, 64), (3, 96)
    )


def vision_transformers() -> list[Architecture]:
    """Transformers over patches, windows and tubes of frames."""
    return [
        _fixed("vit", "ViTForImageClassification", PATCHES),
        _fixed("deit", "DeiTModel", PATCHES),
        _fixed("vit-msn", "ViTMSNModel", PATCHES),
        _fixed("ijepa", "IJepaModel", PATCHES),
        _fixed(
            "vit-mae",
            "ViTMAEForPreTraining",
            PATCHES,
            decoder_hidden_size=16,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=32,
        ),
        _fixed("beit", "BeitModel", PATCHES, use_relative_position_bias=True),
        _fixed("data2vec-vision", "Data2VecVisionModel", PATCHES, use_relative_position_bias=True),
        _any_size("dinov2", "Dinov2Model", PATCHES),
        _any_size("dinov2-registers", "Dinov2WithRegistersModel", PATCHES),
        _any_size("dinov3-vit", "DINOv3ViTModel", PATCHES),
        _fixed(
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
        _fixed(
            "vitdet",
            "VitDetModel",
            PATCHES,
            window_size=2,
            window_block_indices=[0],
            use_relative_position_embeddings=True,
        ),
        _any_size("swin", "SwinModel", _WINDOWS),
        _any_size("swinv2", "Swinv2Model", _WINDOWS),
        _any_size("donut-swin", "DonutSwinModel", _WINDOWS),
        _any_size(
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
        _fixed(
            "yolos", "YolosForObjectDetection", PATCHES, image_size=[32, 32], num_detection_tokens=4
        ),
        _fixed(
            "dpt",
            "DPTForDepthEstimation",
            PATCHES,
            backbone_out_indices=[0, 1, 2, 3],
            num_hidden_layers=4,
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
            is_hybrid=False,
        ),
        _any_size(
            "segformer",
            "SegformerForSemanticSegmentation",
            {},
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 3, 4],
            sr_ratios=[4, 2, 1, 1],
            decoder_hidden_size=16,
        ),
        _any_size(
            "glpn",
            "GLPNForDepthEstimation",
            {},
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 3, 4],
            sr_ratios=[4, 2, 1, 1],
            decoder_hidden_size=16,
        ),
        _fixed(
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
        _any_size(
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
        _any_size(
            "cvt", "CvtModel", {}, embed_dim=[8, 16, 24], num_heads=[1, 2, 3], depth=[1, 2, 3]
        ),
        Architecture(
            "imagegpt",
            _FAMILY,
            from_config(
                "ImageGPTModel", vocab_size=97, n_positions=64, n_embd=32, n_layer=2, n_head=4
            ),
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


def convolutional_networks() -> list[Architecture]:
    """Convolutions, most of them with batch norms, and poolings in place of attention."""
    return [
        _any_size("resnet", "ResNetForImageClassification", _STAGES, embedding_size=8),
        _any_size("resnet-basic", "ResNetModel", _STAGES, embedding_size=8, layer_type="basic"),
        _any_size("bit", "BitModel", _STAGES, embedding_size=8, num_groups=4),
        _any_size("regnet", "RegNetModel", _STAGES, embedding_size=8, groups_width=8),
        _any_size(
            "convnext", "ConvNextForImageClassification", _STAGES, layer_scale_init_value=0.5
        ),
        _any_size("convnextv2", "ConvNextV2Model", _STAGES),
        _any_size("dinov3-convnext", "DINOv3ConvNextModel", _STAGES),
        _any_size(
            "focalnet",
            "FocalNetModel",
            {},
            image_size=32,
            patch_size=4,
            embed_dim=8,
            depths=[1, 1],
            focal_levels=[2, 2],
            focal_windows=[3, 3],
        ),
        _any_size("poolformer", "PoolFormerModel", _STAGES),
        _any_size("mobilenet-v1", "MobileNetV1Model", {}, depth_multiplier=0.25, min_depth=8),
        _any_size(
            "mobilenet-v2",
            "MobileNetV2Model",
            {},
            depth_multiplier=0.25,
            min_depth=8,
            finegrained_output=False,
        ),
        _any_size(
            "mobilevit",
            "MobileViTModel",
            {},
            image_size=32,
            hidden_sizes=[8, 12, 16],
            neck_hidden_sizes=[4, 8, 8, 12, 12, 16, 16],
            num_attention_heads=2,
        ),
        _any_size(
            "mobilevitv2",
            "MobileViTV2Model",
            {},
            image_size=64,
            width_multiplier=0.25,
            sides=(64, 128),
        ),
        _any_size(
            "efficientnet",
            "EfficientNetModel",
            {},
            width_coefficient=0.25,
            depth_coefficient=0.2,
            hidden_dim=320,
        ),
        _any_size(
            "swiftformer", "SwiftFormerModel", {}, depths=[1, 1, 1, 1], embed_dims=[8, 16, 24, 32]
        ),
        _fixed(
            "levit",
            "LevitModel",
            {},
            image_size=32,
            hidden_sizes=[16, 24, 32],
            num_attention_heads=[1, 2, 2],
            depths=[1, 1, 1],
            key_dim=[8, 8, 8],
            kernel_size=3,
            stride=2,
            padding=1,
            drop_path_rate=0,
        ),
        _any_size(
            "hgnet-v2",
            "HGNetV2Backbone",
            {},
            depths=[1, 1, 1, 1],
            hidden_sizes=[8, 16, 24, 32],
            embedding_size=8,
            stem_channels=[3, 4, 8],
            stage_in_channels=[8, 8, 16, 24],
            stage_mid_channels=[4, 8, 8, 8],
            stage_out_channels=[8, 16, 24, 32],
            stage_num_blocks=[1, 1, 1, 1],
            stage_numb_of_layers=[2, 2, 2, 2],
        ),
        _any_size(
            "textnet",
            "TextNetModel",
            {},
            hidden_sizes=[8, 8, 16, 16, 24],
            stem_out_channels=8,
            conv_layer_kernel_sizes=[[[3, 3]], [[3, 3]], [[3, 1]], [[1, 3]]],
            conv_layer_strides=[[2], [2], [2], [2]],
        ),
        _any_size(
            "superpoint",
            "SuperPointForKeypointDetection",
            {},
            encoder_hidden_sizes=[8, 8, 16, 16],
            decoder_hidden_size=16,
            descriptor_decoder_dim=16,
        ),
    ]


def detectors() -> list[Architecture]:
    """The DETR family on ResNet features, and mask transformers."""
    return [
        _detr("detr", "DetrForObjectDetection"),
        _detr("conditional-detr", "ConditionalDetrForObjectDetection"),
        _detr("deformable-detr", "DeformableDetrForObjectDetection", num_feature_levels=3),
        _detr("dab-detr", "DabDetrForObjectDetection"),
        _detr("table-transformer", "TableTransformerForObjectDetection"),
        _detr(
            "rt-detr",
            "RTDetrForObjectDetection",
            encoder_hidden_dim=32,
            encoder_in_channels=[16, 24, 32],
            decoder_in_channels=[32, 32, 32],
            anchor_image_size=None,
        ),
        _detr(
            "mask2former",
            "Mask2FormerModel",
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            num_attention_heads=4,
            dim_feedforward=64,
            encoder_feedforward_dim=64,
        ),
    ]
