"""An optimised module as an ExportedProgram, to be saved and loaded by plain torch."""

import inspect
from typing import Any

import torch

from graphopt.capture.program import Program
from graphopt.errors import Unsupported
from graphopt.guards import NumberFact, TensorFact
from graphopt.ir.structure import rebuild
from graphopt.module import OptimizedModule, serving_of


def export_program(module: OptimizedModule) -> torch.export.ExportedProgram:
    """Exports the newest variant with inputs like those it was captured with; arguments that were left
    at their defaults are left out. The state has the model's own names.

    Raises Unsupported where torch.export cannot express it.
    """
    args, kwargs = _example_call(serving_of(module).newest.program)
    try:
        return torch.export.export(module, args, kwargs, strict=False)
    except Exception as error:
        raise Unsupported(
            f"torch.export cannot express the optimised graph: {str(error).splitlines()[0]}",
            remedy="keep it in process: use opt.module, or torch.save(opt.module)",
        ) from error


def _example_call(program: Program) -> tuple[tuple[Any, ...], dict[str, Any]]:
    leaves = [_example(fact) for fact in program.facts.arguments]
    objects: dict[int, Any] = {}
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    by_name = False
    for parameter, structure in zip(program.interface.parameters, program.interface.arguments, strict=True):
        value = rebuild(structure, leaves, objects)
        if parameter.kind == "variadic":
            args.extend(value)
        elif parameter.kind == "keywords":
            kwargs.update(value)
        elif parameter.default is not inspect.Parameter.empty and value is parameter.default:
            by_name = True
        elif parameter.kind == "named" or by_name:
            kwargs[parameter.name] = value
        else:
            args.append(value)
    return tuple(args), kwargs


def _example(fact: TensorFact | NumberFact) -> torch.Tensor:
    if isinstance(fact, NumberFact) or not all(isinstance(size, int) for size in fact.shape):
        raise Unsupported(
            "a graph with symbolic sizes cannot be saved yet", remedy="capture it with the sizes you need"
        )
    if fact.strides is None:
        raise Unsupported(f"an argument of layout {fact.layout} cannot be saved", remedy="pass it strided")
    return torch.empty_strided(fact.shape, fact.strides, dtype=fact.dtype, device=fact.device).zero_()
