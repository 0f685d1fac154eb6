"""What a call through `opt.module` costs beside the emitted graph alone, and beside eager.

    python -m bench.call_overhead

Microseconds, the smallest of interleaved rounds, one thread. The bar: 10 µs + 2 µs an input above the
graph. `opt.module` hands the graph the state tensors that its guard has just checked, where the graph
alone looks each up in the model, so it may cost less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import transformers

import graphopt


def _models() -> dict[str, tuple[torch.nn.Module, tuple[Any, ...], dict[str, Any]]]:
    x, ids = torch.randn(2, 8), torch.randint(0, 100, (1, 8))
    small = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2,
             "vocab_size": 100}  # fmt: skip
    blocks = [m for _ in range(20) for m in (torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.BatchNorm2d(4),
                                             torch.nn.ReLU())]  # fmt: skip
    mask = torch.ones_like(ids)
    return {
        "MLP, 4 tensors": (torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)), (x,), {}),
        "BERT, 2 layers": (transformers.BertModel(transformers.BertConfig(**small)), (),
                           {"input_ids": ids, "attention_mask": mask}),
        "Llama, 2 layers": (transformers.LlamaForCausalLM(transformers.LlamaConfig(**small)), (),
                            {"input_ids": ids, "attention_mask": mask, "use_cache": False}),
        "CNN, 60 modules": (torch.nn.Sequential(*blocks), (torch.randn(1, 4, 8, 8),), {}),
    }  # fmt: skip


def _smallest(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(40):
        for name, call in calls.items():
            started = time.perf_counter()
            for _ in range(20):
                call()
            best[name] = min(best[name], (time.perf_counter() - started) / 20 * 1e6)
    return best


def main() -> None:
    """Prints a row for each model."""
    torch.set_num_threads(1)
    print(f"{'':18}{'eager':>9}{'graph':>9}{'module':>9}{'above':>9}{'bar':>6}")
    for name, (model, args, kwargs) in _models().items():
        model.eval()
        with torch.no_grad():
            opt = graphopt.optimize(model, args, kwargs, verify=False)
            found = _smallest({
                "eager": lambda: model(*args, **kwargs),  # noqa: B023
                "graph": lambda: opt.graph_module(*args, **kwargs),  # noqa: B023
                "module": lambda: opt.module(*args, **kwargs),  # noqa: B023
            })  # fmt: skip
        tensors = sum(torch.is_tensor(value) for value in (*args, *kwargs.values()))
        row = [*found.values(), found["module"] - found["graph"]]
        print(f"{name:18}" + "".join(f"{value:9.1f}" for value in row) + f"{10 + 2 * tensors:6}")


if __name__ == "__main__":
    main()
