"""Attacks that work on torch are refused."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphopt.capture.archive import load_program, save_program
from graphopt.errors import Unsupported
from tests.capture.archive.samples import (
    Json,
    Members,
    edited,
    evil_pickle,
    evil_save,
    export,
    graph,
    members_of,
    opening,
    outcome,
    signature,
    zipped,
)


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
