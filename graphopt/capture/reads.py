"""What forward reads while it is traced, and a graph cannot show: facts that are baked in and become guards.

torch.export records operators. Reading `x.requires_grad`, `x.storage_offset()`, the grad mode, a setting, an
environment variable or a Python attribute leaves no operator behind.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch

from graphopt.capture.callers import asked_by_model, called_by_model
from graphopt.capture.unreadable import UNREADABLE_REMEDY, unreadable
from graphopt.guards.members import is_python_class
from graphopt.guards.modes import SETTINGS, autocast_dtype, environment
from graphopt.guards.places import modules_of
from graphopt.ir.literal import SCALARS

_MACHINERY = set(dir(torch.nn.Module)) - {"training"}


class Reads:
    """What one run of forward has read so far; `refuse` is told of what no guard could watch."""

    def __init__(self, refuse: Callable[[str, str], None]) -> None:
        self._refuse = refuse
        self._autocast_cache = torch.is_autocast_cache_enabled()  # torch.export turns it off while it traces
        self.requires_grad = False
        self.offset = False
        self.grad_mode = False
        self.modes: set[str] = set()  # settings and environment variables that forward asked for
        self.attributes: dict[tuple[int, str], tuple[object, object]] = {}

    def replacements(self, model: torch.nn.Module) -> Iterator[tuple[Any, str, Any]]:
        """What to put in the place of the functions that read: owner, name and the watched function."""
        yield torch.nn.Module, "__getattribute__", self._recording(_read_attribute)
        for kind in _attribute_classes(model):
            yield kind, "__getattribute__", self._recording(_method(kind, "__getattribute__"))
        yield torch.enable_grad, "__enter__", self._enabling(torch.enable_grad.__enter__)
        yield torch.set_grad_enabled, "__init__", self._setting(torch.set_grad_enabled.__init__)
        yield torch, "is_grad_enabled", self._noting_grad_mode(torch.is_grad_enabled)
        yield torch, "is_inference_mode_enabled", self._noting_grad_mode(torch.is_inference_mode_enabled)
        for mode, (owner, name) in SETTINGS.items():
            yield owner, name, self._noting_setting(mode, getattr(owner, name))
        yield torch, "is_autocast_cache_enabled", self._telling_autocast_cache
        yield torch, "get_autocast_dtype", self._noting_autocast_dtype(torch.get_autocast_dtype)
        yield type(os.environ), "__getitem__", self._noting_environment(type(os.environ).__getitem__)

    def _recording(self, read: Callable[[Any, str], object]) -> Callable[[Any, str], object]:
        def __getattribute__(owner: Any, name: str) -> object:
            value = read(owner, name)
            if type(value) in SCALARS and name not in _MACHINERY:
                # torch.export shows the model stand-ins of its sub-modules, which share their __dict__.
                self.attributes.setdefault((id(owner.__dict__), name), (owner, value))
            elif (what := unreadable(value)) and called_by_model():
                self._refuse(f"forward reads {name}, {what}", UNREADABLE_REMEDY)
            return value

        return __getattribute__

    def _noting_grad_mode(self, read: Callable[[], bool]) -> Callable[[], bool]:
        def noted() -> bool:
            if called_by_model():
                self.grad_mode = True
            return read()

        return noted

    def _enabling(self, enter: Callable[[Any], None]) -> Callable[[Any], None]:
        """A region with gradients is none to a trace that has them anyway."""

        def entered(region: Any) -> None:
            self.grad_mode = True
            enter(region)

        return entered

    def _setting(self, set_: Callable[[Any, bool], None]) -> Callable[[Any, bool], None]:
        def noted(region: Any, mode: bool) -> None:
            if called_by_model():  # and not as torch.no_grad leaves
                self.grad_mode = True
            set_(region, mode)

        return noted

    def _noting_setting(self, mode: str, read: Callable[[], object]) -> Callable[[], object]:
        def noted() -> object:
            if called_by_model():
                self.modes.add(mode)
            return read()

        return noted

    def _telling_autocast_cache(self) -> bool:
        """What a region takes that is told nothing: its weights' gradients round by it."""
        self.modes.add("torch.is_autocast_cache_enabled")
        return self._autocast_cache

    def _noting_autocast_dtype(self, read: Callable[[str], torch.dtype]) -> Callable[[str], torch.dtype]:
        def noted(device: str) -> torch.dtype:
            self.modes.add(autocast_dtype(device))
            return read(device)

        return noted

    def _noting_environment(self, read: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
        def noted(owner: Any, name: str) -> str:
            if owner is os.environ and asked_by_model():
                self.modes.add(environment(name))
            return read(owner, name)

        return noted


def _read_attribute(owner: object, name: str) -> Any:
    return object.__getattribute__(owner, name)


def _method(kind: type, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(kind, name)
    return found


def _attribute_classes(model: torch.nn.Module) -> list[type]:
    """The Python classes of the objects (configurations and such) that modules hold as attributes."""
    found: dict[type, None] = {}
    pending = [value for _, module in modules_of(model) for value in vars(module).values()]
    seen: set[int] = set()
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, torch.Tensor | torch.nn.Module | type):
            continue
        seen.add(id(thing))
        if type(getattr(thing, "__dict__", None)) is dict:
            if is_python_class(type(thing)):
                found[type(thing)] = None
            pending.extend(vars(thing).values())
    return list(found)
