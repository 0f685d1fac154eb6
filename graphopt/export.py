"""An optimised module as an ExportedProgram, to be saved and loaded by plain torch."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sympy
import torch

from graphopt.capture.program import Program
from graphopt.errors import Unsupported
from graphopt.guards import Facts, NumberFact, TensorFact
from graphopt.ir.structure import Const, Container, Leaf, Opaque, Parameter, Structure, rebuild
from graphopt.ir.types import Dim
from graphopt.module import OptimizedModule, serving_of


def export_program(module: OptimizedModule) -> torch.export.ExportedProgram:
    """Exports the newest variant with inputs like those it was captured with; arguments that were left
    at their defaults are left out. The state has the model's own names; sizes that were captured as
    symbolic are so in the program, within the same bounds, which the loaded program states and torch does
    not check in full (a size of 1 below a bound of 2).

    Derived values are stored as they are now: the program does not follow a change of their sources, and
    it gives no gradients for them.

    Raises Unsupported where torch.export cannot express it.
    """
    program = serving_of(module).newest.program
    if program.draws:
        raise Unsupported(
            "forward draws random numbers from outside torch, and a loaded program would not",
            remedy="draw them from torch, or use torch.save(opt.module)",
        )
    met = list(_leaves(program.interface.arguments))
    if len(set(met)) < len(met):
        raise Unsupported(
            "one tensor is passed twice, and a loaded program would not notice two different ones",
            remedy="capture it with different tensors, or use torch.save(opt.module)",
        )
    leaves = [_example(fact, dict(program.facts.sizes)) for fact in program.facts.arguments]
    args, kwargs = _call(program, leaves, _value)
    shapes = None
    if program.facts.sizes:
        specs, named_specs = _call(
            program, [_dims(fact, program.facts) for fact in program.facts.arguments], _spec
        )
        bound = inspect.signature(module.forward).bind(*specs, **named_specs)
        shapes = dict(bound.arguments)
    try:
        with torch.no_grad() if program.graph.kept else contextlib.nullcontext():
            serving_of(module).newest.invalidate()
            serving_of(module).newest.prepare()
            exported = torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        raise Unsupported(
            f"torch.export cannot express the optimised graph: {str(error).splitlines()[0]}",
            remedy="keep it in process: use opt.module, or torch.save(opt.module)",
        ) from error
    found = sum(isinstance(size, torch.SymInt) for size in _input_sizes(exported))
    wanted = sum(not isinstance(size, int) for fact in program.facts.arguments for size in _shape(fact))
    if found != wanted:
        raise Unsupported(
            f"torch.export makes {found} of {wanted} symbolic sizes symbolic",
            remedy="capture it with the sizes you need, or use torch.save(opt.module)",
        )
    return exported


def _call(
    program: Program, leaves: list[Any], make: Callable[[Structure, list[Any], dict[int, Any]], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call as forward takes it, with a thing made from each argument's structure."""
    objects: dict[int, Any] = {}
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    by_name = False
    for parameter, structure in zip(program.interface.parameters, program.interface.arguments, strict=True):
        value = make(structure, leaves, objects)
        if parameter.kind == "variadic":
            args.extend(value)
        elif parameter.kind == "keywords":
            kwargs.update(value)
        elif _is_default(parameter, structure):
            by_name = True
        elif parameter.kind == "named" or by_name:
            kwargs[parameter.name] = value
        else:
            args.append(value)
    return tuple(args), kwargs


def _is_default(parameter: Parameter, structure: Structure) -> bool:
    if parameter.default is inspect.Parameter.empty or not isinstance(structure, Const | Opaque):
        return False
    return structure.value is parameter.default or (
        isinstance(structure, Const) and structure.value.value is parameter.default
    )


def _leaves(structures: Iterable[Structure]) -> Iterator[int]:
    for structure in structures:
        if isinstance(structure, Leaf):
            yield structure.index
        elif isinstance(structure, Container):
            yield from _leaves(structure.items)


def _value(structure: Structure, leaves: list[Any], objects: dict[int, Any]) -> Any:
    return rebuild(structure, leaves, objects)


def _spec(structure: Structure, leaves: list[Any], objects: dict[int, Any]) -> Any:
    """`dynamic_shapes` of one argument, of those of its leaves: torch.export follows plain containers."""
    match structure:
        case Leaf(index):
            return leaves[index]
        case Container(_, "tuple" | "namedtuple" | "list" as form, _, _, items):
            made = [_spec(item, leaves, objects) for item in items]
            return made if form == "list" else tuple(made)
        case Container(_, "dict", _, keys, items):
            names = [rebuild(key, leaves, objects) for key in keys]
            return dict(zip(names, (_spec(item, leaves, objects) for item in items), strict=True))
        case _:
            return None


def _shape(fact: TensorFact | NumberFact) -> tuple[Dim, ...]:
    return () if isinstance(fact, NumberFact) else fact.shape


def _dims(fact: TensorFact | NumberFact, facts: Facts) -> dict[int, Any]:
    """Which sizes of a tensor are symbolic, and the bounds of those that are a symbol."""
    dims: dict[int, Any] = {}
    for i, size in enumerate(_shape(fact)):
        if not isinstance(size, int):
            low = [c.rhs for c in facts.constraints if isinstance(c, sympy.Ge) and c.lhs == size]
            high = [c.rhs for c in facts.constraints if isinstance(c, sympy.Le) and c.lhs == size]
            bounds = {"min": max(map(int, filter(_is_number, low)), default=None),
                      "max": min(map(int, filter(_is_number, high)), default=None)}  # fmt: skip
            dims[i] = torch.export.Dim.AUTO(**{k: v for k, v in bounds.items() if v is not None})
    return dims


def _is_number(expr: sympy.Expr) -> bool:
    return bool(expr.is_Integer)


def _input_sizes(exported: torch.export.ExportedProgram) -> Iterator[Any]:
    inputs = set(exported.graph_signature.user_inputs)
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name in inputs:
            yield from getattr(node.meta["val"], "shape", ())


def _example(fact: TensorFact | NumberFact, sizes: dict[str, int]) -> torch.Tensor:
    if isinstance(fact, NumberFact):
        raise Unsupported("a symbolic number as an argument cannot be saved", remedy="pass a tensor")
    if fact.strides is None:
        raise Unsupported(f"an argument of layout {fact.layout} cannot be saved", remedy="pass it strided")
    shape, strides = (tuple(_known(size, sizes) for size in many) for many in (fact.shape, fact.strides))
    return torch.empty_strided(shape, strides, dtype=fact.dtype, device=fact.device).zero_()


def _known(size: Dim, sizes: dict[str, int]) -> int:
    if isinstance(size, int):
        return size
    return int(size.subs({symbol: sizes[str(symbol)] for symbol in size.free_symbols}))
