"""What each member of a `.pt2` is, and the check it must pass before torch sees it.

The result is not the archive that was read but a fresh one: every pickle in it was written by
this process from the tensors and plain containers that a `weights_only=True` load returned. So
torch's unsafe loads (`weights_only=False` for weights marked `use_pickle`, and as the fall-back of
every other pickled member) meet no foreign pickle, and no two zip readers can disagree about it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
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
    """Names and bytes of the archive that torch may load; raises `Refusal` for anything else."""
    root, kinds = _layout(archive)
    pickled = {name: False for name, kind in kinds.items() if kind is Kind.PAYLOAD}
    tables = [name for name, kind in kinds.items() if kind is Kind.PAYLOADS]
    for name in tables:
        _check_table(archive, root, name, pickled)
    for name, kind in kinds.items():
        if kind is Kind.EXTRA:
            continue
        try:
            data = _checked(archive, root + name, kind, pickled.get(name, False))
            if name in _SAMPLE_INPUTS and data:
                _check_sample_inputs(data)
        except Refusal as refusal:
            raise refusal if refusal.where else refusal.within(name) from None
        yield (_ROOT if root else "") + name, data


def _layout(archive: ZipMembers) -> tuple[str, dict[str, Kind]]:
    """The folder that holds all members ("" or "name/"), and the kind of each member in it."""
    roots = {name.partition("/")[0] + "/" for name in archive.names}
    root = roots.pop() if len(roots) == 1 else ""
    names = [name.removeprefix(root) for name in archive.names]
    if root and "archive_format" in names:
        if archive.size(root + "archive_format") != 3 or (
            archive.read(root + "archive_format") != b"pt2"
        ):
            raise Refusal("is no pt2 format", "archive_format")
        known = _PACKAGE
    elif not root and {"version", "serialized_exported_program.json"} <= set(names):
        known = _LEGACY
    else:
        raise Refusal("is a zip file, but none written by torch.export.save")
    kinds = {name: _kind(name, known) for name in names}
    if Kind.PROGRAM not in kinds.values():
        raise Refusal("holds no exported program named 'model'")
    return root, kinds


def _kind(name: str, known: dict[str, Kind]) -> Kind:
    for pattern, kind in known.items():
        if re.fullmatch(pattern, name):
            return kind
    for pattern, reason in _REFUSED.items():
        if re.fullmatch(pattern, name):
            raise Refusal(f"is {reason}", name)
    raise Refusal("is no member that torch.export.save writes", name)


def _checked(archive: ZipMembers, member: str, kind: Kind, pickled: bool) -> bytes:
    if kind is Kind.MARK and archive.size(member) > MAX_MARK_BYTES:
        raise Refusal(f"has {archive.size(member)} bytes; the limit is {MAX_MARK_BYTES}")
    if kind is Kind.PROGRAM:
        data = _read_json(archive, member)
        check_program(data)
        return data
    data = archive.read(member)
    return _repickled(data) if pickled or kind is Kind.PICKLE else data


def _read_json(archive: ZipMembers, member: str) -> bytes:
    if archive.size(member) > MAX_JSON_BYTES:
        raise Refusal(f"has {archive.size(member)} bytes; the limit is {MAX_JSON_BYTES}")
    return archive.read(member)


def _check_table(archive: ZipMembers, root: str, table: str, pickled: dict[str, bool]) -> None:
    """Notes in `pickled` which payloads the table lets torch unpickle, and bounds the others."""
    folder = table.rpartition("/")[0] + "/"
    try:
        entries = check_payloads(_read_json(archive, root + table))
    except Refusal as refusal:
        raise refusal.within(table) from None
    for path, entry in entries.items():
        name = folder + entry["path_name"]
        if name not in pickled:
            raise Refusal(f"names {name!r}, which the archive lacks", table)
        pickled[name] |= entry["use_pickle"]
        if not entry["use_pickle"]:
            try:
                _check_extent(entry["tensor_meta"], archive.size(root + name))
            except Refusal as refusal:
                raise refusal.within(f"{table} [{path!r}]") from None


def _check_extent(meta: Mapping[str, Any] | None, stored: int) -> None:
    """Refuses a tensor that reaches beyond its bytes, or has none and would silently be zeros.

    `meta` is a TensorMeta of torch's schema, `stored` the bytes of its member.
    """
    if meta is None:
        raise Refusal("has raw bytes but no shape")
    try:
        sizes = [size["as_int"] for size in meta["sizes"]]
        strides = [stride["as_int"] for stride in meta["strides"]]
        offset = meta["storage_offset"]["as_int"]
        width = deserialize_scalar_type(ScalarType(meta["dtype"])).itemsize
        last = offset + sum((size - 1) * step for size, step in zip(sizes, strides, strict=True))
    except (KeyError, ValueError) as error:
        raise Refusal("has no fixed shape and dtype") from error
    if min([offset, *sizes, *strides]) < 0:
        raise Refusal("has a negative size, stride or offset")
    needed = 0 if 0 in sizes or meta["device"]["type"] == "meta" else (last + 1) * width
    if needed > stored:
        raise Refusal(f"needs {needed} bytes, the archive holds {stored}")


def _repickled(data: bytes) -> bytes:
    """What `torch.load(weights_only=True)` finds in `data`, saved afresh."""
    if not data:  # torch reads no bytes as "nothing"
        return b""
    archive = open_members(io.BytesIO(data))
    for name in archive.names:
        if not _PICKLE_MEMBER.fullmatch(name):
            raise Refusal(f"holds {name!r}, which torch.save does not write")
    plain = io.BytesIO()
    write_members(plain, ((name, archive.read(name)) for name in archive.names))
    plain.seek(0)
    try:
        value = torch.load(plain, weights_only=True)
    except Exception as error:  # hostile bytes end in any exception
        raise Refusal(f"holds more than tensors and plain containers ({_cause(error)})") from error
    tensors = list(_tensors(value))
    if any(tensor.layout is not torch.strided for tensor in tensors):
        raise Refusal("holds a tensor that is not dense")
    storages = {id(tensor.untyped_storage()): tensor.untyped_storage() for tensor in tensors}
    real = sum(storage.nbytes() for storage in storages.values() if storage.device.type != "meta")
    if real > sum(archive.size(name) for name in archive.names):
        raise Refusal("holds a tensor larger than its bytes")
    fresh = io.BytesIO()
    torch.save(value, fresh)
    return fresh.getvalue()


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


def _check_sample_inputs(data: bytes) -> None:
    match torch.load(io.BytesIO(data), weights_only=True):
        case (tuple(), dict() as named):
            for name in named:
                check_identifier(str(name))
        case _:
            raise Refusal("holds no arguments")


def _cause(error: Exception) -> str:
    """The part of torch's long message that names the cause."""
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return text.splitlines()[0][:160] if text else type(error).__name__
