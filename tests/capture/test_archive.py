"""A `.pt2` is hostile until shown otherwise: it loads with equal results, or it is `Unsupported`."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pickle
import random
import struct
import sys
import typing
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._export.serde import schema
from torch._export.serde.serialize import serialize
from torch.export import Dim, ExportedProgram

from graphopt.capture import archive_members, archive_program, archive_zip
from graphopt.capture.archive import load_program, save_program
from graphopt.capture.archive_expressions import check_guard, check_size
from graphopt.capture.archive_operators import check_operator
from graphopt.capture.archive_refusal import Refusal
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


@pytest.fixture(scope="module")
def program() -> ExportedProgram:
    torch.manual_seed(0)
    args, kwargs = sample_inputs()
    rows = {"x": {0: Dim.AUTO}, "more": {"pair": [{0: Dim.AUTO}, None]}, "mode": None}
    return export(Sample(), *args, kwargs=kwargs, dynamic_shapes=rows)


@pytest.fixture(scope="module")
def image(program: ExportedProgram) -> bytes:
    """The sample saved by torch itself."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"notes.txt": "by torch"})
    return buffer.getvalue()


@pytest.fixture(scope="module")
def expected(program: ExportedProgram) -> dict[str, Tensor]:
    args, kwargs = sample_inputs()
    return program.module()(*args, **kwargs)


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


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that an attack creates where it succeeds."""
    return tmp_path / "marker"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "program.pt2"


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


# --- what torch saved is loaded, and gives equal results ----------------------------------------


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


AUTO = {0: Dim.AUTO}


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


# --- tampering with each member in turn ---------------------------------------------------------


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


# --- attacks: each works on torch, none here ----------------------------------------------------


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


def evil_sample_inputs(members: Members, marker: Path) -> None:
    members["data/sample_inputs/model.pt"] = evil_save(marker)


def evil_pickled_weight(members: Members, marker: Path) -> None:
    def change(table: Json) -> None:
        for entry in table["config"].values():
            if entry["path_name"] == "weight_0":
                entry["use_pickle"] = True

    members["data/weights/weight_0"] = evil_save(marker)
    edited(members, change, "weights")


def evil_opaque_object(members: Members, marker: Path) -> None:
    def change(table: Json) -> None:
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
        table["config"]["thing"] = entry | {"tensor_meta": None}

    members["data/constants/opaque_obj_0"] = evil_pickle(marker)
    edited(members, change, "constants")


def evil_size(members: Members, marker: Path) -> None:
    def change(program: Json) -> None:
        for meta in graph(program)["tensor_values"].values():
            for size in meta["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = opening(marker)

    edited(members, change)


def evil_guard(members: Members, marker: Path) -> None:
    edited(members, lambda program: program["guards_code"].append(opening(marker)))


def evil_input_name(members: Members, marker: Path) -> None:
    """torch.fx writes a placeholder's name into `def forward(self, ...)` as it is."""

    def change(program: Json) -> None:
        for spec in program["graph_module"]["signature"]["input_specs"]:
            if "constant_input" in spec:
                spec["constant_input"]["name"] = f"mode={opening(marker)}"

    edited(members, change)


def evil_constant_input(members: Members, marker: Path) -> None:
    """`ExportedProgram.module` compiles the guard `L['mode'] == '...'`."""

    def change(program: Json) -> None:
        for argument in graph(program)["inputs"]:
            if "as_string" in argument:
                argument["as_string"] = f"' + str({opening(marker)}) + '"

    edited(members, change)


def evil_buffer_name(members: Members, marker: Path) -> None:
    """torch.fx writes `getattr(self, "...")` for a name that is no identifier."""
    name = f"x' + str({opening(marker)}) + '".replace("'", '"')
    quoted = json.dumps(name)
    for member in ("models/model.json", "data/weights/model_weights_config.json"):
        members[member] = members[member].replace(b'"scale"', quoted.encode())


