"""What each member of a `.pt2` is, and the check it must pass before torch sees it.

The result is not the archive that was read but a fresh one: every pickle in it was written by
this process from the tensors and plain containers that a `weights_only=True` load returned. So
torch's unsafe loads (`weights_only=False` for weights marked `use_pickle`, and as the fall-back of
every other pickled member) meet no foreign pickle, and no two zip readers can disagree about it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from typing import Any

import torch
from torch._export.serde.schema import ScalarType
from torch._export.serde.serialize import deserialize_scalar_type

from graphopt.capture.archive_program import (
    check_identifier,
    check_key,
    check_payloads,
    check_program,
)
from graphopt.capture.archive_refusal import Refusal
from graphopt.capture.archive_zip import (
    ZipMembers,
    open_members,
    write_members,
)

MAX_JSON_BYTES = 256 << 20
"""Bytes of one JSON member: about 200,000 nodes with their stack traces. Parsed, JSON takes some
ten times its size in memory."""

MAX_MARK_BYTES = 1 << 10
"""Bytes of a member that holds a version, a byte order or an id."""


class Kind(Enum):
    """How torch reads a member, hence how it is checked."""

    MARK = auto()  # a version or an id
    PROGRAM = auto()  # JSON of the graph, in torch._export.serde.schema
    PAYLOADS = auto()  # JSON of the table of weights or constants
    PICKLE = auto()  # a zip by torch.save
    PAYLOAD = auto()  # raw bytes of tensors, or a zip by torch.save where the table says so
    EXTRA = auto()  # the writer's own files, of which load_program makes no use


_LIMITS = {Kind.MARK: MAX_MARK_BYTES, Kind.PROGRAM: MAX_JSON_BYTES, Kind.PAYLOADS: MAX_JSON_BYTES}

_ROOT = "program/"
_SAMPLE_INPUTS = ("data/sample_inputs/model.pt", "serialized_example_inputs.pt")

# torch.export.save since torch 2.8; members lie in one folder, named after the file.
_PACKAGE: dict[str, Kind] = {
    r"archive_format|archive_version|byteorder|version": Kind.MARK,
    r"\.data/(version|serialization_id)": Kind.MARK,
    r"models/model\.json": Kind.PROGRAM,
    r"data/(weights/model_weights|constants/model_constants)_config\.json": Kind.PAYLOADS,
    r"data/(sample_inputs|weights|constants)/model\.pt": Kind.PICKLE,
    r"data/(weights/weight|constants/tensor)_\d{1,9}": Kind.PAYLOAD,
    r"extra/.+": Kind.EXTRA,
}

# torch.export.save up to torch 2.7; no folder.
_LEGACY: dict[str, Kind] = {
    r"version": Kind.MARK,
    r"serialized_exported_program\.json": Kind.PROGRAM,
    r"serialized_(state_dict|constants|example_inputs)\.pt": Kind.PICKLE,
    r"serialized_(state_dict|constants)\.json": Kind.PICKLE,
    r"extra_files/.+": Kind.EXTRA,
}

# A zip by torch.save; data.pkl holds the pickle, data/N the bytes of one storage.
_PICKLE_MEMBER = re.compile(
    r"[^/]+/(data\.pkl|byteorder|version|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id|data/\d{1,9})"
)

_REFUSED = {
    r"data/aotinductor/.*": "compiled code, which runs as soon as it is loaded",
    r"data/constants/(custom|opaque)_obj_.*": "a custom object, loadable only by unpickling it",
    r"data/(executorch|mtia)/.*|xl_model_weights/.*": "made for another runtime",
}


def checked_members(archive: ZipMembers) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the archive that torch may load; raises `Refusal` for anything else.

    Each member is read once, so that a file changed meanwhile changes nothing.
    """
    root, kinds = _layout(archive)
    tables = {name: _read(archive, root, name, kind) for name, kind in kinds.items() if kind is Kind.PAYLOADS}
    sizes = {name: archive.size(root + name) for name, kind in kinds.items() if kind is Kind.PAYLOAD}
    pickled = {name for table, data in tables.items() for name in _pickled_payloads(table, data, sizes)}
    for name, kind in kinds.items():
        if kind is Kind.EXTRA:
            continue
        data = tables[name] if name in tables else _read(archive, root, name, kind)
        try:
            if kind is Kind.PROGRAM:
                check_program(data)
            elif name in _SAMPLE_INPUTS:
                data = _repickled(data, _check_inputs)
            elif kind is Kind.PICKLE:
                data = _repickled(data, _check_state)
            elif name in pickled:
                data = _repickled(data, _check_tensor)
        except Refusal as refusal:
            raise refusal.within(name) from refusal
        yield (_ROOT if root else "") + name, data


def _layout(archive: ZipMembers) -> tuple[str, dict[str, Kind]]:
    """The folder that holds all members ("" or "name/"), and the kind of each member in it."""
    roots = {name.partition("/")[0] + "/" if "/" in name else "" for name in archive.names}
    root = roots.pop() if len(roots) == 1 else ""
    names = [name.removeprefix(root) for name in archive.names]
    if root and "archive_format" in names:
        known = _PACKAGE
    elif not root and {"version", "serialized_exported_program.json"} <= set(names):
        known = _LEGACY
    else:
        # Cut short, a file may still end in a whole zip: one of those by torch.save inside it.
        raise Refusal("no program by torch.export.save, or a truncated one")
    kinds = {name: _kind(name, known) for name in names}
    if Kind.PROGRAM not in kinds.values():
        raise Refusal("no exported program named 'model'")
    return root, kinds


