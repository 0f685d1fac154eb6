"""Which architectures torch.export takes: as it is, and once cache classes are pytree nodes."""

from __future__ import annotations

import sysconfig
import time
from dataclasses import dataclass, field

import torch
from torch import nn

from bench.architectures import Architecture
from bench.comparison import Observation, forward_code, observe


@dataclass(frozen=True)
class Export:
    """One attempt at `torch.export.export`."""

    accepted: bool
    reason: str = ""
    """Why not: the exception's type and its first lines."""
    nodes: int = 0
    seconds: float = 0.0
    differences: dict[str, str] = field(default_factory=dict)
    """Where the exported program differs from eager, by kind of call; only those that differ."""


@dataclass(frozen=True)
class Exportability:
    """Attempts in order; a later one is made only where it can tell more than those before."""

    plain: Export
    registered: Export | None
    """With transformers' cache classes registered, where the plain attempt failed."""
    strict: Export | None
    """With Dynamo (`strict=True`) and registration, where both failed."""
    train: Export
    """In train mode, with registration."""

    def best(self) -> Export:
        """The first attempt in eval mode that succeeded, else the plain one."""
        attempts = [self.plain, self.registered, self.strict]
        return next((a for a in attempts if a is not None and a.accepted), self.plain)


def first_lines(error: BaseException, limit: int = 240) -> str:
    """The type of an exception and the start of its message, on one line, paths from where packages lie."""
    message = " ".join(str(error).replace(f"{sysconfig.get_path('purelib')}/", "").split())
    return f"{type(error).__name__}: {message[:limit]}"


def register_cache_classes(model: nn.Module) -> None:
    """Makes every cache class that the model's module knows a pytree node, as transformers does."""
    from transformers.exporters.exporter_dynamo import register_cache_pytrees_for_model

    register_cache_pytrees_for_model(model)  # type: ignore[arg-type]


def _keep_shared_names(expected: Observation, actual: Observation) -> None:
    """An exported module has no name for some state (tied or unused weights): leave that out."""
    for aspect in ("gradients", "buffers"):
        one, two = getattr(expected, aspect), getattr(actual, aspect)
        shared = [name for name in one if name in two]
        setattr(expected, aspect, {name: one[name] for name in shared})
        setattr(actual, aspect, {name: two[name] for name in shared})
    expected.sharing = actual.sharing = []


def _differences(
    architecture: Architecture, program: torch.export.ExportedProgram, train: bool
) -> dict[str, str]:
    reference = architecture.build().train(train)
    forward = forward_code(reference)
    exported = program.module()
    found: dict[str, str] = {}
    for kind, seed in (("example", 0), ("second input", 1), ("no_grad", 0)):
        with torch.set_grad_enabled(kind != "no_grad"):
            expected, actual = (
                observe(module, architecture.example_inputs(seed), forward, gradients=kind != "no_grad")
                for module in (reference, exported)
            )
        _keep_shared_names(expected, actual)
        if difference := expected.difference(actual):
            found[kind] = difference
    return found


def try_export(architecture: Architecture, *, strict: bool = False, train: bool = False) -> Export:
    """Exports a fresh model and compares the program's results and gradients with eager's."""
    model = architecture.build().train(train)
    args, kwargs = architecture.example_inputs()
    started = time.perf_counter()
    try:
        program = torch.export.export(model, args, kwargs, strict=strict)
    except Exception as error:
        return Export(False, first_lines(error), seconds=time.perf_counter() - started)
    seconds = time.perf_counter() - started
    try:
        differences = _differences(architecture, program, train)
    except Exception as error:
        differences = {"module()": first_lines(error)}
    return Export(True, "", len(program.graph.nodes), seconds, differences)


def exportability(architecture: Architecture) -> Exportability:
    """Tries the ways of exporting in order. Registers cache classes: run it in its own process."""
    plain = try_export(architecture)
    register_cache_classes(architecture.build())
    registered = None if plain.accepted else try_export(architecture)
    strict = None
    if registered is not None and not registered.accepted:
        strict = try_export(architecture, strict=True)
    return Exportability(plain, registered, strict, try_export(architecture, train=True))
