"""The check of a model's state and attributes in a form that torch.compile traces.

Dynamo guards whatever the code that it traces reads. So this function reads every fact along its path
from the model: where one changes, Dynamo calls it again, and its answer is another. It has no effect on
calls that are not compiled.
"""

import keyword
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

from graphopt.guards.facts import AttributeFact, Facts, StateFact
from graphopt.guards.places import Path, held, locate, reachable


class TracedCheck:
    """Writes the function that says, of a model, whether the facts hold."""

    def __init__(self, facts: Facts, model: torch.nn.Module) -> None:
        self._facts, self._model = facts, model
        self._names: dict[str, Any] = {}

    def compile(self) -> Callable[[torch.nn.Module], bool]:
        """The function. Raises KeyError where a fact has no place in the model yet."""
        lines = ["def check(m):"]
        lines += [f"    if not ({condition}): return False" for condition in self._conditions()]
        exec(compile("\n".join([*lines, "    return True"]), "<graphopt guard>", "exec"), self._names)
        check: Callable[[torch.nn.Module], bool] = self._names["check"]
        return check

    def _conditions(self) -> Iterator[str]:
        for path in self._facts.objects:
            yield from self._same_object(path)
        for attribute in self._facts.attributes:
            yield from self._constant(attribute)
        for path, thing in reachable(self._model):
            if type(thing) in (list, dict) and not any(name.startswith("_") for name in path):
                yield f"len({self._read(path)}) == {len(thing)}"
        for fact in self._facts.state:
            if not any(" " in name for name in fact.paths[0]):  # Dynamo guards tensors in closures
                yield from self._tensor(fact)

    def _same_object(self, path: Path) -> Iterator[str]:
        thing = held(self._model, path)
        if isinstance(thing, torch.nn.Module):
            read = self._read(path)
            yield f"{read} is {self._named(thing)}"
            yield f"type({read}) is {self._named(type(thing))}"
        elif thing is None:
            yield f"{self._read(path)} is None"
        elif path[-1] == "forward":
            if "forward" in vars(held(self._model, path[:-1])):
                yield f"{self._read(path)} is {self._named(thing)}"
            else:  # the second condition is true: it makes Dynamo guard the first
                yield f"'forward' not in {self._read(path[:-1])}.__dict__"
                yield f"{self._read(path)} is not None"
        elif not isinstance(thing, types.MethodType):
            yield f"{self._read(path)} is {self._named(thing)}"

    def _constant(self, fact: AttributeFact) -> Iterator[str]:
        value, read = fact.value.value, self._read(fact.path)
        if value is None or isinstance(value, bool):
            yield f"{read} is {value}"
        elif value == value:  # a nan equals nothing
            yield f"type({read}) is {self._named(type(value))}"
            yield f"{read} == {self._named(value)}"

    def _tensor(self, fact: StateFact) -> Iterator[str]:
        read = self._read(fact.paths[0])
        yield f"{read}.dtype is {self._named(fact.dtype)}"
        yield f"{read}.shape == {fact.shape!r}"
        if fact.requires_grad is not None:
            yield f"{read}.requires_grad is {fact.requires_grad}"
        for path in fact.paths[1:]:
            yield f"{self._read(path)} is {read}"

    def _read(self, path: Path) -> str:
        """An expression that reads what is at a path from the model `m`."""
        text = "m"
        for i, name in enumerate(path):
            if name.startswith("["):
                _, key = locate(self._model, path[: i + 1])
                text += f"[{key!r}]"
            elif " " in name:
                function = held(self._model, path[:i])
                text = f"{self._named(_reader(getattr(function, '__func__', function), name))}()"
            elif name.isidentifier() and not keyword.iskeyword(name):
                text += f".{name}"
            else:
                text = f"getattr({text}, {name!r})"
        return text

    def _named(self, thing: object) -> str:
        name = f"_{len(self._names)}"
        self._names[name] = thing
        return name


def _reader(function: types.FunctionType, place: str) -> types.FunctionType:
    """A function that reads a variable as `function` does: "closure x" or "global x"."""
    kind, _, name = place.partition(" ")
    if kind == "global":
        return types.FunctionType(_code(f"lambda: {name}"), function.__globals__)
    cell = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))[name]
    code = _code(f"lambda {name}: (lambda: {name})")
    inner = next(each for each in code.co_consts if isinstance(each, types.CodeType))
    return types.FunctionType(inner, function.__globals__, closure=(cell,))


def _code(text: str) -> types.CodeType:
    outer = compile(text, "<graphopt guard>", "eval")
    return next(each for each in outer.co_consts if isinstance(each, types.CodeType))
