"""What tracing must not leave behind: changes of the Python state that forward can reach.

A footprint is taken before and compared after. A difference is a side effect that a graph would lose.
"""

import contextlib
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graphopt.capture.holders import GENERATORS, Variables, contents, holders, identical, identity, refill
from graphopt.guards.members import global_names, is_users_class, stored_globals, underlying
from graphopt.guards.places import is_users_function, reachable, slots_of


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of one reachable object that differs: the key's value was `before`, is `after`."""

    owner: str
    holder: Any  # the list, dict, set or deque that changed
    key: object
    before: object
    after: object


MISSING = object()


@dataclass(frozen=True, slots=True)
class Shallow:
    """A root whose own entries are watched, and nothing below them."""

    thing: Any


@dataclass(frozen=True, slots=True)
class Bounded:
    """A root below which containers and the user's own objects are watched, but no one else's."""

    thing: Any


class PythonState:
    """A shallow copy of everything that holds Python state (see graphopt.capture.holders) and is reachable
    from some roots.

    While torch.export traces, other tensors stand in for the model's own: `names` gives the two one
    name, by id, so that a module which only notes its weights anew has not changed.
    """

    def __init__(self, roots: dict[str, object], names: dict[int, str] | None = None) -> None:
        self._names = names or {}
        self._taken: dict[object, tuple[str, Any, Any]] = {}  # by identity; the holder is kept alive
        pending: list[tuple[str, Any, bool]] = []
        for name, root in roots.items():
            bounded = isinstance(root, Bounded)
            pending.append((name, root.thing if isinstance(root, Bounded) else root, bounded))
        seen: set[int] = set()
        keep: list[object] = []
        while pending:
            name, thing, bounded = pending.pop()
            if isinstance(thing, Shallow):
                for holder in holders(thing.thing):
                    self._take(name, holder)
                continue
            if id(thing) in seen or not _may_change(thing) or (bounded and _is_foreign(thing)):
                continue
            seen.add(id(thing))
            keep.append(thing)
            for holder in holders(thing):
                self._take(name, holder)
            pending.extend((where, child, bounded) for where, child in _children(name, thing))
        self._keep = keep

    def _take(self, name: str, holder: Any) -> None:
        self._taken.setdefault(identity(holder), (name, holder, contents(holder)))

    def knows(self, thing: object) -> bool:
        """Whether the roots reach this very object."""
        return any(identity(holder) in self._taken for holder in holders(thing))

    def changes(self) -> Iterator[Change]:
        """Every entry that is not the object it was."""
        for name, holder, before in self._taken.values():
            yield from self._compare(name, holder, before)

    def restore(self) -> None:
        """Puts every holder's former contents back."""
        for _, holder, before in self._taken.values():
            if not identical(contents(holder), before):
                refill(holder, before)

    def _compare(self, name: str, holder: Any, before: Any) -> Iterator[Change]:
        now = contents(holder)
        if isinstance(before, dict):
            for key in [*before, *(key for key in now if key not in before)]:
                old, new = before.get(key, MISSING), now.get(key, MISSING)
                if not self._same(old, new):
                    yield Change(_entry(name, holder, key), holder, key, old, new)
        elif isinstance(before, list) and len(now) == len(before):
            for i, (old, new) in enumerate(zip(before, now, strict=True)):
                if not self._same(old, new):
                    yield Change(f"{name}[{i}]", holder, i, old, new)
        elif not identical(now, before):
            yield Change(name, holder, None, before, now)

    def _same(self, old: Any, new: Any) -> bool:
        """Whether two entries are one object, equal constants, or containers of the same (torch.export
        exchanges containers for copies)."""
        if old is new:
            return True
        if id(old) in self._names:
            return self._names[id(old)] == self._names.get(id(new))
        if type(old) is not type(new):
            return False
        if isinstance(old, weakref.ref):
            return self._same(old(), new())
        if isinstance(old, list | tuple):
            return len(old) == len(new) and all(map(self._same, old, new))
        if isinstance(old, dict):
            return list(old) == list(new) and all(map(self._same, old.values(), new.values()))
        constants = (str, bytes, int, float, complex, set, torch.dtype, torch.device)
        return isinstance(old, constants) and bool(old == new)


def _entry(name: str, holder: Any, key: object) -> str:
    if isinstance(holder, Variables):
        return f"global {key}"
    return f"{name}.{key}" if isinstance(key, str) else f"{name}[{key!r}]"


def _may_change(thing: object) -> bool:
    return not isinstance(
        thing,
        torch.Tensor
        | types.ModuleType
        | types.FunctionType
        | types.BuiltinFunctionType
        | str
        | bytes
        | int
        | float
        | complex
        | type
        | None,
    )


