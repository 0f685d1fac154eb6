"""Values that depend on the model's state alone: computed once, and again where a source changed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from graphopt.cache.staleness import Watch, is_watchable
from graphopt.errors import Error

MAX_SIZES = 8
"""Sets of values kept for as many different sizes of the arguments."""


class NotDerived(Error):
    """A derived value could not be computed: the original model is the one to raise what it raises."""


@dataclass(frozen=True, slots=True)
class _Entry:
    watch: Watch
    values: tuple[torch.Tensor, ...]


class Derived(torch.nn.Module):
    """Returns kept values for the sources that it is handed: state tensors, then sizes.

    `compute` makes them. What it returns is the same objects until a source changes; nobody may write
    into them.
    """

    def __init__(self, compute: Callable[..., tuple[torch.Tensor, ...]], tensors: int) -> None:
        super().__init__()
        self._compute = compute
        self._tensors = tensors
        self._entries: dict[tuple[int, ...], _Entry] = {}

    def forward(self, *sources: Any) -> tuple[torch.Tensor, ...]:
        """The values. Raises NotDerived where they cannot be computed."""
        if torch.compiler.is_compiling():
            return self._compute(*sources)
        tensors, sizes = sources[: self._tensors], sources[self._tensors :]
        entry = self._entries.get(sizes)
        if entry is not None and entry.watch.unchanged(tensors):
            return entry.values
        return self._renewed(tensors, sizes)

    def _renewed(self, tensors: tuple[Any, ...], sizes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
        self._entries.pop(sizes, None)  # its memory first
        watch = Watch(tensors) if all(map(is_watchable, tensors)) else None
        try:
            with torch.inference_mode(False), torch.no_grad():
                values = self._compute(*tensors, *sizes)
        except Exception as error:
            raise NotDerived(
                f"a value that depends on parameters alone cannot be computed: {error}",
                remedy="run the original model, which raises the same",
            ) from error
        if watch is not None:
            while len(self._entries) >= MAX_SIZES:
                self._entries.pop(next(iter(self._entries)), None)
            self._entries[sizes] = _Entry(watch, values)
        return values

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_entries": {}}  # a copy meets other tensors

    def invalidate(self) -> None:
        """Forgets all values."""
        self._entries = {}

    @property
    def bytes(self) -> int:
        """The memory that the values hold."""
        memory = {
            value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
            for entry in list(self._entries.values())
            for value in entry.values
        }
        return sum(memory.values())
