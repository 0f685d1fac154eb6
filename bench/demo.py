"""The main job on a real model: what a DeBERTa-v2 computes twice or for nothing, by source line.

`make demo`, or `python -m bench.demo`. Two layers at the widths of deberta-v2-xlarge, random weights.
"""

import time
from pathlib import Path

import torch
from transformers import DebertaV2Config, DebertaV2Model

import graphopt
from graphopt.verify.difference import difference
from graphopt.verify.observation import observe


def build() -> tuple[torch.nn.Module, tuple[()], dict[str, torch.Tensor]]:
    """The model and one example call: 1 sequence of 128 tokens."""
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=8192,
        hidden_size=1536,
        num_hidden_layers=2,
        num_attention_heads=24,
        intermediate_size=6144,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
    )
    ids = torch.randint(0, config.vocab_size, (1, 128))
    model = DebertaV2Model(config).eval()
    return model, (), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def main() -> None:
    """Optimises the model, prints the report, and compares another input with eager."""
    torch.set_num_threads(2)
    model, args, kwargs = build()
    parameters = sum(p.numel() for p in model.parameters())
    print(f"DeBERTa-v2, 2 layers, {parameters / 1e6:.0f} M parameters, 1 × 128 tokens\n")
    start = time.perf_counter()
    opt = graphopt.optimize(model, args, kwargs)
    seconds = time.perf_counter() - start
    root = str(Path(torch.__file__).parent.parent) + "/"
    print(str(opt.report).replace(root, ""))
    other = kwargs | {"input_ids": kwargs["input_ids"].flip(1)}
    parted = difference(observe(model, args, other), observe(opt.module, args, other))
    print(f"\nanother input, bit for bit like eager: {'yes' if parted is None else f'NO: {parted}'}")
    print(f"captured, optimised and verified in {seconds:.1f} s")
    raise SystemExit(parted is not None)


if __name__ == "__main__":
    main()
