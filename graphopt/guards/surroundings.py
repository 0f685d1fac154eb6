"""The check of what is not in the arguments: modes, modules, attributes, state, hooks.

The common case runs as a few C loops (`map` over parallel lists, compared by identity).
"""

import operator
from collections.abc import Iterable
from typing import Any

import torch

from graphopt.guards.arguments import PLAIN, shown
from graphopt.guards.facts import Facts, SettledFact
from graphopt.guards.hooks import Hooks
from graphopt.guards.modes import reader
from graphopt.guards.places import ClassMembers, Path, held, locate, modules_of, reachable
from graphopt.ir.literal import SCALARS, Lit


class Entries:
    """Entries of containers and what must be in them, as parallel lists."""

    def __init__(self) -> None:
        self.containers: list[Any] = []
        self.keys: list[Any] = []
        self.expected: list[object] = []
        self.paths: list[Path] = []
        self._inherited = Members()

    def add(self, container: Any, key: Any, expected: object, path: Path) -> None:
        """Adds one entry."""
        if isinstance(container, ClassMembers) and not isinstance(container[key], classmethod):
            self._inherited.add(container, key, expected, path)
            return
        self.containers.append(container)
        self.keys.append(key)
        self.expected.append(expected)
        self.paths.append(path)

    def hold(self) -> bool:
        """Whether each entry is the expected object, or the same constant."""
        return (not self._inherited.names or self._inherited.hold()) and (
            all(map(operator.is_, map(operator.getitem, self.containers, self.keys), self.expected))
            or all(map(_same_constant, map(operator.getitem, self.containers, self.keys), self.expected))
        )

    def violation(self) -> str | None:
        """A sentence that names the first entry that does not hold."""
        for path, container, key, expected in zip(
            self.paths, self.containers, self.keys, self.expected, strict=True
        ):
            try:
                actual = container[key]
            except (KeyError, IndexError):
                return f"{'.'.join(path)} is gone"
            if not _same_constant(actual, expected):
                return f"{'.'.join(path)} is {shown(actual)}, captured with {shown(expected)}"
        return self._inherited.violation()


class Members:
    """Members of classes and what they must be, read as Python reads them: a class that comes to shadow
    an inherited member is noticed."""

    def __init__(self) -> None:
        self._kinds: list[type] = []
        self.names: list[str] = []
        self._expected: list[object] = []
        self._paths: list[Path] = []

    def add(self, members: ClassMembers, name: str, expected: object, path: Path) -> None:
        """Adds one member; `expected` is as the class holds it."""
        is_held = members[name] is expected
        self._kinds.append(members.kind)
        self.names.append(name)
        self._expected.append(getattr(members.kind, name) if is_held else expected)
        self._paths.append(path)

    def hold(self) -> bool:
        """Whether each member is the expected object, or the same constant."""
        return all(map(operator.is_, map(getattr, self._kinds, self.names), self._expected)) or all(
            map(_same_constant, map(getattr, self._kinds, self.names), self._expected)
        )

    def violation(self) -> str | None:
        """A sentence that names the first member that does not hold."""
        for path, kind, name, expected in zip(
            self._paths, self._kinds, self.names, self._expected, strict=True
        ):
            actual = getattr(kind, name, None)
            if not _same_constant(actual, expected):
                return f"{'.'.join(path)} is {shown(actual)}, captured with {shown(expected)}"
        return None


def _same_constant(actual: object, expected: object) -> bool:
    if actual is expected:
        return True
    if type(actual) in SCALARS and type(expected) in SCALARS:
        return Lit(actual) == Lit(expected)  # type: ignore[arg-type]
    return False


def _sized(model: torch.nn.Module) -> Iterable[Any]:
    """The containers that forward can see grow: attributes of modules and objects, lists, dictionaries."""
    for path, thing in reachable(model):
        if any(name.startswith("_") for name in path):
            continue
        if isinstance(thing, torch.nn.Module):
            yield from (vars(thing), thing._parameters, thing._buffers)
            if not thing._modules:  # else each child is compared
                yield thing._modules
        elif isinstance(thing, list | dict):
            yield thing
        elif type(attributes := getattr(thing, "__dict__", None)) is dict and not callable(thing):
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
            if fact.value is not None and not _same_constant(actual, fact.value.value):
                return False
        return True


