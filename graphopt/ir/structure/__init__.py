"""How Python objects hold tensors: taking arguments and results apart and putting them together again.

A structure describes an object with its tensors taken out. Lists, dictionaries and any object that
`copy.copy` can copy are opened, so caches, dataclasses and named outputs need no registration.
Identity is kept: an object or tensor met twice is one object when rebuilt.
"""

from graphopt.ir.structure.description import (
    Const,
    Container,
    Known,
    Leaf,
    Opaque,
    Owned,
    Structure,
    by_place,
    identity,
    leaf_order,
    owned_paths,
    renumber,
)
from graphopt.ir.structure.interface import Interface, ObjectWrite, Parameter, StateWrite, bind
from graphopt.ir.structure.rebuilding import fill, rebuild
from graphopt.ir.structure.taking_apart import Flattening, collect, reduce_object

__all__ = [
    "Const",
    "Container",
    "Flattening",
    "Interface",
    "Known",
    "Leaf",
    "ObjectWrite",
    "Opaque",
    "Owned",
    "Parameter",
    "StateWrite",
    "Structure",
    "bind",
    "by_place",
    "collect",
    "fill",
    "identity",
    "leaf_order",
    "owned_paths",
    "rebuild",
    "reduce_object",
    "renumber",
]
