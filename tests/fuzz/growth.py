"""Random programs, grown statement by statement on real values, so that nearly all of them run."""

from __future__ import annotations

import dataclasses
import random
import warnings
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch

from tests.fuzz.programs import Input, Program, Region, Statement, arguments, compiled
from tests.fuzz.templates import ALIASES, GROUPS, RAISING, REGIONS, SHAPE_CHOICES, Template

T = TypeVar("T")

DTYPES = (
    *(torch.float32,) * 5,
    torch.float64,
    torch.bfloat16,
    torch.int64,
    torch.int64,
    torch.bool,
    torch.complex64,
)
LARGEST = 256
"""Elements of the largest value that later statements may use."""


class Draw(Protocol):
    """Where decisions come from: hypothesis, or a seeded generator."""

    def below(self, count: int) -> int:
        """A number from 0 to ``count - 1``; the smaller, the simpler the program."""
        ...


class SeededDraw:
    """Decisions from a seed."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(str(seed))

    def below(self, count: int) -> int:
        """A number from 0 to ``count - 1``."""
        return self._random.randrange(count)


def _kind(value: torch.Tensor) -> str:
    if value.dtype == torch.bool:
        return "b"
    if value.is_complex():
        return "c"
    return "f" if value.is_floating_point() else "i"


def _fits(kind: str, value: torch.Tensor) -> bool:
    return kind.lower() in ("a", _kind(value)) or (kind.lower() == "n" and _kind(value) != "b")


class Growth:
    """A program under construction."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._count = 0
        self._body: list[Statement | Region] = []
        self._known: list[Statement] = []
        self._region: list[Statement] | None = None
        self._region_header = ""
        self._raised = False
        differentiable = self._chance(30)
        self._inputs = self._draw_inputs(differentiable)
        self._parameters: tuple[Input, ...] = ()
        self._buffers: tuple[Input, ...] = ()
        if self._chance(25):
            self._parameters = (Input("weight", torch.float32, (3, 3)),)
            self._buffers = (
                Input("count", torch.int64, ()),
                Input("mean", torch.float32, (3,)),
                Input("spread", torch.float32, (3,)),
            )

    def _chance(self, percent: int) -> bool:
        """True with that chance; False is the simpler choice."""
        return self._draw.below(100) >= 100 - percent

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[self._draw.below(len(choices))]

    def _draw_inputs(self, differentiable: bool) -> tuple[Input, ...]:
        made: list[Input] = []
        for name in "abcd"[: 1 + self._draw.below(4)]:
            if made and self._chance(20):
                alias = self._pick(ALIASES).format(self._pick(made).name)
                candidate = Input(name, torch.float32, (), alias)
                try:
                    arguments(Program((*made, candidate), (), (), (), "None"), 0)
                except (RuntimeError, IndexError):
                    continue
                made.append(candidate)
                continue
            dtype = self._pick(DTYPES)
            floating = dtype.is_floating_point or dtype.is_complex
            shape = self._pick(SHAPE_CHOICES)
            wants = differentiable and floating and self._chance(70)
            made.append(Input(name, dtype, shape, None, wants, self._chance(8)))
        return tuple(made)

    def program(self, output: str = "None", extra: Statement | None = None) -> Program:
        """The program so far, with one more statement where given."""
        body = list(self._body)
        if self._region is not None:
            inner = [*self._region, *([extra] if extra else [])]
            body.append(Region(self._region_header, tuple(inner)))
        elif extra:
            body.append(extra)
        return Program(self._inputs, self._parameters, self._buffers, tuple(body), output)

    def _values(self, extra: Statement | None = None) -> dict[str, torch.Tensor]:
        """Every variable after running the program so far with one more statement.

        Raises whatever the program raises.
        """
        run = compiled(self.program("locals()", extra))
        torch.manual_seed(0)
        found: dict[str, Any] = run(*arguments(self.program(), 0))
        module = found.pop("self", None)
        if module is not None:
            found |= {
                f"self.{wanted.name}": getattr(module, wanted.name)
                for wanted in (*self._parameters, *self._buffers)
            }
        return {name: x for name, x in found.items() if isinstance(x, torch.Tensor)}

    def grow(self, wanted: int) -> Program:
        """Add up to ``wanted`` statements and return the program."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = self._values()
            for _ in range(wanted):
                if self._raised:
                    break
                values = self._step(values)
            self._close()
            return self.program(self._output(values))

    def _close(self) -> None:
        if self._region:
            self._body.append(Region(self._region_header, tuple(self._region)))
        self._region = None

    def _step(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self._region is None and self._chance(6):
            self._region, self._region_header = [], self._pick(REGIONS)
        elif self._region and self._chance(35):
            self._close()
        if self._known and self._chance(20):
            again = self._pick(self._known)
            statement = dataclasses.replace(again, results=self._names(len(again.results)))
            return self._try(statement, values, may_raise=False)
        group = self._group()
        for _ in range(4):
            template = self._pick(group)
            operands = self._operands(template, values)
            if operands is None:
                continue
            statement = Statement(template.text, operands, self._names(template.results))
            after = self._try(statement, values, may_raise=group is RAISING)
            if after is not values:
                return after
        return values

    def _group(self) -> list[Template]:
        ticket = self._draw.below(sum(weight for weight, _ in GROUPS))
        for weight, group in GROUPS:
            ticket -= weight
            if ticket < 0:
                return group
        raise AssertionError

    def _names(self, count: int) -> tuple[str, ...]:
        return tuple(f"t{self._count + i}" for i in range(count))

    def _operands(self, template: Template, values: dict[str, torch.Tensor]) -> tuple[str, ...] | None:
        chosen: list[str] = []
        for kind in template.kinds:
            fitting = [
                name for name, value in values.items() if _fits(kind, value) and value.numel() <= LARGEST
            ]
            if not fitting:
                return None
            # Counted from the latest: values just made are used most.
            chosen.append(fitting[-1 - self._draw.below(len(fitting))])
        return tuple(chosen)

    def _try(
        self, statement: Statement, values: dict[str, torch.Tensor], *, may_raise: bool
    ) -> dict[str, torch.Tensor]:
        try:
            after = self._values(statement)
        except Exception:
            if not (may_raise and self._chance(30)):
                return values
            # Its value exists in no run: the program ends with it, and returns what came before.
            self._raised = True
            after = dict(values)
        if any(value.layout != torch.strided for value in after.values()):
            return values
        (self._body if self._region is None else self._region).append(statement)
        self._known.append(statement)
        self._count += len(statement.results)
        return after

    def _output(self, values: dict[str, torch.Tensor]) -> str:
        names = list(values)
        count = self._draw.below(5)
        chosen = [names[-1]] + [names[-1 - self._draw.below(len(names))] for _ in range(count)]
        shape = self._draw.below(6)
        if shape <= 2:
            return ", ".join(chosen) if len(chosen) > 1 else chosen[0]
        if shape == 3:
            return f"[{', '.join(chosen)}]"
        if shape == 4:
            return "{" + ", ".join(f"'k{i}': {name}" for i, name in enumerate(chosen)) + "}"
        return f"({chosen[0]}, [{', '.join(chosen[1:])}], {{'n': 1, 'x': 1.0, 'none': None}})"


def grown(draw: Draw) -> Program:
    """A random program of up to 10 statements."""
    return Growth(draw).grow(1 + draw.below(10))
