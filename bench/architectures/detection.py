"""Object detection and segmentation by queries over ResNet features."""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.architectures.architecture import Architecture
from bench.architectures.inputs import images


def _resnet_config() -> Any:
    import transformers

    config_class: Any = transformers.ResNetConfig
    return config_class(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )


def _detector(model: str, **settings: Any) -> nn.Module:
    import transformers

    model_class = getattr(transformers, model)
    config = model_class.config_class(backbone_config=_resnet_config(), **settings)
    made: nn.Module = model_class(config)
    return made


def _detr(name: str, model: str, **more: Any) -> Architecture:
    """A DETR: ResNet features, an encoder and a decoder over 6 object queries."""
    sizes: dict[str, Any] = {
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
