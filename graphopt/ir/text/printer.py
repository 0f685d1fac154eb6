"""From graphs to text."""

import json
from typing import Any

import torch

from graphopt.ir.graph import (
    Arg,
    Argument,
    Constant,
    Graph,
    Kept,
    Mapping,
    Node,
    Origin,
    Sequence,
    Slice,
    Source,
    State,
    Value,
)
from graphopt.ir.literal import Lit
from graphopt.ir.text.dtypes import short_name
from graphopt.ir.types import Dim, ListType, NoneType, SymType, TensorType, Type, contiguous_strides

_CPU = torch.device("cpu")


def print_graph(graph: Graph, *, origins: bool = True, indent: str = "") -> str:
    """The text of a graph; `origins=False` leaves the source lines out."""
    inner = indent + "  "
    lines = ["graph {"]
    for entry in graph.inputs:
        lines.append(f"{inner}{_defined(entry.value)} = {_source(entry.source)}")
    kept = frozenset(graph.kept)
    for node in graph.nodes:
        lines.append(inner + _node(node, origins, inner, kept))
    outputs = ", ".join(_arg(output, origins, inner) for output in graph.outputs)
    lines.append(f"{inner}{'yield' if graph.bare else 'return'} {outputs}".rstrip())
    lines.append(f"{indent}}}")
    return "\n".join(lines)


def print_node(node: Node) -> str:
    """One node's line, without its source lines."""
    return _node(node, False, "")


def _defined(value: Value, kept: frozenset[str] = frozenset()) -> str:
    return f"%{value.name}: {print_type(value.type)}{' kept' if value.name in kept else ''}"


def _source(source: Source) -> str:
    match source:
        case Argument(index):
            return f"argument {index}"
        case State(kind, path):
            return f"{kind} {json.dumps(path)}"
        case Constant(name):
            return f"constant {json.dumps(name)}"
        case Kept(index):
            return f"kept {index}"


def _node(node: Node, origins: bool, indent: str, kept: frozenset[str] = frozenset()) -> str:
    if node.many:
        left = f"{node.name}: ({', '.join(_defined(value, kept) for value in node.results)})"
    else:
        left = _defined(node.results[0], kept)
    operands = [_arg(arg, origins, indent) for arg in node.args]
    operands += [f"{name}={_arg(arg, origins, indent)}" for name, arg in node.kwargs]
    text = f"{left} = {node.op}({', '.join(operands)})"
    if origins and node.origins:
        text += "  # " + "; ".join(_origin(origin) for origin in node.origins)
    return text


def _origin(origin: Origin) -> str:
    return f"{json.dumps(origin.file)}:{origin.line} {json.dumps(origin.text)} in {json.dumps(origin.module)}"


def _arg(arg: Arg, origins: bool, indent: str) -> str:
    match arg:
        case Value():
            return f"%{arg.name}"
        case Lit(value):
            return _literal(value)
        case Sequence(kind, items):
            inside = ", ".join(_arg(item, origins, indent) for item in items)
            return f"[{inside}]" if kind == "list" else f"({inside})"
        case Slice(start, stop, step):
            return f"slice({', '.join(_arg(a, origins, indent) for a in (start, stop, step))})"
        case Mapping(pairs):
            inside = ", ".join(f"{json.dumps(k)}: {_arg(a, origins, indent)}" for k, a in pairs)
            return f"mapping({inside})"
        case Graph():
            return print_graph(arg, origins=origins, indent=indent)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, complex):
        return f"complex({value.real!r}, {value.imag!r})"
    if isinstance(value, torch.device):
        return f"device({json.dumps(str(value))})"
    return repr(value)


def print_type(kind: Type) -> str:
    """The text of a type."""
    match kind:
        case TensorType(dtype, shape, strides, device):
            text = f"{short_name(dtype)}[{', '.join(map(_dim, shape))}]"
            if strides is None:
                text += "{none}"
            elif strides != contiguous_strides(shape):
                text += f"{{{', '.join(map(_dim, strides))}}}"
            return text if device == _CPU else f"{text} on {json.dumps(str(device))}"
        case SymType(name, expr):
            return name if expr is None else f"{name}<{expr}>"
        case NoneType():
            return "none"
        case ListType(items):
            return f"({', '.join(map(print_type, items))})"


def _dim(size: Dim) -> str:
    return str(size) if isinstance(size, int) else f"<{size}>"
