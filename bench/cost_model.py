"""How near the cost model comes to what real models take, as a whole and node by node.

    python -m bench.cost_model [--profile FILE] [--markdown bench/results/cost_model.md]

Calibrates (or takes a profile), captures each model without passes, and compares the seconds predicted
for its graph with those measured of the emitted graph: CPU time of the one thread (others may be using
the machine), the smallest of several medians. Random weights from configurations, nothing is downloaded.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

import graphopt
from graphopt.analysis.cost import hands_on
from graphopt.analysis.seconds import graph_seconds, seconds_by_node
from graphopt.calibrate import calibrate
from graphopt.ir.graph import Node
from graphopt.judging import inputs_of
from graphopt.module import serving_of
from graphopt.profile import Profile, default, resolve
from graphopt.verify.interpreter import Interpreter

Model = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
MEANT = 1.5  # predicted by measured, or the inverse
MEANT_RANK = 0.9


def _text(model: nn.Module, batch: int, tokens: int, **more: Any) -> Model:
    ids = torch.randint(0, 1000, (batch, tokens))
    return model.eval(), (), {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more}


def _bert(batch: int, tokens: int) -> Model:
    return _text(transformers.BertModel(transformers.BertConfig()), batch, tokens)


def _deberta() -> Model:
    config = transformers.DebertaV2Config(
        vocab_size=8192, hidden_size=768, num_hidden_layers=4, num_attention_heads=12,
        intermediate_size=3072, relative_attention=True, position_buckets=256, norm_rel_ebd="layer_norm",
        share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0,
    )  # fmt: skip
    return _text(transformers.DebertaV2Model(config), 1, 128)


def _llama(batch: int, tokens: int) -> Model:
    config = transformers.LlamaConfig(
        vocab_size=8192, hidden_size=512, intermediate_size=1408, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4,
    )  # fmt: skip
    return _text(transformers.LlamaForCausalLM(config), batch, tokens, use_cache=False)


def _gpt2() -> Model:
    return _text(transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=6)), 1, 64, use_cache=False)


def _resnet(batch: int) -> Model:
    model = transformers.ResNetModel(transformers.ResNetConfig()).eval()
    return model, (torch.randn(batch, 3, 224, 224),), {}


def _vit() -> Model:
    model = transformers.ViTModel(transformers.ViTConfig(num_hidden_layers=6)).eval()
    return model, (torch.randn(2, 3, 224, 224),), {}


def _mobilenet() -> Model:
    model = transformers.MobileNetV2Model(transformers.MobileNetV2Config()).eval()
    return model, (torch.randn(1, 3, 224, 224),), {}


def _lstm() -> Model:
    return nn.LSTM(256, 256, 2).eval(), (torch.randn(50, 8, 256),), {}


def _mlp() -> Model:
    layers = [part for _ in range(6) for part in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(*layers).eval(), (torch.randn(4, 64),), {}


MODELS: Mapping[str, Callable[[], Model]] = {
    "BERT base, 1 × 128": lambda: _bert(1, 128),
    "BERT base, 8 × 32": lambda: _bert(8, 32),
    "BERT base, 1 × 4": lambda: _bert(1, 4),
    "DeBERTa-v2, 4 layers, 1 × 128": _deberta,
    "Llama, 6 layers of 512, 1 × 128": lambda: _llama(1, 128),
    "Llama, 6 layers of 512, 1 × 2": lambda: _llama(1, 2),
    "GPT-2, 6 layers, 1 × 64": _gpt2,
    "ResNet-50, 1 image": lambda: _resnet(1),
    "ResNet-50, 4 images": lambda: _resnet(4),
    "ViT base, 6 layers, 2 images": _vit,
    "MobileNetV2, 1 image": _mobilenet,
    "LSTM, 2 layers of 256, 50 × 8": _lstm,
    "MLP, 6 layers of 64": _mlp,
}


class _Timed(Interpreter):
    """Notes the CPU seconds of each node, the least of all runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def call(
        self, node: Node, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Sequence[Any]:
        """The results, as ever."""
        started = time.thread_time()
        results = super().call(node, function, args, kwargs)
        took = time.thread_time() - started
        self.seconds[node.name] = min(took, self.seconds.get(node.name, took))
        return results


def _median(call: Callable[[], object], budget_s: float) -> float:
    """CPU seconds of a call: the smallest median of five."""
    call()
    call()
    medians: list[float] = []
    until = time.perf_counter() + budget_s
    while len(medians) < 3 or time.perf_counter() < until:
        took = []
        for _ in range(5):
            started = time.thread_time()
            call()
            took.append(time.thread_time() - started)
        medians.append(statistics.median(took))
    return min(medians)


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks, ties sharing theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    at = 0
    while at < len(order):
        end = at
        while end + 1 < len(order) and values[order[end + 1]] == values[order[at]]:
            end += 1
        for place in range(at, end + 1):
            ranks[order[place]] = (at + end) / 2
        at = end + 1
    return ranks


@dataclass(frozen=True)
class Row:
    """One model: seconds, and the rank correlation of predicted and measured by node."""

    name: str
    nodes: int
    predicted: float
    default: float
    measured: float
    rank: float
    rank_kernels: float
    nodes_measured: float
    worst: list[tuple[str, float, float]]


def measure(name: str, profile: Profile, budget_s: float) -> Row:
    """Predicts and measures one model."""
    torch.manual_seed(0)
    model, args, kwargs = MODELS[name]()
    with torch.no_grad():
        opt = graphopt.optimize(model, args, kwargs, passes=[], verify=False)
        graph = opt.graph
        measured = _median(lambda: opt.graph_module(*args, **kwargs), budget_s)
        timed, inputs = _Timed(), inputs_of(serving_of(opt.module).newest.program, model, args, kwargs)
        until = time.perf_counter() + budget_s
        runs = 0
        while runs < 5 or time.perf_counter() < until:
            timed.run(graph, inputs)
            runs += 1
    predicted = seconds_by_node(graph, profile)
    names = [node.name for node in graph.nodes if not list(node.regions)]
    views = {node.name for node in graph.nodes if hands_on(node)}

    def rank(names: list[str]) -> float:
        both = [_ranks([by[name] for name in names]) for by in (predicted, timed.seconds)]
        return statistics.correlation(*both)

    by_op: dict[str, tuple[float, float]] = {}
    for node in graph.nodes:
        if node.name in timed.seconds:
            one, other = by_op.get(node.op, (0.0, 0.0))
            by_op[node.op] = (one + predicted[node.name], other + timed.seconds[node.name])
    worst = sorted(((op, *both) for op, both in by_op.items()), key=lambda row: -abs(row[1] - row[2]))
    return Row(
        name, len(graph.nodes), sum(predicted.values()), graph_seconds(graph, default()), measured,
        rank(names), rank([name for name in names if name not in views]), sum(timed.seconds.values()),
        worst[:8],
    )  # fmt: skip


def table(rows: Sequence[Row], profile: Profile, command: str) -> str:
    """The results as Markdown."""
    lines = [
        "# The cost model against measured seconds",
        "",
        f"Made by `{command}` on {time.strftime('%Y-%m-%d')}: {profile.machine}; {profile.threads} thread, "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}. CPU time of the thread, for others were using the machine.",
        "",
        "*calibrated*: predicted by a profile measured just before; *default*: by the one that comes with "
        "graphopt. *rank*: Spearman's correlation of predicted and measured seconds over the nodes, most of "
        f"which are views that all take about as long. Meant: ratios within {MEANT} either way, ranks of "
        f"{MEANT_RANK}.",
        "",
        "| model | nodes | measured ms | node by node ms | calibrated ms | ratio | default: ratio | rank "
        "| without views |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.nodes} | {row.measured * 1e3:.3g} | "
            f"{row.nodes_measured * 1e3:.3g} | {row.predicted * 1e3:.3g} | "
            f"{row.predicted / row.measured:.2f} | {row.default / row.measured:.2f} | {row.rank:.2f} | "
            f"{row.rank_kernels:.2f} |"
        )
    off = [row.name for row in rows if not 1 / MEANT <= row.predicted / row.measured <= MEANT]
    low = [row.name for row in rows if row.rank < MEANT_RANK]
    lines += ["", f"Outside {MEANT} ×: {', '.join(off) or 'none'}. Rank below {MEANT_RANK}: "
              f"{', '.join(low) or 'none'}.", ""]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", help="a profile to use; else one is measured")
    parser.add_argument("--only", help="models whose name holds this")
    parser.add_argument("--budget", type=float, default=3.0, help="seconds for each measurement")
    parser.add_argument("--markdown", type=Path, help="where to write the table")
    parser.add_argument("--operators", action="store_true", help="print where most is off, by operator")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    profile = resolve(options.profile, 1) if options.profile else calibrate(1)
    rows = []
    for name in MODELS:
        if options.only and options.only not in name:
            continue
        row = measure(name, profile, options.budget)
        rows.append(row)
        print(
            f"{name:34}{row.measured * 1e3:9.3g} ms {row.predicted / row.measured:6.2f} × "
            f"{row.rank:6.2f}{row.rank_kernels:6.2f}",
            flush=True,
        )
        for op, predicted, measured in row.worst if options.operators else ():
            print(f"    {op:48}{predicted * 1e6:10.0f}{measured * 1e6:10.0f} µs")
    command = "python -m bench.cost_model" + (f" --profile {options.profile}" if options.profile else "")
    text = table(rows, profile, command)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
