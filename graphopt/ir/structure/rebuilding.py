"""Putting objects together again from their structure and the leaves of a call."""

from typing import Any

from graphopt.errors import Unsupported
from graphopt.ir.structure.description import Const, Container, Known, Leaf, Opaque, Owned, Structure


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
