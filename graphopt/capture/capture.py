"""Capturing a model: choose the mode to trace in, trace, read the graph, gather the facts."""

import functools
import types
from dataclasses import replace
from typing import Any

import numpy as np
import sympy
import torch

from graphopt.capture.call import Call
from graphopt.capture.conditions import split
from graphopt.capture.constants import shared
from graphopt.capture.deferred import refuse_untimely
from graphopt.capture.program import Program
from graphopt.capture.reader import read
from graphopt.capture.settled import settled_facts
from graphopt.capture.symbols import Symbols
from graphopt.capture.tracing import SideEffect, Trace, trace, warmed_up
from graphopt.capture.watch import GradientsLost, Watch
from graphopt.errors import Unsupported
from graphopt.guards import (
    MODES,
    AttributeFact,
    Facts,
    ModeFact,
    NumberFact,
    StateFact,
    TensorFact,
    forward_hooks,
)
from graphopt.guards.members import is_python_class, members, underlying
from graphopt.guards.modes import reader
from graphopt.guards.places import (
    DEFAULTS,
    held,
    is_hook,
    is_private,
    is_variable,
    locate,
    reachable,
    slots_of,
    split_path,
    ways,
)
from graphopt.ir.graph import Graph, State
from graphopt.ir.literal import SCALARS, Lit
from graphopt.ir.structure import Leaf
from graphopt.ir.types import SymType, TensorType

_UNBOUNDED = 2**62  # torch.export writes "no upper bound" as a number near the largest index


def capture(
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic_shapes: Any = None,
    seed: int = 0,
) -> Program:
    """Captures one example call of a model.

    The trace runs with gradients on, so that `no_grad` regions stand in the graph and it serves both
    grad modes; where forward asks for the mode, it runs in the caller's and the mode becomes a guard.

    Branches on random numbers are taken as they fall after seeding with `seed`.

    Raises Unsupported, with the source line and the remedy, where the call cannot be kept exactly. The
    model and the arguments are left as they were.
    """
    call = Call.of(model, args, kwargs)
    try:
        return _capture(model, call, dynamic_shapes, seed)
    except SideEffect as effect:
        # Modules fill caches and settle flags on their first call: keep what they do from then on.
        with warmed_up(model, call) as changes:
            settled = settled_facts(model, changes) if changes is not None else None
            if settled is None:
                raise
            try:
                program = _capture(model, call, dynamic_shapes, seed)
            except Unsupported:
                raise effect from None
            return replace(program, facts=replace(program.facts, settled=settled))


def _capture(model: torch.nn.Module, call: Call, dynamic_shapes: Any, seed: int) -> Program:
    traced = _traced(model, call, dynamic_shapes, seed)
    arguments = {
        structure.index: parameter.name
        for parameter, structure in zip(call.parameters, call.arguments, strict=True)
        if isinstance(structure, Leaf)
    }
    symbols = Symbols()
    captured = read(traced.program, model, arguments, traced.watch.trained, symbols, traced.watch.grad_mode)
    whole, constants = shared(*captured)
    facts = _facts(model, call, traced, whole, symbols)
    graph, conditions = split(whole, traced.decisions)
    refuse_untimely(graph, traced.interface, traced.draws)
    return Program(
        graph,
        traced.interface,
        facts,
        constants,
        traced.path,
        conditions=conditions,
        draws=traced.draws,
    )


def _traced(model: torch.nn.Module, call: Call, dynamic_shapes: Any, seed: int) -> Trace:
    """Traces with gradients on; without where the mode is asked for, or gradients would be lost."""

    def run(grad: bool) -> Trace:
        with torch.inference_mode(False), torch.set_grad_enabled(grad):
            return trace(model, call, dynamic_shapes, seed)

    try:
        traced = run(True)
    except GradientsLost as refused:
        try:
            return run(False)
        except Unsupported:
            raise refused from None
    if traced.watch.reads.grad_mode and not torch.is_grad_enabled():
        return run(False)
    return traced


