"""What tracing must not leave behind: the Python state that forward can reach, and global modes.

A footprint is taken before and compared after. A difference is a side effect that a graph would lose.
"""

import operator
import random
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from graphopt.guards.hooks import forward_hook_functions
from graphopt.guards.places import modules_of, reachable

_CONTAINERS = (list, dict, set, deque, OrderedDict, defaultdict)  # these exactly: a subclass may differ


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


class PythonState:
    """A shallow copy of every list, dictionary, set and attribute dictionary reachable from some roots.

    While torch.export traces, other tensors stand in for the model's own: `names` gives the two one
    name, by id, so that a module which only notes its weights anew has not changed.
    """

    def __init__(self, roots: dict[str, object], names: dict[int, str] | None = None) -> None:
        self._names = names or {}
        self._taken: dict[int, tuple[str, Any, Any]] = {}  # by id; the holder is kept alive
        pending: list[tuple[str, Any]] = list(roots.items())
        seen: set[int] = set()
        keep: list[object] = []
        while pending:
            name, thing = pending.pop()
            if isinstance(thing, Shallow):
                held = thing.thing
                self._taken.setdefault(id(held), (name, held, held.copy()))
                continue
            if id(thing) in seen or not _may_change(thing):
                continue
            seen.add(id(thing))
            keep.append(thing)
            if type(thing) in _CONTAINERS:
                self._taken[id(thing)] = (name, thing, thing.copy())
            attributes = getattr(thing, "__dict__", None)
            if type(attributes) is dict and not isinstance(thing, type | types.FunctionType):
                self._taken[id(attributes)] = (name, attributes, attributes.copy())
            pending.extend(_children(name, thing))
        self._keep = keep

    def knows(self, thing: object) -> bool:
        """Whether the roots reach this very object."""
        return id(thing) in self._taken or id(getattr(thing, "__dict__", None)) in self._taken

    def changes(self) -> Iterator[Change]:
        """Every entry that is not the object it was."""
        for name, holder, before in self._taken.values():
            yield from self._compare(name, holder, before)

    def restore(self) -> None:
        """Puts every holder's former contents back."""
        for _, holder, before in self._taken.values():
            if not _identical(holder, before):
                _refill(holder, before)

    def _compare(self, name: str, holder: Any, before: Any) -> Iterator[Change]:
        if isinstance(holder, dict):
            for key in [*before, *(key for key in holder if key not in before)]:
                old, new = before.get(key, MISSING), holder.get(key, MISSING)
                if not self._same(old, new):
                    yield Change(f"{name}.{key}" if isinstance(key, str) else f"{name}[{key!r}]",
                                 holder, key, old, new)  # fmt: skip
        elif isinstance(holder, set):
            if holder != before:
                yield Change(name, holder, None, before, set(holder))
        elif len(holder) != len(before):
            yield Change(name, holder, None, before, holder.copy())
        else:
            for i, (old, new) in enumerate(zip(before, holder, strict=True)):
                if not self._same(old, new):
                    yield Change(f"{name}[{i}]", holder, i, old, new)

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


def _identical(holder: Any, before: Any) -> bool:
    if isinstance(holder, dict):
        return list(holder) == list(before) and all(map(operator.is_, holder.values(), before.values()))
    if isinstance(holder, set):
        return bool(holder == before)
    return len(holder) == len(before) and all(map(operator.is_, holder, before))


def _refill(holder: Any, before: Any) -> None:
    if isinstance(holder, list):
        holder[:] = before
        return
    holder.clear()
    holder.extend(before) if isinstance(holder, deque) else holder.update(before)


def _may_change(thing: object) -> bool:
    return not isinstance(
        thing,
        torch.Tensor
        | types.ModuleType
        | types.BuiltinFunctionType
        | str
        | bytes
        | int
        | float
        | complex
        | type
        | None,
    )


def _children(name: str, thing: Any) -> Iterator[tuple[str, object]]:
    if type(thing) in (dict, OrderedDict, defaultdict):
        for key, value in list(thing.items()):
            yield f"{name}[{key!r}]", value
    elif type(thing) in (list, tuple, deque):
        for i, value in enumerate(thing):
            yield f"{name}[{i}]", value
    elif isinstance(thing, torch.nn.Module):
        for key, value in list(vars(thing).items()):
            if key == "_modules":
                for child, module in value.items():
                    yield f"{name}.{child}", module
                yield f"{name}._modules", value
            else:
                yield f"{name}.{key}", value
    elif type(getattr(thing, "__dict__", None)) is dict and not isinstance(thing, types.FunctionType):
        for key, value in list(vars(thing).items()):
            yield f"{name}.{key}", value