def _is_foreign(thing: object) -> bool:
    """Whether it is an object of an installed package's class, such as a logger or a tokenizer."""
    if isinstance(thing, dict | list | tuple | deque | set | torch.nn.Module | types.MethodType):
        return False
    return not is_users_class(type(thing)) and not isinstance(thing, (np.ndarray, bytearray, *GENERATORS))


def _children(name: str, thing: Any) -> Iterator[tuple[str, object]]:
    if isinstance(thing, dict):
        base = OrderedDict if isinstance(thing, OrderedDict) else dict
        for key, value in list(base.items(thing)):
            yield f"{name}[{key!r}]", value
    elif isinstance(thing, list | tuple | deque):
        for i, value in enumerate(thing):
            yield f"{name}[{i}]", value
    if isinstance(thing, torch.nn.Module):
        for key, value in list(vars(thing).items()):
            if key == "_modules":
                for child, module in value.items():
                    yield f"{name}.{child}", module
                yield f"{name}._modules", value
            else:
                yield f"{name}.{key}", value
    elif type(getattr(thing, "__dict__", None)) is dict and not isinstance(
        thing, types.FunctionType | types.MethodType
    ):
        for key, value in list(vars(thing).items()):
            yield f"{name}.{key}", value
    if isinstance(thing, types.MethodType):
        yield f"{name}.__self__", thing.__self__
    for key in slots_of(thing):
        yield f"{name}.{key}", getattr(thing, key)


def roots_of(model: torch.nn.Module, functions: Iterable[Any] = ()) -> dict[str, object]:
    """The model, the user's classes, and what its functions (and other ones) close over, read as globals
    or assign."""
    roots: dict[str, object] = {"model": model}
    reached: dict[int, Any] = {}
    for _, thing in reachable(model):
        kind = thing if isinstance(thing, type) else type(thing)
        for base in kind.__mro__ if not isinstance(thing, torch.Tensor) else ():
            if is_users_class(base):
                roots[base.__qualname__] = Shallow(base)
        function = underlying(thing)
        reached[id(function)] = function
    for function in (*reached.values(), *functions):
        function = getattr(function, "__func__", function)
        if isinstance(function, types.FunctionType):
            roots.update(_function_roots(function))
    return roots


def _function_roots(function: types.FunctionType) -> dict[str, object]:
    """What a Python function closes over, reads as globals or assigns to them, by name."""
    roots: dict[str, object] = {}
    code = function.__code__
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # the cell is still empty
            roots[f"{variable} (closed over by {function.__qualname__})"] = cell.cell_contents
    for variable in stored_globals(code):
        assigned = Variables(function.__globals__, (variable,))
        roots[f"the globals of {function.__module__} by {function.__qualname__}: {variable}"] = Shallow(
            assigned
        )
    users = is_users_function(function)
    for variable in global_names(code):
        value = function.__globals__.get(variable)
        if users and _may_change(value):
            roots[f"global {variable}"] = Bounded(value)
        elif isinstance(value, dict | list | set | deque):
            roots[f"global {variable}"] = Shallow(value)
    return roots


class Preserved:
    """A model whose contents and Python state are as before once the block ends, whatever ran in it."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._python = PythonState(roots_of(model))
        reached = [thing for _, thing in reachable(model) if isinstance(thing, torch.Tensor)]
        self._versions = [(t, t._version) for t in reached if not t.is_inference()]
        self._constants = [tensor for tensor in reached if not tensor.requires_grad]
        self._gradients = [(tensor, tensor.grad) for tensor in reached if tensor.is_leaf]
        with torch.no_grad():
            self._contents = [(tensor, _metadata(tensor), tensor.detach().clone()) for tensor in reached]

    def __enter__(self) -> None:
        return None

    def __exit__(self, *raised: object) -> None:
        self._python.restore()
        for tensor in self._constants:
            if tensor.requires_grad:  # a value with a history was written into it
                tensor.detach_()
        for tensor, gradient in self._gradients:
            if tensor.grad is not gradient:
                tensor.grad = gradient
        with torch.no_grad():
            for tensor, metadata, contents in self._contents:
                if metadata is not None and _metadata(tensor) != metadata:
                    tensor.set_(*metadata)
                if not _same_bits(tensor, contents):
                    tensor.detach().copy_(contents)
        for tensor, version in self._versions:  # a backward pass may be pending on what was saved before
            if tensor._version != version:
                torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))


def _metadata(tensor: torch.Tensor) -> tuple[Any, ...] | None:
    if tensor.layout is not torch.strided or tensor.is_meta:
        return None
    return tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride()


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.is_meta:
        return True
    if a.layout is not torch.strided or a.numel() == 0:
        return a.layout is torch.strided or torch.equal(a.to_dense(), b.to_dense())
    flat_a, flat_b = (t.detach().resolve_conj().resolve_neg().contiguous().view(-1) for t in (a, b))
    return torch.equal(flat_a.view(torch.uint8), flat_b.view(torch.uint8))
