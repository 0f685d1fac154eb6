"""How callers meet a graph: the parameters of a call, its result, and what it writes besides."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphopt.errors import ExampleRaises
from graphopt.ir.structure.description import Structure, owned_paths


@dataclass(frozen=True, slots=True)
class ObjectWrite:
    """An argument's list, dictionary or object whose contents forward changes: the new contents."""

    contents: Structure


@dataclass(frozen=True, slots=True)
class StateWrite:
    """A tensor that forward assigns to an attribute or buffer: `module.name = leaf`."""

    module: str  # qualified name of the sub-module; "" is the model itself
    name: str
    slot: str  # "_buffers" or "__dict__"
    leaf: Structure


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of forward's signature, as a call binds it."""

    name: str
    kind: str  # "positional", "named", "variadic" or "keywords"
    default: object  # inspect.Parameter.empty where it must be given


@dataclass(frozen=True, slots=True)
class Interface:
    """How callers meet a graph: the parameters, how their values hold the flat inputs, and how the flat
    outputs make the result and the writes that go with it."""

    parameters: tuple[Parameter, ...]
    arguments: tuple[Structure, ...]  # one for each parameter
    result: Structure
    object_writes: tuple[ObjectWrite, ...] = ()
    state_writes: tuple[StateWrite, ...] = ()

    @property
    def owned(self) -> tuple[tuple[str, ...], ...]:
        """The paths of the model's own objects that a call hands out."""
        return owned_paths((self.result, *(write.contents for write in self.object_writes)))


_KINDS: dict[Any, str] = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
    inspect.Parameter.KEYWORD_ONLY: "named",
    inspect.Parameter.VAR_POSITIONAL: "variadic",
    inspect.Parameter.VAR_KEYWORD: "keywords",
}


def signature_of(forward: Callable[..., object]) -> inspect.Signature:
    """A callable's parameters; for one of C that names none (`torch.relu`), any arguments."""
    try:
        return inspect.signature(forward)
    except ValueError:
        return inspect.signature(lambda *args, **kwargs: None)


def bind(
    forward: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[tuple[Parameter, object], ...]:
    """Each parameter of `forward` with the value that a call with these arguments gives it.

    Raises ExampleRaises where the arguments do not fit the signature.
    """
    signature = signature_of(forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ExampleRaises(
            f"the example inputs do not fit the signature {signature}: {error}",
            remedy="pass args and kwargs as you would call the model",
        ) from error
    bound.apply_defaults()
    return tuple(
        (Parameter(p.name, _KINDS[p.kind], p.default), bound.arguments[p.name])
        for p in signature.parameters.values()
    )
