"""How Python objects hold tensors: taking arguments and results apart and putting them together again.

A structure describes an object with its tensors taken out. Lists, dictionaries and any object that
`copy.copy` can copy are opened, so caches, dataclasses and named outputs need no registration.
Identity is kept: an object or tensor met twice is one object when rebuilt.
"""

import copyreg
import enum
import functools
import inspect
import operator
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np
import torch

from graphopt.errors import ExampleRaises, Unsupported
from graphopt.ir.literal import SCALARS, Lit

_MAX_DEPTH = 64  # nesting beyond this is a linked structure, not an argument


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
        return isinstance(self.value, _VALUES)

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

_VALUES = (bytes, range, PurePath, re.Pattern)
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
    *_VALUES,
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


def rebuild(structure: Structure, leaves: Any, objects: dict[Any, Any]) -> Any:
    """The object that a structure describes, with these leaves; known objects come from `objects` (the
    model's own by path), and new ones are added there."""
    match structure:
        case Leaf(index):
            return leaves[index]
        case Const(lit):
            return lit.value
        case Opaque(value):
            return value
        case Owned(path):
            return objects[path]
        case Known(ident):
            if ident not in objects:
                raise Unsupported(
                    "an argument or result holds itself by way of a tuple", remedy="use a list in its place"
                )
            return objects[ident]
        case Container(ident, form, kind, keys, items):
            return _make(ident, form, kind, keys, items, leaves, objects)


def _make(
    ident: int,
    form: str,
    kind: Any,
    keys: tuple[Structure, ...],
    items: tuple[Structure, ...],
    leaves: Any,
    objects: dict[Any, Any],
) -> Any:
    made: Any
    if form == "tuple":
        made = tuple(rebuild(item, leaves, objects) for item in items)
    elif form == "namedtuple":
        made = kind(*(rebuild(item, leaves, objects) for item in items))
    elif form == "reduced":
        make, arguments = (rebuild(item, leaves, objects) for item in items[:2])
        made = objects[ident] = make(*arguments)
        _finish_reduced(made, *(rebuild(item, leaves, objects) for item in items[2:]))
    else:
        made = objects[ident] = object.__new__(kind) if form == "object" else kind()
        fill(made, form, keys, items, leaves, objects)
    objects[ident] = made
    return made


def fill(
    made: Any,
    form: str,
    keys: tuple[Structure, ...],
    items: tuple[Structure, ...],
    leaves: Any,
    objects: dict[Any, Any],
) -> None:
    """Gives a mutable object (form "list", "dict" or "object") exactly these contents."""
    values = [rebuild(item, leaves, objects) for item in items]
    if form == "list":
        made[:] = values
        return
    contents = made if form == "dict" else vars(made)
    named = {rebuild(key, leaves, objects): value for key, value in zip(keys, values, strict=True)}
    contents.clear()
    contents.update(named)


def _finish_reduced(made: Any, state: Any, listed: Any, paired: Any) -> None:
    if state is not None:
        if hasattr(made, "__setstate__"):
            made.__setstate__(state)
        else:
            attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
            if attributes:
                vars(made).update(attributes)
            for name, value in (slots or {}).items():
                setattr(made, name, value)
    for item in listed or ():
        made.append(item)
    for key, value in paired or ():
        made[key] = value


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


def bind(
    forward: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[tuple[Parameter, object], ...]:
    """Each parameter of `forward` with the value that a call with these arguments gives it.

    Raises ExampleRaises where the arguments do not fit the signature.
    """
    signature = inspect.signature(forward)
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
