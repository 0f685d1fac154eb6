"""Finding things in a model by the paths that facts give them."""

import contextlib
import operator
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch

from graphopt.ir.literal import SCALARS

_DICTIONARIES = (dict, OrderedDict, defaultdict)

Path: TypeAlias = tuple[str, ...]


class _Cells:
    """The variables that a function closes over, by name."""

    def __init__(self, function: types.FunctionType) -> None:
        self._cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))

    def __getitem__(self, name: str) -> Any:
        return self._cells[name].cell_contents


def split_path(path: str) -> Path:
    """The path of a dotted name."""
    return tuple(path.split("."))


def locate(thing: Any, path: Path) -> tuple[Any, Any]:
    """The container that owns what a path leads to, and its key there: `container[key]` is the thing.

    A path goes from a model through sub-modules, parameters and attributes by name, through lists and
    dictionaries as "[0]" and "[key]", and to variables that functions read as "closure x" and
    "global x". Raises KeyError where it leads nowhere.
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
    thing = getattr(thing, "__func__", thing)
    if name.startswith("["):
        if isinstance(thing, list | tuple) and int(name[1:-1]) < len(thing):
            return thing, int(name[1:-1])
        if isinstance(thing, dict):
            key: Any = name[1:-1]
            key = key if key in thing or not key.lstrip("-").isdigit() else int(key)
            if key in thing:
                return thing, key
        raise KeyError(name)
    if isinstance(thing, types.FunctionType):
        kind, _, variable = name.partition(" ")
        return (_Cells(thing), variable) if kind == "closure" else (thing.__globals__, variable)
    own = getattr(thing, "__dict__", {})
    if isinstance(thing, torch.nn.Module):
        for slot in ("_modules", "_parameters", "_buffers"):
            if name in own[slot]:
                return own[slot], name
    if name in own:
        return own, name
    for kind_of in type(thing).__mro__:
        if name in vars(kind_of):
            return vars(kind_of), name
    raise KeyError(name)


def reachable(model: torch.nn.Module | types.FunctionType) -> Iterator[tuple[Path, Any]]:
    """Everything that a path leads to from a model, sub-modules first, each object once."""
    seen: set[int] = {id(model)}
    pending: deque[tuple[Path, Any]] = deque([((), model)])
    while pending:
        path, thing = pending.popleft()
        yield path, thing
        for name, child in _children(thing):
            if _opens(child):
                if id(child) in seen:
                    continue
                seen.add(id(child))
            pending.append(((*path, name), child))


def modules_of(model: torch.nn.Module) -> Iterator[tuple[Path, torch.nn.Module]]:
    """The model and every module that forward can reach, in closures and lists too."""
    return ((path, thing) for path, thing in reachable(model) if isinstance(thing, torch.nn.Module))


def _children(thing: Any) -> Iterator[tuple[str, Any]]:
    thing = getattr(thing, "__func__", thing)
    if isinstance(thing, list | tuple):
        yield from ((f"[{i}]", child) for i, child in enumerate(thing))
    elif type(thing) in _DICTIONARIES:
        yield from ((f"[{key}]", child) for key, child in thing.items() if _fits_a_path(key))
    elif isinstance(thing, types.FunctionType):
        yield from _variables(thing)
    elif isinstance(thing, torch.nn.Module):
        for slot in ("_modules", "_parameters", "_buffers"):
            yield from vars(thing)[slot].items()
        yield from ((name, child) for name, child in vars(thing).items() if not _is_machinery(name, child))
        if "forward" not in vars(thing):
            yield "forward", type(thing).forward
    elif _opens(thing):
        yield from vars(thing).items()


def _fits_a_path(key: object) -> bool:
    return type(key) is int or (isinstance(key, str) and not set(key) & set(".[]"))


def _is_machinery(name: str, child: Any) -> bool:
    return name.startswith("_") and isinstance(child, dict | set)


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function of the user's own reads besides its arguments."""
    if not is_users(function):
        return
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the cell is still empty
            yield f"closure {name}", cell.cell_contents
    for name in code.co_names:
        if name in function.__globals__ and not name.startswith("__"):
            yield f"global {name}", function.__globals__[name]


def is_users(function: types.FunctionType) -> bool:
    """Whether a function is neither torch's nor an installed package's."""
    module = function.__module__ or ""
    return "site-packages" not in function.__code__.co_filename and not module.startswith("torch.")


def objects_of(model: torch.nn.Module) -> dict[int, Any]:
    """What forward can reach that has an identity and may change (no tensors), by id()."""
    plain = (*SCALARS, torch.Tensor, tuple, frozenset, bytes, types.ModuleType)
    return {id(thing): thing for _, thing in reachable(model) if not isinstance(thing, plain)}


def own_tensors(model: torch.nn.Module, fits: Callable[[torch.Tensor], bool]) -> "OwnTensors":
    """The parameters and buffers of a model that satisfy a condition now."""
    tables = [vars(module)[slot] for _, module in modules_of(model) for slot in ("_parameters", "_buffers")]
    return OwnTensors([(t, name) for t in tables for name in t if t[name] is not None and fits(t[name])])


class OwnTensors:
    """Some of the tensors that a model owns, as they are when asked."""

    def __init__(self, slots: list[tuple[dict[str, Any], str]]) -> None:
        self._tables = [table for table, _ in slots]
        self._names = [name for _, name in slots]

    def __len__(self) -> int:
        return len(self._names)

    def ids(self) -> set[int]:
        """Their id()s; none where one is gone, which other facts notice."""
        try:
            return set(map(id, map(operator.getitem, self._tables, self._names)))
        except KeyError:
            return set()


def _opens(thing: Any) -> bool:
    """Whether there is anything below."""
    if isinstance(thing, torch.Tensor | type | types.ModuleType):
        return False
    if isinstance(thing, list | tuple | types.FunctionType | types.MethodType):
        return True
    if type(thing) in _DICTIONARIES:
        return True
    return type(getattr(thing, "__dict__", None)) is dict
