"""Which of two ways to compute the same is faster, by running both on numbers of the right types."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.literal import Lit
from graphopt.ir.operands import tensor_of
from graphopt.ir.resolve import called
from graphopt.latency import compare

BUDGET_S = 3.0


def raced(first: Sequence[Node], second: Sequence[Node]) -> float | None:
    """How many times as fast the second nodes are; None where that cannot be told: where something else than
    real tensors of static size comes from outside, a node raises, or the interval holds 1."""
    made = {value.name for node in (*first, *second) for value in node.results}
    outside = {v.name: v for node in (*first, *second) for v in node.operands if v.name not in made}
    tensors = _drawn(outside.values())
    if tensors is None:
        return None
    with torch.no_grad():
        try:
            timing = compare(_running(first, tensors), _running(second, tensors), pairs=7, budget_s=BUDGET_S)
        except RuntimeError:
            return None
    return timing.ratio if timing.faster or timing.slower else None


def _drawn(values: Iterable[Value]) -> dict[str, Any] | None:
    generator = torch.Generator().manual_seed(0)  # the user's stream stays where it is
    found = {}
    for value in values:
        kind = tensor_of(value)
        if kind is None or not kind.is_static or kind.strides is None or kind.device.type != "cpu":
            return None
        empty = torch.empty_strided(
            tuple(map(int, kind.shape)), tuple(map(int, kind.strides)), dtype=kind.dtype
        )
        found[value.name] = empty.normal_(generator=generator)
    return found


def _running(nodes: Sequence[Node], tensors: Mapping[str, Any]) -> Callable[[], None]:
    def run() -> None:
        known = dict(tensors)

        def of(arg: Arg) -> Any:
            return known[arg.name] if isinstance(arg, Value) else arg.value if isinstance(arg, Lit) else arg

        for node in nodes:
            made = called(node, of)
            values = made if node.many else (made,)
            known.update((value.name, one) for value, one in zip(node.results, values, strict=True))

    return run
