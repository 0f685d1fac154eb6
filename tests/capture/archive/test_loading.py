"""What torch saved is loaded, and gives equal results."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._export.serde.serialize import serialize
from torch.export import ExportedProgram

from graphopt.capture.archive import load_program, save_program
from tests.capture.archive.samples import (
    AUTO,
    export,
    legacy_members,
    members_of,
    outcome,
    sample_inputs,
    zipped,
)


def test_loads_what_torch_saved(path: Path, image: bytes, expected: dict[str, Tensor]) -> None:
    results = outcome(path, image)
    assert results is not None
    torch.testing.assert_close(results, expected, rtol=0, atol=0)


def test_loaded_program_keeps_its_dynamic_sizes_and_guards(
    path: Path, image: bytes, program: ExportedProgram
) -> None:
    path.write_bytes(image)
    loaded = load_program(path)
    args, kwargs = sample_inputs(rows=10)
    torch.testing.assert_close(
        loaded.module()(*args, **kwargs), program.module()(*args, **kwargs), rtol=0, atol=0
    )
    odd, kwargs = sample_inputs(rows=7)
    with pytest.raises(AssertionError, match="Guard failed"):
        loaded.module()(*odd, **kwargs)


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.short = nn.Parameter(torch.randn(4, 4, dtype=torch.bfloat16))
        self.wave = nn.Parameter(torch.randn(4, dtype=torch.complex64))
        self.tied = self.short
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("view", torch.arange(8.0)[2:6])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.count.add_(1)
        random = torch.rand(4)
        return (x.bfloat16() @ self.tied, self.wave * x[0], self.count + self.view, random)


class Regions(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            product = x @ y.T
        rows = x.shape[0]
        ramp = torch.arange(max(rows, y.shape[0])) ** 2 + int(rows / 2)
        chosen = torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))
        return product, ramp, chosen, torch.vmap(torch.dot)(x, x), torch.einsum("ij->ji", y)


def recurrent() -> nn.Module:
    return nn.LSTM(8, 8, num_layers=2, batch_first=True)


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()


@pytest.mark.parametrize(
    ("build", "shapes", "dynamic"),
    [
        (Mixed, [(3, 4)], None),
        (Regions, [(6, 4), (5, 4)], (AUTO, AUTO)),
        (recurrent, [(2, 5, 8)], None),
        (attention, [(2, 5, 16)], (AUTO,)),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), [(2, 3, 8, 8)], None),
    ],
)
def test_round_trip_gives_the_same_bits(
    path: Path, build: Callable[[], nn.Module], shapes: list[tuple[int, ...]], dynamic: Any
) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(shape) for shape in shapes]
    program = export(build(), *inputs, dynamic_shapes=dynamic)
    save_program(program, path)
    loaded = load_program(path)
    results = []
    for each in (program, loaded):
        torch.manual_seed(1)
        results.append(each.module()(*inputs))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)
    assert loaded.state_dict.keys() == program.state_dict.keys()


def test_round_trip_of_a_transformers_model(path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=9
    )
    module = transformers.BertModel(config).eval()
    tokens = torch.arange(8).reshape(2, 4)
    program = torch.export.export(
        module, (), {"input_ids": tokens}, dynamic_shapes={"input_ids": AUTO}, strict=False
    )
    save_program(program, path)
    expected = program.module()(input_ids=tokens)
    actual = load_program(path).module()(input_ids=tokens)
    assert type(actual) is type(expected)
    torch.testing.assert_close(actual.to_tuple(), expected.to_tuple(), rtol=0, atol=0)


@pytest.mark.parametrize("suffix", ["pt", "json"])  # "json" held a pickle, too
def test_loads_the_layout_of_torch_2_7(
    path: Path, program: ExportedProgram, expected: dict[str, Tensor], suffix: str
) -> None:
    members = legacy_members(program)
    for name in ("serialized_state_dict", "serialized_constants"):
        members[f"{name}.{suffix}"] = members.pop(f"{name}.pt")
    results = outcome(path, zipped(members, root=""))
    assert results is not None
    torch.testing.assert_close(results, expected, rtol=0, atol=0)


def test_loads_weights_pickled_as_torch_2_8_did(
    path: Path, image: bytes, program: ExportedProgram, expected: dict[str, Tensor]
) -> None:
    old, artifact = members_of(image), serialize(program)
    for name in [name for name in old if name.startswith(("data/weights/", "data/constants/"))]:
        del old[name]
    old["data/weights/model.pt"] = artifact.state_dict
    old["data/constants/model.pt"] = artifact.constants
    results = outcome(path, zipped(old))
    assert results is not None
    torch.testing.assert_close(results, expected, rtol=0, atol=0)


def test_loads_a_file_that_was_zipped_again(path: Path, image: bytes, expected: dict[str, Tensor]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members_of(image).items():
            archive.writestr("other/" + name, data)
    results = outcome(path, path.read_bytes())
    assert results is not None
    torch.testing.assert_close(results, expected, rtol=0, atol=0)


def test_trust_loads_without_the_checks(path: Path, image: bytes, expected: dict[str, Tensor]) -> None:
    members = members_of(image) | {"data/executorch/anything": b"ignored by torch"}
    assert outcome(path, zipped(members)) is None
    results = outcome(path, zipped(members), trust=True)
    assert results is not None
    torch.testing.assert_close(results, expected, rtol=0, atol=0)
