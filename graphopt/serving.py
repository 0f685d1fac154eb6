"""Serving calls: the variants of one model, and what runs where none of them fits."""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from graphopt.capture.program import Program
from graphopt.emit import emit, restoring_modes
from graphopt.errors import ExampleRaises, GuardError, Unsupported
from graphopt.guards import Guard
from graphopt.ir.structure import Interface, leaf_order

MAX_VARIANTS = 8


class Variant:
    """One program bound to one model: its guard and its emitted graph."""

    def __init__(self, program: Program, model: torch.nn.Module) -> None:
        self.program = program
        self.training = [(module, module.training) for module in model.modules()]
        self.guard = Guard(program.facts, model)
        self.graph_module = emit(program.graph, program.interface, program.constants, model)
        self.run: Callable[..., Any] = self.graph_module.forward
        if program.training is not None:
            with_gradients = emit(program.training, program.interface, program.constants, model)
            self.run = _by_grad_mode(self.run, with_gradients.forward)
        defaults = _tensor_defaults(program.interface)
        if defaults:
            self.run = _with_defaults(self.run, defaults)
        if any(node.op.startswith("functorch.") or any(node.regions) for node in program.graph.nodes):
            self.run = restoring_modes(self.run)

    def modes_hold(self) -> bool:
        """Whether every sub-module is in the mode of capture, asked so that torch.compile guards it."""
        return all([module.training == mode for module, mode in self.training])


def _tensor_defaults(interface: Interface) -> list[tuple[int, str, Any]]:
    """Parameters whose defaults hold tensors, which a torch.fx signature cannot: place, name, default."""
    return [
        (i, parameter.name, parameter.default)
        for i, (parameter, structure) in enumerate(
            zip(interface.parameters, interface.arguments, strict=True)
        )
        if parameter.default is not inspect.Parameter.empty and leaf_order((structure,))
    ]


def _with_defaults(run: Callable[..., Any], defaults: list[tuple[int, str, Any]]) -> Callable[..., Any]:
    def filled(*args: Any, **kwargs: Any) -> Any:
        missing = {name: value for i, name, value in defaults if i >= len(args) and name not in kwargs}
        return run(*args, **kwargs, **missing)

    return filled


def _by_grad_mode(without: Callable[..., Any], with_gradients: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return (with_gradients if torch.is_grad_enabled() else without)(*args, **kwargs)

    return run


@dataclass
class Policy:
    """What to do when no variant fits a call: run the "original", raise an "error", or "recapture".

    `capture` makes the program for a call; it serves the first call of a module made without example
    inputs too. It is dropped by copying and pickling, and then the original runs.
    """

    on_guard: str
    capture: Callable[[tuple[Any, ...], dict[str, Any]], Program] | None


class Serving:
    """The original, its variants in use, oldest first, and the policy."""

    def __init__(self, original: torch.nn.Module, programs: tuple[Program, ...], policy: Policy) -> None:
        self.original = original
        self.policy = policy
        self.variants = [Variant(program, original) for program in programs]
        self._retired: Variant | None = None
        self._warned = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the first variant that fits the call."""
        if torch.compiler.is_compiling():
            return self._in_compiler(args, kwargs)
        for variant in self.variants:
            if variant.guard.holds(args, kwargs):
                return variant.run(*args, **kwargs)
        return self._without_variant(args, kwargs)

    def _without_variant(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        policy, variants = self.policy, self.variants
        if not variants and policy.capture is not None:
            try:
                variant = self._new_variant(args, kwargs)
            except ExampleRaises:
                return self.original(*args, **kwargs)
            return variant.run(*args, **kwargs)
        if self._retired is not None:
            return self.original(*args, **kwargs)
        reason = self.violation(args, kwargs)
        if policy.on_guard == "error":
            raise GuardError(reason, remedy='call as captured, or use on_guard="original" or "recapture"')
        if policy.on_guard == "recapture" and policy.capture is not None:
            if len(variants) < MAX_VARIANTS:
                try:
                    return self._new_variant(args, kwargs).run(*args, **kwargs)
                except Unsupported as error:
                    reason = f"{reason}; capturing this call fails: {error.what}"
            else:
                reason = f"{reason}; there are {MAX_VARIANTS} variants already"
        if not self._warned:
            self._warned = True
            warnings.warn(f"graphopt runs the original model: {reason} (said once)", stacklevel=6)
        return self.original(*args, **kwargs)

    def _in_compiler(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for variant in self.variants:
            if variant.modes_hold() and variant.guard.holds_traced(args, kwargs):
                return variant.run(*args, **kwargs)
        return self.original(*args, **kwargs)

    def _new_variant(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Variant:
        assert self.policy.capture is not None
        variant = Variant(self.policy.capture(args, kwargs), self.original)
        self.variants.append(variant)
        return variant

    @property
    def newest(self) -> Variant:
        """The variant made last, be it in use or retired."""
        return self._retired or self.variants[-1]

    def retire(self) -> None:
        """Takes the variants out of use: the original runs from now on."""
        self._retired = self.newest
        self.variants = []
        self.policy = Policy("original", None)

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Why the newest variant does not serve a call, in one sentence; "" where it does."""
        if not self.variants:
            return "no call has been captured"
        return self.variants[-1].guard.violation(args, kwargs) or ""

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs of the variants in use that fit a copy of the model as it is now."""
        return tuple(variant.program for variant in self.variants if variant.guard.may_be_copied())