def evil_file_operator(members: Members, marker: Path) -> None:
    def change(program: Json) -> None:
        values = {"filename": {"as_string": str(marker)}, "shared": {"as_bool": True}}
        values["size"] = {"as_int": 8}
        node = graph(program)["nodes"][-1]
        node["target"] = "torch.ops.aten.from_file.default"
        node["inputs"] = [{"name": k, "arg": v, "kind": 1} for k, v in values.items()]

    edited(members, change)


def put_in_tree(members: Members, marker: Path, kind: str, context: Any) -> None:
    """The first leaf of the outputs' tree becomes a container; it names the module `intruder`."""
    (marker.parent / "intruder.py").write_text(opening(marker))
    blank = '{"type": null, "context": null, "children_spec": []}'
    leaf = json.dumps({"type": kind, "context": context, "children_spec": []})

    def change(program: Json) -> None:
        spec = signature(program)["out_spec"]
        signature(program)["out_spec"] = spec.replace(blank, leaf, 1)

    edited(members, change)


def evil_enum(members: Members, marker: Path) -> None:
    enum = json.dumps([{"__enum__": True, "fqn": "intruder:X", "name": "Y"}])
    put_in_tree(members, marker, "builtins.dict", enum)


def evil_factory(members: Members, marker: Path) -> None:
    names = {"default_factory_module": "intruder", "default_factory_name": "X"}
    put_in_tree(members, marker, "collections.defaultdict", names | {"dict_context": []})


@pytest.mark.parametrize(
    ("attack", "member"),
    [
        (evil_sample_inputs, "data/sample_inputs/model.pt"),
        (evil_pickled_weight, "data/weights/weight_0"),
        (evil_opaque_object, "data/constants/opaque_obj_0"),
        (evil_size, "models/model.json"),
        (evil_guard, "models/model.json.guards_code"),
        (evil_input_name, "models/model.json"),
        (evil_constant_input, "models/model.json"),
        (evil_buffer_name, "data/weights/model_weights_config.json"),
        (evil_file_operator, "models/model.json"),
        (evil_enum, "models/model.json"),
        (evil_factory, "models/model.json"),
    ],
)
def test_an_attack_that_works_on_torch_is_refused(
    path: Path,
    marker: Path,
    image: bytes,
    attack: Callable[[Members, Path], None],
    member: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(marker.parent))
    members = members_of(image)
    attack(members, marker)
    path.write_bytes(zipped(members))
    with pytest.raises(Unsupported) as refused:
        load_program(path)
    assert member in str(refused.value)
    assert "trust=True" in refused.value.remedy
    assert not marker.exists()
    with contextlib.suppress(Exception):  # what becomes of the program after the attack is no matter
        outcome(path, zipped(members), trust=True)
    sys.modules.pop("intruder", None)
    assert marker.exists(), "the attack does not work, so that refusing it shows nothing"


class Keyed(nn.Module):
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return sum(inputs.values(), torch.zeros(()))


def test_a_dictionary_key_that_is_code_is_refused(path: Path, marker: Path) -> None:
    """torch pastes the key into the message of a guard, between double quotes."""
    key = f'" + str(open("{marker}", "w")) + "'
    program = export(Keyed(), {key: torch.ones(3)})
    save_program(program, path)
    with pytest.raises(Unsupported, match="quote"):
        load_program(path)
    assert not marker.exists()
    load_program(path, trust=True).module()({key: torch.ones(3)})
    assert marker.exists()


def texts_of(record: type, seen: set[type]) -> set[str]:
    """The fields of `record` and of all it refers to that hold text."""
    found: set[str] = set()
    if record in seen:
        return found
    seen.add(record)

    def visit(kind: Any, name: str) -> None:
        if kind is str:
            found.add(name)
        elif dataclasses.is_dataclass(kind):
            found.update(texts_of(kind, seen))
        for part in typing.get_args(kind):
            visit(part, name)

    for name, kind in typing.get_type_hints(record, vars(schema)).items():
        visit(kind, f"{record.__name__}.{name}")
    return found


