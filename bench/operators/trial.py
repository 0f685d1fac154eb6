"""One execution of a call on copies of its operands, and what it did."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from bench.operators.calls import Call, tensors_in

_M_PERTURB = -6  # glibc's mallopt: fill new and freed memory with a byte


@dataclass(frozen=True, slots=True)
class Trial:
    """What one execution returned and did."""

    error: str | None  # the type of the exception, if it raised one
    digest: bytes  # of the results: types, shapes, strides and bits, NaN payloads aside
    form: str  # of the results: shapes of tensors, values of Python numbers
    shared: tuple[frozenset[str], ...]  # for each tensor result, the operands it shares storage with
    entangled: bool  # whether two results share storage
    written: frozenset[str]  # operands whose bytes or version counter changed
    reshaped: frozenset[str]  # operands whose shape, strides, offset, dtype or storage changed
    drew: bool  # whether the random stream advanced


@dataclass(frozen=True, slots=True)
class _Snapshot:
    metadata: tuple[object, ...]
    version: int
    stored: bytes

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Snapshot:
        storage = tensor.untyped_storage()
        metadata = (
            tensor.dtype,
            tuple(tensor.shape),
            tensor.stride(),
            tensor.storage_offset(),
            storage._cdata,
            storage.data_ptr(),
            storage.nbytes(),
            tensor.is_conj(),
            tensor.is_neg(),
            tensor.requires_grad,
        )
        return cls(metadata, tensor._version, _storage_bytes(storage))


def attempt(call: Call, seed: int, *, grad: bool = False) -> Trial:
    """Runs a call on copies of its operands, which stay as they are.

    Two attempts with different seeds differ in the random stream and in the garbage that new memory
    holds, so that an operator that reads either gives itself away.
    """
    call = call.copied()
    if grad:
        for _, tensor in call.tensors():
            if tensor.is_floating_point() or tensor.is_complex():
                tensor.requires_grad_()
    before = [_Snapshot.of(tensor) for _, tensor in call.tensors()]
    torch.default_generator.manual_seed(seed)
    stream = torch.get_rng_state()
    error, results, seen, form = None, None, b"", ""
    with _poisoned(1 + seed * 37 % 254), torch.set_grad_enabled(grad):
        try:
            results = call.run()
            seen, form = digest(results), _form(results)
        except Exception as raised:
            error = type(raised).__name__
    drew = not torch.equal(stream, torch.get_rng_state())
    owners: dict[int, set[str]] = {}
    for name, tensor in call.tensors():
        owners.setdefault(tensor.untyped_storage()._cdata, set()).add(name)
    claimed = {a.name for a in call.op._schema.arguments if a.alias_info and a.alias_info.is_write}
    written, reshaped = set(), set()
    for (name, tensor), was in zip(call.tensors(), before, strict=True):
        now = _Snapshot.of(tensor)
        if now.metadata != was.metadata:
            reshaped.add(name)
        # x.add_(x) changes the bytes under `other`, but writes `self`.
        explained = name not in claimed and claimed & owners.get(tensor.untyped_storage()._cdata, set())
        if now.version != was.version or (now.stored != was.stored and not explained):
            written.add(name)
    made = [tensor for tensor in tensors_in(results) if tensor.layout is torch.strided]
    storages = [tensor.untyped_storage()._cdata for tensor in made]
    return Trial(
        error,
        seen,
        form,
        tuple(frozenset(owners.get(storage, ())) for storage in storages),
        len(set(storages)) < len(storages),
        frozenset(written),
        frozenset(reshaped),
        drew,
    )


def digest(results: Any) -> bytes:
    """A hash of everything a caller sees in results, NaN payloads aside."""
    text = hashlib.blake2b(digest_size=16)
    for piece in _pieces(results):
        text.update(piece)
    return text.digest()


def _pieces(result: Any) -> Iterator[bytes]:
    if isinstance(result, torch.Tensor):
        described = (result.dtype, tuple(result.shape), result.stride(), result.storage_offset())
        yield repr(described).encode()
        yield element_bytes(result)
    elif isinstance(result, list | tuple):
        yield f"{type(result).__name__}{len(result)}".encode()
        for item in result:
            yield from _pieces(item)
    else:
        yield f"{type(result).__name__}{result!r}".encode()


def _form(result: Any) -> str:
    if isinstance(result, torch.Tensor):
        return str(tuple(result.shape))
    if isinstance(result, list | tuple):
        return f"[{', '.join(_form(item) for item in result)}]"
    return repr(result)


def element_bytes(tensor: torch.Tensor) -> bytes:
    """The elements' bits in index order, every NaN made one NaN."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if tensor.is_floating_point() and tensor.element_size() > 1:
        tensor = torch.where(tensor.isnan(), float("nan"), tensor)
    flat = tensor.reshape(-1).clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).numpy().tobytes()


def _storage_bytes(storage: torch.UntypedStorage) -> bytes:
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes()


@contextlib.contextmanager
def _poisoned(byte: int) -> Iterator[None]:
    mallopt = _mallopt()
    mallopt(_M_PERTURB, byte)
    try:
        yield
    finally:
        mallopt(_M_PERTURB, 0)


@functools.cache
def _mallopt() -> Callable[[int, int], object]:
    return ctypes.CDLL(None).mallopt
