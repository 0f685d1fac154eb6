"""Finding things in a model by the paths that facts give them."""

import contextlib
import copyreg
import functools
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch

from graphopt.guards.members import (
    code_names,
    global_names,
    is_implicit,
    is_own_class,
    is_users,
    is_users_class,
    members,
    underlying,
)

DEFAULTS = ("__defaults__", "__kwdefaults__")  # of functions
PARTIAL = ("func", "args", "keywords")  # of functools.partial
FORWARD_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
GLOBAL_FORWARD_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks")  # of all modules
LARGEST_SET = 64  # members: larger ones are data
_DICTIONARIES = (dict, types.MappingProxyType)
_PLAIN = (dict, OrderedDict, defaultdict, types.MappingProxyType)  # without attributes of their own

Path: TypeAlias = tuple[str, ...]


class _Cells:
    """The variables that a function closes over, by name."""

    def __init__(self, function: types.FunctionType) -> None:
        self._cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))

    def __getitem__(self, name: str) -> Any:
        try:
            return self._cells[name].cell_contents
        except ValueError:  # it is empty now
            raise KeyError(name) from None


class ClassMembers:
    """The members of a class by name, inherited ones too."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __getitem__(self, name: str) -> Any:
        for base in self.kind.__mro__:
            if name in vars(base):
                return vars(base)[name]
        raise KeyError(name)


class Attributes:
    """Attributes as Python reads them: slots of an object, defaults of a function, members of a class."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self.thing, name)
        except AttributeError:
            raise KeyError(name) from None


class _HookTable:
    """The hooks in a table by their place: the keys of the table are new for each registration."""

    def __init__(self, table: dict[int, Any]) -> None:
        self._table = table

    def __getitem__(self, place: int) -> Any:
        try:
            return list(self._table.values())[place]
        except IndexError:
            raise KeyError(f"hook {place}") from None


def is_hook(name: str) -> bool:
    """Whether the last step to a thing is a forward hook, of a module or of all."""
    return name.startswith((*FORWARD_HOOKS, *GLOBAL_FORWARD_HOOKS))


def is_private(path: Path) -> bool:
    """Whether a path goes through something that no other class should read: "_cache"."""
    plain = (*DEFAULTS, "__wrapped__")
    return any(name.startswith("_") and not is_hook(name) and name not in plain for name in path)


def is_compared(path: Path, members: set[Any]) -> bool:
    """Whether the members of a set are compared, which must be few: not those that no other class should
    read."""
    return len(members) <= LARGEST_SET and not is_private(path)


def is_variable(name: str) -> bool:
    """Whether the last step to a thing is a variable that a function reads."""
    return name.startswith(("closure ", "global "))


def split_path(path: str) -> Path:
    """The path of a dotted name."""
    return tuple(path.split("."))


def locate(thing: Any, path: Path) -> tuple[Any, Any]:
    """The container that owns what a path leads to, and its key there: `container[key]` is the thing.

    A path goes from a model through sub-modules, parameters, attributes and class members by name, through
    lists and dictionaries as "[0]" and "[key]", or "[@0]" by the place of a key that fits in no path, to
    variables that functions read as "closure x" and "global x", and to hooks as "_forward_hooks 0" (from any
    module to those of all). Raises KeyError where
    it leads nowhere.
    """
    container, key = _step(thing, path[0])
    for name in path[1:]:
        container, key = _step(container[key], name)
    return container, key


def held(model: torch.nn.Module, path: Path) -> Any:
    """What a path leads to; the empty path leads to the model."""
    if not path:
        return model
    container, key = locate(model, path)
    return container[key]


