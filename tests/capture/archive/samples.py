"""A `.pt2` that holds one of everything, its members, and what is put in their place."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._export.serde.serialize import serialize
from torch.export import Dim, ExportedProgram

from graphopt.capture.archive import load_program
from graphopt.errors import Unsupported

Json = dict[str, Any]
Members = dict[str, bytes]


class Sample(nn.Module):
    """One of everything that a `.pt2` can hold: parameters, buffers of both kinds, a constant,
    nested inputs, text and number arguments, dynamic sizes with guards, a sub-graph."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)
        self.register_buffer("scale", torch.linspace(0.5, 2.0, 32))
        self.register_buffer("offset", torch.linspace(-1.0, 1.0, 32), persistent=False)
        self.table = torch.arange(32.0)

    def forward(self, x: Tensor, more: dict[str, Any], *, mode: str = "a") -> dict[str, Tensor]:
        y = self.linear(x) * self.scale + self.offset + self.table
        if x.shape[0] % 2 == 0:
            y = y.reshape(x.shape[0] // 2, 2, 32).sum(1)
        with torch.no_grad():
            z = torch.cat([y, more["pair"][0]]) + more["pair"][1]
        return {"y": y, "z": z}


def sample_inputs(rows: int = 6) -> tuple[tuple[Any, ...], dict[str, Any]]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 32, generator=generator)
    pair = [torch.randn(4, 32, generator=generator), torch.ones(32)]
    return (x, {"pair": pair}), {"mode": "b"}


def export(module: nn.Module, *args: Any, **options: Any) -> ExportedProgram:
    return torch.export.export(module, args, strict=False, **options)


MEMBERS = (
    "archive_format",
    "archive_version",
    "byteorder",
    ".data/version",
    ".data/serialization_id",
    "models/model.json",
    "data/sample_inputs/model.pt",
    "data/weights/model_weights_config.json",
    "data/weights/weight_0",
    "data/weights/weight_1",
    "data/weights/weight_2",
    "data/constants/model_constants_config.json",
    "data/constants/tensor_0",
    "data/constants/tensor_1",
    "extra/notes.txt",
)
RAW = tuple(name for name in MEMBERS if name.rpartition("/")[2].startswith(("weight_", "tensor_")))


def members_of(image: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(image)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def zipped(members: Members, root: str = "archive/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(root + name, data)
    return buffer.getvalue()


class Evil:
    """Unpickling it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def evil_pickle(marker: Path) -> bytes:
    return pickle.dumps(Evil(marker))


def evil_save(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save((Evil(marker), {}), buffer)
    return buffer.getvalue()


def outcome(path: Path, data: bytes, *, trust: bool = False) -> dict[str, Tensor] | None:
    """The results of the program in `data`, or None where it is refused; nothing else may be."""
    path.write_bytes(data)
    try:
        program = load_program(path, trust=trust)
    except Unsupported as refusal:
        assert str(path) in str(refusal)
        assert refusal.remedy
        return None
    args, kwargs = sample_inputs()
    return program.module()(*args, **kwargs)


def assert_refused_or_equal(
    results: dict[str, Tensor] | None, expected: dict[str, Tensor], marker: Path
) -> None:
    assert not marker.exists()
    if results is not None:
        torch.testing.assert_close(results, expected, rtol=0, atol=0, equal_nan=True)


AUTO = {0: Dim.AUTO}


def legacy_members(program: ExportedProgram) -> Members:
    """The layout of torch.export.save up to torch 2.7."""
    artifact = serialize(program)
    return {
        "version": b"8.20",
        "serialized_exported_program.json": artifact.exported_program,
        "serialized_state_dict.pt": artifact.state_dict,
        "serialized_constants.pt": artifact.constants,
        "serialized_example_inputs.pt": artifact.example_inputs,
        "extra_files/notes.txt": b"by torch",
    }


REPLACEMENTS: dict[str, Callable[[bytes, Path], bytes | None]] = {
    "dropped": lambda data, marker: None,
    "emptied": lambda data, marker: b"",
    "halved": lambda data, marker: data[: len(data) // 2],
    "garbage": lambda data, marker: b"\xff{[\x00" * 9,
    "deep JSON": lambda data, marker: b"[" * 100_000,
    "other JSON": lambda data, marker: b'{"config": [1], "graph_module": {"graph": null}}',
    "pickle": lambda data, marker: evil_pickle(marker),
    "torch.save": lambda data, marker: evil_save(marker),
}


def edited(members: Members, change: Callable[[Json], None], name: str = "model") -> None:
    full = {"model": "models/model.json"}.get(name, f"data/{name}/model_{name}_config.json")
    tree = json.loads(members[full])
    change(tree)
    members[full] = json.dumps(tree).encode()


def graph(program: Json) -> Json:
    return program["graph_module"]["graph"]


def signature(program: Json) -> Json:
    return program["graph_module"]["module_call_graph"][0]["signature"]


def opening(marker: Path) -> str:
    """An expression that creates the marker."""
    return f"open({str(marker)!r}, 'w')"


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
