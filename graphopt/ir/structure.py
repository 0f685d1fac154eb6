"""How Python objects hold tensors: taking arguments and results apart and putting them together again.

A structure describes an object with its tensors taken out. Lists, dictionaries and any object that
`copy.copy` can copy are opened, so caches, dataclasses and named outputs need no registration.
Identity is kept: an object or tensor met twice is one object when rebuilt.
"""

import copyreg
import enum
import inspect
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

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
    """An object that is not opened (a function, a class, an enum member): the same one in every call."""

    value: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@dataclass(frozen=True, slots=True)
class Known:
    """A mutable object met before: the one numbered `ident`."""

    ident: int


@dataclass(frozen=True, slots=True)
class Container:
    """An object with contents.

    `form` says how it is read and made; `keys` are the dictionary keys or attribute names of `items`.
    """

    ident: int
    form: str  # "tuple", "namedtuple", "list", "dict", "object" or "reduced"
    kind: type
    keys: "tuple[Structure, ...]"
    items: "tuple[Structure, ...]"


Structure: TypeAlias = Leaf | Const | Opaque | Known | Container

_OPAQUE = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    enum.Enum,
    torch.nn.Module,
    torch.Generator,
    type(Ellipsis),
    type(NotImplemented),
    bytes,
    slice,
    range,
)
_LEAVES = (torch.Tensor, torch.SymInt, torch.SymFloat, torch.SymBool)


@dataclass
class Flattening:
    """The leaves and objects met so far, while one or more objects are taken apart."""

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
        if isinstance(thing, _OPAQUE):
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

    def _leaf(self, leaf: object) -> Leaf:
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
        )


def _open(thing: Any) -> tuple[str, Iterable[object], Iterable[object]]:
    """How an object is made, its keys, and its contents."""
    kind = type(thing)
    if kind is tuple:
        return "tuple", (), thing
    if kind is list:
        return "list", (), thing
    if kind is dict:
        return "dict", tuple(thing), tuple(thing.values())
    if isinstance(thing, tuple) and hasattr(kind, "_fields"):
        return "namedtuple", (), thing
    if _is_plain_object(kind):
        attributes = vars(thing)
        return "object", tuple(attributes), tuple(attributes.values())
    return "reduced", (), reduce_object(thing)


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
    return (
        make,
        arguments,
        state,
        None if listed is None else list(listed),
        None if paired is None else [tuple(pair) for pair in paired],
    )


def rebuild(structure: Structure, leaves: Any, objects: dict[int, Any]) -> Any:
    """The object that a structure describes, with these leaves; known objects come from `objects`, and
    new ones are added there."""
    match structure:
        case Leaf(index):
            return leaves[index]
        case Const(lit):
            return lit.value
        case Opaque(value):
            return value
        case Known(ident):
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
    objects: dict[int, Any],
) -> Any:
    made: Any
    if form == "tuple":
        made = tuple(rebuild(item, leaves, objects) for item in items)
    elif form == "namedtuple":
        made = kind(*(rebuild(item, leaves, objects) for item in items))
    elif form == "reduced":
        made = _from_reduced(tuple(rebuild(item, leaves, objects) for item in items))
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
    objects: dict[int, Any],
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


def _from_reduced(parts: tuple[Any, ...]) -> Any:
    make, arguments, state, listed, paired = parts
    made = make(*arguments)
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
    return made


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


def renumber(structure: Structure, index_of: dict[int, int]) -> Structure:
    """The structure with its leaves numbered anew."""
    match structure:
        case Leaf(index):
            return Leaf(index_of[index])
        case Container(ident, form, kind, keys, items):
            return Container(ident, form, kind, keys, tuple(renumber(item, index_of) for item in items))
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
