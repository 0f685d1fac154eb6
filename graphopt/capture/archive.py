"""Loads a `.pt2` file without running code from it, and saves one without leaving half of it.

`torch.export.load` trusts its file: a pickle in it may run anything, and so may its JSON. Here
the file is first turned into a checked copy in memory, and torch loads that copy: the bytes that
were checked are the bytes that are loaded, whatever happens to the file meanwhile.

Source: torch/export/__init__.py (load), torch/export/pt2_archive/_package.py (load_pt2) and
torch/_export/serde/serialize.py (ExportedProgramDeserializer) of torch 2.13.
"""

from __future__ import annotations

import io
import os
import stat
import uuid
from pathlib import Path
from typing import IO

import torch
from torch.export import ExportedProgram

from graphopt.capture.archive_members import checked_members
from graphopt.capture.archive_refusal import Refusal
from graphopt.capture.archive_zip import open_members, write_members
from graphopt.errors import Unsupported

_TRUST = "load_program(path, trust=True) skips the checks: for a file whose source you trust"


def load_program(path: str | os.PathLike[str], *, trust: bool = False) -> ExportedProgram:
    """The program that `torch.export.save` wrote to `path`.

    Unless `trust`, nothing from the file is executed: each member is of a known kind and bounded
    in size, each pickle passes `torch.load(weights_only=True)`, each string in the JSON that torch
    evaluates or pastes into source has an allow-listed grammar. The program is then no more
    dangerous than its operators, and the library of each operator is one already imported.

    Raises `Unsupported` where the file is missing, damaged, no such program, or not safe; the
    message names the member and the remedy.
    """
    name = os.fspath(path)
    with _opened(name) as stream:
        image = io.BytesIO(stream.read()) if trust else _checked_image(stream, name)
    try:
        program = torch.export.load(image)
    except Exception as error:  # torch lets through whatever a wrong file leads to
        raise Unsupported(
            f"{name!r} does not load: {type(error).__name__}: {_first_line(error)}",
            remedy=f"export it again with the installed torch {torch.__version__}",
        ) from error
    return program


def save_program(program: ExportedProgram, path: str | os.PathLike[str]) -> None:
    """Writes `program` to `path`, in full or not at all; a file already there is replaced at once.

    Raises `Unsupported` where torch cannot serialise the program or the place cannot be written.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        try:
            with open(partial, "xb") as stream:
                torch.export.save(program, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise Unsupported(
            f"{os.fspath(path)!r} cannot be written: {error.strerror or error}",
            remedy="name a file in a folder that exists and can be written",
        ) from error
    except Exception as error:  # torch's serialiser has no common base for its refusals
        raise Unsupported(
            f"torch.export.save cannot serialise the program: {_first_line(error)}",
            remedy="save the state_dict of the module instead",
        ) from error


def _opened(name: str) -> IO[bytes]:
    try:
        # A pipe would block open() for ever, and a folder's error says nothing about the cause.
        mode = os.stat(name).st_mode
        if stat.S_ISDIR(mode):
            raise Unsupported(f"{name!r} is a folder", remedy="name the .pt2 file")
        if not stat.S_ISREG(mode):
            raise Unsupported(f"{name!r} is no regular file", remedy="name the .pt2 file")
        return open(name, "rb")
    except (OSError, ValueError) as error:
        cause = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise Unsupported(f"{name!r} cannot be read: {cause}", remedy="check the path") from error


def _checked_image(stream: IO[bytes], name: str) -> io.BytesIO:
    """A copy of the archive that holds nothing but what was checked."""
    image = io.BytesIO()
    try:
        write_members(image, checked_members(open_members(stream)))
    except Refusal as refusal:
        raise Unsupported(
            f"{name!r} is refused: {refusal.reason}", remedy=_TRUST, where=refusal.where
        ) from refusal
    except (RecursionError, MemoryError) as error:
        raise Unsupported(
            f"{name!r} is refused: too deep or too large to check ({error})", remedy=_TRUST
        ) from error
    image.seek(0)
    return image


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else ""