def _facts(model: torch.nn.Module, call: Call, traced: Trace, graph: Graph, symbols: Symbols) -> Facts:
    watch = traced.watch
    inputs = {e.source.index: e.value for e in graph.inputs if not isinstance(e.source, State)
              and hasattr(e.source, "index")}  # fmt: skip
    arguments = tuple(_argument_fact(leaf, inputs[i].type, watch) for i, leaf in enumerate(call.leaves))
    state = _state_facts(model, graph, watch)
    return Facts(
        interface=traced.interface,
        arguments=arguments,
        sizes=_example_sizes(call, arguments),
        constraints=tuple(_constraints(traced, symbols)),
        state=state,
        attributes=_attribute_facts(model, watch),
        distinct=len({id(held(model, fact.paths[0])) for fact in state}),
        objects=_object_paths(model, graph, traced.interface.owned),
        modes=_mode_facts(watch),
        hooks=forward_hooks(model),
    )


def _example_sizes(call: Call, facts: tuple[TensorFact | NumberFact, ...]) -> tuple[tuple[str, int], ...]:
    """What the symbolic sizes are in the example call."""
    found: dict[str, int] = {}
    for leaf, fact in zip(call.leaves, facts, strict=True):
        if isinstance(fact, TensorFact):
            for size, actual in zip(fact.shape, leaf.shape, strict=True):
                if isinstance(size, sympy.Symbol):
                    found.setdefault(str(size), int(actual))
    return tuple(found.items())


def _mode_facts(watch: Watch) -> tuple[ModeFact, ...]:
    facts = {mode: read() for mode, read in MODES.items()}
    if watch.reads.grad_mode:
        facts["grad mode"] = watch.grad_mode
    else:
        del facts["grad mode"], facts["inference mode"]
    facts |= {mode: reader(mode)() for mode in sorted(watch.reads.modes)}
    return tuple(ModeFact(mode, value) for mode, value in facts.items())


def _argument_fact(leaf: Any, kind: Any, watch: Watch) -> TensorFact | NumberFact:
    if isinstance(kind, SymType):
        assert kind.expr is not None
        return NumberFact(type(leaf), kind.expr)
    assert isinstance(kind, TensorType)
    dynamic = not kind.is_static
    return TensorFact(
        kind=type(leaf),
        dtype=leaf.dtype,
        device=leaf.device,
        layout=leaf.layout,
        shape=kind.shape if dynamic else tuple(leaf.shape),
        strides=None if leaf.layout is not torch.strided else kind.strides if dynamic else leaf.stride(),
        conjugated=leaf.is_conj(),
        negated=leaf.is_neg(),
        offset=leaf.storage_offset() if watch.reads.offset else None,
        requires_grad=leaf.requires_grad if watch.reads.requires_grad else None,
    )


def _constraints(traced: Trace, symbols: Symbols) -> list[sympy.Basic]:
    """What must hold of the symbols: torch.export's guards, and ranges (which it does not enforce)."""
    found: list[sympy.Basic] = []
    for symbol, bounds in traced.program.range_constraints.items():
        if not str(symbol).startswith("s"):  # a number known inside the graph only
            continue
        plain = symbols.plain(symbol)
        found.append(plain >= max(2, int(bounds.lower)))
        if bounds.upper.is_Integer and bounds.upper < _UNBOUNDED:
            found.append(plain <= int(bounds.upper))
    for value in (node.meta.get("val") for node in traced.program.graph.nodes):
        if isinstance(value, torch.Tensor):
            environment = getattr(value.fake_mode, "shape_env", None)  # type: ignore[attr-defined]
            for guard in environment.guards if environment is not None else ():
                found.append(symbols.plain(guard.expr))
            break
    return [c for c in found if c not in (sympy.true, True)]


def _state_facts(model: torch.nn.Module, graph: Graph, watch: Watch) -> tuple[StateFact, ...]:
    names: dict[int, list[tuple[str, ...]]] = {}
    for path, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), []).append(split_path(path))
    facts: list[StateFact] = []
    for entry in graph.inputs:
        source = entry.source
        if not isinstance(source, State):
            continue
        own = split_path(source.path)
        tensor = held(model, own)
        paths = [path for path in names.get(id(tensor), ()) if path != own]
        facts.append(
            StateFact(
                paths=(own, *paths),
                kind=type(tensor),
                dtype=tensor.dtype,
                device=tensor.device,
                shape=tuple(tensor.shape),
                strides=tensor.stride() if tensor.layout is torch.strided else None,
                requires_grad=tensor.requires_grad if watch.reads.requires_grad else None,
            )
        )
    return tuple(facts)


