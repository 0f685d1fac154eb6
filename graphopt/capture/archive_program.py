"""Checks the JSON of a `.pt2`: every string in it has a grammar, and what has none is refused.

torch turns strings of this JSON into code at three moments. While loading: sizes go to
`sympy.sympify` (`eval`), operator names are resolved by `getattr` chains from `torch`, pytree
contexts import modules, node names and attribute names are pasted into source that `torch.fx`
compiles. In `ExportedProgram.module()`: guards, argument names, dictionary keys and string
constants are pasted into source. When the program runs: operators do what they do. The JSON is
walked along torch's own schema, so that no string is overlooked.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch._export.serde import schema
from torch._export.serde.union import _Union
from torch.utils import _pytree as pytree

from graphopt.capture.archive_expressions import (
    check_guard,
    check_plain,
    check_size,
    check_symbol,
)
from graphopt.capture.archive_operators import check_call, check_operator
from graphopt.capture.archive_refusal import Refusal

_Kind = TypeVar("_Kind")

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")
_FACTORIES = ("list", "dict", "set", "tuple", "int", "float", "bool", "str")


def check_program(data: bytes) -> None:
    """Raises `Refusal` unless `data` is the JSON of an exported program within the grammar."""
    _check(parse_json(data), schema.ExportedProgram, "")


def check_payloads(data: bytes) -> Mapping[str, Mapping[str, Any]]:
    """The table of weights or constants in `data`: for each a PayloadMeta of torch's schema.

    Raises `Refusal` outside the grammar.
    """
    table = parse_json(data)
    _check(table, schema.PayloadConfig, "")
    return typing.cast(Mapping[str, Mapping[str, Any]], _typed(table, dict)["config"])


def parse_json(data: bytes | str) -> object:
    """The parsed text; the same parser as torch's, so duplicate keys resolve alike."""
    try:
        # From bytes json.loads would guess an encoding; torch does not.
        return json.loads(data.decode() if isinstance(data, bytes) else data)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"no JSON ({str(error)[:80]})") from error


def check_identifier(text: str) -> None:
    """Accepts a Python identifier: torch.fx pastes it into source as it is."""
    if not text.isidentifier():
        raise Refusal(f"{text[:80]!r} is no identifier")


def check_key(key: object) -> None:
    """Accepts a dictionary key whose `repr` is safe inside source that torch builds."""
    if isinstance(key, str):
        check_plain(key)
    elif not isinstance(key, (int, float, types.NoneType)):
        raise Refusal(f"a dictionary key of type {type(key).__name__}")


def _check_text(text: str) -> None:
    """Free text; without control characters it stays in the comment or string it is put in."""
    if found := _CONTROL.search(text):
        raise Refusal(f"text with the control character {found.group()!r}")


def _check_attribute_path(text: str) -> None:
    check_plain(text)
    # `a.__class__.b` would reach from a module's parameters to its class.
    if any(part.startswith("__") for part in text.split(".")):
        raise Refusal(f"{text[:80]!r} reaches for a special attribute")


def _check_argument_name(text: str) -> None:
    if text:
        check_identifier(text)


def _check_device(text: str) -> None:
    if not re.fullmatch(r"[a-z]{1,20}", text):
        raise Refusal(f"{text[:80]!r} is no device")


def _check_verifier(text: str) -> None:
    if text not in ("", "ATEN", "TRAINING"):
        raise Refusal(f"{text[:80]!r} is no dialect of torch.export")


def _refuse_custom_object(text: str) -> None:
    raise Refusal(f"the custom object {text[:80]!r}, which torch can only load by unpickling it")


def _check_payload_name(text: str) -> None:
    if text.startswith(("custom_obj_", "opaque_obj_")):
        _refuse_custom_object(text)
    if not re.fullmatch(r"(weight|tensor)_\d{1,9}", text):
        raise Refusal(f"{text[:80]!r} is no weight and no constant")


def _check_tree_text(text: str) -> None:
    match parse_json(text):
        case [1, tree]:
            _check_tree(tree)
        case _:
            raise Refusal("a pytree of an unknown protocol")


