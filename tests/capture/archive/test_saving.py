"""Saving leaves a whole file or the old one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram

from graphopt.capture.archive import save_program
from graphopt.errors import Unsupported
from tests.capture.archive.samples import sample_inputs


def test_torch_loads_what_was_saved(
    path: Path, program: ExportedProgram, expected: dict[str, Tensor]
) -> None:
    save_program(program, str(path))
    args, kwargs = sample_inputs()
    results = torch.export.load(path).module()(*args, **kwargs)
    torch.testing.assert_close(results, expected, rtol=0, atol=0)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("error", [RuntimeError("cannot"), OSError(28, "No space left on device")])
def test_a_failed_save_leaves_the_old_file(
    path: Path, program: ExportedProgram, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(program: ExportedProgram, stream: Any) -> None:
        stream.write(b"half")
        raise error

    path.write_bytes(b"old")
    monkeypatch.setattr(torch.export, "save", half)
    with pytest.raises(Unsupported, match=r"cannot|No space left"):
        save_program(program, path)
    assert path.read_bytes() == b"old"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_saving_to_no_place_is_refused(tmp_path: Path, program: ExportedProgram) -> None:
    with pytest.raises(Unsupported, match="cannot be written"):
        save_program(program, tmp_path / "missing" / "x.pt2")
    with pytest.raises(Unsupported, match="cannot be written"):
        save_program(program, tmp_path)
    assert list(tmp_path.iterdir()) == []
