"""Damage to any member is refused or without effect."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor
from torch.export import ExportedProgram

from graphopt.capture.archive import load_program
from graphopt.errors import Unsupported
from tests.capture.archive.samples import (
    MEMBERS,
    RAW,
    REPLACEMENTS,
    assert_refused_or_equal,
    legacy_members,
    members_of,
    outcome,
    zipped,
)


def test_every_member_is_tampered_with_below(image: bytes) -> None:
    assert sorted(members_of(image)) == sorted(MEMBERS)


def in_place(image: bytes, name: str, change: Callable[[bytearray, int, int], None]) -> bytes:
    """`image` with the stored bytes of one member changed, and its checksum left as it was."""
    with zipfile.ZipFile(io.BytesIO(image)) as archive:
        info = next(each for each in archive.infolist() if each.filename.endswith("/" + name))
    header = info.header_offset
    start = header + 30 + sum(struct.unpack("<HH", image[header + 26 : header + 30]))
    changed = bytearray(image)
    change(changed, start, info.file_size)
    return bytes(changed)


def flip_first(data: bytearray, start: int, size: int) -> None:
    data[start] ^= 0x01


def flip_all(data: bytearray, start: int, size: int) -> None:
    for index in range(start, start + size):
        data[index] ^= 0xFF


def cut_here(data: bytearray, start: int, size: int) -> None:
    del data[start + size // 2 :]


def cut_out(data: bytearray, start: int, size: int) -> None:
    del data[start : start + size]


@pytest.mark.parametrize("change", [flip_first, flip_all, cut_here, cut_out])
@pytest.mark.parametrize("name", MEMBERS)
def test_damage_in_place_is_refused_or_without_effect(
    path: Path,
    marker: Path,
    image: bytes,
    expected: dict[str, Tensor],
    name: str,
    change: Callable[[bytearray, int, int], None],
) -> None:
    assert_refused_or_equal(outcome(path, in_place(image, name, change)), expected, marker)


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("name", MEMBERS)
def test_a_replaced_member_is_refused_or_without_effect(
    path: Path,
    marker: Path,
    image: bytes,
    expected: dict[str, Tensor],
    name: str,
    replacement: str,
) -> None:
    members = members_of(image)
    data = REPLACEMENTS[replacement](members.pop(name), marker)
    if name in RAW and data is not None and len(data) > 128:
        # Enough bytes for the tensor are numbers like any other: only harmlessness can be shown.
        outcome(path, zipped(members | {name: data}))
        assert not marker.exists()
        return
    changed = members if data is None else members | {name: data}
    assert_refused_or_equal(outcome(path, zipped(changed)), expected, marker)


@pytest.mark.parametrize(
    "name",
    [
        "serialized_state_dict.pt",
        "serialized_constants.pt",
        "serialized_example_inputs.pt",
        "version",
        "serialized_exported_program.json",
    ],
)
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_a_replaced_member_of_the_old_layout_is_refused(
    path: Path,
    marker: Path,
    program: ExportedProgram,
    expected: dict[str, Tensor],
    name: str,
    replacement: str,
) -> None:
    members = legacy_members(program)
    data = REPLACEMENTS[replacement](members.pop(name), marker)
    changed = members if data is None else members | {name: data}
    assert_refused_or_equal(outcome(path, zipped(changed, root="")), expected, marker)


def test_random_bytes_in_the_graph_never_end_in_another_error(path: Path, marker: Path, image: bytes) -> None:
    """With a right checksum; what is changed may be a number, so results may differ."""
    generator = random.Random(0)
    members = members_of(image)
    original = members["models/model.json"]
    for _ in range(60):
        changed = bytearray(original)
        for _ in range(generator.choice([1, 1, 3])):
            changed[generator.randrange(len(changed))] = generator.randrange(32, 127)
        path.write_bytes(zipped(members | {"models/model.json": bytes(changed)}))
        with contextlib.suppress(Unsupported):
            load_program(path)
    assert not marker.exists()
