"""What few queries against many keys gain in real models: eager ÷ graphopt, without gradients, one thread.

    python -m bench.few_queries [--only NAME ...] [--json PATH] [--markdown PATH]

Float32, random weights, thread CPU time, interleaved pairs, medians. `without` is graphopt without
`sum-product`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from torch import Tensor, nn
from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerLayer
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMultiheadAttention
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead
from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer

import graphopt
from graphopt.latency import THREAD, Timing, compare

Case = tuple[nn.Module, tuple[Tensor, ...]]
WIDTH, HEADS = 768, 12


def siglip_head() -> Case:
    config = tf.SiglipVisionConfig(hidden_size=WIDTH, num_attention_heads=HEADS, intermediate_size=4 * WIDTH)
    return SiglipMultiheadAttentionPoolingHead(config), (torch.randn(2, 196, WIDTH),)


def siglip_tower() -> Case:
    config = tf.SiglipVisionConfig(
        hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_hidden_layers=2, image_size=224
    )
    return _Pooled(tf.SiglipVisionModel(config)), (torch.randn(1, 3, 224, 224),)


class _Pooled(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels).pooler_output


class QFormer(nn.Module):
    def __init__(self, implementation: str = "eager") -> None:
        super().__init__()
        config = tf.Blip2QFormerConfig(
            hidden_size=WIDTH,
            num_attention_heads=HEADS,
            encoder_hidden_size=1408,
            cross_attention_frequency=1,
        )
        config._attn_implementation = implementation
        self.layer = Blip2QFormerLayer(config, 0)

    def forward(self, queries: Tensor, image: Tensor) -> Tensor:
        found = self.layer(queries, encoder_hidden_states=image, query_length=queries.shape[1])
        return found[0] if isinstance(found, tuple) else found


def q_former() -> Case:
    return QFormer(), (torch.randn(1, 32, WIDTH), torch.randn(1, 257, 1408))


def q_former_sdpa() -> Case:
    return QFormer("sdpa"), (torch.randn(1, 32, WIDTH), torch.randn(1, 257, 1408))


class Whisper(nn.Module):
    """A decoder layer on one token, its encoder's keys and values not kept."""

    def __init__(self, implementation: str) -> None:
        super().__init__()
        config = tf.WhisperConfig(d_model=512, decoder_attention_heads=8, decoder_ffn_dim=2048)
        config._attn_implementation = implementation
        self.layer = WhisperDecoderLayer(config, 0)

    def forward(self, token: Tensor, sound: Tensor) -> Tensor:
        found = self.layer(token, encoder_hidden_states=sound, use_cache=False)
        return found[0] if isinstance(found, tuple) else found


def whisper() -> Case:
    return Whisper("sdpa"), (torch.randn(1, 1, 512), torch.randn(1, 1500, 512))


def whisper_eager() -> Case:
    return Whisper("eager"), (torch.randn(1, 1, 512), torch.randn(1, 1500, 512))


class Cross(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        return self.attention(queries, keys, keys)[0]


def grounding_dino() -> Case:
    config = tf.GroundingDinoConfig(d_model=256)
    attention = GroundingDinoMultiheadAttention(config, num_attention_heads=8)
    return Cross(attention), (torch.randn(1, 16, 256), torch.randn(1, 900, 256))


class Probe(nn.Module):
    """nn.MultiheadAttention with one learned query."""

    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self._need_weights = need_weights

    def forward(self, x: Tensor) -> Any:
        query = self.query.expand(len(x), -1, -1)
        found = self.attention(query, x, x, need_weights=self._need_weights)
        return found if self._need_weights else found[0]


def probe() -> Case:
    return Probe(False), (torch.randn(4, 196, WIDTH),)


def probe_with_weights() -> Case:
    return Probe(True), (torch.randn(4, 196, WIDTH),)


def bert() -> Case:
    config = tf.BertConfig(
        hidden_size=384, num_hidden_layers=2, num_attention_heads=6, intermediate_size=1536, vocab_size=1000
    )
    return _Tokens(tf.BertModel(config)), (torch.randint(0, 1000, (1, 64)),)


class _Tokens(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens).last_hidden_state


CASES: dict[str, Callable[[], Case]] = {
    "SigLIP's pooling head, 2 × 196 patches": siglip_head,
    "SigLIP's vision tower, 2 layers, 1 × 224²": siglip_tower,
    "Q-Former layer, 32 queries, 257 patches": q_former,
    "Q-Former layer, sdpa": q_former_sdpa,
    "Whisper decoder layer, 1 token, 1500 frames": whisper,
    "Whisper decoder layer, eager attention": whisper_eager,
    "Grounding-DINO attention, 16 queries, 900 keys": grounding_dino,
    "nn.MultiheadAttention, 1 learned query, 4 × 196": probe,
    "nn.MultiheadAttention, weights returned": probe_with_weights,
    "BERT, 2 layers, 64 tokens (as many queries as keys)": bert,
}


def measured(name: str, budget_s: float) -> dict[str, Any]:
    """One row: eager ÷ graphopt with and without `sum-product`, and whether it was rewritten."""
    torch.manual_seed(0)
    model, args = CASES[name]()
    model.eval().requires_grad_(False)
    with torch.no_grad():
        opt = graphopt.optimize(model, args, measure=False)
        others = [name for name in graphopt.LOSSLESS if name != "sum-product"]
        plain = graphopt.optimize(model, args, passes=others, measure=False, verify=False)
        ours = _timed(model, opt.module, args, budget_s)
        theirs = _timed(model, plain.module, args, budget_s)
    steps = [one for one in opt.report.steps if one.pass_name == "sum-product"]
    said = [f"rolled back: {one.reason}" for one in opt.report.rolled_back]
    return {
        "name": name, "eager": ours.seconds_before, "graphopt": ours.seconds_after, "ratio": ours.ratio,
        "low": ours.low, "high": ours.high, "without": theirs.ratio, "steps": len(steps),
        "equivalent": opt.report.equivalent, "note": "; ".join(said),
    }  # fmt: skip


def _timed(model: nn.Module, other: nn.Module, args: tuple[Tensor, ...], budget_s: float) -> Timing:
    return compare(
        lambda: model(*args), lambda: other(*args), budget_s=budget_s, pairs=15, clock=THREAD, threads=1
    )


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Few queries against many keys",
        "",
        f"Float32, one thread, no_grad, random weights, torch {torch.__version__}; thread CPU time, medians "
        "of ratios within interleaved pairs. `python -m bench.few_queries`",
        "",
        "| model | eager, ms | graphopt, ms | eager ÷ graphopt | 95 % interval | without `sum-product` |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['name']} | {row['eager'] * 1e3:.3g} | {row['graphopt'] * 1e3:.3g} | {row['ratio']:.2f} "
            f"| {row['low']:.2f} to {row['high']:.2f} | {row['without']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", help="only models whose names hold one of these")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds a comparison may take")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in CASES:
        if not options.only or any(part in name for part in options.only):
            rows.append(measured(name, options.budget))
            print(rows[-1], flush=True)
    if options.markdown:
        options.markdown.write_text(markdown(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