def _kind(name: str, known: dict[str, Kind]) -> Kind:
    for pattern, kind in known.items():
        if re.fullmatch(pattern, name):
            return kind
    for pattern, reason in _REFUSED.items():
        if re.fullmatch(pattern, name):
            raise Refusal(reason, name)
    raise Refusal("no member that torch.export.save writes", name)


def _read(archive: ZipMembers, root: str, name: str, kind: Kind) -> bytes:
    limit = _LIMITS.get(kind)
    if limit is not None and archive.size(root + name) > limit:
        raise Refusal(f"{archive.size(root + name)} bytes; the limit is {limit}", name)
    try:
        return archive.read(root + name)
    except Refusal as refusal:
        raise refusal.within(name) from refusal


def _pickled_payloads(table: str, data: bytes, sizes: Mapping[str, int]) -> Iterator[str]:
    """The payloads that the table of weights or constants tells torch to unpickle; checks the others.

    `sizes` holds the bytes of each payload in the archive.
    """
    folder = table.rpartition("/")[0] + "/"
    try:
        for path, entry in check_payloads(data).items():
            name = folder + entry["path_name"]
            if name not in sizes:
                raise Refusal(f"the member {name!r} is missing", f" [{path!r}]")
            if entry["use_pickle"]:
                yield name
            elif reason := _misfit(entry["tensor_meta"], sizes[name]):
                raise Refusal(reason, f" [{path!r}]")
    except Refusal as refusal:
        raise refusal.within(table) from refusal


def _misfit(meta: Mapping[str, Any] | None, stored: int) -> str:
    """Why a tensor does not fit into its bytes, or "": torch would read beyond, or silently take zeros.

    `meta` is a TensorMeta of torch's schema, `stored` the bytes of its member.
    """
    if meta is None:
        return "raw bytes without a shape"
    try:
        sizes = [size["as_int"] for size in meta["sizes"]]
        strides = [stride["as_int"] for stride in meta["strides"]]
        offset = meta["storage_offset"]["as_int"]
        width = deserialize_scalar_type(ScalarType(meta["dtype"])).itemsize
        last = offset + sum((size - 1) * step for size, step in zip(sizes, strides, strict=True))
    except (KeyError, ValueError):
        return "no fixed shape and dtype"
    if min([offset, *sizes, *strides]) < 0:
        return "a negative size, stride or offset"
    needed = 0 if 0 in sizes or meta["device"]["type"] == "meta" else (last + 1) * width
    return f"{needed} bytes needed, {stored} stored" if needed > stored else ""


def _repickled(data: bytes, check: Callable[[object], None]) -> bytes:
    """What `torch.load(weights_only=True)` finds in `data`, saved afresh after `check`."""
    if not data:  # torch reads no bytes as "nothing"
        return b""
    plain = io.BytesIO()
    try:
        archive = open_members(io.BytesIO(data))
        for name in archive.names:
            if not _PICKLE_MEMBER.fullmatch(name):
                raise Refusal("no member that torch.save writes", name)
        write_members(plain, ((name, archive.read(name)) for name in archive.names))
    except Refusal as refusal:
        raise refusal.within("/" if refusal.where else "") from refusal
    plain.seek(0)
    fresh = io.BytesIO()
    try:
        value = torch.load(plain, weights_only=True)
        check(value)
        _check_tensors(value, plain.getbuffer().nbytes)
        torch.save(value, fresh)
    except Refusal:
        raise
    except Exception as error:  # hostile bytes end in any exception
        raise Refusal(f"not loadable with weights_only=True ({_cause(error)})") from error
    return fresh.getvalue()


def _check_tensors(value: object, stored: int) -> None:
    """Refuses what weights_only=True lets through and no saved program needs; `stored` counts bytes."""
    storages = {}
    for tensor in _tensors(value):
        if tensor.layout is not torch.strided:
            raise Refusal("a tensor that is not dense")
        if tensor._backward_hooks:
            raise Refusal("a tensor with hooks")
        if not tensor.is_meta:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    if sum(storages.values()) > stored:
        raise Refusal("a tensor larger than its bytes")


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """The tensors in nested containers; refuses a dictionary key that is no plain literal."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            check_key(key)
            yield from _tensors(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _tensors(item)


def _check_inputs(value: object) -> None:
    match value:
        case (tuple(), dict() as named):
            for name in named:
                check_identifier(str(name))
        case _:
            raise Refusal("no positional and keyword arguments")


def _check_state(value: object) -> None:
    if not isinstance(value, dict) or not all(isinstance(item, torch.Tensor) for item in value.values()):
        raise Refusal("no table of tensors")


def _check_tensor(value: object) -> None:
    if not isinstance(value, torch.Tensor):
        raise Refusal("no tensor")


def _cause(error: Exception) -> str:
    """The part of torch's long message that names the cause."""
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return text.splitlines()[0][:160] if text else type(error).__name__
