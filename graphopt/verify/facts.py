"""What a caller can see of one value, as frozen facts: the tensors, containers and plain values in it.

A fact holds copies of bytes, no tensors: it stays true whatever happens to the tensors afterwards.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import math
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from re import Pattern
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

import numpy as np
import torch


@dataclasses.dataclass(frozen=True, slots=True)
class Structure:
    """A container or object: its type and the names of its members, in order."""

    path: str
    type: str
    members: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Literal:
    """A value that is no tensor, by type and bits: 1, 1.0 and True differ, so do 0.0 and -0.0;
    every NaN is one NaN.
    """

    path: str
    type: str
    bits: str
    text: str = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class TensorFact:
    """One tensor as the caller sees it.

    ``identity`` numbers the tensor object and ``storage`` its memory, each in order of first sight
    over arguments, parameters, buffers and outputs, so that two records agree exactly where their
    ``is`` and sharing relations agree. ``requires_grad`` and ``is_leaf`` are None where autograd
    raises on the question, as it does of a stale view. ``content`` holds the elements in index
    order, lazy conjugation and negation resolved, NaNs made one NaN. ``parts`` holds the component
    tensors of layouts without strides (sparse, nested).
    """

    path: str
    type: str
    dtype: torch.dtype
    layout: torch.layout
    device: torch.device
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    offset: int | None
    requires_grad: bool | None
    is_leaf: bool | None
    conjugate: bool
    negative: bool
    identity: int
    storage: int | None
    content: bytes | None
    parts: tuple[Fact, ...] = ()


Fact = Structure | Literal | TensorFact


def type_name(value: object) -> str:
    """A value's class, with its module unless that is builtins."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _float_bits(value: float) -> str:
    return "nan" if math.isnan(value) else struct.pack(">d", value).hex()


_BY_REPR = (
    torch.dtype, torch.device, torch.layout, torch.memory_format, range, slice, Pattern,
    PurePath,  # its slots fill as it is asked
)  # fmt: skip


def _literal(path: str, value: object) -> Literal | None:
    """The fact of a plain Python value, or None where ``value`` has parts to look into."""
    if isinstance(value, enum.Enum):
        bits = value.name
    elif value is None or isinstance(value, (bool, int, str, bytes)):
        bits = repr(value)
    elif isinstance(value, float):
        bits = _float_bits(value)
    elif isinstance(value, complex):
        bits = f"{_float_bits(value.real)} {_float_bits(value.imag)}"
    elif isinstance(value, np.generic):
        bits = f"{value.dtype} {value.tobytes().hex()}"
    elif isinstance(value, np.ndarray):
        if value.dtype == object:
            return None
        bits = f"{value.dtype} {value.shape} {np.ascontiguousarray(value).tobytes().hex()}"
    elif isinstance(value, torch.Size):
        bits = repr(tuple(value))
    elif isinstance(value, _BY_REPR):
        bits = repr(value)
    elif isinstance(value, (type, FunctionType, BuiltinFunctionType, MethodType)):
        bits = f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, ModuleType):
        bits = value.__name__
    elif isinstance(value, torch.Generator):
        bits = hashlib.sha256(value.get_state().numpy().tobytes()).hexdigest()
    else:
        return None
    return Literal(path, type_name(value), bits, repr(value)[:80])


def _attributes(value: object) -> list[tuple[str, object]]:
    """The instance attributes of ``value``, from its ``__dict__`` and its slots, in order of
    definition.
    """
    found = dict(getattr(value, "__dict__", {}))
    for kind in reversed(type(value).__mro__):
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                found.setdefault(slot, getattr(value, slot))
    return list(found.items())