def test_every_text_of_torchs_schema_has_a_grammar() -> None:
    """A new field of a later torch fails here, and is refused until it has one."""
    texts = texts_of(schema.ExportedProgram, set()) | texts_of(schema.PayloadConfig, set())
    # A custom object is refused by its name, whatever else it has.
    texts -= {"CustomObjArgument.class_fqn", "InputToCustomObjSpec.custom_obj_name", "_Union._type"}
    assert texts == archive_program._TEXTS.keys()


@pytest.mark.parametrize("rule", archive_program._TEXTS)
def test_no_text_may_hold_a_control_character(rule: str) -> None:
    """A line end would leave the comment or the string that torch puts the text in."""
    for text in ("a\r", "a\x00", "a\u2028b"):
        with pytest.raises(Refusal):
            archive_program._TEXTS[rule](text)


# --- what is refused though no attack with it is known ------------------------------------------


def rename_node(program: Json) -> None:
    graph(program)["nodes"][0]["name"] = "a; b"


def rename_argument(program: Json) -> None:
    signature(program)["forward_arg_names"][0] = "x, y"


def reach_for_class(program: Json) -> None:
    program["graph_module"]["signature"]["input_specs"][0]["parameter"]["parameter_name"] = "a.__class__"


def other_dialect(program: Json) -> None:
    program["verifiers"] = ["os.system"]


def endless_symbol(program: Json) -> None:
    program["range_constraints"]["u999999999999"] = {"min_val": 0, "max_val": 1}


def unknown_tree(program: Json) -> None:
    leaf = {"type": "some.Type", "context": "null", "children_spec": []}
    signature(program)["out_spec"] = json.dumps([1, leaf])


def custom_object(program: Json) -> None:
    value = {"name": "thing", "class_fqn": "__torch__.Thing"}
    graph(program)["nodes"][0]["inputs"][0]["arg"] = {"as_custom_obj": value}


def control_character(program: Json) -> None:
    graph(program)["nodes"][0]["metadata"]["stack_trace"] = "a\rimport os"


def special_function(program: Json) -> None:
    graph(program)["nodes"][0]["metadata"]["source_fn_stack"] = "x,torch.nn.__loader__.load_module"


def wrong_type(program: Json) -> None:
    program["schema_version"]["major"] = True


@pytest.mark.parametrize(
    "change",
    [
        rename_node,
        rename_argument,
        reach_for_class,
        other_dialect,
        endless_symbol,
        unknown_tree,
        custom_object,
        control_character,
        special_function,
        wrong_type,
    ],
)
def test_the_graph_is_held_to_its_grammar(path: Path, image: bytes, change: Callable[[Json], None]) -> None:
    members = members_of(image)
    edited(members, change)
    path.write_bytes(zipped(members))
    with pytest.raises(Unsupported, match="is refused") as refused:
        load_program(path)
    assert refused.value.where.startswith("models/model.json.")


