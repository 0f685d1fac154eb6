"""Every operator of torch's own test database, in small programs of several kinds.

    python -m bench.sweep.operators --json results.jsonl --shard 0/2

Each ``OpInfo`` of ``op_db`` gives sample inputs in float32, int64, bool and complex64; of each the
first few that differ most from each other are taken. The kinds of program are in ``VARIANTS``.
An interrupted sweep goes on where its ``--json`` file ends.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from bench.sweep.record import FOUND, Record, run_all, summary
from bench.sweep.slow import slow
from bench.sweep.trial import Passes, Trial, graphopt_candidate

DTYPES = (torch.float32, torch.int64, torch.bool, torch.complex64)

UNWRITTEN = "returns memory that nobody wrote: eager does not repeat itself"
EXCLUDED = {
    "empty": UNWRITTEN,
    "empty_like": UNWRITTEN,
    "empty_permuted": UNWRITTEN,
    "empty_strided": UNWRITTEN,
    "new_empty": UNWRITTEN,
    "new_empty_strided": UNWRITTEN,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One operator applied to one sample: ``apply`` takes the sample's tensors, in order, and calls
    the operator with them in place and all other arguments as they are; ``apply_in_place`` the
    operator's in-place form, which writes to the first, where there is one.
    """

    name: str
    operator: str
    tensors: tuple[torch.Tensor, ...]
    apply: Callable[..., Any]
    apply_in_place: Callable[..., Any] | None


def _mutate(x: torch.Tensor) -> None:
    """Another value in place, in a way that keeps to the dtype."""
    if x.dtype == torch.bool:
        x.logical_not_()
    elif x.is_floating_point() or x.is_complex():
        x.mul_(0.5)
    else:
        x.add_(1)


def _plain(case: Case) -> Callable[..., Any]:
    def program(*tensors: torch.Tensor) -> Any:
        return case.apply(*tensors)

    return program


def _duplicated(case: Case) -> Callable[..., Any]:
    def program(*tensors: torch.Tensor) -> Any:
        first = case.apply(*tensors)
        second = case.apply(*tensors)
        return first, second

    return program


def _duplicated_read(case: Case) -> Callable[..., Any]:
    """The second result is only read, so that it may be merged into the first."""

    def program(*tensors: torch.Tensor) -> Any:
        first = case.apply(*tensors)
        second = case.apply(*tensors)
        return first, pytree.tree_map_only(torch.Tensor, torch.clone, second)

    return program


def _dead(case: Case) -> Callable[..., Any]:
    """The result is not used, so that it may be dropped: not a draw, nor an exception."""

    def program(*tensors: torch.Tensor) -> Any:
        case.apply(*tensors)
        return torch.rand(2), [x.clone() for x in tensors[:1]]

    return program


def _mutated_input(case: Case) -> Callable[..., Any] | None:
    def program(x: torch.Tensor, *others: torch.Tensor) -> Any:
        first = case.apply(x, *others)
        _mutate(x)
        second = case.apply(x, *others)
        return first, second

    return program if case.tensors else None


def _mutated_clone(case: Case) -> Callable[..., Any] | None:
    def program(x: torch.Tensor, *others: torch.Tensor) -> Any:
        y = x.clone()
        first = case.apply(y, *others)
        _mutate(y)
        second = case.apply(y, *others)
        return first, second

    return program if case.tensors else None


def _in_place(case: Case) -> Callable[..., Any] | None:
    in_place = case.apply_in_place

    def program(x: torch.Tensor, *others: torch.Tensor) -> Any:
        assert in_place is not None
        y = x.clone()
        view = y.view_as(y)
        before = y + 1 if y.dtype != torch.bool else ~y
        result = in_place(y, *others)
        after = view + 1 if y.dtype != torch.bool else ~view
        return result, view, before, after

    return program if in_place else None


def _in_place_on_input(case: Case) -> Callable[..., Any] | None:
    in_place = case.apply_in_place

    def program(x: torch.Tensor, *others: torch.Tensor) -> Any:
        assert in_place is not None
        return in_place(x, *others)

    return program if in_place else None


