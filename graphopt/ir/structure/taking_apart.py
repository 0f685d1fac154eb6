"""Taking objects apart: their structure, with the tensors and numbers in it as flat leaves."""

import copyreg
import enum
import functools
import operator
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from graphopt.errors import Unsupported
from graphopt.ir.literal import SCALARS, Lit
from graphopt.ir.structure.description import VALUES, Const, Container, Known, Leaf, Opaque, Structure

_MAX_DEPTH = 64  # nesting beyond this is a linked structure, not an argument

_OPAQUE = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    enum.Enum,
    torch.nn.Module,
    type(Ellipsis),
    type(NotImplemented),
    *VALUES,
)
_REFUSED: tuple[tuple[Any, str, str], ...] = (
    (np.ndarray, "a graph would keep its elements as constants", "pass torch.from_numpy(array)"),
    (Iterator, "one call uses it up", "pass a list"),
    (torch.Generator, "a graph cannot hold its state", "use torch.manual_seed, or pass random tensors"),
    ((torch.UntypedStorage, torch.TypedStorage), "a graph has tensors only", "pass the tensor"),
)
_LEAVES = (torch.Tensor, torch.SymInt, torch.SymFloat, torch.SymBool)


@dataclass
class Flattening:
    """The leaves and objects met so far, while one or more objects are taken apart.

    `owned` are objects of the model, by id(): they stand for themselves wherever they are met, as forward
    may compare them by identity.
    """

    owned: Mapping[int, object] = field(default_factory=dict)
    leaves: list[Any] = field(default_factory=list)
    objects: dict[int, Any] = field(default_factory=dict)  # by number
    _leaf_of: dict[int, int] = field(default_factory=dict)  # by id(); `leaves` keeps them alive
    _ident_of: dict[int, int] = field(default_factory=dict)  # by id(); `objects` keeps them alive

    def take(self, thing: object, depth: int = 0) -> Structure:
        """The structure of one object; its new leaves and objects are added to this flattening."""
        if isinstance(thing, _LEAVES):
            return self._leaf(thing)
        if type(thing) in SCALARS:
            return Const(Lit(thing))  # type: ignore[arg-type]
        if isinstance(thing, _OPAQUE) or type(thing) is object or id(thing) in self.owned:
            return Opaque(thing)
        if depth > _MAX_DEPTH:
            raise Unsupported(
                f"an argument or result nests deeper than {_MAX_DEPTH} levels at {type(thing).__name__}",
                remedy="pass its tensors directly",
            )
        known = self._ident_of.get(id(thing))
        if known is not None:
            return Known(known)
        return self._container(thing, depth + 1)

    def retake(self, thing: object) -> Structure:
        """The structure of an object already known, opened again to see its present contents."""
        return self._container(thing, 1, again=True)

    def _leaf(self, leaf: Any) -> Leaf:
        if isinstance(leaf, torch.Tensor) and (leaf.is_nested or leaf.is_quantized):
            kind = "nested" if leaf.is_nested else "quantised"
            raise Unsupported(f"a {kind} tensor cannot be captured", remedy="pass its plain tensors")
        index = self._leaf_of.setdefault(id(leaf), len(self.leaves))
        if index == len(self.leaves):
            self.leaves.append(leaf)
        return Leaf(index)

    def _container(self, thing: Any, depth: int, again: bool = False) -> Structure:
        if again:
            ident = self._ident_of[id(thing)]
        else:
            ident = len(self.objects)
            self._ident_of[id(thing)] = ident
            self.objects[ident] = thing
        form, keys, items = _open(thing)
        return Container(
            ident,
            form,
            type(thing),
            tuple(self.take(key, depth) for key in keys),
            tuple(self.take(item, depth) for item in items),
            _class_constants(thing),
        )


def _class_constants(thing: object) -> tuple[tuple[str, Const], ...]:
    """The constants among the attributes of an object's class that none of its own hides."""
    kind = type(thing)
    if kind.__module__ == "builtins":
        return ()
    hidden = getattr(thing, "__dict__", {})
    found: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        found.update(vars(base))
    return tuple(
        (name, Const(Lit(value)))  # type: ignore[arg-type]
        for name, value in found.items()
        if type(value) in SCALARS and not name.startswith("__") and name not in hidden
    )


