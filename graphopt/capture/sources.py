"""The kinds of model that capture takes, each made into an nn.Module."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from graphopt.capture.archive import load_program
from graphopt.errors import Unsupported


class Function(torch.nn.Module):
    """A plain function as a module without state."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.forward = function


def as_module(model: Any, *, trust: bool = False) -> torch.nn.Module:
    """The module to capture: of an nn.Module, function, torch.fx.GraphModule, ExportedProgram, or the
    path of a `.pt2` file (checked before it is loaded, unless `trust`).

    Raises Unsupported for anything else.
    """
    if isinstance(model, str | Path):
        return load_program(model, trust=trust).module()
    if isinstance(model, ExportedProgram):
        return model.module()
    if isinstance(model, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        raise Unsupported("a TorchScript module has no Python to capture", remedy="pass the Python model")
    if isinstance(model, torch._dynamo.OptimizedModule):
        raise Unsupported(
            "the model is compiled already", remedy="optimise first, then torch.compile(opt.module)"
        )
    if isinstance(model, torch.nn.Module):
        return model
    if callable(model) and not isinstance(model, type):
        return Function(model)
    raise Unsupported(
        f"a {type(model).__name__} is no model",
        remedy="pass an nn.Module, a function, a GraphModule, an ExportedProgram or the path of a .pt2",
    )
