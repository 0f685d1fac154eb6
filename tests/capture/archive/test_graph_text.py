"""The record of the graph is held to its grammar."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch._export.serde import schema

from graphopt.capture import archive_program
from graphopt.capture.archive import load_program
from graphopt.capture.archive_refusal import Refusal
from graphopt.errors import Unsupported
from tests.capture.archive.samples import Json, edited, graph, members_of, signature, zipped


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
