"""The check of what is not in the arguments: modes, modules, attributes, state, hooks.

The common case runs as a few C loops (`map` over parallel lists, compared by identity).
"""

import operator
from itertools import starmap
from typing import Any

import torch

from graphopt.guards.arguments import PLAIN, shown
from graphopt.guards.facts import Facts
from graphopt.guards.modes import MODES
from graphopt.guards.places import Path, find_hook, locate
from graphopt.ir.literal import SCALARS, Lit


def _same_constant(actual: object, expected: object) -> bool:
    if actual is expected:
        return True
    if type(actual) in SCALARS and type(expected) in SCALARS:
        return Lit(actual) == Lit(expected)  # type: ignore[arg-type]
    return False


class Surroundings:
    """The facts bound to one model."""

    def __init__(self, facts: Facts, model: torch.nn.Module) -> None:
        self._facts, self._model = facts, model
        self._missing: str | None = None  # a path that leads nowhere yet: the first call may make it
        self._bind()

    def _bind(self) -> None:
        try:
            self._find(self._facts, self._model)
            self._missing = None
        except KeyError as error:
            self._missing = str(error.args[0])

    def _find(self, facts: Facts, model: torch.nn.Module) -> None:
        self._modes = [(MODES[fact.mode], fact) for fact in facts.modes]
        self._holders: list[Any] = []
        self._keys: list[Any] = []
        self._expected: list[object] = []
        self._subjects: list[str] = []
        for path in facts.objects:
            container, key = locate(model, path)
            self._entry(container, key, container[key], path)
        for fact in facts.attributes:
            self._entry(*locate(model, fact.path), fact.value.value, fact.path)
        self._state = facts.state
        slots = [[locate(model, path) for path in fact.paths] for fact in facts.state]
        self._owners = [first[0][0] for first in slots]
        self._names = [first[0][1] for first in slots]
        self._ties = [(owner, name, i) for i, group in enumerate(slots) for owner, name in group[1:]]
        self._kinds = {fact.kind for fact in facts.state} | set(PLAIN)
        self._dtypes = [fact.dtype for fact in facts.state]
        self._shapes = [fact.shape for fact in facts.state]
        self._strides = [fact.strides for fact in facts.state]
        self._grads = [fact.requires_grad for fact in facts.state if fact.requires_grad is not None]
        self._devices = [fact.device for fact in facts.state]
        self._seen_hooks = -1

    def _entry(self, holder: Any, key: Any, value: object, path: Path) -> None:
        self._holders.append(holder)
        self._keys.append(key)
        self._expected.append(value)
        self._subjects.append(".".join(path))

    def hold(self) -> bool:
        """Whether every fact holds."""
        if self._missing is not None:
            self._bind()
            if self._missing is not None:
                return False
        if torch.utils.hooks.RemovableHandle.next_id != self._seen_hooks and not self._hooks_unchanged():
            return False
        for read, fact in self._modes:
            if read() != fact.value:
                return False
        try:
            actual = map(operator.getitem, self._holders, self._keys)
            if not all(map(operator.is_, actual, self._expected)) and not all(
                starmap(
                    _same_constant,
                    zip(map(operator.getitem, self._holders, self._keys), self._expected, strict=True),
                )
            ):
                return False
            return self._state_holds(list(map(operator.getitem, self._owners, self._names)))
        except (KeyError, IndexError, ValueError):
            return False

    def _state_holds(self, tensors: list[Any]) -> bool:
        return (
            set(map(type, tensors)) <= self._kinds
            and list(map(_dtype_of, tensors)) == self._dtypes
            and list(map(_shape_of, tensors)) == self._shapes
            and list(map(_device_of, tensors)) == self._devices
            and all(owner[name] is tensors[i] for owner, name, i in self._ties)
            and (not self._grads or list(map(_requires_grad_of, tensors)) == self._grads)
            and all(
                strides is None or tensor.stride() == strides
                for tensor, strides in zip(tensors, self._strides, strict=True)
                if strides is not None
            )
        )

    def _hooks_unchanged(self) -> bool:
        """Hooks take ids from one global counter: the modules are searched only when it has moved."""
        if find_hook(self._model) is not None:
            return False
        self._seen_hooks = torch.utils.hooks.RemovableHandle.next_id
        return True

    def violation(self) -> str:
        """A sentence that names the first fact that does not hold."""
        if self._missing is not None:
            return f"{self._missing} is not there"
        hook = find_hook(self._model)
        if hook is not None:
            return f"{hook} was registered after capture"
        for read, mode in self._modes:
            if read() != mode.value:
                return f"{mode.mode} is {read()!r}, captured with {mode.value!r}"
        for holder, key, expected, subject in zip(
            self._holders, self._keys, self._expected, self._subjects, strict=True
        ):
            try:
                actual = holder[key]
            except (KeyError, IndexError, ValueError):
                return f"{subject} is gone"
            if not _same_constant(actual, expected):
                return f"{subject} is {shown(actual)}, captured with {shown(expected)}"
        for fact, owner, name in zip(self._state, self._owners, self._names, strict=True):
            try:
                actual = owner[name]
            except (KeyError, IndexError, ValueError):
                actual = None
            if not isinstance(actual, torch.Tensor):
                return f"state tensor {'.'.join(fact.paths[0])} is {shown(actual)}"
            now = (actual.dtype, tuple(actual.shape), str(actual.device),
                   actual.requires_grad)  # fmt: skip
            then = (fact.dtype, fact.shape, str(fact.device), fact.requires_grad)
            if type(actual) not in self._kinds:
                return f"state tensor {subject} is a {type(actual).__name__}"
            if now[:3] != then[:3] or fact.requires_grad not in (None, now[3]):
                return f"state tensor {'.'.join(fact.paths[0])} is {now}, captured with {then}"
        return "state tensors that were one object at capture are so no more, or have other strides"


_dtype_of = operator.attrgetter("dtype")
_shape_of = operator.attrgetter("shape")
_device_of = operator.attrgetter("device")
_requires_grad_of = operator.attrgetter("requires_grad")