def _step(thing: Any, name: str) -> tuple[Any, Any]:
    thing = underlying(thing)
    if name.startswith("["):
        if isinstance(thing, list | tuple) and int(name[1:-1]) < len(thing):
            return thing, int(name[1:-1])
        if isinstance(thing, _DICTIONARIES):
            key: Any = name[1:-1]
            if key.startswith("@"):
                keys = [*thing]
                if int(key[1:]) >= len(keys):
                    raise KeyError(name)
                return thing, keys[int(key[1:])]
            key = key if key in thing or not key.lstrip("-").isdigit() else int(key)
            if key in thing:
                return thing, key
        raise KeyError(name)
    if isinstance(thing, types.FunctionType):
        if name in DEFAULTS:
            return Attributes(thing), name
        if name == "__wrapped__":
            return vars(thing), name
        kind, _, variable = name.partition(" ")
        return (_Cells(thing), variable) if kind == "closure" else (thing.__globals__, variable)
    if isinstance(thing, functools.partial) and name in PARTIAL:
        return Attributes(thing), name
    own = {} if isinstance(thing, type) else getattr(thing, "__dict__", {})
    if isinstance(thing, torch.nn.Module):
        if is_hook(name):
            table, _, place = name.partition(" ")
            return _HookTable(own[table] if table in own else global_hooks(table)), int(place)
        for slot in ("_modules", "_parameters", "_buffers"):
            if name in own[slot]:
                return own[slot], name
    if name in own:
        return own, name
    if name in slots_of(thing):
        return Attributes(thing), name
    found = ClassMembers(thing if isinstance(thing, type) else type(thing))
    found[name]
    return found, name


def reachable(model: torch.nn.Module) -> Iterator[tuple[Path, Any]]:
    """Everything that a path leads to from a model, sub-modules first, each object once. Members of
    classes are among it where a function that was reached names them."""
    return ((path, thing) for path, thing, is_first in _walk(model) if is_first)


def ways(model: torch.nn.Module) -> Iterator[tuple[Path, Any]]:
    """As `reachable`, but with every way to each thing, though to what is below by the first alone."""
    return ((path, thing) for path, thing, _ in _walk(model))


def _walk(model: torch.nn.Module) -> Iterator[tuple[Path, Any, bool]]:
    seen: set[int] = {id(model)}
    pending: deque[tuple[Path, Any]] = deque([((), model)])
    classes = _Members()
    yield (), model, True
    while pending:
        path, thing = pending.popleft()
        found = [((*path, name), child) for name, child in children(thing)]
        if not path:
            found.extend(((name,), hook) for name, hook in _hooks_of_all())
        found.extend(classes.meet(path, thing))
        found.extend(classes.named_by(thing))
        for way, child in found:
            is_first = not _opens(child) or id(child) not in seen
            yield way, child, is_first
            if is_first and _opens(child):
                seen.add(id(child))
                pending.append((way, child))


class _Members:
    """The members of the classes met so far, until a function names them."""

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._waiting: dict[str, list[tuple[Path, object]]] = {}
        self._of: dict[type, dict[str, object]] = {}  # what is still to be met, by class

    def meet(self, path: Path, thing: Any) -> Iterator[tuple[Path, object]]:
        """Members of the class of `thing` that are named already; the others wait."""
        kind = thing if isinstance(thing, type) else type(thing)
        if not _opens(thing) or isinstance(thing, types.FunctionType | types.MethodType):
            return
        rest = self._of.get(kind)
        if rest is None:
            rest = self._of[kind] = members(kind)
        own = {} if isinstance(thing, type) else getattr(thing, "__dict__", {})
        for name in [name for name in rest if name not in own]:
            member = rest.pop(name)
            if name in self._named or is_implicit(name):
                yield (*path, name), member
            else:
                self._waiting.setdefault(name, []).append(((*path, name), member))

    def named_by(self, thing: Any) -> Iterator[tuple[Path, object]]:
        """Members met before that `thing`, a function, is the first to name."""
        code = getattr(underlying(thing), "__code__", None)
        if isinstance(code, types.CodeType):
            for name in code_names(code):
                self._named.add(name)
                yield from self._waiting.pop(name, ())


def modules_of(model: torch.nn.Module) -> Iterator[tuple[Path, torch.nn.Module]]:
    """The model and every module that forward can reach, in closures and lists too."""
    return ((path, thing) for path, thing in reachable(model) if isinstance(thing, torch.nn.Module))


