"""What a function reads besides its arguments: defaults, closed-over variables and globals."""

import types
from typing import Any

from graphopt.guards.places import children


def variables_of(function: types.FunctionType) -> list[tuple[types.FunctionType, str, Any]]:
    """The default values, closed-over variables and globals that a function of the user's own and those that
    it calls read: which function, the step that leads there, and the value."""
    found: list[tuple[types.FunctionType, str, Any]] = []
    pending, seen = [function], {id(function)}
    while pending:
        current = pending.pop()
        for name, value in children(current):
            found.append((current, name, value))
            if isinstance(value, types.FunctionType) and id(value) not in seen:
                seen.add(id(value))
                pending.append(value)
    return found


def variable_reader(function: types.FunctionType, step: str) -> types.FunctionType:
    """A function that reads what `variables_of` names as `function` does, so that a compiler guards it."""
    kind, _, name = step.partition(" ")
    if kind == "global":
        return types.FunctionType(_code(f"lambda: {name}"), function.__globals__)
    if kind == "closure":
        cell = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))[name]
        outer = _code(f"lambda {name}: (lambda: {name})")
        inner = next(each for each in outer.co_consts if isinstance(each, types.CodeType))
        return types.FunctionType(inner, function.__globals__, closure=(cell,))
    scope = {"function": function, "__builtins__": function.__globals__["__builtins__"]}
    return types.FunctionType(_code(f"lambda: function.{step}"), scope)


def _code(text: str) -> types.CodeType:
    outer = compile(text, "<graphopt guard>", "eval")
    return next(each for each in outer.co_consts if isinstance(each, types.CodeType))
