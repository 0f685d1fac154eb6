"""The zip file around the members is plain, bounded and whole."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from graphopt.capture import archive_members, archive_zip
from graphopt.capture.archive import load_program
from graphopt.errors import Unsupported
from tests.capture.archive.samples import (
    assert_refused_or_equal,
    evil_save,
    members_of,
    outcome,
    saved,
    zipped,
)


def compressed(name: str, data: bytes, image: bytes) -> bytes:
    buffer = io.BytesIO(image)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def test_a_zip_bomb_is_refused(path: Path, image: bytes) -> None:
    path.write_bytes(compressed("extra/zeros", bytes(1 << 24), image))
    with pytest.raises(Unsupported, match="more than 100 to 1") as refused:
        load_program(path)
    assert refused.value.where == "archive/extra/zeros"


def test_a_zip_bomb_inside_a_pickled_member_is_refused(path: Path, image: bytes) -> None:
    inner = compressed("data/9", bytes(1 << 24), saved(((), {})))
    path.write_bytes(zipped(members_of(image) | {"data/sample_inputs/model.pt": inner}))
    with pytest.raises(Unsupported, match="more than 100 to 1"):
        load_program(path)


def test_members_that_share_their_bytes_are_refused(path: Path, image: bytes) -> None:
    buffer = io.BytesIO(image)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/extra/0", bytes(1 << 16))
        last = archive.infolist()[-1]
        for index in range(1, 50):
            copy = zipfile.ZipInfo(f"archive/extra/{index}")
            copy.file_size, copy.compress_size, copy.CRC = last.file_size, last.compress_size, last.CRC
            copy.header_offset = last.header_offset
            archive.filelist.append(copy)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(Unsupported, match="members that overlap"):
        load_program(path)


@pytest.mark.parametrize(
    ("module", "limit", "value", "reason"),
    [
        (archive_zip, "MAX_MEMBERS", 10, "15 members"),
        (archive_zip, "MAX_TOTAL_BYTES", 10_000, "more than 10000 bytes in all"),
        (archive_zip, "MAX_MEMBER_BYTES", 4_000, "bytes; the limit is 4000"),
        (archive_members, "_LIMITS", {archive_members.Kind.PROGRAM: 1_000}, "bytes; the limit is 1000"),
        (archive_members, "_LIMITS", {archive_members.Kind.MARK: 2}, "bytes; the limit is 2"),
    ],
)
def test_members_are_bounded(
    path: Path,
    image: bytes,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    limit: str,
    value: Any,
    reason: str,
) -> None:
    path.write_bytes(image)
    monkeypatch.setattr(module, limit, value)
    with pytest.raises(Unsupported, match=reason):
        load_program(path)


NAMES = ["../out", "archive/../../out", "/etc/out", "archive//out", "archive\\out", "C:/out", "archive/./"]


@pytest.mark.parametrize("name", [*NAMES, "archive/a\x00b", "archive/extra/.."])
def test_a_name_that_leaves_its_folder_is_refused(path: Path, image: bytes, name: str) -> None:
    buffer = io.BytesIO(image)
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name  # the constructor would tidy it
        archive.writestr(info, b"x")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(Unsupported, match="is refused"):
        load_program(path)


def test_a_name_that_occurs_twice_is_refused(path: Path, image: bytes) -> None:
    """Which of the two is read depends on the reader."""
    buffer = io.BytesIO(image)
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/models/model.json", b"{}")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(Unsupported, match="a name that occurs twice"):
        load_program(path)


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, zipfile.ZIP_LZMA)])
def test_an_encrypted_or_oddly_compressed_member_is_refused(
    path: Path, image: bytes, offset: int, value: int
) -> None:
    changed = bytearray(image)
    with zipfile.ZipFile(io.BytesIO(image)) as archive:
        changed[archive.start_dir + offset] |= value
    path.write_bytes(changed)
    with pytest.raises(Unsupported, match=r"an encrypted member|compressed by method"):
        load_program(path)


def test_an_archive_of_compiled_code_is_refused(path: Path, image: bytes) -> None:
    path.write_bytes(zipped(members_of(image) | {"data/aotinductor/model/x.so": b"\x7fELF"}))
    with pytest.raises(Unsupported, match="compiled code") as refused:
        load_program(path)
    assert refused.value.where == "data/aotinductor/model/x.so"


def test_two_archives_in_one_file_load_as_the_one_that_was_checked(
    path: Path, image: bytes, marker: Path, expected: dict[str, Tensor]
) -> None:
    evil = zipped(members_of(image) | {"data/sample_inputs/model.pt": evil_save(marker)})
    assert_refused_or_equal(outcome(path, evil + image), expected, marker)
    assert_refused_or_equal(outcome(path, image + evil), expected, marker)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(path: Path, image: bytes, part: float) -> None:
    path.write_bytes(image[: int(len(image) * part)])
    with pytest.raises(Unsupported, match="or a truncated one"):
        load_program(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"not a zip" * 99, "no zip file"),
        (zipped({"a": b"x"}), "no program by torch.export.save"),
        (zipped({"archive_format": b"pt2"}, root=""), "no program by torch.export.save"),
        (zipped({"archive_format": b"pt2"}), "no exported program"),
        (saved(torch.ones(1)), "no program by torch.export.save"),
        (zipped({}), "no program by torch.export.save"),
    ],
)
def test_a_file_that_is_no_pt2_is_refused(path: Path, data: bytes, reason: str) -> None:
    path.write_bytes(data)
    with pytest.raises(Unsupported, match=reason):
        load_program(path)


@pytest.mark.parametrize("trust", [False, True])
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, trust: bool) -> None:
    missing = tmp_path / "missing.pt2"
    with pytest.raises(Unsupported, match="there is no such file") as refused:
        load_program(missing, trust=trust)
    assert str(missing) in str(refused.value)
    with pytest.raises(Unsupported, match="is a folder"):
        load_program(tmp_path, trust=trust)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unsupported, match="no regular file"):
        load_program(tmp_path / "pipe", trust=trust)


@pytest.mark.parametrize("data", [b"", b"not a zip", zipped({"a": b"x"})])
def test_trust_still_ends_in_one_clear_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(Unsupported, match="does not load"):
        load_program(path, trust=True)
