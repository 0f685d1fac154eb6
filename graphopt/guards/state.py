"""The check of the tensors that a model owns."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from graphopt.guards.arguments import PLAIN, shown
from graphopt.guards.facts import Facts
from graphopt.guards.places import locate

_REMEMBERED = 4  # looks that alternate: inference mode or none, frozen or trained
# Makes a check whether tensors look as the given ones do, whose "yes" is certain (graphopt.internals).
Looks: TypeAlias = Callable[[Sequence[torch.Tensor]], Callable[..., bool] | None]


class OwnedState:
    """The state tensors of one model against those at capture.

    Where all facts held, torch's own check of tensors that look alike, which is much faster, is asked first
    from then on. Where it says no, the facts decide.
    """

    def __init__(self, facts: Facts, model: torch.nn.Module, looks: Looks) -> None:
        self._facts = facts.state
        self._distinct = facts.distinct
        slots = [[locate(model, path) for path in fact.paths] for fact in facts.state]
        self._owners = [first[0][0] for first in slots]
        self._names = [first[0][1] for first in slots]
        self._ties = [(owner, name, i) for i, group in enumerate(slots) for owner, name in group[1:]]
        self._kinds = {fact.kind for fact in facts.state} | set(PLAIN)
        self._dtypes = [fact.dtype for fact in facts.state]
        self._shapes = [fact.shape for fact in facts.state]
        self._devices = [fact.device for fact in facts.state]
        self._strides = [fact.strides for fact in facts.state]
        self._stride_of: Any = _strides_of if None in self._strides else torch.Tensor.stride
        self._grads = [fact.requires_grad for fact in facts.state if fact.requires_grad is not None]
        self._looks = looks
        self.tensors: tuple[torch.Tensor, ...] = ()  # as they were when all facts held last
        self.requires_grad = False  # whether one of them did then
        self._served: list[tuple[Callable[..., bool], bool]] = []  # and whether a tensor requires grad

    def hold(self) -> bool:
        """Whether every tensor is there and looks as at capture. Raises what reading raises where one is
        gone."""
        if not self._owners:
            return True
        tensors: tuple[Any, ...] = tuple(map(operator.getitem, self._owners, self._names))
        for owner, name, i in self._ties:
            if owner[name] is not tensors[i]:
                return False
        for alike, requires_grad in self._served:
            if alike(*tensors):
                self.tensors, self.requires_grad = tensors, requires_grad
                return True
        if not self._facts_hold(tensors):
            return False
        self.tensors, self.requires_grad = tensors, any(map(_requires_grad_of, tensors))
        if self._distinct == len(tensors):
            new = self._looks(tensors)
            if new is not None:
                self._served = [(new, self.requires_grad), *self._served[: _REMEMBERED - 1]]
        return True

    def _facts_hold(self, tensors: tuple[Any, ...]) -> bool:
        return (
            set(map(type, tensors)) <= self._kinds
            and list(map(_dtype_of, tensors)) == self._dtypes
            and list(map(_shape_of, tensors)) == self._shapes
            and list(map(_device_of, tensors)) == self._devices
            and len(set(map(id, tensors))) == self._distinct
            and list(map(self._stride_of, tensors)) == self._strides
            and (not self._grads or list(map(_requires_grad_of, tensors)) == self._grads)
        )

    def violation(self) -> str:
        """A sentence that names the first fact that does not hold."""
        for fact, owner, name in zip(self._facts, self._owners, self._names, strict=True):
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
        if len(set(map(id, tensors))) < self._distinct:
            return "state tensors that were different objects at capture are one now"
        return "state tensors that were one object at capture are so no more, or have other strides"


_dtype_of = operator.attrgetter("dtype")
_shape_of = operator.attrgetter("shape")
_device_of = operator.attrgetter("device")
_requires_grad_of = operator.attrgetter("requires_grad")


def _strides_of(tensor: torch.Tensor) -> tuple[int, ...] | None:
    return tensor.stride() if tensor.layout is torch.strided else None
