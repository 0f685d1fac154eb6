"""Elements that are chosen by integers, as nodes."""

import math
from collections.abc import Sequence

from graphopt.algebra.choices import ALONG, GATHER, INDEX, SELECT, Choice
from graphopt.algebra.laying import Laid, Laying
from graphopt.algebra.polynomial import Index, mixed
from graphopt.algebra.showing import NotEmitted
from graphopt.ir.graph import Arg
from graphopt.ir.graph import Sequence as Operands
from graphopt.ir.literal import Lit
from graphopt.ir.operands import shape_of


def by_choice(lay: Laying, choice: Choice, index: Laid, laid: Laid) -> Laid:
    """What a choice, by its index, takes of a tensor, in the place of the dimension that it is along. Raises
    NotEmitted."""
    inner = [index for index, _ in sorted(choice.accesses[-1].steps, key=lambda pair: -pair[1])]
    size = shape_of(choice.leaf)[-1]
    if choice.accesses[-1] != mixed(inner) or math.prod(index.size for index in inner) != size:
        raise NotEmitted
    if choice.by in (GATHER, ALONG):
        return _scattered(lay, choice.by, index, laid, inner)
    rest = [one for one in laid.order if one not in inner]
    at = 0
    if len(inner) == 1:
        value, at = laid.value, laid.order.index(inner[0])
    else:
        value = lay.permuted(laid.value, laid.order, [*inner, *rest])
        value = lay.reshaped(value, [size, *(one.size for one in rest)])
    if choice.by == INDEX:
        items: tuple[Arg, ...] = (*(Lit(None) for _ in range(at)), index.value)
        value = lay.op(INDEX, value, Operands("list", items))
    else:
        flat = lay.reshaped(index.value, [math.prod(shape_of(index.value))])
        value = lay.op(SELECT, value, at, flat)
    order = (*rest[:at], *index.order, *rest[at:])
    return Laid(lay.reshaped(value, [one.size for one in order]), order)


def _scattered(lay: Laying, by: str, index: Laid, laid: Laid, inner: Sequence[Index]) -> Laid:
    """Elements of positions along `inner` that differ from place to place."""
    places = [one for one in index.order if one in laid.order]
    new = [one for one in index.order if one not in laid.order]
    rest = [one for one in laid.order if one not in inner and one not in places]
    value = lay.permuted(laid.value, laid.order, [*places, *inner, *rest])
    sizes, ends = [one.size for one in places], [one.size for one in rest]
    value = lay.reshaped(value, [*sizes, math.prod(one.size for one in inner), *ends])
    chosen = lay.permuted(index.value, index.order, [*places, *new])
    count = math.prod(one.size for one in new)
    chosen = lay.reshaped(chosen, [*sizes, count, *(1 for _ in rest)])
    if rest:
        chosen = lay.op("aten.expand.default", chosen, [*sizes, count, *ends])
    given = (len(places), chosen) if by == GATHER else (chosen, len(places))
    value = lay.op(by, value, *given)
    order = (*places, *new, *rest)
    return Laid(lay.reshaped(value, [one.size for one in order]), order)