def roots_of(model: torch.nn.Module) -> dict[str, object]:
    """The model, and the containers and objects that its functions close over or read as globals."""
    roots: dict[str, object] = {"model": model}
    forwards = {type(module).forward: None for _, module in modules_of(model)}
    for forward in (*forwards, vars(model).get("function"), *forward_hook_functions(model)):
        roots.update(_function_roots(getattr(forward, "__qualname__", type(forward).__name__), forward))
    return roots


def _function_roots(name: str, function: Any) -> dict[str, object]:
    """The containers and objects that a Python function closes over or reads as globals, by name."""
    roots: dict[str, object] = {}
    pending = [(name, function)]
    seen: set[int] = set()
    while pending:
        prefix, current = pending.pop()
        current = getattr(current, "__func__", current)
        code = getattr(current, "__code__", None)
        if code is None or id(current) in seen:
            continue
        seen.add(id(current))
        for variable, cell in zip(code.co_freevars, current.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # the cell is still empty
                continue
            if isinstance(value, types.FunctionType):
                pending.append((f"{prefix}.{variable}", value))
            else:
                roots[f"{variable} (closed over by {prefix})"] = value
        for variable in code.co_names:
            value = current.__globals__.get(variable)
            if type(value) in _CONTAINERS:
                roots[f"global {variable}"] = Shallow(value)
    return roots


class Preserved:
    """A model whose contents and Python state are as before once the block ends, whatever ran in it."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._python = PythonState(roots_of(model))
        reached = [thing for _, thing in reachable(model) if isinstance(thing, torch.Tensor)]
        self._constant = [t for t in reached if not t.requires_grad]
        self._versions = [(t, t._version) for t in reached if not t.is_inference()]
        with torch.no_grad():
            self._contents = [(tensor, _metadata(tensor), tensor.detach().clone()) for tensor in reached]

    def __enter__(self) -> None:
        return None

    def __exit__(self, *raised: object) -> None:
        self._python.restore()
        with torch.no_grad():
            for tensor, metadata, contents in self._contents:
                if metadata is not None and _metadata(tensor) != metadata:
                    tensor.set_(*metadata)
                if not _same_bits(tensor, contents):
                    tensor.detach().copy_(contents)
        for tensor in self._constant:
            if tensor.requires_grad:  # what needs a gradient was written into it
                tensor.detach_()
        for tensor, version in self._versions:  # a backward pass may be pending on what was saved before
            if tensor._version != version:
                torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))


def _metadata(tensor: torch.Tensor) -> tuple[Any, ...] | None:
    if tensor.layout is not torch.strided or tensor.is_meta:
        return None
    return tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride()


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.layout is not torch.strided or a.numel() == 0:
        return a.layout is torch.strided or torch.equal(a.to_dense(), b.to_dense())
    flat_a, flat_b = (t.detach().resolve_conj().resolve_neg().contiguous().view(-1) for t in (a, b))
    return torch.equal(flat_a.view(torch.uint8), flat_b.view(torch.uint8))


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


class GlobalState:
    """Random states, modes and thread counts of the process, to be put back as they were."""

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if _cuda_in_use() else []
        self._random = random.getstate()
        self._numpy = np.random.get_state()
        self._grad = torch.is_grad_enabled()
        self._dtype = torch.get_default_dtype()
        self._threads = torch.get_num_threads()
        self._deterministic = torch.are_deterministic_algorithms_enabled()

    def changes(self) -> list[str]:
        """The names of what is no more as it was."""
        found: list[str] = []
        if not torch.equal(self._torch, torch.get_rng_state()):
            found.append("torch's random state")
        if self._cuda and not all(map(torch.equal, self._cuda, torch.cuda.get_rng_state_all())):
            found.append("the GPU's random state")
        if self._random != random.getstate():
            found.append("the random state of Python's random module")
        if repr(self._numpy) != repr(np.random.get_state()):
            found.append("numpy's random state")
        if self._grad != torch.is_grad_enabled():
            found.append("the grad mode")
        if self._dtype != torch.get_default_dtype():
            found.append("the default dtype")
        if self._threads != torch.get_num_threads():
            found.append("the thread count")
        if self._deterministic != torch.are_deterministic_algorithms_enabled():
            found.append("the determinism flag")
        return found

    def restore(self) -> None:
        """Puts everything back."""
        changed = self.changes()
        if not changed:
            return
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        random.setstate(self._random)
        np.random.set_state(self._numpy)
        torch.set_grad_enabled(self._grad)
        torch.set_default_dtype(self._dtype)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        torch.use_deterministic_algorithms(self._deterministic)
