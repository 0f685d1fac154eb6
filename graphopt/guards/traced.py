"""The check of a model's state and attributes in a form that torch.compile traces.

Dynamo guards whatever the code that it traces reads. So this function reads every fact along its path
from the model: where one changes, Dynamo calls it again, and its answer is another. It has no effect on
calls that are not compiled.
"""

import functools
import keyword
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

from graphopt.guards.facts import Facts, SettledFact, StateFact
from graphopt.guards.members import is_users_class, underlying
from graphopt.guards.places import (
    DEFAULTS,
    ClassMembers,
    Path,
    held,
    is_compared,
    is_hook,
    is_private,
    locate,
    modules_of,
    reachable,
)
from graphopt.guards.variables import variable_reader
from graphopt.ir.literal import SCALARS


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
            yield from self._same_constant(attribute.value.value, self._read(attribute.path))
        for settled in self._facts.settled:
            yield from self._settled(settled)
        for path, module in modules_of(self._model):
            yield f"tuple({self._read(path)}._modules) == {tuple(module._modules)!r}"
            if "forward" not in vars(module):
                yield f"{self._read((*path, 'forward'))} is not None"  # so that Dynamo guards the next
                yield f"'forward' not in {self._read(path)}.__dict__"
        for path, thing in reachable(self._model):
            if type(thing) in (list, dict) and not is_private(path):
                yield f"len({self._read(path)}) == {len(thing)}"
            elif type(thing) is set and is_compared(path, thing):
                yield from self._same_members(thing, self._read(path))
            elif isinstance(thing, types.MappingProxyType):
                yield "False"  # Dynamo does not look at what it shows
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
        elif isinstance(locate(self._model, path)[0], ClassMembers):
            yield from self._same_member(path)
        elif path[-1] == "__defaults__":
            for i, value in enumerate(thing):
                read = f"{self._read(path)}[{i}]"
                if type(value) in SCALARS:
                    yield from self._same_constant(value, read)
                else:
                    yield f"{read} is {self._named(value)}"
        elif type(thing) is functools.partial:  # Dynamo takes none for itself; what is in it has facts
            read = self._read(path)
            yield f"type({read}) is {self._named(functools.partial)}"
            yield f"len({read}.args) == {len(thing.args)}"
            yield f"tuple({read}.keywords) == {tuple(thing.keywords)!r}"
        elif not isinstance(thing, types.MethodType):
            yield f"{self._read(path)} is {self._named(thing)}"

    def _same_member(self, path: Path) -> Iterator[str]:
        """A member of a class, where no class or object before it in the search has come to hide it."""
        owner, name, member = held(self._model, path[:-1]), path[-1], held(self._model, path)
        kind = owner if isinstance(owner, type) else type(owner)
        read = self._read(path[:-1])
        yield f"{read if kind is owner else f'type({read})'} is {self._named(kind)}"
        if kind is not owner and not isinstance(member, property):
            yield f"{name!r} not in {read}.__dict__"
            yield f"{self._read(path)} is not None"  # true: it makes Dynamo guard the line above
        for base in kind.__mro__:
            found = f"type({read})" if base is type(owner) else self._named(base)
            if name in vars(base):
                yield f"{found}.__dict__[{name!r}] is {self._named(member)}"
                break
            if is_users_class(base):
                yield f"{name!r} not in {found}.__dict__"

    def _settled(self, fact: SettledFact) -> Iterator[str]:
        read = self._read(fact.path)
        yield f"type({read}) is {self._named(fact.kind)}"
        if fact.value is not None:
            yield from self._same_constant(fact.value.value, read)

    def _same_members(self, members: set[Any], read: str) -> Iterator[str]:
        yield f"len({read}) == {len(members)}"
        for member in members:
            yield f"{self._named(member)} in {read}" if type(member) in SCALARS else "False"

    def _same_constant(self, value: object, read: str) -> Iterator[str]:
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
                text += f"[{key!r}]" if type(key) in (str, int) else f"[{self._named(key)}]"
            elif is_hook(name):
                text = self._named(held(self._model, path[: i + 1]))
            elif " " in name:
                text = f"{self._named(variable_reader(underlying(held(self._model, path[:i])), name))}()"
            elif name in (*DEFAULTS, "__wrapped__"):
                text = f"{self._named(underlying(held(self._model, path[:i])))}.{name}"
            elif name.isidentifier() and not keyword.iskeyword(name):
                text += f".{name}"
            else:
                text = f"getattr({text}, {name!r})"
        return text

    def _named(self, thing: object) -> str:
        name = f"_{len(self._names)}"
        self._names[name] = thing
        return name
