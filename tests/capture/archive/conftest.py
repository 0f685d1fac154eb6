"""The sample program, its file and what it gives."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from tests.capture.archive.samples import Sample, export, sample_inputs


@pytest.fixture(scope="session")
def program() -> ExportedProgram:
    torch.manual_seed(0)
    args, kwargs = sample_inputs()
    rows = {"x": {0: Dim.AUTO}, "more": {"pair": [{0: Dim.AUTO}, None]}, "mode": None}
    return export(Sample(), *args, kwargs=kwargs, dynamic_shapes=rows)


@pytest.fixture(scope="session")
def image(program: ExportedProgram) -> bytes:
    """The sample saved by torch itself."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"notes.txt": "by torch"})
    return buffer.getvalue()


@pytest.fixture(scope="session")
def expected(program: ExportedProgram) -> dict[str, Tensor]:
    args, kwargs = sample_inputs()
    return program.module()(*args, **kwargs)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that an attack creates where it succeeds."""
    return tmp_path / "marker"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "program.pt2"