VARIANTS: dict[str, Callable[[Case], Callable[..., Any] | None]] = {
    "plain": _plain,
    "duplicated": _duplicated,
    "duplicated-read": _duplicated_read,
    "dead": _dead,
    "mutated-input": _mutated_input,
    "mutated-clone": _mutated_clone,
    "in-place": _in_place,
    "in-place-on-input": _in_place_on_input,
}
GRADIENT_VARIANTS = ("plain", "duplicated", "duplicated-read", "mutated-clone", "in-place")
"""Kinds of program that are run with arguments that require grad, too, and differentiated."""


def _without_seeding(op: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Stands in for ``wrapper_set_seed``, which seeds the generator inside of the operator: that is
    a side effect in Python, which no exported graph holds. The sweep sets the seed outside.
    """
    return op(*args, **kwargs)


def seed_generators(text: str) -> None:
    """Seed every generator that torch's samples draw from, by a name."""
    value = zlib.crc32(text.encode())
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value % 2**32)


def _features(sample: Any) -> frozenset[str]:
    """What tells one sample from another: option names and values, shapes, layouts."""
    found = {f"args {len(sample.args)}"}
    leaves, _ = pytree.tree_flatten((sample.input, sample.args))
    for position, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor):
            found |= {f"{position} {leaf.dim()}", f"{position} {tuple(leaf.shape)}"}
            found.add(f"{position} {0 in leaf.shape} {1 in leaf.shape} {leaf.layout}")
            if leaf.layout == torch.strided:
                found.add(f"{position} contiguous {leaf.is_contiguous()}")
        else:
            found.add(f"{position} {leaf!r}"[:60])
    for key, value in sample.kwargs.items():
        shown = tuple(value.shape) if isinstance(value, torch.Tensor) else repr(value)[:40]
        found |= {f"{key}", f"{key} {shown}"}
    return frozenset(found)


def _chosen(samples: list[Any], count: int) -> list[tuple[int, Any]]:
    """The first sample, then each time the one that differs most from those chosen before."""
    if not samples:
        return []
    features = [_features(sample) for sample in samples]
    chosen = [0]
    while len(chosen) < min(count, len(samples)):
        rest = [i for i in range(len(samples)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: min(len(features[i] ^ features[j]) for j in chosen)))
    return [(index, samples[index]) for index in chosen]


def _bind(call: Callable[..., Any], sample: Any) -> tuple[tuple[torch.Tensor, ...], Any]:
    """The sample's tensors, and a function of them that calls with everything else in place."""
    leaves, structure = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
    where = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    def apply(*tensors: torch.Tensor) -> Any:
        filled = list(leaves)
        for index, tensor in zip(where, tensors, strict=True):
            filled[index] = tensor
        value, args, kwargs = pytree.tree_unflatten(filled, structure)
        return call(value, *args, **kwargs)

    tensors: list[torch.Tensor] = []
    for index in where:
        tensor = leaves[index]
        if not tensor.is_leaf:
            tensor = tensor.detach().requires_grad_(tensor.requires_grad)
        tensors.append(tensor)
        leaves[index] = None
    return tuple(tensors), apply


def cases(op: Any, dtype: torch.dtype, count: int, *, requires_grad: bool) -> Iterator[Case]:
    """Up to ``count`` different samples of one operator in one dtype."""
    full = f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name
    seed_generators(f"{full} {dtype} {requires_grad}")
    drawn = op.sample_inputs("cpu", dtype, requires_grad=requires_grad)
    for index, sample in _chosen(list(islice(drawn, 24)), count):
        tensors, apply = _bind(op, sample)
        in_place = op.inplace_variant
        writes = None
        if in_place is not None and isinstance(sample.input, torch.Tensor):
            writes = None if sample.broadcasts_input else _bind(in_place, sample)[1]
        name = f"{full} {str(dtype).removeprefix('torch.')} #{index}"
        yield Case(name, full, tensors, apply, writes)