def _open(thing: Any) -> tuple[str, Iterable[object], Iterable[object]]:
    """How an object is made, its keys, and its contents."""
    kind = type(thing)
    for refused, why, remedy in _REFUSED:
        if isinstance(thing, refused):
            raise Unsupported(f"{kind.__qualname__} in the arguments or result: {why}", remedy=remedy)
    if kind is tuple:
        return "tuple", (), thing
    if kind is list:
        return "list", (), thing
    if kind is dict:
        _check_keys(thing)
        return "dict", tuple(thing), tuple(thing.values())
    if isinstance(thing, tuple) and hasattr(kind, "_fields"):
        return "namedtuple", (), thing
    if _is_plain_object(kind):
        attributes = vars(thing)
        return "object", tuple(attributes), tuple(attributes.values())
    return "reduced", (), reduce_object(thing)


def _is_stable(thing: object) -> bool:
    """Whether something is found again as a key, and hashes the same when it is rebuilt."""
    if type(thing) is tuple:
        return all(map(_is_stable, thing))
    return type(thing) in SCALARS or isinstance(thing, _OPAQUE) or type(thing) is object


def _check_keys(thing: dict[object, object]) -> None:
    for key in thing:
        if not _is_stable(key):
            raise Unsupported(
                f"a dictionary in the arguments or result has a key of class {type(key).__qualname__}",
                remedy="use strings, numbers, or tuples of these",
            )


def _insertion(thing: Any) -> list[object]:
    """An order in which a set's elements make one that lists them alike, as forward would see another."""
    order = list(thing)
    make = set if isinstance(thing, set) else frozenset
    for inserted in (order, order[::-1]):
        if all(map(operator.is_, make(inserted), order)) and all(map(_is_stable, order)):
            return inserted
    raise Unsupported(
        "a set in the arguments or result has an order that cannot be kept",
        remedy="pass a list, or a set made at once of strings or numbers",
    )


def _is_plain_object(kind: type) -> bool:
    """Whether instances are their `__dict__` and nothing else."""
    return (
        all(getattr(kind, name) is getattr(object, name) for name in _DEFAULTS)
        and not hasattr(kind, "__setstate__")
        and not copyreg._slotnames(kind)  # type: ignore[attr-defined]
        and kind not in copyreg.dispatch_table
        and kind.__basicsize__ == _PlainObject.__basicsize__
        and bool(kind.__dictoffset__)
    )


_DEFAULTS = ("__reduce__", "__reduce_ex__", "__getstate__")


class _PlainObject:
    pass


def reduce_object(thing: Any) -> tuple[object, ...]:
    """What `copy.copy` would make a copy from: callable, arguments, state, list items, pairs."""
    try:
        reducer = copyreg.dispatch_table.get(type(thing))
        reduced = reducer(thing) if reducer is not None else thing.__reduce_ex__(4)
    except Exception as error:
        raise Unsupported(
            f"{type(thing).__qualname__} in the arguments or result cannot be taken apart: {error}",
            remedy="pass its tensors directly, or give the class __reduce__",
        ) from error
    if isinstance(reduced, str):
        raise Unsupported(f"{type(thing).__qualname__} in the arguments or result is a global object")
    make, arguments, state, listed, paired = (*reduced, None, None, None)[:5]
    if isinstance(thing, set | frozenset):
        arguments = (_insertion(thing),)
    if isinstance(thing, functools.partial):  # its empty dictionary comes and goes
        state = (*state[:3], state[3] or None)
    return (
        make,
        arguments,
        state,
        None if listed is None else list(listed),
        None if paired is None else [tuple(pair) for pair in paired],
    )


def collect(structure: Structure, thing: Any, leaves: dict[int, Any], objects: dict[int, Any]) -> None:
    """Walks an object along a structure that it is known to have, and collects its leaves by index and
    its objects by number."""
    match structure:
        case Leaf(index):
            leaves[index] = thing
        case Container(ident, form, _, keys, items):
            objects[ident] = thing
            if form == "reduced":
                contents: Any = reduce_object(thing)
            elif keys:
                contents = tuple((vars(thing) if form == "object" else thing).values())
            else:
                contents = thing
            for item, content in zip(items, contents if items else (), strict=True):
                collect(item, content, leaves, objects)
        case _:
            return
