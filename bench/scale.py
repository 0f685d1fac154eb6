"""How the passes scale: time and memory on a 405-billion-parameter Llama, and per node up to a million.

    python -m bench.scale --llama         writes bench/results/scale_llama.json
    python -m bench.scale --synthetic     writes bench/results/scale_synthetic.json

The model lies on the meta device: it has shapes and no memory. Each size runs in a process of its own,
whose peak memory (resident set) is compared before and after.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from graphopt.catalog import choose
from graphopt.ir.graph import Argument, Graph, Input, Node, Value
from graphopt.ir.literal import Lit
from graphopt.ir.types import TensorType, contiguous_strides
from graphopt.pipeline import run_passes

RESULTS = Path(__file__).parent / "results"
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def _peak() -> int:
    """The largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _llama(layers: int) -> dict[str, Any]:
    """Exports the model as graphopt captures it, then runs all default passes, for both graphs."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from graphopt.capture import as_module, capture

    torch.set_num_threads(1)
    config = LlamaConfig(
        hidden_size=16384, intermediate_size=53248, num_hidden_layers=layers, num_attention_heads=128,
        num_key_value_heads=8, vocab_size=128256, use_cache=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval()
        ids = torch.zeros((1, 128), dtype=torch.int64)
    started = time.perf_counter()
    torch.export.export(model, (), {"input_ids": ids, "use_cache": False}, strict=False)
    exported = time.perf_counter() - started
    after_export = _peak()
    started = time.perf_counter()
    program = capture(as_module(model), (), {"input_ids": ids, "use_cache": False}, None)
    captured = time.perf_counter() - started
    after_capture = _peak()
    seconds, removed = 0.0, []
    for gradients in (False, True):
        started = time.perf_counter()
        outcome = run_passes(program.graph, choose(None), gradients)
        seconds += time.perf_counter() - started
        removed.append(len(program.graph.nodes) - len(outcome.graph.nodes))
    return {
        "layers": layers,
        "parameters": sum(p.numel() for p in model.parameters()),
        "nodes": len(program.graph.nodes),
        "export_s": exported,
        "capture_s": captured,
        "passes_s": seconds,
        "passes_over_export": seconds / exported,
        "nodes_removed": removed,
        "export_peak_mb": after_export / 1e6,
        "capture_peak_mb": after_capture / 1e6,
        "passes_peak_mb": _peak() / 1e6,
        "mb_more_than_export": (_peak() - after_export) / 1e6,
    }


def synthetic(nodes: int) -> Graph:
    """A chain of blocks with a repeated expression, a no-op, cancelling views and dead code in each."""
    kind = TensorType(torch.float32, (8, 8), contiguous_strides((8, 8)), torch.device("cpu"))
    turned = TensorType(torch.float32, (8, 8), (1, 8), torch.device("cpu"))
    current = Value("x", kind)
    inputs = (Input(current, Argument(0)),)
    made: list[Node] = []

    def node(op: str, args: tuple[Any, ...], result: TensorType = kind) -> Value:
        value = Value(f"v{len(made)}", result)
        made.append(Node(value.name, op, args, (), (value,)))
        return value

    while len(made) < nodes:
        a = node("aten.sin.default", (current,))
        b = node("aten.sin.default", (current,))
        c = node("aten.t.default", (node("aten.t.default", (a,), turned),))
        d = node("aten.mul.Tensor", (c, Lit(1)))
        node("aten.cos.default", (d,))
        current = node("aten.add.Tensor", (d, b))
    return Graph(inputs, tuple(made), (current,))


def _synthetic(nodes: int) -> dict[str, Any]:
    graph = synthetic(nodes)
    before = _peak()
    started = time.perf_counter()
    outcome = run_passes(graph, choose(None))
    seconds = time.perf_counter() - started
    return {
        "nodes": len(graph.nodes),
        "nodes_left": len(outcome.graph.nodes),
        "steps": len(outcome.steps),
        "seconds": seconds,
        "us_per_node": seconds / len(graph.nodes) * 1e6,
        "bytes_per_node": (_peak() - before) / len(graph.nodes),
    }


def _alone(run: Callable[[int], dict[str, Any]], size: int) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run, (size,))


def main() -> int:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--llama", action="store_true")
    parser.add_argument("--layers", type=int, default=126)
    parser.add_argument("--synthetic", action="store_true")
    options = parser.parse_args()
    facts = {"torch": torch.__version__, "threads": 1}
    if options.llama:
        found = _alone(_llama, options.layers) | facts
        print(json.dumps(found, indent=2))
        if options.layers == 126:
            (RESULTS / "scale_llama.json").write_text(json.dumps(found, indent=2) + "\n")
    if options.synthetic:
        rows = [_alone(_synthetic, size) for size in SIZES]
        print(json.dumps(rows, indent=2))
        (RESULTS / "scale_synthetic.json").write_text(json.dumps({"curve": rows} | facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
