"""What the algebra's search takes of a whole model's torch.export: the pass `sum-product`, for both graphs.

    python -m bench.search_time [--layers N ...] [--only NAME ...] [--json PATH] [--markdown PATH]

Process CPU time, one thread; each model is exported twice and optimised twice, and the second times count.
The pass runs as one of the default ones, in all rounds of the pipeline, on the graph without gradients and on
the one with. Random weights; the aim is less than a fifth.
"""

import argparse
import datetime
import gc
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from torch import Tensor, nn

from graphopt.capture import as_module, capture
from graphopt.catalog import choose
from graphopt.draft import Draft
from graphopt.pipeline import run_passes
from passes.sum_product import SumProduct

Case = tuple[nn.Module, dict[str, Tensor]]
RESULTS = Path(__file__).parent / "results"
AIM = 0.2
WIDTH, HEADS, WORDS = 768, 12, 1000


def _tokens() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(0, WORDS, (2, 128))}


def _text(model: Any, config: Any, **more: Any) -> Callable[[int], Case]:
    """A model of text whose configuration has the usual names."""

    def made(layers: int) -> Case:
        sizes = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "intermediate_size": 4 * WIDTH}
        return model(config(**sizes, num_hidden_layers=layers, vocab_size=WORDS, **more)), _tokens()

    return made


def _gpt2(layers: int) -> Case:
    return tf.GPT2Model(tf.GPT2Config(n_layer=layers, use_cache=False)), _tokens()


def _xlnet(layers: int) -> Case:
    config = tf.XLNetConfig(d_model=WIDTH, n_layer=layers, n_head=HEADS, d_inner=4 * WIDTH, vocab_size=WORDS)
    return tf.XLNetModel(config), _tokens()


def _t5(layers: int) -> Case:
    return tf.T5EncoderModel(tf.T5Config(num_layers=layers, d_model=512)), _tokens()


def _vit(layers: int) -> Case:
    return tf.ViTModel(tf.ViTConfig(num_hidden_layers=layers)), {"pixel_values": torch.randn(1, 3, 224, 224)}


def _whisper(layers: int) -> Case:
    config = tf.WhisperConfig(
        encoder_layers=layers, decoder_layers=layers, use_cache=False, max_source_positions=100,
        vocab_size=WORDS, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    heard, said = torch.randn(1, 80, 200), torch.ones(1, 8, dtype=torch.long)
    return tf.WhisperModel(config), {"input_features": heard, "decoder_input_ids": said}


def _opt(layers: int) -> Case:
    config = tf.OPTConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, ffn_dim=4 * WIDTH, num_hidden_layers=layers,
        vocab_size=WORDS, word_embed_proj_dim=WIDTH, use_cache=False, layerdrop=0.0,
    )  # fmt: skip
    return tf.OPTModel(config), _tokens()


MODELS: dict[str, Callable[[int], Case]] = {
    "BERT": _text(tf.BertModel, tf.BertConfig),
    "Llama": _text(tf.LlamaModel, tf.LlamaConfig, use_cache=False),
    "GPT-2": _gpt2,
    "XLNet": _xlnet,
    "T5's encoder": _t5,
    "DeBERTa v2": _text(
        tf.DebertaV2Model, tf.DebertaV2Config, relative_attention=True, position_buckets=256,
        share_att_key=True, norm_rel_ebd="layer_norm", pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
    ),
    "ViT": _vit,
    "Whisper": _whisper,
    "Qwen2": _text(tf.Qwen2Model, tf.Qwen2Config, use_cache=False, num_key_value_heads=4),
    "OPT": _opt,
    "Gemma": _text(tf.GemmaModel, tf.GemmaConfig, use_cache=False, num_key_value_heads=4, head_dim=64),
    "GPT-NeoX": _text(tf.GPTNeoXModel, tf.GPTNeoXConfig, use_cache=False),
}  # fmt: skip


@contextmanager
def _timed(spent: list[float]) -> Iterator[None]:
    """Adds what the pass takes."""
    run = SumProduct.run

    def timed(self: SumProduct, draft: Draft) -> None:
        started = time.process_time()
        run(self, draft)
        spent.append(time.process_time() - started)

    SumProduct.run = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        SumProduct.run = run  # type: ignore[method-assign]


def _second(run: Callable[[], object]) -> float:
    """What running something again takes, in seconds."""
    run()
    gc.collect()
    started = time.process_time()
    run()
    return time.process_time() - started


def measured(name: str, layers: int) -> dict[str, Any]:
    """Seconds of the export, and of the pass for both graphs."""
    torch.manual_seed(0)
    model, given = MODELS[name](layers)
    model.eval()
    export = _second(lambda: torch.export.export(model, (), given, strict=False))
    graph = capture(as_module(model), (), given, None).graph
    passes = choose(None)
    seconds, all_passes = [], []
    for gradients in (False, True):
        spent = list[float]()

        def run(gradients: bool = gradients, spent: list[float] = spent) -> None:
            spent.clear()
            run_passes(graph, passes, gradients)

        with _timed(spent):
            all_passes.append(_second(run))
        seconds.append(sum(spent))
    return {
        "model": name,
        "layers": layers,
        "nodes": len(graph.nodes),
        "export_s": export,
        "search_s": seconds[0],
        "search_with_gradients_s": seconds[1],
        "all_passes_s": sum(all_passes),
        "search_over_export": sum(seconds) / export,
    }


def facts() -> dict[str, object]:
    """When, with what and of which commit."""
    said = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    return {
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "transformers": tf.__version__,
        "threads": torch.get_num_threads(),
        "commit": said.stdout.strip(),
    }


def table(found: dict[str, Any]) -> str:
    """The results for people."""
    rows = found["models"]
    below = sum(row["search_over_export"] < AIM for row in rows)
    lines = [
        "# What searching takes of an export",
        "",
        "The pass `sum-product` on the graphs without and with gradients ÷ torch.export, both warm; `all`: "
        f"all default passes. Process CPU time, {found['threads']} thread, random weights, "
        f"torch {found['torch']}, transformers {found['transformers']}, commit {found['commit']}, "
        f"{found['date']}; `python -m bench.search_time`. {below} of {len(rows)} are below {AIM:.2f}.",
        "",
        "| model | layers | nodes | export, ms | sum-product, ms "
        "| with gradients, ms | ÷ export | all ÷ export |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = (row["export_s"], row["search_s"], row["search_with_gradients_s"])
        shares = row["search_over_export"], row["all_passes_s"] / row["export_s"]
        cells = [row["model"], row["layers"], row["nodes"], *(f"{one * 1e3:.0f}" for one in times)]
        cells += [f"{one:.2f}" for one in shares]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 12])
    parser.add_argument("--only", nargs="+", choices=[*MODELS], default=[*MODELS])
    parser.add_argument("--json", type=Path, default=RESULTS / "search.json")
    parser.add_argument("--markdown", type=Path, default=RESULTS / "search.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for layers in options.layers:
        for name in options.only:
            rows.append(measured(name, layers))
            print(name, layers, f"{rows[-1]['search_over_export']:.2f}", flush=True)
    found = facts() | {"models": rows}
    options.json.write_text(json.dumps(found, indent=2) + "\n")
    options.markdown.write_text(table(found))


if __name__ == "__main__":
    main()
