"""Hiding from the model that it is traced; and functions replaced for the time of a trace."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from graphopt.capture.callers import called_by_model

# Models take other paths when they are traced; eager's is the one to keep.
_TELLTALES: tuple[tuple[Any, str], ...] = (
    (torch.compiler, "is_compiling"),
    (torch.compiler, "is_dynamo_compiling"),
    (torch.compiler, "is_exporting"),
    (torch._dynamo, "is_compiling"),
    (torch._utils, "is_compiling"),
    (torch.overrides, "has_torch_function"),
    (torch.nn.modules.activation, "_is_make_fx_tracing"),
)


def hiding() -> Iterator[tuple[Any, str, Any]]:
    """What keeps the model from finding out that it is traced: owner, name, and what to put there."""
    for owner, name in _TELLTALES:
        yield owner, name, _denying(getattr(owner, name))
    yield torch._subclasses, "FakeTensor", None
    yield torch._subclasses, "__getattr__", _hiding_fake_tensors


@contextlib.contextmanager
def replaced(replacements: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Sets attributes of classes and modules (None removes one), and puts them back."""
    before = [(owner, name, vars(owner).get(name)) for owner, name, _ in replacements]
    try:
        for owner, name, made in replacements:
            _set(owner, name, made)
        yield
    finally:
        for owner, name, made in reversed(before):
            _set(owner, name, made)


def _set(owner: Any, name: str, made: Any) -> None:
    if made is not None:
        setattr(owner, name, made)
    elif name in vars(owner):
        delattr(owner, name)


def _denying(told: Callable[..., bool]) -> Callable[..., bool]:
    """ "No" to the model, and the truth to torch's machinery and to what would keep a stand-in."""

    def denied(*args: Any) -> bool:
        return False if called_by_model() and not _asked_for_a_cache() else told(*args)

    return denied


def _asked_for_a_cache() -> bool:
    """Whether a function that chooses between an lru_cache and what it caches is asking."""
    frame = sys._getframe(2)
    for _ in range(3):
        if any(isinstance(held, functools._lru_cache_wrapper) for held in frame.f_locals.values()):
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


class _NoFakeTensor:
    """What the model finds in the place of FakeTensor: a class without instances."""


def _hiding_fake_tensors(name: str) -> type:
    """`torch._subclasses.FakeTensor` for torch's machinery alone."""
    if name != "FakeTensor":
        raise AttributeError(f"module 'torch._subclasses' has no attribute {name!r}")
    return _NoFakeTensor if called_by_model() else torch._subclasses.fake_tensor.FakeTensor
