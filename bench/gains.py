"""What the default passes gain on real models: eager ÷ graphopt, without gradients, one thread.

    python -m bench.gains [--only NAME ...] [--json PATH]

Float32, batch 2 × 128 tokens, hidden 768, 2 layers unless said (parametrised layers: 4 rows); random weights.
Thread CPU time, interleaved pairs, medians. No gain is a result, too.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers as tf
from torch import nn
from torch.nn.utils import parametrizations
from torch_geometric.nn import DenseGCNConv
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead

import graphopt
from graphopt.latency import THREAD, compare

Case = tuple[nn.Module, dict[str, Any]]
_SMALL = {"num_hidden_layers": 2, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}


def _tokens() -> dict[str, Any]:
    return {"input_ids": torch.randint(0, 1000, (2, 128))}


def deberta_v2() -> Case:
    config = tf.DebertaV2Config(
        **_SMALL, vocab_size=1000, relative_attention=True, position_buckets=256, share_att_key=True,
        norm_rel_ebd="layer_norm", pos_att_type=["p2c", "c2p"], position_biased_input=False,
    )  # fmt: skip
    return tf.DebertaV2Model(config), _tokens()


def deberta() -> Case:
    config = tf.DebertaConfig(
        **_SMALL, vocab_size=1000, relative_attention=True, pos_att_type=["p2c", "c2p"],
        position_biased_input=False, max_relative_positions=512,
    )  # fmt: skip
    return tf.DebertaModel(config), _tokens()


def sew_d() -> Case:
    config = tf.SEWDConfig(**_SMALL)
    return tf.SEWDModel(config), {"input_values": torch.randn(1, 16_000)}


def xlnet() -> Case:
    config = tf.XLNetConfig(d_model=768, n_layer=2, n_head=12, d_inner=3072, vocab_size=1000)
    return tf.XLNetModel(config), _tokens()


def bert() -> Case:
    return tf.BertModel(tf.BertConfig(**_SMALL, vocab_size=1000)), _tokens()


def llama() -> Case:
    config = tf.LlamaConfig(**_SMALL, vocab_size=1000, use_cache=False)
    return tf.LlamaModel(config), _tokens()


def detr() -> Case:
    backbone = tf.ResNetConfig(depths=[3, 4, 6, 3], out_features=["stage4"])
    config = tf.DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False,
        encoder_layers=2, decoder_layers=2,
    )  # fmt: skip
    return tf.DetrModel(config), {"pixel_values": torch.randn(1, 3, 320, 320)}


def resnet_50() -> Case:
    return tf.ResNetModel(tf.ResNetConfig()), {"pixel_values": torch.randn(1, 3, 224, 224)}


class RepVGGBlock(nn.Module):
    """Three branches as they are trained: 3 × 3, 1 × 1 and the input, each with a norm of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.narrow = nn.Conv2d(channels, channels, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide, narrow, itself = self.norms
        return torch.relu(wide(self.wide(x)) + narrow(self.narrow(x)) + itself(x))


def repvgg() -> Case:
    return nn.Sequential(*(RepVGGBlock(64) for _ in range(4))), {"input": torch.randn(4, 64, 56, 56)}


def weight_norm() -> Case:
    layers = [parametrizations.weight_norm(nn.Linear(768, 768)) for _ in range(4)]
    return nn.Sequential(*layers), {"input": torch.randn(4, 768)}


def spectral_norm() -> Case:
    layers = [parametrizations.spectral_norm(nn.Linear(768, 768)) for _ in range(4)]
    return nn.Sequential(*layers), {"input": torch.randn(4, 768)}


def orthogonal() -> Case:
    layers = [parametrizations.orthogonal(nn.Linear(256, 256), orthogonal_map="cayley") for _ in range(2)]
    return nn.Sequential(*layers), {"input": torch.randn(4, 256)}


class _Parametrised(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu() + weight.triu(1).transpose(-1, -2)


def symmetric() -> Case:
    layer = nn.Linear(768, 768)
    nn.utils.parametrize.register_parametrization(layer, "weight", _Parametrised())
    return layer, {"input": torch.randn(4, 768)}


class DenseGCN(nn.Module):
    """Two layers over all pairs of nodes, as torch_geometric writes them: Â (X W)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = DenseGCNConv(features, hidden), DenseGCNConv(hidden, features)

    def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x, adjacency)), adjacency)


def gcn() -> Case:
    adjacency = (torch.rand(1, 1024, 1024) < 0.01).float()
    return DenseGCN(32, 512), {"x": torch.randn(1, 1024, 32), "adjacency": adjacency}


class LinearAttention(nn.Module):
    """Attention without softmax, as its formula reads: (φ(Q) φ(K)ᵀ) V over the sums of rows."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in self.qkv(x).chunk(3, dim=-1)
        )
        scores = (nn.functional.elu(q) + 1) @ (nn.functional.elu(k) + 1).transpose(-1, -2)
        mixed = (scores @ v) / scores.sum(-1, keepdim=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


def linear_attention() -> Case:
    return LinearAttention(512, 8), {"x": torch.randn(1, 2048, 512)}


def lora() -> Case:
    model, given = bert()
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules=["query", "value"])
    return peft.get_peft_model(model, config), given


def siglip_head() -> Case:
    config = tf.SiglipVisionConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072)
    return SiglipMultiheadAttentionPoolingHead(config), {"hidden_state": torch.randn(2, 196, 768)}


