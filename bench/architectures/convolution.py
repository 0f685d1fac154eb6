"""Convolutional image encoders."""

from __future__ import annotations

from typing import Any

from bench.architectures.architecture import Architecture
from bench.architectures.vision import any_size, fixed_size

_STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}


def convolutional_networks() -> list[Architecture]:
    """Convolutions, most of them with batch norms, and poolings in place of attention."""
    return [
        any_size("resnet", "ResNetForImageClassification", _STAGES, embedding_size=8),
        any_size("resnet-basic", "ResNetModel", _STAGES, embedding_size=8, layer_type="basic"),
        any_size("bit", "BitModel", _STAGES, embedding_size=8, num_groups=4),
        any_size("regnet", "RegNetModel", _STAGES, embedding_size=8, groups_width=8),
        any_size("convnext", "ConvNextForImageClassification", _STAGES, layer_scale_init_value=0.5),
        any_size("convnextv2", "ConvNextV2Model", _STAGES),
        any_size("dinov3-convnext", "DINOv3ConvNextModel", _STAGES),
        any_size(
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
        any_size("poolformer", "PoolFormerModel", _STAGES),
        any_size("mobilenet-v1", "MobileNetV1Model", {}, depth_multiplier=0.25, min_depth=8),
        any_size(
            "mobilenet-v2",
            "MobileNetV2Model",
            {},
            depth_multiplier=0.25,
            min_depth=8,
            finegrained_output=False,
        ),
        any_size(
            "mobilevit",
            "MobileViTModel",
            {},
            image_size=32,
            hidden_sizes=[8, 12, 16],
            neck_hidden_sizes=[4, 8, 8, 12, 12, 16, 16],
            num_attention_heads=2,
        ),
        any_size(
            "mobilevitv2",
            "MobileViTV2Model",
            {},
            image_size=64,
            width_multiplier=0.25,
            sides=(64, 128),
        ),
        any_size(
            "efficientnet",
            "EfficientNetModel",
            {},
            width_coefficient=0.25,
            depth_coefficient=0.2,
            hidden_dim=320,
        ),
        any_size("swiftformer", "SwiftFormerModel", {}, depths=[1, 1, 1, 1], embed_dims=[8, 16, 24, 32]),
        fixed_size(
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
        any_size(
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
        any_size(
            "textnet",
            "TextNetModel",
            {},
            hidden_sizes=[8, 8, 16, 16, 24],
            stem_out_channels=8,
            conv_layer_kernel_sizes=[[[3, 3]], [[3, 3]], [[3, 1]], [[1, 3]]],
            conv_layer_strides=[[2], [2], [2], [2]],
        ),
        any_size(
            "superpoint",
            "SuperPointForKeypointDetection",
            {},
            encoder_hidden_sizes=[8, 8, 16, 16],
            decoder_hidden_size=16,
            descriptor_decoder_dim=16,
        ),
    ]
