"""Values that depend on the model's state alone: computed once, and again where a source changed."""

import itertools
import weakref
from collections.abc import Callable, Sequence
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

    A compiler cannot follow the look at the sources. What it compiles reads the values from `slots`, which
    the operator `graphopt::renew` brings up to date in each run; an exported program takes them as they are.
    Of a value that shows one element in many places (expand), a slot has each once: such memory is not
    written as a whole.
    """

    def __init__(
        self, compute: Callable[..., tuple[torch.Tensor, ...]], tensors: int, narrowed: Sequence[int] = ()
    ) -> None:
        """`compute` takes so many tensors first; `narrowed` are the numbers of the values that it rounds to
        a narrower type: they have to fit."""
        super().__init__()
        self._compute = compute
        self._tensors = tensors
        self._narrowed = tuple(narrowed)
        self._entries: dict[tuple[int, ...], _Entry] = {}
        self._enroll()

    def _enroll(self) -> None:
        self.slots: tuple[torch.Tensor, ...] = ()
        self._shapes: tuple[torch.Size, ...] = ()  # of the values
        self._slots_watch: Watch | None = None
        self._number = next(_numbers)
        _instances[self._number] = self

    def forward(self, *sources: Any) -> tuple[torch.Tensor, ...]:
        """The values. Raises NotDerived where they cannot be computed."""
        if torch.compiler.is_compiling():
            return self._compiled(sources)
        tensors, sizes = sources[: self._tensors], sources[self._tensors :]
        entry = self._entries.get(sizes)
        if entry is not None and entry.watch.unchanged(tensors):
            return entry.values
        return self._renewed(tensors, sizes)

    def _compiled(self, sources: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
        if not self.slots or len(sources) > self._tensors:
            return self._compute(*sources)
        if not torch.compiler.is_exporting():
            torch.ops.graphopt.renew(self._number, list(sources), list(self.slots))
        return tuple(
            slot if slot.shape == shape else slot.expand(shape)
            for slot, shape in zip(self.slots, self._shapes, strict=True)
        )

    def _renewed(self, tensors: tuple[Any, ...], sizes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
        self._entries.pop(sizes, None)  # its memory first
        watch = Watch(tensors) if all(map(is_watchable, tensors)) else None
        try:
            values = self._values(*tensors, *sizes)
        except Exception as error:
            raise NotDerived(
                f"a value that depends on parameters alone cannot be computed: {error}",
                remedy="run the original model, which raises the same",
            ) from error
        if watch is not None:
            while len(self._entries) >= MAX_SIZES:
                self._entries.pop(next(iter(self._entries)), None)
            self._entries[sizes] = _Entry(watch, values)
            if not self.slots and not sizes:
                self.slots, self._slots_watch = tuple(map(_once, values)), watch
                self._shapes = tuple(value.shape for value in values)
        return values

    def _values(self, *sources: Any) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode(False), torch.no_grad():
            values = self._compute(*sources)
            for number in self._narrowed:
                if not values[number].isfinite().all() and all(map(_is_finite, sources)):
                    raise OverflowError(f"it does not fit into {values[number].dtype}")
            return values

    def prepare(self, tensors: Sequence[torch.Tensor]) -> None:
        """Computes the values ahead of a call, and for compilers. Raises NotDerived where it cannot."""
        self.forward(*tensors)
        self.renew(tensors, self.slots)

    def renew(self, tensors: Sequence[torch.Tensor], slots: Sequence[torch.Tensor]) -> None:
        """Brings the values that compiled code reads up to date."""
        if not slots:
            return
        watch = self._slots_watch
        if watch is not None and watch.unchanged(tensors):
            return
        self._slots_watch = Watch(tensors) if all(map(is_watchable, tensors)) else None
        for slot, value in zip(slots, self._values(*tensors), strict=True):
            slot.copy_(_once(value))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_entries": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._enroll()  # a copy meets other tensors

    def invalidate(self) -> None:
        """Forgets all values."""
        self._entries = {}
        self._slots_watch = None

    @property
    def bytes(self) -> int:
        """The memory that the values hold."""
        held = [value for entry in list(self._entries.values()) for value in entry.values]
        storages = [value.untyped_storage() for value in (*held, *self.slots)]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _once(value: torch.Tensor) -> torch.Tensor:
    """A view without the repetitions of an expand."""
    for dim, (size, stride) in enumerate(zip(value.shape, value.stride(), strict=True)):
        if stride == 0 and size > 1:
            value = value.narrow(dim, 0, 1)
    return value


def _is_finite(source: Any) -> bool:
    return not isinstance(source, torch.Tensor) or bool(source.isfinite().all())


_numbers = itertools.count()
_instances: "weakref.WeakValueDictionary[int, Derived]" = weakref.WeakValueDictionary()


def _renew(number: int, sources: list[torch.Tensor], slots: list[torch.Tensor]) -> None:
    _instances[number].renew(sources, slots)


def _renew_nothing(number: int, sources: list[torch.Tensor], slots: list[torch.Tensor]) -> None:
    return None


# Defined by hand: what `torch.library.custom_op` puts around a call takes ten times as long as the look.
_library = torch.library.Library("graphopt", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("renew(int number, Tensor[] sources, Tensor(a!)[] slots) -> ()")  # type: ignore[no-untyped-call]
_library.impl("renew", _renew, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake("graphopt::renew", _renew_nothing, lib=_library)
