"""What a model owns, which forward may know by identity when it meets it among the arguments."""

import operator
import types
from collections.abc import Callable
from typing import Any

import torch

from graphopt.guards.places import modules_of, reachable
from graphopt.ir.literal import SCALARS


def objects_of(model: torch.nn.Module) -> dict[int, Any]:
    """What forward can reach that has an identity and may change (no tensors), by id()."""
    plain = (*SCALARS, torch.Tensor, tuple, frozenset, bytes, types.ModuleType)
    return {id(thing): thing for _, thing in reachable(model) if not isinstance(thing, plain)}


def own_tensors(model: torch.nn.Module, fits: Callable[[torch.Tensor], bool]) -> "OwnTensors":
    """The parameters and buffers of a model that satisfy a condition now."""
    tables = [vars(module)[slot] for _, module in modules_of(model) for slot in ("_parameters", "_buffers")]
    return OwnTensors([(t, name) for t in tables for name in t if t[name] is not None and fits(t[name])])


class OwnTensors:
    """Some of the tensors that a model owns, as they are when asked."""

    def __init__(self, slots: list[tuple[dict[str, Any], str]]) -> None:
        self._tables = [table for table, _ in slots]
        self._names = [name for _, name in slots]

    def __len__(self) -> int:
        return len(self._names)

    def ids(self) -> set[int]:
        """Their id()s; none where one is gone, which other facts notice."""
        try:
            return set(map(id, map(operator.getitem, self._tables, self._names)))
        except KeyError:
            return set()