def operators(only: str | None = None) -> list[Any]:
    """The operators of ``op_db``, in its order; ``only`` keeps those of that name."""
    from torch.testing._internal import common_methods_invocations

    for name, module in list(sys.modules.items()):
        if name.startswith("torch.testing._internal") and hasattr(module, "wrapper_set_seed"):
            setattr(module, "wrapper_set_seed", _without_seeding)  # noqa: B010
    known = [op for op in common_methods_invocations.op_db if op.name not in EXCLUDED]
    if only is None:
        return known
    return [op for op in known if only in (op.name, f"{op.name}.{op.variant_test_name}")]


def trials(
    ops: list[Any],
    dtypes: tuple[torch.dtype, ...],
    variants: tuple[str, ...],
    samples: int,
    gradients: bool,
) -> Iterator[Trial]:
    """Every program of the sweep, in a fixed order."""
    for op in ops:
        for dtype in dtypes:
            if dtype not in op.dtypes:
                continue
            for requires_grad in (False, True):
                if requires_grad and not (gradients and _differentiable(op, dtype)):
                    continue
                kinds = [v for v in variants if not requires_grad or v in GRADIENT_VARIANTS]
                for case in cases(op, dtype, samples, requires_grad=requires_grad):
                    for kind in kinds:
                        program = VARIANTS[kind](case)
                        if program is not None:
                            suffix = " gradient" if requires_grad else ""
                            name = f"{case.name} {kind}{suffix}"
                            yield Trial(
                                name,
                                case.operator,
                                program,
                                case.tensors,
                                backward=requires_grad,
                            )


def _differentiable(op: Any, dtype: torch.dtype) -> bool:
    floating = dtype.is_floating_point or dtype.is_complex
    return bool(floating and op.supports_autograd and dtype in op.supported_backward_dtypes("cpu"))


def _shard(text: str) -> tuple[int, int]:
    index, count = (int(part) for part in text.split("/"))
    if not 0 <= index < count:
        raise argparse.ArgumentTypeError(f"{text}: the first number counts from 0")
    return index, count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
    parser.add_argument("--dtype", nargs="+", choices=names, default=names)
    parser.add_argument("--only", metavar="OP", help="one operator")
    parser.add_argument("--shard", type=_shard, default=(0, 1), metavar="I/N")
    parser.add_argument("--samples", type=int, default=2, metavar="K")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--no-gradients", action="store_true")
    parser.add_argument("--passes", choices=["empty", "default", "both"], default="both")
    parser.add_argument("--fraction", type=float, default=1.0, help="a random part of the programs")
    parser.add_argument("--seed", type=int, default=0, help="of the random part")
    parser.add_argument("--minutes", type=float, help="stop after this long; go on with --json")
    parser.add_argument("--json", type=Path, metavar="PATH", help="outcomes, one a line")
    parser.add_argument("--verify", action="store_true", help="with graphopt's own checks, too")
    parser.add_argument("--slow", action="store_true", help="decide as for a machine on which all is work")
    parser.add_argument("--verbose", action="store_true", help="print findings as they come")
    return parser


def _drawn(name: str, fraction: float, seed: int) -> bool:
    return zlib.crc32(f"{seed} {name}".encode()) < fraction * 2**32


def main(arguments: list[str] | None = None) -> int:
    """Run the sweep and print its summary; 1 where there is a finding."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    index, count = options.shard
    ops = operators(options.only)[index::count]
    dtypes = tuple(getattr(torch, name) for name in options.dtype)
    passes: tuple[Passes, ...] = ("empty", "default") if options.passes == "both" else (options.passes,)
    every = trials(ops, dtypes, tuple(options.variants), options.samples, not options.no_gradients)
    record = Record(options.json)
    chosen = (trial for trial in every if _drawn(trial.name, options.fraction, options.seed))
    complete = run_all(
        chosen,
        passes,
        record,
        minutes=options.minutes,
        verbose=options.verbose,
        optimizer=partial(
            graphopt_candidate, verify=options.verify, profile=slow() if options.slow else None
        ),
    )
    print(summary(record.outcomes))
    print(f"  excluded by name: {', '.join(EXCLUDED)}: {UNWRITTEN}")
    if not complete:
        print("The time ran out before the end: run the same command again to go on.")
    return int(any(outcome.verdict in FOUND for outcome in record.outcomes))


if __name__ == "__main__":
    sys.exit(main())