def _members(value: object) -> list[tuple[str, object]]:
    """The parts of a container or object, each with the suffix that its path takes."""
    parts: list[tuple[str, object]] = []
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts += [(f".{name}", item) for name, item in zip(value._fields, value, strict=True)]
    elif isinstance(value, (tuple, list, deque)):
        parts += [(f"[{index}]", item) for index, item in enumerate(value)]
    elif isinstance(value, Mapping):
        parts += [(f"[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, (set, frozenset)):
        parts += [("{}", item) for item in sorted(value, key=repr)]
    if type(value).__module__ != "builtins" and not isinstance(value, (deque, torch.Tensor)):
        # Subclasses of containers carry state of their own: a ModelOutput is a dict and a dataclass
        # in one.
        parts += [(f".{name}", item) for name, item in _attributes(value)]
    return parts


def _bits(tensor: torch.Tensor) -> bytes:
    """The elements of a strided tensor in index order, NaNs made one NaN, as bytes."""
    values = tensor.detach().resolve_conj().resolve_neg().reshape(-1)
    plain = torch.empty(values.numel(), dtype=values.dtype)  # strides of its own: [1] may have 0
    plain.copy_(values)
    if plain.is_complex():
        plain = torch.view_as_real(plain).reshape(-1)
    if plain.is_floating_point():
        nan = plain.float().isnan() if plain.element_size() == 1 else plain.isnan()
        if bool(nan.any()):
            plain = torch.where(nan, torch.full((), math.nan).to(plain.dtype), plain)
    return plain.view(torch.uint8).numpy().tobytes()


def tensors_in(value: object) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor inside ``value`` with the suffix of its path, in the order in which facts are
    recorded.
    """
    yield from _tensors_in("", value, set())


def _tensors_in(path: str, value: object, above: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif id(value) not in above and _literal(path, value) is None:
        for suffix, item in _members(value):
            yield from _tensors_in(path + suffix, item, above | {id(value)})


def markers_in(value: object) -> Iterator[object]:
    """Every bare object() inside ``value``."""
    yield from _markers_in(value, set())


def _markers_in(value: object, above: set[int]) -> Iterator[object]:
    if type(value) is object:
        yield value
    elif id(value) not in above and not isinstance(value, torch.Tensor) and _literal("", value) is None:
        for _, item in _members(value):
            yield from _markers_in(item, above | {id(value)})


def asked(tensor: torch.Tensor, question: str) -> bool | None:
    """What autograd says of ``tensor``; None where it raises, as the tensor was one of several
    views made by one operator, and their base was written to since.
    """
    try:
        return bool(getattr(tensor, question))
    except RuntimeError:
        return None


class Recorder:
    """Turns values into facts, numbering tensor objects and storages in order of first sight.

    It keeps every object that it numbered alive, so that an ``id`` is never used twice.
    """

    def __init__(self) -> None:
        self._identities: dict[int, int] = {}
        self._storages: dict[int, int] = {}
        self._alive: list[object] = []

    def see(self, tensor: torch.Tensor) -> None:
        """Number ``tensor`` and its storage now, before a call can replace them."""
        self._number(self._identities, tensor)
        self._storage(tensor)

    def _number(self, numbers: dict[int, int], value: object) -> int:
        if id(value) not in numbers:
            numbers[id(value)] = len(numbers)
            self._alive.append(value)
        return numbers[id(value)]

    def _storage(self, tensor: torch.Tensor) -> int | None:
        try:
            # The Python object of a storage is one for all tensors that share it, as long as it is
            # alive.
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse layouts have none
            return None
        return self._number(self._storages, storage)

    def facts(self, path: str, value: object) -> tuple[Fact, ...]:
        """All facts of a value, its own first."""
        found: list[Fact] = []
        self._record(path, value, found, set())
        return tuple(found)

    def _record(self, path: str, value: object, found: list[Fact], above: set[int]) -> None:
        if isinstance(value, torch.Tensor):
            found.append(self.tensor(path, value))
            return
        if id(value) in above:
            found.append(Literal(path, type_name(value), "contains itself", "an object that contains itself"))
            return
        literal = _literal(path, value)
        if literal is not None:
            found.append(literal)
            return
        members = _members(value)
        found.append(Structure(path, type_name(value), tuple(suffix for suffix, _ in members)))
        for suffix, item in members:
            self._record(path + suffix, item, found, above | {id(value)})

    def tensor(self, path: str, value: torch.Tensor) -> TensorFact:
        """The fact of one tensor."""
        identity = self._number(self._identities, value)
        strided = value.layout == torch.strided and not value.is_nested
        content: bytes | None = None
        parts: tuple[Fact, ...] = ()
        if strided and value.device.type != "meta":
            content = _bits(value.int_repr() if value.is_quantized else value)
        elif not strided:
            parts = tuple(
                fact for name, part in _components(value) for fact in self.facts(f"{path}.{name}", part)
            )
        return TensorFact(
            path=path,
            type=type_name(value),
            dtype=value.dtype,
            layout=value.layout,
            device=value.device,
            shape=() if value.is_nested else tuple(value.shape),
            strides=tuple(value.stride()) if strided else None,
            offset=int(value.storage_offset()) if strided else None,
            requires_grad=asked(value, "requires_grad"),
            is_leaf=asked(value, "is_leaf"),
            conjugate=value.is_conj(),
            negative=value.is_neg(),
            identity=identity,
            storage=self._storage(value) if strided else None,
            content=content,
            parts=parts,
        )


def _components(value: torch.Tensor) -> list[tuple[str, object]]:
    """The plain tensors that a tensor without strides is made of. They are new objects on each
    call, hence copies.
    """
    plain = value.detach()
    if value.is_nested:
        if value.layout == torch.jagged:
            return [(f"{name}()", getattr(plain, name)().clone()) for name in ("values", "offsets")]
        return [(f"unbind()[{i}]", part.clone()) for i, part in enumerate(plain.unbind())]
    if value.layout == torch.sparse_coo:
        # Eager itself may hold the same elements in another order; coalescing would hide that, as a
        # caller can see it.
        return [
            ("is_coalesced()", plain.is_coalesced()),
            ("_indices()", plain._indices().clone()),
            ("_values()", plain._values().clone()),
        ]
    if value.layout in (torch.sparse_csr, torch.sparse_bsr):
        names = ("crow_indices", "col_indices", "values")
    elif value.layout in (torch.sparse_csc, torch.sparse_bsc):
        names = ("ccol_indices", "row_indices", "values")
    else:
        return [("to_dense()", plain.to_dense())]
    return [(f"{name}()", getattr(plain, name)().clone()) for name in names]
