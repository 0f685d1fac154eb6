"""Random compositions of the operators of torch's test database.

    python -m bench.sweep.compositions --count 500 --seed 0 --json results.jsonl

A composition is a directed acyclic graph of 3 to 12 steps: operators of ``op_db`` with the options
of one of their samples, views, in-place writes, and repeats of earlier steps. It is grown step by
step on real values: a step that raises is dropped, so that every program runs in eager. Number
``k`` of seed ``s`` is the same program in every process. ``--show K`` prints program K.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from bench.sweep.operators import DTYPES, operators, seed_generators
from bench.sweep.record import FOUND, Record, run_all, summary
from bench.sweep.trial import Passes, Trial
from graphopt.verify import copy_arguments

SIDE = 4
"""Length of a side of the canonical operand, a square matrix."""
LARGEST = 512
"""Elements of the largest value that later steps may use."""


@dataclasses.dataclass(frozen=True)
class Step:
    """``call`` applied to the values at ``operands``; its ``results`` tensors are values, too."""

    text: str
    call: Callable[..., Any]
    operands: tuple[int, ...]
    results: int = 0


@dataclasses.dataclass(frozen=True)
class Composition:
    """Steps over ``inputs``, and the numbers of the values that are returned."""

    inputs: tuple[torch.Tensor, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def __call__(self, *inputs: torch.Tensor) -> Any:
        values = list(inputs)
        for step in self.steps:
            values += _tensors(step.call(*(values[i] for i in step.operands)))
        return tuple(values[i] for i in self.outputs)

    def __str__(self) -> str:
        lines = [
            f"v{i} = {str(x.dtype).removeprefix('torch.')} {list(x.shape)} input"
            + (" requires_grad" if x.requires_grad else "")
            for i, x in enumerate(self.inputs)
        ]
        count = len(self.inputs)
        for step in self.steps:
            names = ", ".join(f"v{count + i}" for i in range(step.results))
            operands = ", ".join(f"v{i}" for i in step.operands)
            lines.append(f"{names or '_'} = {step.text}({operands})")
            count += step.results
        return "\n".join([*lines, f"return {', '.join(f'v{i}' for i in self.outputs)}"])


def _tensors(result: Any) -> list[torch.Tensor]:
    found = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    return [tensor for tensor in found if tensor.layout == torch.strided][:4]


@dataclasses.dataclass(frozen=True)
class Template:
    """An operator with the options of one sample, whose tensors are ``own``; ``call`` takes such."""

    text: str
    call: Callable[..., Any]
    own: tuple[torch.Tensor, ...]


@cache
def _operators() -> tuple[Any, ...]:
    return tuple(operators())


@cache
def _templates(number: int, dtype: torch.dtype) -> tuple[Template, ...]:
    """Up to 8 samples of one operator in one dtype, and as many of its in-place form."""
    op = _operators()[number]
    if dtype not in op.dtypes:
        return ()
    seed_generators(f"compositions {number} {dtype}")
    found: list[Template] = []
    name = f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name
    for index, sample in enumerate(islice(op.sample_inputs("cpu", dtype, requires_grad=False), 8)):
        leaves, structure = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
        where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        own = tuple(leaves[i] for i in where)
        if any(tensor.layout != torch.strided for tensor in own):
            continue
        for kind, function in (("", op.op), ("_", op.inplace_variant)):
            if function is None or (kind and not isinstance(sample.input, torch.Tensor)):
                continue
            found.append(Template(f"{name}{kind}#{index}", _filled(function, leaves, structure, where), own))
    return tuple(found)


def _filled(
    function: Callable[..., Any], leaves: list[Any], structure: Any, where: list[int]
) -> Callable[..., Any]:
    frame = [None if i in where else leaf for i, leaf in enumerate(leaves)]

    def call(*tensors: torch.Tensor) -> Any:
        filled = list(frame)
        for index, tensor in zip(where, tensors, strict=True):
            filled[index] = tensor
        value, args, kwargs = pytree.tree_unflatten(filled, structure)
        return function(value, *args, **kwargs)

    return call


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transpose": lambda x: x.transpose(0, -1),
    "first row": lambda x: x[0],
    "tail": lambda x: x[1:],
    "flatten": lambda x: x.flatten(),
    "unsqueeze": lambda x: x.unsqueeze(0),
    "diagonal": lambda x: x.diagonal(),
    "detach": lambda x: x.detach(),
    "every other": lambda x: x[..., ::2],
    "expand": lambda x: x.unsqueeze(0).expand(2, *x.shape),
    "conj": lambda x: x.conj(),
    "chunk": lambda x: x.chunk(2)[-1],
}
WRITES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "zero_": lambda x: x.zero_(),
    "add_(1)": lambda x: x.add_(1),
    "mul_(2)": lambda x: x.mul_(2),
    "[0] = 1": lambda x: _set_first(x),
    "neg_": lambda x: x.neg_(),
    "logical_not_": lambda x: x.logical_not_(),
    "relu_": lambda x: torch.relu_(x),
    "t_": lambda x: x.t_(),
    "uniform_": lambda x: x.uniform_(),
    "copy_(rand_like)": lambda x: x.copy_(torch.rand_like(x, dtype=torch.float32)),
}


def _set_first(x: torch.Tensor) -> torch.Tensor:
    x[0] = 1
    return x


class _Growth:
    """A composition under construction, with the values that its steps have given so far."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.requires_grad = draw.random() < 0.3
        self.inputs: list[torch.Tensor] = []
        self.steps: list[Step] = []
        for dtype in (torch.float32, torch.float32, *DTYPES[1:]):
            self.inputs.append(self._input(dtype))
        if draw.random() < 0.2:
            self.inputs[1] = self.inputs[0].detach()[:]  # two arguments in one storage
        self.values = list(copy_arguments(self.inputs)[0])

    def _input(self, dtype: torch.dtype) -> torch.Tensor:
        if dtype == torch.int64:
            return torch.randint(0, SIDE, (SIDE, SIDE))
        if dtype == torch.bool:
            return torch.rand(SIDE, SIDE) > 0.5
        return torch.randn(SIDE, SIDE, dtype=dtype).requires_grad_(self.requires_grad)

    def add(self) -> None:
        """Add a step of a random kind; nothing where it raises."""
        kind = self.draw.random()
        if kind < 0.15 and self.steps:
            self._try([self.draw.choice(self.steps)])  # an equal expression again
        elif kind < 0.30:
            self._one_operand(VIEWS)
        elif kind < 0.45:
            self._one_operand(WRITES)
        else:
            self._operator()

    def _usable(self, dtype: torch.dtype | None = None) -> list[int]:
        return [
            i
            for i, value in enumerate(self.values)
            if value.numel() <= LARGEST and dtype in (None, value.dtype)
        ]

    def _one_operand(self, kinds: dict[str, Callable[[torch.Tensor], torch.Tensor]]) -> None:
        text = self.draw.choice(sorted(kinds))
        self._try([Step(text, kinds[text], (self.draw.choice(self._usable()),))])

    def _operator(self) -> None:
        dtype = self.draw.choice((torch.float32, torch.float32, *DTYPES))
        templates = _templates(self.draw.randrange(len(_operators())), dtype)
        if not templates:
            return
        template = self.draw.choice(templates)
        attempts: list[Step] = []
        for _ in range(3):
            operands = tuple(self.draw.choice(self._usable(own.dtype) or [-1]) for own in template.own)
            attempts.append(Step(template.text, template.call, operands))
        self._try([step for step in attempts if -1 not in step.operands])

    def _try(self, candidates: list[Step]) -> None:
        for step in candidates:
            # An in-place step may write before it raises: run all of it again, on copies.
            torch.manual_seed(0)
            values = list(copy_arguments(self.inputs)[0])
            try:
                for known in (*self.steps, step):
                    added = _tensors(known.call(*(values[i] for i in known.operands)))
                    values += added
            except Exception:
                continue
            self.steps.append(dataclasses.replace(step, results=len(added)))
            self.values = values
            return

    def finish(self) -> Composition:
        """The composition, returning its last value and a few others, now and then one twice."""
        count = len(self.values)
        outputs = [count - 1] + [self.draw.randrange(count) for _ in range(self.draw.randint(0, 4))]
        return Composition(tuple(self.inputs), tuple(self.steps), tuple(outputs))