@pytest.mark.parametrize(
    "text",
    [
        "s0",
        "s0*(s1 + 1)//2",
        "Symbol('s77', positive=True, integer=True)",
        "Add(Symbol('s0', integer=True), Mul(Integer(-1), Pow(Symbol('s1'), Integer(2))))",
        "FloorDiv(Max(Integer(1), Symbol('u0', integer=True)), Rational(1, 2))",
        "Pow(ToFloat(Symbol('s0')), Float('0.5', precision=53))",
        "Piecewise(ExprCondPair(Integer(1), StrictLessThan(Symbol('s0'), Integer(2))), true)",
        "And(Equality(Symbol('s0'), Integer(9223372036854775807)), Not(false))",
    ],
)
def test_a_size_may_be_arithmetic(text: str) -> None:
    check_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "__import__('os')",
        "eval('1')",
        "exec",
        "(lambda: 1)()",
        "[c for c in s0]",
        "s0.__class__",
        "Symbol.__init__",
        "Symbol('s0')('x')",
        "Symbol('a b')",
        "Symbol('__x')",
        "Symbol('s0', integer=s1)",
        "Symbol('s0', **s1)",
        "Function('f')(s0)",
        "Add(*s0)",
        "f's0'",
        "'s0'",
        "s0 # comment",
        "s0\n+1",
        "9**9**9",
        "(9**9)**9",
        "Pow(Pow(9, 9), 9)",
        "Pow(9, Pow(9, 9))",
        "Pow(Integer(9), Integer(999999999))",
        "LShift(1, 4611686018427387904)",
        "1 << s0",
        "1" * 30,
        "(" * 5000 + "s0" + ")" * 5000,
        "s0+" * 40_000 + "s0",
        "-" * 20_000 + "s0",
    ],
)
def test_a_size_may_be_nothing_else(text: str) -> None:
    with pytest.raises(Refusal):
        check_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "(L['x'].size()[0] % 2) == 0",
        "L['more']['pair'][0].stride()[1] != 1 and L['n'] >= 0",
        "L['x'].field.storage_offset() // 2 <= max(1, L['y'].size()[1])",
        "math.trunc(torch.sym_float(L['x'].size()[0]) ** 0.5) == 2",
        "abs(L['y'].size()[0] + ((-1)*L['x'].size()[0])) < 10",
        "not (L['x'].size()[0] == (1 if L['n'] < math.inf else 2))",
    ],
)
def test_a_guard_may_compare_sizes(text: str) -> None:
    check_guard(text)


@pytest.mark.parametrize(
    "text",
    [
        "print(1)",
        "torch.load('x')",
        "torch.os.system('x')",
        "math.__loader__",
        "L['x'].tofile('x')",
        "L['x'].__class__",
        "L['x'].size().__class__",
        "L['x'](1)",
        "L['x'].size(key=1)",
        "args[0]",
        "globals()",
        "L[L]",
        "L['a\\'b']",
        'L["x"]',
        "'a' * 9999",
        "9 ** L['n']",
        "(yield)",
        "(x := 1)",
        "[1]",
        "True, print",
        "L['x'].size()[0] == 1, 'message') or print('x'",
    ],
)
def test_a_guard_may_do_nothing_else(text: str) -> None:
    with pytest.raises(Refusal):
        check_guard(text)


@pytest.mark.parametrize(
    "name",
    [
        "torch.ops.aten.add.Tensor",
        "torch.ops.aten.item.default",
        "torch.ops.aten.__and__.Tensor",
        "torch.ops.higher_order.cond",
        "_operator.floordiv",
        "torch.sym_max",
    ],
)
def test_an_operator_may_compute(name: str) -> None:
    check_operator(name)


@pytest.mark.parametrize(
    "name",
    [
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.save.default",  # TorchScript's: writes a file
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.add",
        "torch.ops.aten.add.Tensor.__call__",
        "torch.ops.nobody.knows.default",
        "torch.ops.higher_order.aoti_call_delegate",
        "torch.ops.higher_order.inline_asm_elementwise",
        "torch.export.custom_ops._call_custom_autograd_function_in_pre_dispatch",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "math.factorial",
        "#extension:op",
        "builtins.eval",
        "",
    ],
)
def test_an_operator_may_do_nothing_else(name: str) -> None:
    with pytest.raises(Refusal):
        check_operator(name)


def test_text_for_another_librarys_operator_is_refused(path: Path, image: bytes) -> None:
    """Such an operator may take a path; on tensors and numbers it is allowed."""

    def change(program: Json) -> None:
        node = graph(program)["nodes"][-1]
        node["target"] = "torch.ops.profiler._record_function_enter.default"
        node["inputs"] = [{"name": "name", "arg": {"as_string": "x"}, "kind": 1}]

    members = members_of(image)
    edited(members, change)
    path.write_bytes(zipped(members))
    with pytest.raises(Unsupported, match="'profiler' with text"):
        load_program(path)


# --- pickled members ----------------------------------------------------------------------------


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


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


# --- the container ------------------------------------------------------------------------------


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


# --- saving -------------------------------------------------------------------------------------


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