CASES: dict[str, tuple[Callable[[], Case], float | None]] = {
    "DeBERTa-v2": (deberta_v2, 1.30),
    "SEW-D, 1 × 16,000 samples": (sew_d, 1.9),
    "DETR, 1 × 320²": (detr, 1.10),
    "ResNet-50, 1 × 224²": (resnet_50, 1.10),
    "RepVGG in training form, 4 blocks, 4 × 64 × 56²": (repvgg, 1.40),
    "XLNet": (xlnet, 1.08),
    "DeBERTa": (deberta, 1.08),
    "weight norm, 4 linear layers": (weight_norm, 1.3),
    "spectral norm, 4 linear layers": (spectral_norm, 1.3),
    "orthogonal (Cayley), 2 linear layers": (orthogonal, 1.3),
    "symmetric, 1 linear layer": (symmetric, 1.3),
    "BERT": (bert, None),
    "Llama": (llama, None),
    "GCN (torch_geometric, dense), 1,024 nodes, 32 → 512 → 32": (gcn, None),
    "linear attention as written, 1 × 2,048 tokens, 512": (linear_attention, None),
    "BERT with LoRA (peft, not merged)": (lora, None),
    "SigLIP's pooling head, 2 × 196": (siglip_head, None),
}


def measured(name: str) -> dict[str, Any]:
    """One row: the timing, and what is kept."""
    build, wanted = CASES[name]
    torch.manual_seed(0)
    model, kwargs = build()
    model.eval()
    opt = graphopt.optimize(model, (), kwargs, verify=False)
    with torch.no_grad():
        timing = compare(
            lambda: model(**kwargs), lambda: opt.module(**kwargs), budget_s=120, clock=THREAD, threads=1
        )
        expected, found = model(**kwargs), opt.module(**kwargs)
    return timing.to_dict() | {
        "model": name,
        "wanted": wanted,
        "nodes": [opt.report.before.nodes, opt.report.after.nodes],
        "kept_bytes": opt.report.after.kept_bytes,
        "same_bits": _same(expected, found),
    }


def _same(expected: Any, found: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        return torch.equal(expected, found)
    return all(
        torch.equal(expected[key], found[key]) for key in expected if isinstance(expected[key], torch.Tensor)
    )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print("| model | eager ÷ graphopt | 95 % interval | bar | nodes | kept MB | same bits |")
    print("|---|---|---|---|---|---|---|")
    for name in options.only:
        row = measured(name)
        rows.append(row)
        cells = [
            name, f"{row['ratio']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}", str(row["wanted"] or ""),
            " → ".join(map(str, row["nodes"])), f"{row['kept_bytes'] / 1e6:.1f}",
            "yes" if row["same_bits"] else "no",
        ]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
