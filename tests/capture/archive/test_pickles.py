"""Pickled members are tensors in plain containers."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram

from graphopt.capture.archive import load_program
from graphopt.errors import Unsupported
from tests.capture.archive.samples import (
    assert_refused_or_equal,
    evil_save,
    members_of,
    sample_inputs,
    saved,
    zipped,
)


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
        archive.writestr("archive/data.pkl", b"")
    return buffer.getvalue()


def rezipped(data: bytes, **changes: bytes) -> bytes:
    """A zip by torch.save with other members, and without torch.save's padding."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return zipped(members | {f"archive/data.{name}": value for name, value in changes.items()}, root="")


def tensor_without_bytes() -> bytes:
    """`torch.Tensor(1 << 20)`, which weights_only=True allows: 4 MB of whatever the memory holds."""
    call = b"\x80\x02ctorch\nTensor\nJ\x00\x00\x10\x00\x85R\x85}\x86."
    return rezipped(saved(((), {})), pkl=call)


def tensor_with_hooks() -> bytes:
    """Its hooks are a class, where torch.save puts an empty instance of it."""
    data = saved(((torch.ones(1),), {}))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        pickled = archive.read("archive/data.pkl")
    head, tail = pickled.split(b"collections\nOrderedDict\n")
    call = tail.index(b")R")
    return rezipped(data, pkl=head + b"collections\nOrderedDict\n" + tail[:call] + tail[call + 2 :])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tensor_with_hooks(), "a tensor with hooks"),
        (saved(torch.ones(1)), "no positional and keyword arguments"),
        (saved(((), {"a b": 1})), "no identifier"),
        (saved((({"it's": 1},), {})), "a quote"),
        (saved((({(1, 2): 1},), {})), "a dictionary key of type tuple"),
        (saved((torch.eye(2).to_sparse(),)), "no positional and keyword arguments"),
        (saved(((torch.eye(2).to_sparse(),), {})), "not dense"),
        (tensor_without_bytes(), "larger than its bytes"),
        (torchscript(), "no member that torch.save writes"),
        (pickle.dumps(((), {})), "no zip file"),
    ],
)
def test_pickled_inputs_are_tensors_in_plain_containers(
    path: Path, image: bytes, data: bytes, reason: str
) -> None:
    path.write_bytes(zipped(members_of(image) | {"data/sample_inputs/model.pt": data}))
    with pytest.raises(Unsupported, match=reason) as refused:
        load_program(path)
    assert refused.value.where.startswith("data/sample_inputs/model.pt")


def test_torch_loads_the_bytes_that_were_checked(
    path: Path, image: bytes, marker: Path, expected: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file turns evil between the check and the load."""
    path.write_bytes(image)
    load = torch.export.load

    def late(source: Any, **options: Any) -> ExportedProgram:
        path.write_bytes(zipped(members_of(image) | {"data/sample_inputs/model.pt": evil_save(marker)}))
        return load(source, **options)

    monkeypatch.setattr(torch.export, "load", late)
    args, kwargs = sample_inputs()
    assert_refused_or_equal(load_program(path).module()(*args, **kwargs), expected, marker)


def test_torchs_unsafe_fall_back_meets_no_foreign_pickle(
    path: Path, image: bytes, marker: Path, expected: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the second of two equal weights_only loads fails, for want of memory say."""
    members = members_of(image)
    foreign = rezipped(members["data/sample_inputs/model.pt"])
    path.write_bytes(zipped(members | {"data/sample_inputs/model.pt": foreign}))
    load, safe, unsafe = torch.load, [], []

    def failing(source: io.BytesIO, *, weights_only: bool) -> Any:
        if not weights_only:
            unsafe.append(source.getvalue())
        elif safe:
            raise RuntimeError("out of memory")
        else:
            safe.append(source.getvalue())
        return load(source, weights_only=weights_only)

    monkeypatch.setattr(torch, "load", failing)
    monkeypatch.setattr(torch._export.serde.serialize.log, "warning", lambda *_, **__: None)
    program = load_program(path)
    assert len(unsafe) == 1, "torch did not fall back"
    assert unsafe[0] not in (foreign, *safe)
    args, kwargs = sample_inputs()
    assert_refused_or_equal(program.module()(*args, **kwargs), expected, marker)
