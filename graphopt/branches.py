"""The branches that forward took, asked anew before each call."""

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from graphopt.capture.conditions import Conditions
from graphopt.capture.program import Program
from graphopt.emit import emit
from graphopt.ir.structure import Container, Interface, Leaf, leaf_order

_AS_IT_IS = contextlib.nullcontext()


class Branches:
    """Runs the graph of a program's conditions on a call, and compares the answers with those of capture."""

    def __init__(self, program: Program, conditions: Conditions, model: torch.nn.Module) -> None:
        self._decisions = conditions.decisions
        answers = tuple(Leaf(i) for i in range(len(conditions.decisions)))
        interface = replace(
            program.interface,
            result=Container(-1, "tuple", tuple, (), answers),
            object_writes=(),
            state_writes=(),
        )
        self._graph_module = emit(conditions.graph, interface, program.constants, model)
        self._run = with_defaults(self._graph_module.forward, tensor_defaults(program.interface))
        self._expected = [decision.answer for decision in conditions.decisions]

    def hold(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether forward would take the branches of capture."""
        try:
            with torch.no_grad() if torch.is_grad_enabled() else _AS_IT_IS:
                return list(map(bool, self._run(*args, **kwargs))) == self._expected
        except Exception:  # the original is the one to raise it
            return False

    def insist(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises where forward would take another branch, in a way that torch.export records."""
        with torch.no_grad():
            asked = self._run(*args, **kwargs)
        for tensor, decision in zip(asked, self._decisions, strict=True):
            as_captured = tensor != 0 if decision.answer else tensor == 0
            torch._assert_async(
                as_captured, f"the branch at {decision.where} was {decision.answer} at capture"
            )

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """A sentence that names the first branch that would go another way."""
        try:
            with torch.no_grad():
                answers = list(map(bool, self._run(*args, **kwargs)))
        except Exception as error:
            return f"what forward branches on raises {type(error).__name__}: {error}"
        for answer, decision in zip(answers, self._decisions, strict=True):
            if answer != decision.answer:
                return f"the branch at {decision.where} was {decision.answer} at capture"
        return None


def tensor_defaults(interface: Interface) -> list[tuple[int, str, Any]]:
    """Parameters whose defaults hold tensors, which a torch.fx signature cannot: place, name, default."""
    return [
        (i, parameter.name, parameter.default)
        for i, (parameter, structure) in enumerate(
            zip(interface.parameters, interface.arguments, strict=True)
        )
        if parameter.default is not inspect.Parameter.empty
        and parameter.default is not None
        and leaf_order((structure,))
    ]


def with_defaults(run: Callable[..., Any], defaults: list[tuple[int, str, Any]]) -> Callable[..., Any]:
    """The run that is passed such defaults where a call leaves them out."""
    if not defaults:
        return run

    def filled(*args: Any, **kwargs: Any) -> Any:
        missing = {name: value for i, name, value in defaults if i >= len(args) and name not in kwargs}
        return run(*args, **kwargs, **missing)

    return filled
