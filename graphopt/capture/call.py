"""One example call: its arguments taken apart, and made again of other tensors."""

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from graphopt.capture.unwatched import refuse_unwatched
from graphopt.errors import Unsupported
from graphopt.guards.owned import objects_of, own_tensors
from graphopt.ir.structure import (
    Const,
    Container,
    Flattening,
    Leaf,
    Opaque,
    Parameter,
    Structure,
    bind,
    leaf_order,
    rebuild,
)


@dataclass(frozen=True)
class Call:
    """One example call: its parameters, the structure of their values, and the flat leaves."""

    parameters: tuple[Parameter, ...]
    arguments: tuple[Structure, ...]
    leaves: tuple[Any, ...]
    positional: int  # how many arguments were passed by position
    keywords: tuple[str, ...]  # the names of those passed by name
    owned: Mapping[int, object] = field(default_factory=dict)  # the model's own objects, by id()

    @classmethod
    def of(cls, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        """Binds and flattens the arguments of one call."""
        bound = bind(model.forward, args, kwargs)
        owned = objects_of(model)
        flattening = Flattening(owned)
        parameters = tuple(parameter for parameter, _ in bound)
        structures = tuple(flattening.take(value) for _, value in bound)
        for parameter, structure in zip(parameters, structures, strict=True):
            refuse_unwatched(structure, parameter.name, owned)
        if not own_tensors(model, torch.is_tensor).ids().isdisjoint(map(id, flattening.leaves)):
            raise Unsupported(
                "an argument is a tensor of the model's own: forward could tell that they are one object, "
                "and a graph has them as two",
                remedy="let forward read it from the model, or pass a clone or a view of it",
            )
        # A default that holds tensors is passed along: the call may give another in its place.
        defaults = (
            parameter.name
            for parameter, structure in zip(parameters[len(args) :], structures[len(args) :], strict=True)
            if parameter.kind in ("positional", "named")
            and parameter.name not in kwargs
            and leaf_order((structure,))
        )
        return cls(parameters, structures, tuple(flattening.leaves), len(args), (*kwargs, *defaults), owned)

    def replay(self, leaves: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any], Flattening]:
        """Arguments as the caller spelled them, made of other leaves; and their flattening."""
        objects: dict[int, Any] = {}
        values = [rebuild(structure, leaves, objects) for structure in self.arguments]
        flattening = Flattening(self.owned)
        for value in values:
            flattening.take(value)
        args: list[Any] = []
        named: dict[str, Any] = {}
        for parameter, value in zip(self.parameters, values, strict=True):
            if parameter.kind == "variadic":
                args.extend(value)
            elif parameter.kind == "keywords":
                named.update(value)
            elif parameter.kind == "positional" and len(args) < self.positional:
                args.append(value)
            else:
                named[parameter.name] = value
        return tuple(args), {name: named[name] for name in self.keywords}, flattening

    @property
    def functions(self) -> list[types.FunctionType]:
        """The functions among the arguments."""
        found: list[types.FunctionType] = []
        pending = list(self.arguments)
        while pending:
            structure = pending.pop()
            if isinstance(structure, Opaque) and isinstance(structure.value, types.FunctionType):
                found.append(structure.value)
            elif isinstance(structure, Container):
                pending.extend((*structure.keys, *structure.items))
        return found

    def dynamic(self, spec: Any) -> Any:
        """`dynamic_shapes` as torch.export wants it for the flat leaves, of the caller's by parameter."""
        if spec is None:
            return None
        found: dict[int, Any] = {}
        if isinstance(spec, str):
            if spec != "auto":
                raise Unsupported(
                    f"dynamic_shapes={spec!r}", remedy='use "auto", or a dictionary by parameter'
                )
            for i, leaf in enumerate(self.leaves):
                found[i] = {d: torch.export.Dim.AUTO for d in range(leaf.dim())}
        else:
            names = [parameter.name for parameter in self.parameters]
            by_name = spec if isinstance(spec, dict) else dict(zip(names, spec, strict=False))
            unknown = sorted(set(by_name) - set(names))
            if unknown:
                raise Unsupported(
                    f"dynamic_shapes names {', '.join(unknown)}", remedy=f"the parameters are {names}"
                )
            for name, structure in zip(names, self.arguments, strict=True):
                _assign_shapes(structure, by_name.get(name), found)
        return (tuple(found.get(i) for i in range(len(self.leaves))),)


def _assign_shapes(structure: Structure, spec: Any, found: dict[int, Any]) -> None:
    if spec is None:
        return
    if isinstance(structure, Leaf):
        found[structure.index] = spec
    elif isinstance(structure, Container):
        keys = [key.value.value for key in structure.keys if isinstance(key, Const)]
        parts = spec if isinstance(spec, dict) else dict(enumerate(spec))
        for key, item in zip(keys or range(len(structure.items)), structure.items, strict=True):
            _assign_shapes(item, parts.get(key), found)
