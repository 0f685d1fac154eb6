"""Small PyTorch programs as data: printed as source, compiled from that source, and run.

A program is what its source says and nothing else, so that a counter-example can be pasted into a
test as it is printed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import linecache
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

__all__ = ["Input", "Program", "Region", "Statement", "arguments", "compiled", "snippet", "source"]

FLOATS = (0.0, 1.0, -1.0, 0.5, 2.0, 3.25, -2.5, 0.1, 1e-3, 7.0, -0.3)
SPECIALS = (0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-41, 3e38, 1.0, -1.0)
INTEGERS = (0, 1, 2, 3, 1, 2)
"""Small and not negative: they serve as indices, too."""


@dataclasses.dataclass(frozen=True)
class Input:
    """An argument, parameter or buffer. ``alias`` is an expression over the arguments before it,
    such as ``a[1:]``, which makes it share their memory, or be one of them.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    alias: str | None = None
    requires_grad: bool = False
    special: bool = False


@dataclasses.dataclass(frozen=True)
class Statement:
    """``results = template`` with the operands' names filled in; no results, no assignment."""

    template: str
    operands: tuple[str, ...]
    results: tuple[str, ...] = ()

    def text(self) -> str:
        """The line of source."""
        expression = self.template.format(*self.operands)
        return f"{', '.join(self.results)} = {expression}" if self.results else expression


@dataclasses.dataclass(frozen=True)
class Region:
    """Statements under a ``with``."""

    header: str
    body: tuple[Statement, ...]


@dataclasses.dataclass(frozen=True)
class Program:
    """A function of its inputs; a module where it has parameters or buffers.

    ``output`` is the returned expression.
    """

    inputs: tuple[Input, ...]
    parameters: tuple[Input, ...]
    buffers: tuple[Input, ...]
    body: tuple[Statement | Region, ...]
    output: str


def _lines(body: tuple[Statement | Region, ...]) -> Iterator[str]:
    for part in body:
        if isinstance(part, Statement):
            yield part.text()
        else:
            yield part.header
            yield from (f"    {line.text()}" for line in part.body)
            if not part.body:
                yield "    pass"


def _elements(wanted: Input, salt: int) -> list[Any]:
    """Elements for ``wanted``: a fixed scramble of a few telling numbers, other for other salts."""
    count = 1
    for size in wanted.shape:
        count *= size
    start = int.from_bytes(hashlib.sha256(f"{wanted.name} {salt}".encode()).digest()[:4], "big")
    steps = [(start + 5 * i + i * i * (salt + 1)) for i in range(count)]
    if wanted.dtype == torch.bool:
        return [step % 3 == 0 for step in steps]
    if not wanted.dtype.is_floating_point and not wanted.dtype.is_complex:
        return [INTEGERS[step % len(INTEGERS)] for step in steps]
    pool = SPECIALS if wanted.special else FLOATS
    real = [pool[step % len(pool)] for step in steps]
    if not wanted.dtype.is_complex:
        return real
    return [complex(x, pool[(step // 7) % len(pool)]) for x, step in zip(real, steps, strict=True)]


def _element_text(value: Any) -> str:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"float('{value}')"
    if isinstance(value, complex):
        return f"complex({_element_text(value.real)}, {_element_text(value.imag)})"
    return repr(value)


def _constructor(wanted: Input, salt: int) -> str:
    elements = ", ".join(_element_text(value) for value in _elements(wanted, salt))
    text = f"torch.tensor([{elements}], dtype={wanted.dtype})"
    if wanted.shape != (len(_elements(wanted, salt)),):
        text += f".reshape({wanted.shape})"
    return text + (".requires_grad_()" if wanted.requires_grad else "")


def _tensor(wanted: Input, salt: int) -> torch.Tensor:
    made = torch.tensor(_elements(wanted, salt), dtype=wanted.dtype).reshape(wanted.shape)
    return made.requires_grad_() if wanted.requires_grad else made


def arguments(program: Program, salt: int) -> tuple[torch.Tensor, ...]:
    """The arguments of a call, with the values that ``salt`` gives."""
    made: dict[str, torch.Tensor] = {}
    for wanted in program.inputs:
        if wanted.alias is None:
            made[wanted.name] = _tensor(wanted, salt)
        else:
            made[wanted.name] = eval(wanted.alias, {"torch": torch}, dict(made))
    return tuple(made.values())


def source(program: Program) -> str:
    """The program as Python source: ``def program`` or ``class Program``."""
    names = ", ".join(wanted.name for wanted in program.inputs)
    body = [*_lines(program.body), f"return {program.output}"]
    if not program.parameters and not program.buffers:
        return "\n".join([f"def program({names}):", *(f"    {line}" for line in body)]) + "\n"
    lines = [
        "class Program(torch.nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
    ]
    for wanted in program.parameters:
        made = _constructor(dataclasses.replace(wanted, requires_grad=False), 0)
        lines.append(f"        self.{wanted.name} = torch.nn.Parameter({made})")
    for wanted in program.buffers:
        lines.append(f"        self.register_buffer({wanted.name!r}, {_constructor(wanted, 0)})")
    lines += ["", f"    def forward({', '.join(['self', *filter(None, [names])])}):"]
    return "\n".join([*lines, *(f"        {line}" for line in body)]) + "\n"


def compiled(program: Program) -> Callable[..., Any]:
    """The function, or an instance of the module. Its source can be read back by ``inspect``."""
    text = source(program)
    name = f"<program {hashlib.sha256(text.encode()).hexdigest()[:12]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"torch": torch, "F": torch.nn.functional, "__name__": name}
    exec(compile(text, name, "exec"), scope)
    made: Callable[..., Any] = scope["Program"]() if "Program" in scope else scope["program"]
    return made


def snippet(program: Program) -> str:
    """The program and its arguments for two calls, as source that can be pasted into a test."""
    lines = ["import torch", "import torch.nn.functional as F", "", source(program)]
    for salt, name in ((0, "arguments"), (1, "other_arguments")):
        lines.append(f"def {name}():")
        for wanted in program.inputs:
            lines.append(f"    {wanted.name} = {wanted.alias or _constructor(wanted, salt)}")
        names = ", ".join(wanted.name for wanted in program.inputs)
        lines += [f"    return ({names}{',' if len(program.inputs) == 1 else ''})", ""]
    return "\n".join(lines)
