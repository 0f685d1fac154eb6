"""The callable behind an operator's name."""

import importlib
from collections.abc import Callable
from typing import Any

import torch

from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Arg, Mapping, Node, Sequence, Slice

_PYTHON_MODULES = {name: name for name in ("operator", "math", "builtins", "torch")} | {
    "functorch": "torch._functorch.predispatch",  # what torch.func.vmap leaves in a graph
    "graphopt": "graphopt.ir.branch",
}


def resolve(op: str) -> Callable[..., Any]:
    """The callable that an operator's name stands for. Raises InvalidGraph where there is none."""
    namespace, _, rest = op.partition(".")
    try:
        if namespace in _PYTHON_MODULES:
            found = getattr(importlib.import_module(_PYTHON_MODULES[namespace]), rest)
        elif namespace == "higher_order":
            found = getattr(torch.ops.higher_order, rest)
        else:
            name, _, overload = rest.rpartition(".")
            found = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    except AttributeError as error:
        raise InvalidGraph(
            f"no operator is named {op}", remedy="import the library that defines it"
        ) from error
    made: Callable[..., Any] = found
    return made


def spelled(arg: Arg, of: Callable[[Arg], Any]) -> Any:
    """An operand as Python has it; `of` says what values, literals and sub-graphs stand for."""
    match arg:
        case Sequence(kind, items):
            values = [spelled(item, of) for item in items]
            return values if kind == "list" else tuple(values)
        case Slice(start, stop, step):
            return slice(spelled(start, of), spelled(stop, of), spelled(step, of))
        case Mapping(pairs):
            return {name: spelled(item, of) for name, item in pairs}
        case _:
            return of(arg)


def called(node: Node, of: Callable[[Arg], Any]) -> Any:
    """What a node's operator returns for its operands, as `spelled`. Raises what it raises."""
    args, kwargs = [spelled(arg, of) for arg in node.args], {n: spelled(arg, of) for n, arg in node.kwargs}
    return resolve(node.op)(*args, **kwargs)
