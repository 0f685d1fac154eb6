"""Does a model optimised by graphopt do what the original does? The one file that calls graphopt.

`check(architecture, passes)` optimises a fresh model in eval mode, and another in train mode, and
compares every kind of call with an untouched copy. Nothing here trusts graphopt's own report.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.architectures import Architecture, Inputs
from bench.comparison import forward_code, observe, value_difference
from bench.exportability import first_lines

ROUNDING = 1e-4
"""How far elements may move where a step says that it rounds otherwise, as a share of the largest."""


@dataclass
class Check:
    """One comparison. `ran` is "graph", or "original" where a guard sent the call there."""

    difference: str = ""
    ran: str = ""


@dataclass
class Equivalence:
    """What came of `graphopt.optimize` on one architecture with one choice of passes."""

    status: str = "ok"
    """"ok", "unsupported" (a refusal) or "crash" (any other exception)."""
    reason: str = ""
    train_status: str = "ok"
    train_reason: str = ""
    capture_seconds: float = 0.0
    nodes_before: int | None = None
    nodes_after: int | None = None
    checks: dict[str, Check] = field(default_factory=dict)

    def wrong(self) -> dict[str, str]:
        """The checks that failed, with the difference."""
        return {name: c.difference for name, c in self.checks.items() if c.difference}


class _Pair:
    """An optimised module beside an untouched model of the same weights, called alike."""

    def __init__(self, architecture: Architecture, optimised: nn.Module, train: bool) -> None:
        self.optimised = optimised
        self.reference = architecture.build().train(train)
        self.forward = forward_code(self.reference)

    def call(self, inputs: Callable[[], Inputs], *, gradients: bool = False, tolerance: float = 0.0) -> Check:
        """The same call on both; fresh inputs for each, since a call may change them."""
        expected = observe(self.reference, inputs(), self.forward, gradients=gradients)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            actual = observe(self.optimised, inputs(), self.forward, gradients=gradients)
        ran = "original" if actual.ran_forward else "graph"
        return Check(expected.difference(actual, tolerance), ran if expected.ran_forward else "unknown")

    def change(self, change: Callable[[nn.Module], Any]) -> None:
        """Does the same to both modules."""
        change(self.reference)
        change(self.optimised)


def _optimise(model: nn.Module, inputs: Inputs, passes: list[str] | None) -> Any:
    import graphopt

    args, kwargs = inputs
    return graphopt.optimize(model, args, kwargs, passes=passes, verify=False, measure=False)


def _failure(error: Exception) -> tuple[str, str]:
    """("unsupported" or "crash", the first lines of why, and for a crash where it was raised)."""
    import graphopt

    if isinstance(error, graphopt.Unsupported):
        return "unsupported", first_lines(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return "crash", f"{Path(frame.filename).name}:{frame.lineno}: {first_lines(error)}"


def _scale(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point():
                parameter.data.mul_(1.01)


def _state(model: nn.Module) -> dict[str, Any]:
    """What optimising must leave alone: weights, gradients, modes, and the global random state."""
    return {
        "tensors": {name: t.clone() for name, t in model.state_dict(keep_vars=True).items()},
        "gradients": {name: p.grad for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "hooks": {
            name: [len(module._forward_hooks), len(module._forward_pre_hooks)]
            for name, module in model.named_modules()
        },
        "random": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
    }


def _check_state_dict(architecture: Architecture, optimised: nn.Module) -> str:
    """Keys, and strict loading from and into a plain model."""
    plain = architecture.build(seed=5)
    if list(plain.state_dict()) != list(optimised.state_dict()):
        return value_difference(list(plain.state_dict()), list(optimised.state_dict()))
    try:
        optimised.load_state_dict(plain.state_dict(), strict=True)
        fresh = architecture.build(seed=6)
        fresh.load_state_dict(optimised.state_dict(), strict=True)
    except Exception as error:
        return first_lines(error)
    return value_difference(dict(plain.state_dict()), dict(fresh.state_dict()))


def _check_text(optimised: Any) -> str:
    """Whether parsing the printed graph prints the same text again."""
    from graphopt.ir import text

    try:
        printed = text.print_graph(optimised.graph)
        again = text.print_graph(text.parse_graph(printed))
    except Exception as error:
        return first_lines(error)
    if printed == again:
        return ""
    pairs = zip(printed.splitlines(), again.splitlines(), strict=False)
    return next((f"{a!r} became {b!r}" for a, b in pairs if a != b), "another number of lines")


def _count_nodes(optimised: Any, result: Equivalence) -> None:
    """Nodes of the IR, those of sub-graphs included."""
    result.nodes_before = optimised.report.before.nodes
    result.nodes_after = optimised.report.after.nodes


def _check_eval(architecture: Architecture, passes: list[str] | None, result: Equivalence) -> None:
    model = architecture.build()
    inputs = architecture.example_inputs()
    before = _state(model)
    started = time.perf_counter()
    try:
        optimised = _optimise(model, inputs, passes)
    except Exception as error:
        result.status, result.reason = _failure(error)
        result.checks["no trace"] = Check(value_difference(before, _state(model)))
        return
    result.capture_seconds = time.perf_counter() - started
    _count_nodes(optimised, result)
    untouched = value_difference(before, _state(model))
    untouched = untouched or value_difference(architecture.example_inputs(), inputs)
    pair = _Pair(architecture, optimised.module, train=False)
    checks = result.checks
    checks["no trace"] = Check(untouched)
    checks["example"] = pair.call(architecture.example_inputs)
    checks["second"] = pair.call(lambda: architecture.example_inputs(1))
    checks["gradients"] = pair.call(lambda: architecture.example_inputs(3), gradients=True)
    checks["other shape"] = pair.call(architecture.other_inputs)
    with torch.no_grad():
        # Without gradients, and only there, a pass may round otherwise, and says so.
        rounds = any(step.claim.value != "bitwise" for step in optimised.report.steps)
        checks["no_grad"] = pair.call(architecture.example_inputs, tolerance=ROUNDING if rounds else 0.0)
    pair.change(_scale)
    checks["scaled weights"] = pair.call(architecture.example_inputs)
    weights = architecture.build(seed=7).state_dict()
    pair.change(lambda module: module.load_state_dict(weights))
    checks["loaded weights"] = pair.call(architecture.example_inputs, gradients=True)
    pair.change(lambda module: module.train())
    checks["switched to train"] = pair.call(architecture.example_inputs, gradients=True)
    pair.change(lambda module: module.eval())
    checks["back to eval"] = pair.call(architecture.example_inputs)
    checks["state_dict"] = Check(_check_state_dict(architecture, optimised.module))
    checks["text"] = Check(_check_text(optimised))


def _check_train(architecture: Architecture, passes: list[str] | None, result: Equivalence) -> None:
    model = architecture.build().train()
    try:
        optimised = _optimise(model, architecture.example_inputs(), passes)
    except Exception as error:
        result.train_status, result.train_reason = _failure(error)
        return
    pair = _Pair(architecture, optimised.module, train=True)
    checks = result.checks
    checks["train"] = pair.call(architecture.example_inputs, gradients=True)
    checks["train, second"] = pair.call(lambda: architecture.example_inputs(1), gradients=True)
    pair.change(_scale)
    checks["train, scaled"] = pair.call(architecture.example_inputs, gradients=True)


def check(architecture: Architecture, passes: list[str] | None) -> Equivalence:
    """Optimises a fresh model in eval and in train mode and compares every kind of call.

    `passes=[]` is capture and emit; None is graphopt's default.
    """
    result = Equivalence()
    for mode, check_mode in (("eval", _check_eval), ("train", _check_train)):
        try:
            check_mode(architecture, passes, result)
        except Exception as error:
            result.checks[f"{mode} stopped"] = Check(first_lines(error))
    return result
