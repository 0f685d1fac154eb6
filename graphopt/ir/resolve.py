"""The callable behind an operator's name."""

import importlib
from collections.abc import Callable
from typing import Any

import torch

from graphopt.errors import InvalidGraph

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