def _check_input_tree_text(text: str) -> None:
    """As `_check_tree_text`; the keyword arguments' names become parameters of a `def`."""
    _check_tree_text(text)
    match json.loads(text)[1]:
        case {"children_spec": [_, {"type": "builtins.dict", "context": str(context)}]}:
            for name in _typed(json.loads(context), list):
                check_identifier(_typed(name, str))


def _check_tree(tree: object) -> None:
    match tree:
        case {"type": None, "context": None, "children_spec": []}:
            return
        case {"type": str(name), "context": context, "children_spec": [*children]}:
            kind = pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE.get(name)
            if kind is None:
                raise Refusal(f"no pytree type {name[:80]!r} is registered; import its library")
            decode = pytree.SUPPORTED_SERIALIZED_TYPES[kind].from_dumpable_context
            _check_context(parse_json(_typed(context, str)) if decode is None else context)
            if name == "collections.defaultdict":
                _check_factory(context)
            for child in children:
                _check_tree(child)
        case _:
            raise Refusal("a malformed pytree")


def _check_factory(context: object) -> None:
    match context:
        case {"default_factory_module": "builtins", "default_factory_name": str(name)}:
            if name in _FACTORIES:
                return
    raise Refusal("a defaultdict whose factory is not a builtin container or number")


def _check_context(value: object) -> None:
    """Plain data only: torch imports the module that an `__enum__` entry names."""
    match value:
        case dict():
            if "__enum__" in value:
                raise Refusal("an enum in a pytree, for which torch imports a module by name")
            for key, item in value.items():
                check_key(key)
                _check_context(item)
        case list():
            for item in value:
                _check_context(item)
        case _:
            check_key(value)


def _check_metadata(entries: Mapping[str, str]) -> None:
    for key, text in entries.items():
        if key == "custom":
            _typed(parse_json(text), dict)
        elif key == "from_node":
            parse_json(text)
        elif key == "source_fn_stack" and re.search(r"#|\.__", text):
            # Resolved by getattr from torch, though never called: public attributes are enough.
            raise Refusal(f"{text[:80]!r} is no stack of functions")


def _check_node(node: Mapping[str, Any]) -> None:
    check_call(node["target"], (entry["arg"] for entry in node["inputs"]))
    _check_metadata(node["metadata"])


def _check_graph(graph: Mapping[str, Any]) -> None:
    """A constant input that is text is pasted between quotes into the guards' source."""
    for argument in graph["inputs"]:
        check_plain(argument.get("as_string", ""))


_RECORDS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "Node": _check_node,
    "Graph": _check_graph,
}
"""What is checked of a record beyond its fields."""

_TEXTS: dict[str, Callable[[str], None]] = {
    "Device.type": _check_device,
    "SymExpr.expr_str": check_size,
    "SymIntArgument.as_name": check_identifier,
    "SymFloatArgument.as_name": check_identifier,
    "SymBoolArgument.as_name": check_identifier,
    "TensorArgument.name": check_identifier,
    "TokenArgument.name": check_identifier,
    "GraphArgument.name": check_identifier,
    "CustomObjArgument.name": _refuse_custom_object,
    "Argument.as_string": _check_text,
    "Argument.as_strings": _check_text,
    "Argument.as_operator": check_operator,
    "Argument.as_string_to_argument": _check_text,
    "NamedArgument.name": _check_argument_name,
    "Node.target": check_operator,
    "Node.metadata": _check_text,
    "Node.name": check_identifier,
    "Graph.tensor_values": check_identifier,
    "Graph.sym_int_values": check_identifier,
    "Graph.sym_float_values": check_identifier,
    "Graph.sym_bool_values": check_identifier,
    "Graph.custom_obj_values": check_identifier,
    "ConstantValue.as_string": check_plain,
    "InputToConstantInputSpec.name": check_identifier,
    "InputToParameterSpec.parameter_name": _check_attribute_path,
    "InputToBufferSpec.buffer_name": _check_attribute_path,
    "InputToTensorConstantSpec.tensor_constant_name": _check_attribute_path,
    "BufferMutationSpec.buffer_name": _check_attribute_path,
    "ParameterMutationSpec.parameter_name": _check_attribute_path,
    "GradientToParameterSpec.parameter_name": _check_attribute_path,
    "GradientToUserInputSpec.user_input_name": check_identifier,
    "UserInputMutationSpec.user_input_name": check_identifier,
    "ModuleCallSignature.in_spec": _check_input_tree_text,
    "ModuleCallSignature.out_spec": _check_tree_text,
    "ModuleCallSignature.forward_arg_names": check_identifier,
    "ModuleCallEntry.fqn": _check_attribute_path,
    "NamedTupleDef.field_names": check_identifier,
    "GraphModule.metadata": _check_text,
    "GraphModule.treespec_namedtuple_fields": check_plain,
    "ExportedProgram.opset_version": check_plain,
    "ExportedProgram.range_constraints": check_symbol,
    "ExportedProgram.verifiers": _check_verifier,
    "ExportedProgram.torch_version": check_plain,
    "ExportedProgram.guards_code": check_guard,
    "PayloadMeta.path_name": _check_payload_name,
    "PayloadConfig.config": _check_attribute_path,
}
"""The grammar of each string of torch's schema, of a list's strings and of a mapping's keys. A
string that is not here, one of a later torch say, is refused."""


