"""Affine forms: what a value is of an input, through nodes that one linear map could do alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from graphopt.affine.channelwise import Channelwise
from graphopt.affine.maps import LinearMap, Window
from graphopt.ir.graph import Node, Value


@dataclass(frozen=True, slots=True)
class Itself:
    """x, as it is."""

    x: Value


@dataclass(frozen=True, slots=True)
class Scaled:
    """`form`, and a channelwise node on its result."""

    form: "Form"
    by: Channelwise


@dataclass(frozen=True, slots=True)
class Total:
    """`first` + `second`, or with `sign` −1 their difference; both are forms of one x."""

    node: Node
    first: "Form"
    second: "Form"
    sign: int


@dataclass(frozen=True, slots=True)
class Applied:
    """A linear map of a form: `inner` is made of `Itself` and `Scaled` alone."""

    map: LinearMap
    inner: "Form"


Form: TypeAlias = LinearMap | Itself | Scaled | Total | Applied


def input_of(form: Form) -> Value:
    """The x that it is a form of."""
    match form:
        case Scaled(inner):
            return input_of(inner)
        case Total(_, first):
            return input_of(first)
        case Applied(_, inner):
            return input_of(inner)
        case _:
            return form.x


def nodes_of(form: Form) -> Iterator[Node]:
    """The nodes that compute it."""
    match form:
        case LinearMap(node):
            yield node
        case Applied(LinearMap(node), inner):
            yield from nodes_of(inner)
            yield node
        case Scaled(inner, by):
            yield from nodes_of(inner)
            yield by.node
        case Total(node, first, second):
            yield from nodes_of(first)
            yield from nodes_of(second)
            yield node


def maps_of(form: Form) -> Iterator[LinearMap]:
    """The linear maps in it."""
    match form:
        case LinearMap():
            yield form
        case Applied(map):
            yield map
        case Scaled(inner):
            yield from maps_of(inner)
        case Total(_, first, second):
            yield from maps_of(first)
            yield from maps_of(second)


def widest(form: Form) -> LinearMap:
    """The map of the largest kernel, the first of these: as which the whole can be done."""
    return max(maps_of(form), key=lambda one: one.kernel)


def margins(narrow: LinearMap | None, wide: LinearMap) -> tuple[int, ...] | None:
    """How many zeros make one map's kernel as large as another's, on each side of each spatial dimension, so
    that it does the same; for None, the kernel is a single one. None where no number does."""
    single = (1,) * len(wide.kernel)
    kernel = single if narrow is None else narrow.kernel
    window = narrow.window if narrow is not None else Window(single, (0,) * len(single), single, wide.groups)
    if wide.window is None or window is None or window.groups != wide.groups:
        return None
    found = []
    for i, (small, large) in enumerate(zip(kernel, wide.kernel, strict=True)):
        dilation = wide.window.dilation[i]
        if window.stride[i] != wide.window.stride[i] or (small > 1 and window.dilation[i] != dilation):
            return None
        margin, rest = divmod(wide.window.padding[i] - window.padding[i], dilation)
        if rest or margin < 0 or small + 2 * margin != large:
            return None
        found.append(margin)
    return tuple(found)
