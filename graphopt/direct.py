"""An emitted graph as a function that calls operators without Python in between."""

import ast
import types
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch

from graphopt.internals import entry_of


def direct(module: torch.fx.GraphModule) -> Callable[..., Any]:
    """The module's forward, which looks no operator up by name (`torch.ops.aten.add.Tensor`) and enters
    none through `OpOverload.__call__`, which is Python and hands all to the C++ that is called here. That
    takes a quarter to a third off what calling a small operator costs."""
    made = module.graph.python_code("self")
    tree = ast.parse(made.src)
    prefix = "op_"
    while prefix in made.src:
        prefix += "_"
    bound: dict[str, tuple[str, Any]] = {}
    for call in ast.walk(tree):
        name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
        if isinstance(call, ast.Call) and name.startswith("torch.ops."):
            if name not in bound:
                bound[name] = f"{prefix}{len(bound)}", _entry(name)
            call.func = ast.copy_location(ast.Name(bound[name][0], ast.Load()), call.func)
    names = dict(made.globals) | dict(bound.values())
    exec(compile(tree, "<graphopt graph>", "exec"), names)
    return types.MethodType(names["forward"], module)


def _entry(name: str) -> Any:
    return entry_of(reduce(getattr, name.split(".")[1:], torch))