def composition(seed: int, number: int) -> Composition:
    """Composition ``number`` of ``seed``."""
    draw = random.Random(f"{seed} {number}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_generators(f"composition {seed} {number}")
        growth = _Growth(draw)
        wanted = draw.randint(3, 12)
        for _ in range(12 * wanted):
            if len(growth.steps) >= wanted:
                break
            growth.add()
        return growth.finish()


def trials(seed: int, numbers: range) -> Iterator[Trial]:
    """The compositions of ``seed`` as trials; a second call gets other values."""
    for number in numbers:
        made = composition(seed, number)
        yield Trial(
            f"composition {seed} {number}",
            "composition",
            made.__call__,
            made.inputs,
            _other_values(made.inputs),
            backward=any(x.requires_grad for x in made.inputs),
        )


def _other_values(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    copied = copy_arguments(inputs)[0]
    with torch.no_grad():
        for x in copied:
            x.copy_(x.flip(0).clone())
    return copied


def main(arguments: list[str] | None = None) -> int:
    """Judge a range of compositions and print the summary; 1 where there is a finding."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--passes", choices=["empty", "default", "both"], default="both")
    parser.add_argument("--minutes", type=float, help="stop after this long; go on with --json")
    parser.add_argument("--json", type=Path, metavar="PATH", help="outcomes, one a line")
    parser.add_argument("--show", type=int, metavar="K", help="print program K and stop")
    parser.add_argument("--verbose", action="store_true", help="print findings as they come")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.show is not None:
        print(composition(options.seed, options.show))
        return 0
    passes: tuple[Passes, ...] = ("empty", "default") if options.passes == "both" else (options.passes,)
    record = Record(options.json)
    numbers = range(options.first, options.first + options.count)
    complete = run_all(
        trials(options.seed, numbers),
        passes,
        record,
        minutes=options.minutes,
        verbose=options.verbose,
    )
    print(summary(record.outcomes))
    if not complete:
        print("The time ran out before the end: run the same command again to go on.")
    return int(any(outcome.verdict in FOUND for outcome in record.outcomes))


if __name__ == "__main__":
    sys.exit(main())