class Surroundings:
    """The facts bound to one model.

    Containers are found once. Where one on the way to a fact was exchanged (`self.table = {}`), or is
    made by the model's first call only, they are found again.
    """

    def __init__(self, facts: Facts, model: torch.nn.Module) -> None:
        self._facts, self._model = facts, model
        self._modes = [(reader(fact.mode), fact) for fact in facts.modes]
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
            self._constants.add(*locate(model, attribute.path), attribute.value.value, attribute.path)
        self._settled = Settled(facts.settled, model)
        if not self._settled.hold():
            raise KeyError("what the first call settles")
        slots = [[locate(model, path) for path in fact.paths] for fact in facts.state]
        self._owners = [first[0][0] for first in slots]
        self._names = [first[0][1] for first in slots]
        self._ties = [(owner, name, i) for i, group in enumerate(slots) for owner, name in group[1:]]
        self._kinds = {fact.kind for fact in facts.state} | set(PLAIN)
        self._dtypes = [fact.dtype for fact in facts.state]
        self._shapes = [fact.shape for fact in facts.state]
        self._devices = [fact.device for fact in facts.state]
        self._all_on_cpu = all(device.type == "cpu" for device in self._devices)
        self._strides = [fact.strides for fact in facts.state]
        self._stride_of: Any = _strides_of if None in self._strides else torch.Tensor.stride
        self._grads = [fact.requires_grad for fact in facts.state if fact.requires_grad is not None]
        if self._fixed is None:  # what must never change is noted once all the rest is there
            fixed = Entries()
            modules = dict(modules_of(model))
            children = {id(module._modules) for module in modules.values()}
            for path in facts.objects:
                container, key = locate(model, path)
                if id(container) not in children:
                    fixed.add(container, key, container[key], path)
            self._fixed = fixed
            self._modules = list(modules.values())
            self._classes = list(map(type, self._modules))
            self._families = {path: module._modules for path, module in modules.items() if module._modules}
            self._children = list(self._families.values())
            self._order = list(map(list, map(_values_of, self._children)))
            self._sized = list(_sized(model))
            self._sizes = list(map(len, self._sized))

    def hold(self) -> bool:
        """Whether every fact holds."""
        for read, fact in self._modes:
            if read() != fact.value:
                return False
        try:
            if self._missing is not None or not self._ways.hold():
                self._bind()
                if self._missing is not None:
                    return False
            assert self._fixed is not None
            return (
                self._hooks.hold()
                and self._fixed.hold()
                and list(map(len, self._sized)) == self._sizes
                and list(map(type, self._modules)) == self._classes
                and list(map(list, map(_values_of, self._children))) == self._order
                and self._constants.hold()
                and (not self._facts.settled or self._settled.hold())
                and self._state_holds(list(map(operator.getitem, self._owners, self._names)))
            )
        except (KeyError, IndexError, AttributeError):
            self._missing = "something that was there at capture"
            return False

    def _state_holds(self, tensors: list[Any]) -> bool:
        return (
            set(map(type, tensors)) <= self._kinds
            and list(map(_dtype_of, tensors)) == self._dtypes
            and list(map(_shape_of, tensors)) == self._shapes
            and self._devices_hold(tensors)
            and all(owner[name] is tensors[i] for owner, name, i in self._ties)
            and len(set(map(id, tensors))) == self._facts.distinct
            and list(map(self._stride_of, tensors)) == self._strides
            and (not self._grads or list(map(_requires_grad_of, tensors)) == self._grads)
        )

    def _devices_hold(self, tensors: list[Any]) -> bool:
        if self._all_on_cpu:  # comparing devices is four times slower
            return all(map(_is_on_cpu, tensors))
        return list(map(_device_of, tensors)) == self._devices

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
        for read, mode in self._modes:
            if read() != mode.value:
                return f"{mode.mode} is {read()!r}, captured with {mode.value!r}"
        self._bind()
        if self._missing is not None:
            return f"{self._missing} is not there"
        assert self._fixed is not None
        return (
            self._hooks.violation()
            or self._fixed.violation()
            or self._shape_violation()
            or self._constants.violation()
            or self._state_violation()
        )

    def _shape_violation(self) -> str | None:
        for container, size in zip(self._sized, self._sizes, strict=True):
            if len(container) != size:
                keys = list(container)[-1:] if isinstance(container, dict) else []
                return (
                    f"an object of the model has {len(container)} entries {shown(keys)}, captured with {size}"
                )
        if list(map(type, self._modules)) != self._classes:
            return "a sub-module is of another class"
        for (path, family), then in zip(self._families.items(), self._order, strict=True):
            now = list(family.values())
            if now != then:
                where = ".".join(path) or "the model"
                if len(now) != len(then):
                    return f"{where} has {len(now)} sub-modules, captured with {len(then)}"
                exchanged = [name for name, a, b in zip(family, now, then, strict=True) if a is not b]
                return f"the sub-module {'.'.join((*path, exchanged[0]))} is another one than at capture"
        return None

    def _state_violation(self) -> str:
        for fact, owner, name in zip(self._facts.state, self._owners, self._names, strict=True):
            actual, subject = owner[name], ".".join(fact.paths[0])
            if not isinstance(actual, torch.Tensor):
                return f"state tensor {subject} is {shown(actual)}"
            if type(actual) not in self._kinds:
                return f"state tensor {subject} is a {type(actual).__name__}"
            now = (actual.dtype, tuple(actual.shape), str(actual.device), actual.requires_grad)
            then = (fact.dtype, fact.shape, str(fact.device), fact.requires_grad)
            if now[:3] != then[:3] or fact.requires_grad not in (None, now[3]):
                return f"state tensor {subject} is {now}, captured with {then}"
        tensors = list(map(operator.getitem, self._owners, self._names))
        if len(set(map(id, tensors))) < self._facts.distinct:
            return "state tensors that were different objects at capture are one now"
        return "state tensors that were one object at capture are so no more, or have other strides"


_values_of = operator.methodcaller("values")
_dtype_of = operator.attrgetter("dtype")
_shape_of = operator.attrgetter("shape")
_device_of = operator.attrgetter("device")


def _strides_of(tensor: torch.Tensor) -> tuple[int, ...] | None:
    return tensor.stride() if tensor.layout is torch.strided else None


_is_on_cpu = operator.attrgetter("is_cpu")
_requires_grad_of = operator.attrgetter("requires_grad")
