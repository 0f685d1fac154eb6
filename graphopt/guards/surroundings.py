"""The check of what is not in the arguments: modes, modules, attributes, state, hooks.

The common case runs as a few C loops and straight-line code.
"""

from collections.abc import Iterable
from itertools import chain
from types import MappingProxyType, ModuleType
from typing import Any

import torch

from graphopt.guards.arguments import shown
from graphopt.guards.entries import Entries, same_constant
from graphopt.guards.facts import Facts, SettledFact
from graphopt.guards.hooks import Hooks
from graphopt.guards.modes import modes_check, reader
from graphopt.guards.places import (
    Attributes,
    Path,
    held,
    is_compared,
    is_private,
    locate,
    modules_of,
    reachable,
)
from graphopt.guards.state import Looks, OwnedState


def _sized(model: torch.nn.Module) -> Iterable[Any]:
    """The containers that forward can see grow: attributes of modules and objects, lists, dictionaries,
    sets."""
    for path, thing in reachable(model):
        if is_private(path) or isinstance(thing, ModuleType):
            continue  # a namespace grows by every import
        if isinstance(thing, torch.nn.Module):
            yield from (vars(thing), thing._parameters, thing._buffers)
            if not thing._modules:  # else each child is compared
                yield thing._modules
            continue
        if isinstance(thing, list | dict | set | MappingProxyType):
            yield thing
        if type(attributes := getattr(thing, "__dict__", None)) is dict and not callable(thing):
            yield attributes


class Settled:
    """What the first call must have left behind."""

    def __init__(self, facts: tuple[SettledFact, ...], model: torch.nn.Module) -> None:
        self._facts = facts
        self._places = [locate(model, fact.path) for fact in facts]

    def hold(self) -> bool:
        """Whether all of it is there."""
        for fact, (container, key) in zip(self._facts, self._places, strict=True):
            actual = container[key]
            if type(actual) is not fact.kind:
                return False
            if fact.value is not None and not same_constant(actual, fact.value.value):
                return False
        return True