def children(thing: Any) -> Iterator[tuple[str, Any]]:
    """What is one step below a thing, and the step."""
    thing = underlying(thing)
    if isinstance(thing, list | tuple):
        yield from ((f"[{i}]", child) for i, child in enumerate(thing))
    elif isinstance(thing, _DICTIONARIES):
        for place, (key, child) in enumerate(thing.items()):
            yield f"[{key}]" if _fits_a_path(key) else f"[@{place}]", child
        if type(thing) not in _PLAIN:
            yield from getattr(thing, "__dict__", {}).items()
    elif isinstance(thing, types.FunctionType):
        yield from _variables(thing)
    elif isinstance(thing, torch.nn.Module):
        for slot in ("_modules", "_parameters", "_buffers"):
            yield from vars(thing)[slot].items()
        yield from ((name, child) for name, child in vars(thing).items() if not _is_machinery(name))
        if "forward" not in vars(thing):
            yield "forward", type(thing).forward
        for table in FORWARD_HOOKS:
            yield from _placed(table, vars(thing).get(table) or {})
    elif _opens(thing) and not isinstance(thing, type):
        attributes = getattr(thing, "__dict__", {}).items()
        ours = is_own_class(type(thing))  # what serves a drop-in inside of the model: the original counts
        yield from (
            (name, child) for name, child in attributes if not ours or isinstance(child, torch.nn.Module)
        )
        yield from ((name, getattr(thing, name)) for name in slots_of(thing))
        if isinstance(thing, functools.partial):
            yield from ((name, getattr(thing, name)) for name in PARTIAL)


def _placed(table: str, hooks: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{table} {i}", hook) for i, hook in enumerate(hooks.values()))


def _hooks_of_all() -> Iterator[tuple[str, Any]]:
    for table in GLOBAL_FORWARD_HOOKS:
        yield from _placed(table, global_hooks(table))


def global_hooks(table: str) -> dict[int, Any]:
    """The hooks that run around every module, of one kind."""
    hooks: dict[int, Any] = getattr(torch.nn.modules.module, table)
    return hooks


def slots_of(thing: object) -> list[str]:
    """The slots that an object of the user's own class has filled."""
    if not is_users_class(type(thing)):
        return []
    return [name for name in copyreg._slotnames(type(thing)) if hasattr(thing, name)]  # type: ignore[attr-defined]


def _fits_a_path(key: object) -> bool:
    return type(key) is int or (isinstance(key, str) and not set(key) & set("@.[]"))


@functools.cache
def _machinery() -> frozenset[str]:
    return frozenset(vars(torch.nn.Module()))


def _is_machinery(name: str) -> bool:
    return name.startswith("_") and name in _machinery()


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function of the user's own reads besides its arguments."""
    wrapped = vars(function).get("__wrapped__")
    if wrapped is not None:
        yield "__wrapped__", wrapped
    if not is_users_function(function):
        return
    yield from ((name, value) for name in DEFAULTS if (value := getattr(function, name)))
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the cell is still empty
            yield f"closure {name}", cell.cell_contents
    for name in global_names(code):
        if name in function.__globals__ and not name.startswith("__"):
            yield f"global {name}", function.__globals__[name]


def is_users_function(function: types.FunctionType) -> bool:
    """Whether a function is the user's own."""
    return is_users(function.__code__.co_filename) and not (function.__module__ or "").startswith("torch.")


def _opens(thing: Any) -> bool:
    """Whether there is anything below."""
    if isinstance(thing, type):
        return is_users_class(thing)
    if isinstance(thing, torch.Tensor | types.ModuleType):
        return False
    if isinstance(thing, list | tuple | types.FunctionType | types.MethodType | property):
        return True
    if isinstance(thing, _DICTIONARIES):
        return True
    return type(getattr(thing, "__dict__", None)) is dict or bool(slots_of(thing))
