"""A machine on which even the smallest tensors are work: what decides by seconds decides there, too."""

from dataclasses import replace
from functools import cache
from math import prod

from graphopt.profile import Profile, Table, default

_MULTIPLICATION, _BYTE = 1e-6, 1e-6  # seconds


@cache
def slow() -> Profile:
    """A profile by which calls cost nothing and each multiplication and byte a microsecond."""
    measured = default()
    tables = {name: Table(one.axes, _seconds(one.axes)) for name, one in measured.tables.items()}
    return replace(measured, tables=tables, read=_BYTE, fresh=_BYTE, cache=0, switch=0.0, origin="made up")


def _seconds(axes: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    points: list[tuple[float, ...]] = [()]
    for axis in axes:
        points = [(*point, size) for point in points for size in axis]
    return tuple(_MULTIPLICATION * prod(point) for point in points)
