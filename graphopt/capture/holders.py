"""What holds Python state, and how its contents are copied, compared and put back.

Containers are read and written by their base class's own methods: what a subclass overrides may count,
copy or refuse.
"""

import operator
import pickle
import random
import types
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.guards.members import is_users_class
from graphopt.guards.places import slots_of


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of one object."""

    thing: object


@dataclass(frozen=True, slots=True)
class ClassAttributes:
    """The attributes of one class, not its bases'."""

    kind: type


@dataclass(frozen=True, slots=True, eq=False)
class Variables:
    """Some variables of a module."""

    namespace: dict[str, Any]
    names: tuple[str, ...]


GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)


@dataclass(frozen=True, slots=True)
class RandomState:
    """The place of a random generator in its stream."""

    generator: Any

    def read(self) -> bytes:
        """The place, as bytes."""
        match self.generator:
            case random.Random():
                return pickle.dumps(self.generator.getstate())
            case np.random.Generator():
                return pickle.dumps(self.generator.bit_generator.state)
            case _:
                return pickle.dumps(self.generator.get_state(legacy=False))

    def put_back(self, place: bytes) -> None:
        """Goes back to a place that was read."""
        match self.generator:
            case random.Random():
                self.generator.setstate(pickle.loads(place))
            case np.random.Generator():
                self.generator.bit_generator.state = pickle.loads(place)
            case _:
                self.generator.set_state(pickle.loads(place))


def holders(thing: Any) -> Iterator[Any]:
    """What of one thing can change, without what is below it."""
    if isinstance(thing, type):
        if is_users_class(thing):
            yield ClassAttributes(thing)
        return
    own = (list, dict, set, deque, bytearray, Variables)
    if isinstance(thing, own) or (isinstance(thing, np.ndarray) and thing.flags.writeable):
        yield thing
    if isinstance(thing, GENERATORS) and not isinstance(thing, random.SystemRandom):
        yield RandomState(thing)
    attributes = getattr(thing, "__dict__", None)
    if type(attributes) is dict and not isinstance(thing, types.FunctionType | types.MethodType):
        yield attributes
    if slots_of(thing):
        yield Slots(thing)


def identity(holder: Any) -> object:
    """Equal for two views of one thing's state."""
    match holder:
        case Slots(thing):
            return "slots", id(thing)
        case ClassAttributes(kind):
            return "class", id(kind)
        case Variables(namespace, names):
            return "variables", id(namespace), names
        case RandomState(generator):
            return "random", id(generator)
        case _:
            return id(holder)


def contents(holder: Any) -> Any:
    """A shallow copy: a dict, list, set, bytes or array."""
    match holder:
        case Slots(thing):
            return {name: getattr(thing, name) for name in slots_of(thing)}
        case ClassAttributes(kind):
            return {name: value for name, value in vars(kind).items() if not name.startswith("__")}
        case Variables(namespace, names):
            return {name: namespace[name] for name in names if name in namespace}
        case RandomState():
            return holder.read()
        case dict():
            return dict(_base(holder).items(holder))
        case set():
            return set(set.__iter__(holder))
        case bytearray():
            return bytes(holder)
        case np.ndarray():
            return holder.copy()
        case _:
            base: Any = deque if isinstance(holder, deque) else list
            return list(base.__iter__(holder))


def _base(holder: dict[Any, Any]) -> Any:
    return OrderedDict if isinstance(holder, OrderedDict) else dict


def identical(now: Any, before: Any) -> bool:
    """Whether two contents are the same objects (or bytes) in the same order."""
    if isinstance(before, dict):
        return list(now) == list(before) and all(map(operator.is_, now.values(), before.values()))
    if isinstance(before, np.ndarray):
        then = (before.shape, before.dtype, before.tobytes())
        return bool((now.shape, now.dtype, now.tobytes()) == then)
    if isinstance(before, list):
        return len(now) == len(before) and all(map(operator.is_, now, before))
    return bool(now == before)


def refill(holder: Any, before: Any) -> None:
    """Makes the contents what they were."""
    match holder:
        case Slots(thing):
            for name in slots_of(thing):
                object.__delattr__(thing, name)
            for name, value in before.items():
                object.__setattr__(thing, name, value)
        case ClassAttributes(kind):
            now = contents(holder)
            for name in now.keys() - before.keys():
                type.__delattr__(kind, name)
            for name, value in before.items():
                if now.get(name, holder) is not value:
                    type.__setattr__(kind, name, value)
        case Variables(namespace, names):
            for name in names:
                namespace.pop(name, None)
            namespace.update(before)
        case RandomState():
            holder.put_back(before)
        case dict():
            base = _base(holder)
            base.clear(holder)
            for key, value in before.items():
                base.__setitem__(holder, key, value)
        case set():
            set.clear(holder)
            set.update(holder, before)
        case deque():
            deque.clear(holder)
            deque.extend(holder, before)
        case list():
            list.__setitem__(holder, slice(None), before)
        case np.ndarray():
            holder[...] = before
        case _:
            holder[:] = before