@functools.cache
def _fields(record: type) -> Mapping[str, tuple[object, bool]]:
    """For each field its type, and whether the JSON must have it."""
    hints = typing.get_type_hints(record, vars(schema))
    missing = dataclasses.MISSING
    return {
        field.name: (
            hints[field.name],
            field.default is missing and field.default_factory is missing,
        )
        for field in dataclasses.fields(record)
    }


def _check(value: object, kind: object, rule: str) -> None:
    """Checks `value` against the schema's type `kind`; `rule` names the entry in `_TEXTS`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType) and arguments[1:] == (types.NoneType,):
        if value is not None:
            _check(value, arguments[0], rule)
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        _check_record(value, kind)
    elif origin is list:
        for index, item in enumerate(_typed(value, list)):
            _check_part(item, arguments[0], rule, f"[{index}]")
    elif origin is dict:
        for key, item in _typed(value, dict).items():
            _check_part(key, str, rule, "")
            _check_part(item, arguments[1], rule, f"[{key!r}]")
    elif kind is str:
        grammar = _TEXTS.get(rule)
        if grammar is None:
            raise Refusal("text that this version of graphopt does not know")
        grammar(_typed(value, str))
    elif kind is float:
        # torch writes what JSON lacks as text.
        if value not in ("Infinity", "-Infinity", "NaN") and type(value) not in (int, float):
            raise Refusal(f"{str(value)[:80]!r} where a number belongs")
    elif isinstance(kind, type) and issubclass(kind, int):  # int, bool or an IntEnum
        _typed(value, bool if kind is bool else int)
    else:
        raise Refusal("an entry that this version of graphopt does not know")


def _check_record(value: object, record: type) -> None:
    entries = _typed(value, dict)
    fields = _fields(record)
    if issubclass(record, _Union) and (len(entries) != 1 or not entries.keys() <= fields.keys()):
        raise Refusal(f"no {record.__name__}")
    for name, (kind, required) in fields.items():
        if name in entries:
            _check_part(entries[name], kind, f"{record.__name__}.{name}", f".{name}")
        elif required and not issubclass(record, _Union):
            raise Refusal(f"no entry {name!r}")
    if record.__name__ in _RECORDS:
        _RECORDS[record.__name__](entries)


def _check_part(value: object, kind: object, rule: str, place: str) -> None:
    try:
        _check(value, kind, rule)
    except Refusal as refusal:
        raise refusal.within(place) from None


def _typed(value: object, kind: type[_Kind]) -> _Kind:
    # Not isinstance: True is an int to it, and torch tells the two apart.
    if type(value) is not kind:
        raise Refusal(f"{type(value).__name__} where {kind.__name__} belongs")
    return value