class Surroundings:
    """The facts bound to one model.

    Containers are found once. Where one on the way to a fact was exchanged (`self.table = {}`), or is
    made by the model's first call only, they are found again.
    """

    def __init__(self, facts: Facts, model: torch.nn.Module, looks: Looks) -> None:
        self._facts, self._model, self._looks = facts, model, looks
        self._modes_hold = modes_check([(fact.mode, fact.value) for fact in facts.modes])
        self._hooks = Hooks(facts.hooks, model)
        self._missing: str | None = None
        self._fixed: Entries | None = None
        self._bind()

    def _bind(self) -> None:
        try:
            self._find()
            self._missing = None
        except KeyError as error:
            self._missing = str(error.args[0])

    def _find(self) -> None:
        facts, model = self._facts, self._model
        self._ways, self._constants = Entries(), Entries()
        ways: dict[Path, None] = {}
        settled = [fact.path for fact in facts.settled]
        for path in (
            *settled,
            *(fact.path for fact in facts.attributes),
            *(p for f in facts.state for p in f.paths),
        ):
            ways.update((path[:i], None) for i in range(1, len(path)))
        for path in ways:
            thing = held(model, path)
            if not isinstance(thing, torch.nn.Module):  # sub-modules are among the fixed objects
                container, key = locate(model, path)
                self._ways.add(container, key, thing, path)
        for attribute in facts.attributes:
            (container, key), expected = locate(model, attribute.path), attribute.value.value
            if type(container) is not tuple or not same_constant(container[key], expected):
                self._constants.add(container, key, expected, attribute.path)  # a tuple stays as it is
        self._settled = Settled(facts.settled, model)
        if not self._settled.hold():
            raise KeyError("what the first call settles")
        self.state = OwnedState(facts, model, self._looks)
        if self._fixed is None:  # what must never change is noted once all the rest is there
            fixed = Entries()
            modules = dict(modules_of(model))
            self._modules = list(modules.values())
            self._classes = list(map(type, self._modules))
            families = {path: module._modules for path, module in modules.items() if module._modules}
            self._children = list(families.values())
            self._order = list(chain.from_iterable(self._children))
            for path, module in modules.items():  # the containers themselves
                fixed.add(Attributes(module), "__dict__", vars(module), (*path, "__dict__"))
                for slot in ("_modules", "_parameters", "_buffers"):
                    fixed.add(vars(module), slot, vars(module)[slot], (*path, slot))
            for path, family in families.items():
                for name, child in family.items():
                    fixed.add(family, name, child, (*path, name))
            tables = set(map(id, self._children))
            for path in facts.objects:
                container, key = locate(model, path)
                if id(container) not in tables:
                    fixed.add(container, key, container[key], path)
            sized = list(_sized(model))
            self._empty = [thing for thing in sized if type(thing) in _BUILT_IN and not thing]
            self._sized = [thing for thing in sized if type(thing) not in _BUILT_IN or thing]
            self._sizes = list(map(len, self._sized))
            sets = ((path, thing) for path, thing in reachable(model) if type(thing) is set)
            self._sets = [thing for path, thing in sets if is_compared(path, thing)]
            self._members = list(map(frozenset, self._sets))
            self._fixed = fixed

    def hold(self) -> bool:
        """Whether every fact holds."""
        if not self._modes_hold():
            return False
        try:
            if self._missing is not None or (self._ways and not self._ways.hold()):
                self._bind()
                if self._missing is not None:
                    return False
            assert self._fixed is not None
            return (
                self._hooks.hold()
                and ((not any(self._empty) and list(map(len, self._sized)) == self._sizes) or self._marked())
                and list(map(type, self._modules)) == self._classes
                and self._fixed.hold()
                and (not self._children or list(chain.from_iterable(self._children)) == self._order)
                and (not self._constants or self._constants.hold())
                and (not self._sets or list(map(frozenset, self._sets)) == self._members)
                and (not self._facts.settled or self._settled.hold())
                and (not self._facts.state or self.state.hold())
            )
        except (KeyError, IndexError, AttributeError):
            self._missing = "something that was there at capture"
            return False

    def _marked(self) -> bool:
        """Whether containers have grown by torch's own marks alone (torch.compile leaves them on tensors);
        these count from then on."""
        sized, sizes = [*self._sized, *self._empty], [*self._sizes, *(0 for _ in self._empty)]
        if [len(one) - sum(map(_is_mark, one)) for one in sized] != sizes:
            return False
        self._sized, self._sizes, self._empty = sized, list(map(len, sized)), []
        return True

    def objects_hold(self) -> bool:
        """Whether the objects that must stay are those of capture. A guard bound anew would take those that
        it meets for them."""
        if self._fixed is None:
            return True
        try:
            return self._fixed.hold() and self._shape_violation() is None
        except (KeyError, IndexError, AttributeError):
            return False

    def violation(self) -> str:
        """A sentence that names the first fact that does not hold."""
        for fact in self._facts.modes:
            value = reader(fact.mode)()
            if value != fact.value:
                return f"{fact.mode} is {value!r}, captured with {fact.value!r}"
        self._bind()
        if self._missing is not None:
            return f"{self._missing} is not there"
        assert self._fixed is not None
        return (
            self._hooks.violation()
            or self._fixed.violation()
            or self._shape_violation()
            or self._constants.violation()
            or self.state.violation()
        )

    def _shape_violation(self) -> str | None:
        for container, size in (
            *((empty, 0) for empty in self._empty),
            *zip(self._sized, self._sizes, strict=True),
        ):
            if len(container) != size:
                keys = list(container)[-1:] if isinstance(container, dict) else []
                return (
                    f"an object of the model has {len(container)} entries {shown(keys)}, captured with {size}"
                )
        if list(map(type, self._modules)) != self._classes:
            return "a sub-module is of another class"
        if list(chain.from_iterable(self._children)) != self._order:
            return "sub-modules are in another order or have other names than at capture"
        if list(map(frozenset, self._sets)) != self._members:
            return "a set of the model has other members"
        return None


_BUILT_IN = (dict, list)  # empty where they are false


def _is_mark(key: object) -> bool:
    return isinstance(key, str) and (key.startswith("_dynamo_") or key == "_is_torch_compile")
