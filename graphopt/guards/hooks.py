"""Hooks on modules: forward hooks are traced with the model, and must stay as they were; others are lost."""

import contextlib
import types
import zlib
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch

from graphopt.guards.places import FORWARD_HOOKS, GLOBAL_FORWARD_HOOKS, Path, global_hooks, modules_of
from graphopt.ir.literal import SCALARS, Lit

# Where a hook sits (path of the module, or () with the name of a global table) and what it is called.
HookFact: TypeAlias = tuple[Path, str, str]

_BACKWARD = ("_backward_hooks", "_backward_pre_hooks")
_GLOBAL_BACKWARD = ("_global_backward_hooks", "_global_backward_pre_hooks")
_Handle = torch.utils.hooks.RemovableHandle
_DEPTH = 8  # of functions that hold functions; one may hold itself
_CHECKING = ("torch.export._unlift",)  # checks the inputs of an exported program, as the guards do


def backward_hook(model: torch.nn.Module) -> str | None:
    """Where the first backward hook is that applies to the model; None where there is none."""
    for path, table, _ in _hooks(model, _BACKWARD, _GLOBAL_BACKWARD):
        where = ".".join(path) or "the model"
        return f"the hook in {table} of {where}"
    return None


def forward_hooks(model: torch.nn.Module) -> tuple[HookFact, ...]:
    """The forward hooks that apply to the model, in order."""
    return tuple(
        (path, table, _name(hook)) for path, table, hook in _hooks(model, FORWARD_HOOKS, GLOBAL_FORWARD_HOOKS)
    )


def forward_hook_functions(model: torch.nn.Module) -> list[Any]:
    """The functions themselves."""
    return [hook for _, _, hook in _hooks(model, FORWARD_HOOKS, GLOBAL_FORWARD_HOOKS)]


def _hooks(
    model: torch.nn.Module, own: tuple[str, ...], shared: tuple[str, ...]
) -> Iterator[tuple[Path, str, Any]]:
    for table in shared:
        for hook in global_hooks(table).values():
            yield (), table, hook
    for path, module in modules_of(model):
        for table in own:
            for hook in (vars(module).get(table) or {}).values():
                if getattr(hook, "__module__", "") not in _CHECKING:
                    yield path, table, hook


def _name(hook: Any) -> str:
    """What a hook is called, and what its code and the constants that it closes over come to."""
    name = f"{getattr(hook, '__module__', '')}.{getattr(hook, '__qualname__', type(hook).__qualname__)}"
    return f"{name} ({zlib.crc32(repr(_contents(hook)).encode()):08x})"


def _contents(thing: Any, depth: int = 0) -> object:
    """Functions by their code and what they hold, constants by their bits, other objects by their class."""
    function = getattr(thing, "__func__", thing)
    if isinstance(function, types.FunctionType):
        held = (*_cells(function), *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        inner = (_contents(part, depth + 1) for part in held) if depth < _DEPTH else ()
        return _code(function.__code__), tuple(inner)
    return repr(Lit(thing)) if type(thing) in SCALARS else type(thing).__qualname__


def _code(code: types.CodeType) -> object:
    constants = (_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts)
    return code.co_code, code.co_names, tuple(constants)


def _cells(function: types.FunctionType) -> list[Any]:
    found: list[Any] = []
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # the cell is still empty
            found.append(cell.cell_contents)
    return found


def _alike(a: Any, b: Any, depth: int = 0) -> bool:
    """Whether two hooks do the same: one object, or made anew from one code, holding the same things."""
    if a is b:
        return True
    if isinstance(a, types.MethodType) and isinstance(b, types.MethodType):
        return a.__self__ is b.__self__ and a.__func__ is b.__func__
    if isinstance(a, types.FunctionType) and isinstance(b, types.FunctionType):
        held, other = ((*_cells(f), f.__defaults__, f.__kwdefaults__) for f in (a, b))
        return (
            depth < _DEPTH
            and a.__code__ is b.__code__
            and len(held) == len(other)
            and all(_alike(one, two, depth + 1) for one, two in zip(held, other, strict=True))
        )
    return type(a) in SCALARS and type(a) is type(b) and Lit(a) == Lit(b)


class Hooks:
    """The hooks of one model against those at capture.

    A new hook takes its id from one global counter, so all modules are searched only when it has moved;
    the tables that hold hooks are compared at each call, since removing one leaves no mark.
    """

    def __init__(self, facts: tuple[HookFact, ...], model: torch.nn.Module) -> None:
        self._facts, self._model = facts, model
        self._counter = -1
        self._tables: list[tuple[dict[int, Any], list[Any]]] = []
        same = forward_hooks(model) == facts  # a model's first call may register its hooks
        self._functions = forward_hook_functions(model) if same else None

    def hold(self) -> bool:
        """Whether the hooks are those of capture."""
        if _Handle.next_id == self._counter and (
            not self._tables or all(list(table.values()) == hooks for table, hooks in self._tables)
        ):
            return True
        return self._search()

    def _search(self) -> bool:
        if self.violation() is not None:
            return False
        self._functions = forward_hook_functions(self._model)
        tables = [
            *map(global_hooks, GLOBAL_FORWARD_HOOKS),
            *(vars(m).get(table) or {} for _, m in modules_of(self._model) for table in FORWARD_HOOKS),
        ]
        self._tables = [(table, list(table.values())) for table in tables if table]
        self._counter = _Handle.next_id
        return True

    def violation(self) -> str | None:
        """A sentence that names a hook that was added or removed."""
        lost = backward_hook(self._model)
        if lost is not None:
            return f"{lost} was registered after capture"
        now = forward_hooks(self._model)
        if now != self._facts:
            changed = set(now) ^ set(self._facts)
            path, table, name = min(changed, default=((), "", "another order of hooks"))
            return f"the hook {name} in {table} of {'.'.join(path) or 'the model'} was added or removed"
        if self._functions is not None and not all(
            map(_alike, forward_hook_functions(self._model), self._functions)
        ):
            return "a hook was exchanged"
        return None
