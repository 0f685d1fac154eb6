"""Reads the members of a zip file that may be hostile: bounded, unambiguous, checked by CRC.

Refuses: no zip, a truncated or damaged one; a name twice, or one that leaves the folder it is
unpacked in; members that overlap, are encrypted, or unpack to more than the limits below.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from graphopt.capture.archive_refusal import Refusal

MAX_MEMBERS = 100_000
"""Members of one archive. The largest transformers models hold a few thousand tensors."""

MAX_TOTAL_BYTES = 256 << 30
"""Unpacked bytes of one archive: a model of 100 billion bfloat16 parameters, and a margin."""

MAX_MEMBER_BYTES = 32 << 30
"""Unpacked bytes of one member: an embedding of 500,000 x 16,384 in float32."""

MAX_RATIO = 100
"""Unpacked to packed bytes of one member. torch stores without compression (ratio 1); zipped again, the
graph of a DeBERTa-v2 reaches 31; a bomb is near deflate's bound, 1032."""

RATIO_FREE_BYTES = 1 << 20
"""A member this small may have any ratio: it cannot be a bomb, and a short run of zeros packs
beyond `MAX_RATIO`."""

_NAME = re.compile(r"[^\x00-\x1f\x7f\\:/]+(/[^\x00-\x1f\x7f\\:/]+)*")


@dataclass(frozen=True)
class ZipMembers:
    """An open zip file whose directory is within bounds; contents are checked as they are read."""

    _zip: zipfile.ZipFile
    _infos: dict[str, zipfile.ZipInfo]

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the zip's directory; no two are equal."""
        return tuple(self._infos)

    def size(self, name: str) -> int:
        """Unpacked bytes of a member."""
        return self._infos[name].file_size

    def read(self, name: str) -> bytes:
        """The bytes of a member; raises `Refusal` where they are damaged."""
        info = self._infos[name]
        try:
            data = self._zip.read(info)
        except Exception as error:  # zipfile lets zlib's, struct's and OS errors through
            raise Refusal(f"damaged ({error})") from error
        if len(data) != info.file_size:
            raise Refusal("cut short")
        return data


def open_members(stream: IO[bytes]) -> ZipMembers:
    """Checks the directory of the zip in `stream` (seekable) and returns its members."""
    stream.seek(0, 2)
    length = stream.tell()
    if length == 0:
        raise Refusal("an empty file")
    try:
        archive = zipfile.ZipFile(stream)
    except Exception as error:  # a damaged directory ends in half a dozen exception types
        raise Refusal(f"no zip file, or a truncated one ({error})") from error
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise Refusal(f"{len(infos)} members; the limit is {MAX_MEMBERS}")
    by_name: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        _check_name(info)
        if info.filename in by_name:
            raise Refusal("a name that occurs twice", info.filename)
        by_name[info.filename] = info
        _check_size(info)
    # Overlapping members are how a small file unpacks to a huge one without any compression.
    if sum(info.compress_size for info in infos) > length:
        raise Refusal("members that overlap")
    if sum(info.file_size for info in infos) > MAX_TOTAL_BYTES:
        raise Refusal(f"more than {MAX_TOTAL_BYTES} bytes in all")
    return ZipMembers(archive, by_name)


def write_members(stream: IO[bytes], members: Iterable[tuple[str, bytes]]) -> None:
    """Writes a fresh zip without compression: what any zip reader reads is exactly `members`."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)


def _check_name(info: zipfile.ZipInfo) -> None:
    # zipfile cuts a name at a NUL and turns the system's separator into "/": readers may differ.
    name = info.orig_filename
    safe = name == info.filename and _NAME.fullmatch(name) and ".." not in name.split("/")
    if not safe:
        raise Refusal("no plain relative name", repr(name))


def _check_size(info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 0x1:
        raise Refusal("an encrypted member", info.filename)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refusal(f"compressed by method {info.compress_type}", info.filename)
    if info.file_size > MAX_MEMBER_BYTES:
        raise Refusal(f"{info.file_size} bytes; the limit is {MAX_MEMBER_BYTES}", info.filename)
    if info.file_size > max(RATIO_FREE_BYTES, MAX_RATIO * info.compress_size):
        raise Refusal(
            f"{info.file_size} bytes packed into {info.compress_size}, more than {MAX_RATIO} to 1",
            info.filename,
        )
