"""What a structure is: an object described with its tensors taken out, and what can be asked of it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TypeAlias

import torch

from graphopt.ir.literal import Lit

VALUES = (bytes, range, PurePath, re.Pattern)  # classes of objects that are nothing but a value


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor or symbolic number: the flat leaf at `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class Const:
    """A Python constant, the same in every call."""

    value: Lit


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """An object that is not opened (a function, a class, an enum member): the same one in every call, or
    an equal one where a class has nothing but a value that never changes."""

    value: object

    @property
    def by_value(self) -> bool:
        """Whether an equal object of the same class will do."""
        return isinstance(self.value, VALUES)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Opaque):
            return False
        if self.by_value and type(self.value) is type(other.value):
            return bool(self.value == other.value)
        return self.value is other.value

    def __hash__(self) -> int:
        return hash(self.value) if self.by_value else id(self.value)


@dataclass(frozen=True, slots=True)
class Owned:
    """In a result: the model's own object at a path, as it is."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """A mutable object met before: the one numbered `ident`."""

    ident: int


@dataclass(frozen=True, slots=True)
class Container:
    """An object with contents.

    `form` says how it is read and made; `keys` are the dictionary keys or attribute names of `items`;
    `shared` are the constants that its class holds for all objects.
    """

    ident: int
    form: str  # "tuple", "namedtuple", "list", "dict", "object" or "reduced"
    kind: type
    keys: "tuple[Structure, ...]"
    items: "tuple[Structure, ...]"
    shared: "tuple[tuple[str, Const], ...]" = ()


Structure: TypeAlias = Leaf | Const | Opaque | Owned | Known | Container


def leaf_order(structures: Iterable[Structure]) -> tuple[int, ...]:
    """The leaves' indices in the order in which a walk meets them, each once."""
    found: dict[int, None] = {}
    pending = list(structures)
    while pending:
        structure = pending.pop(0)
        if isinstance(structure, Leaf):
            found[structure.index] = None
        elif isinstance(structure, Container):
            pending = [*structure.items, *pending]
    return tuple(found)


def owned_paths(structures: Iterable[Structure]) -> tuple[tuple[str, ...], ...]:
    """The paths of the model's own objects in some structures."""
    found: dict[tuple[str, ...], None] = {}
    pending = list(structures)
    while pending:
        structure = pending.pop()
        if isinstance(structure, Owned):
            found[structure.path] = None
        elif isinstance(structure, Container):
            pending += [*structure.keys, *structure.items]
    return tuple(found)


def identity(thing: object) -> int:
    """The same for a module and the stand-in that torch.export shows of it, which shares its attributes."""
    return id(vars(thing) if isinstance(thing, torch.nn.Module) else thing)


def by_place(structure: Structure, places: Mapping[int, tuple[str, ...]]) -> Structure:
    """The structure with what stands for itself named by its path, where `places` has its identity."""
    match structure:
        case Opaque(value) if (place := places.get(identity(value))) is not None:
            return Owned(place)
        case Container(keys=keys, items=items):
            return replace(
                structure,
                keys=tuple(by_place(key, places) for key in keys),
                items=tuple(by_place(item, places) for item in items),
            )
        case _:
            return structure


def renumber(structure: Structure, index_of: dict[int, int]) -> Structure:
    """The structure with its leaves numbered anew."""
    match structure:
        case Leaf(index):
            return Leaf(index_of[index])
        case Container(items=items):
            return replace(structure, items=tuple(renumber(item, index_of) for item in items))
        case _:
            return structure