def _attribute_facts(model: torch.nn.Module, watch: Watch) -> tuple[AttributeFact, ...]:
    """Constants that forward was seen to read, and those that its functions close over."""
    paths = {
        id(attributes): path
        for path, thing in reachable(model)
        if type(attributes := getattr(thing, "__dict__", None)) is dict
    }
    found: dict[tuple[str, ...], Lit] = {}
    for (holder_id, name), (holder, value) in watch.reads.attributes.items():
        if holder_id in paths:
            path = (*paths[holder_id], name)
            if _leads_to(holder, name, value):
                found[path] = Lit(value)  # type: ignore[arg-type]
    for path, thing in reachable(model):
        if path and type(thing) in SCALARS and _is_read_unseen(model, path):
            found[path] = Lit(thing)
    return tuple(AttributeFact(path, value) for path, value in found.items())


def _is_read_unseen(model: torch.nn.Module, path: tuple[str, ...]) -> bool:
    """Whether forward may read a constant without our seeing it: in a closure or global, in an object of
    a class that cannot be watched, or in a list or dictionary that a module holds."""
    if is_variable(path[-1]):
        return True
    owner = held(model, path[:-1])
    own = {} if isinstance(owner, type) else getattr(owner, "__dict__", {})
    if path[-1] not in own and path[-1] in (*members(type(owner)), *slots_of(owner)):
        return True  # some function names it
    if isinstance(owner, type):
        return True
    if isinstance(owner, list | tuple | dict | types.MappingProxyType):
        return len(owner) <= _MOST_WATCHED and not is_private(path)
    return not is_python_class(type(owner)) and not isinstance(owner, types.FunctionType | types.MethodType)


_MOST_WATCHED = 64  # entries: longer lists and dictionaries are data (labels), and dear to check


def _leads_to(holder: Any, name: str, value: object) -> bool:
    """Whether the attribute is stored as it is read, in the object or its class (no property)."""
    try:
        container, key = locate(holder, (name,))
    except KeyError:
        return False
    return container[key] is value


_WHOLE = np.generic, set, frozenset, bytes, range  # what is compared as one
_CALLABLES = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    functools.partial,
    functools.cached_property,
    property,
    staticmethod,
    classmethod,
    type,
)


def _object_paths(
    model: torch.nn.Module, graph: Graph, owned: tuple[tuple[str, ...], ...]
) -> tuple[tuple[str, ...], ...]:
    """Where the same object must stay: sub-modules, absent parameters, functions that forward may call,
    their defaults, numpy's scalars, tensors in closures, and `owned` objects that it hands out."""
    found = dict.fromkeys(path[:i] for path in owned for i in range(1, len(path) + 1))
    forwards: set[object] = set()
    for path, thing in reachable(model):
        if isinstance(thing, torch.nn.Module):
            found.update(((*path, name), None) for name in thing._modules)
            for slot in (thing._parameters, thing._buffers):
                found.update(((*path, name), None) for name, tensor in slot.items() if tensor is None)
            owner = id(thing) if "forward" in vars(thing) else type(thing)
            if not isinstance(thing, torch.fx.GraphModule) and owner not in forwards:  # these recompile
                forwards.add(owner)
                found[(*path, "forward")] = None
        function = underlying(thing)
        if path and isinstance(function, types.FunctionType):
            found.update(((*path, name), None) for name in DEFAULTS if getattr(function, name))
    firsts: set[int] = set()
    for path, thing in ways(model):
        if not path or path[-1] == "forward" or path[-1] in DEFAULTS or is_hook(path[-1]):  # compared apart
            continue
        shared = isinstance(thing, torch.Tensor) or id(thing) in firsts  # the other facts go one way only
        firsts.add(id(thing))
        if isinstance(thing, (*_CALLABLES, *_WHOLE)) or (shared and is_variable(path[-1])):
            found[path] = None
    for entry in graph.inputs:
        if isinstance(entry.source, State) and entry.source.kind == "closure":
            found[split_path(entry.source.path)] = None
    return tuple(path for path in found if path)
