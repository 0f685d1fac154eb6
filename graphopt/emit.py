"""From a Program to a torch.fx.GraphModule that runs it on the original model's state."""

import inspect
import operator
from collections.abc import Callable
from collections.abc import Mapping as MappingOf
from typing import Any

import torch

from graphopt.analysis.stages import Derivation, stages
from graphopt.cache.derived import Derived
from graphopt.errors import InvalidGraph
from graphopt.guards.places import Path, held, split_path
from graphopt.ir.graph import (
    Arg,
    Argument,
    Constant,
    Graph,
    Kept,
    Mapping,
    Node,
    Sequence,
    Slice,
    Source,
    State,
    Value,
)
from graphopt.ir.literal import Lit
from graphopt.ir.resolve import resolve
from graphopt.ir.structure import (
    Const,
    Container,
    Interface,
    Leaf,
    Structure,
    collect,
    fill,
    leaf_order,
    rebuild,
)


def restoring_modes(run: Callable[..., Any]) -> Callable[..., Any]:
    """A graph with regions (no_grad) or torch.func.vmap inside, that leaves the modes as they were when a
    node raises: unlike eager's context managers, its nodes do not."""

    def restored(*args: Any, **kwargs: Any) -> Any:
        level, grad = torch._C._functorch.maybe_current_level(), torch.is_grad_enabled()
        try:
            return run(*args, **kwargs)
        except BaseException:
            torch.set_grad_enabled(grad)
            while torch._C._functorch.maybe_current_level() != level:
                torch._C._functorch._vmap_decrement_nesting()
            raise

    return restored


class Unpack(torch.nn.Module):
    """Takes nested arguments apart: the values of some parameters in, their tensors out."""

    def __init__(self, structures: tuple[Structure, ...]) -> None:
        super().__init__()
        self._structures = structures
        self.order = leaf_order(structures)

    def forward(self, *values: Any) -> tuple[Any, ...]:
        """The leaves in `order`."""
        leaves: dict[int, Any] = {}
        objects: dict[int, Any] = {}
        for structure, value in zip(self._structures, values, strict=True):
            collect(structure, value, leaves, objects)
        return tuple(leaves[index] for index in self.order)


class Finish(torch.nn.Module):
    """Makes the result from the flat outputs, and fills the arguments that forward fills."""

    def __init__(self, interface: Interface, model: torch.nn.Module) -> None:
        super().__init__()
        self._interface = interface
        self._owned = [(path, (model,)) for path in interface.owned]  # in a tuple, it is no sub-module

    def forward(self, values: tuple[Any, ...], outputs: tuple[Any, ...]) -> Any:
        """`values` are those of all parameters; `outputs` are the flat outputs."""
        objects: dict[Any, Any] = {path: held(model, path) for path, (model,) in self._owned}
        leaves: dict[int, Any] = {}
        for structure, value in zip(self._interface.arguments, values, strict=True):
            collect(structure, value, leaves, objects)
        result = rebuild(self._interface.result, outputs, objects)
        for write in self._interface.object_writes:
            new = write.contents
            assert isinstance(new, Container)
            fill(objects[new.ident], new.form, new.keys, new.items, outputs, objects)
        return result


def emit(
    graph: Graph,
    interface: Interface,
    constants: MappingOf[str, torch.Tensor],
    model: torch.nn.Module,
    state: MappingOf[Path, int] | None = None,
    derived: dict[Derivation, Derived] | None = None,
) -> torch.fx.GraphModule:
    """A GraphModule with forward's own signature that reads every state tensor from `model` when it runs;
    or, with `state`, takes those of the given paths out of a tuple that is passed before all arguments.

    It checks nothing: the guards of `opt.module` do. Kept values are fetched by modules `derived_0`, ...,
    which look whether their sources changed; those in `derived` are used, and new ones noted there.
    """
    found = {} if derived is None else derived
    return _Emitter(graph, interface, constants, model, state or {}, found).emit()


class _Body:
    """Writes nodes of one IR graph into one torch.fx graph."""

    def __init__(self, root: torch.nn.Module) -> None:
        self.root = root
        self.fx = torch.fx.Graph()
        self.nodes: dict[str, torch.fx.Node] = {}

    def write(self, node: Node) -> None:
        """One node, whose operands are in `nodes`."""
        made = self.fx.create_node(
            "call_function",
            resolve(node.op),
            tuple(self.arg(a) for a in node.args),
            {name: self.arg(a) for name, a in node.kwargs},
            name=node.name,
        )
        if node.origins and node.origins[-1].file:
            origin = node.origins[-1]
            made.meta["stack_trace"] = (
                f'  File "{origin.file}", line {origin.line}, in forward\n    {origin.text}'
            )
        made.meta["origins"] = node.origins
        if node.many:
            for i, value in enumerate(node.results):
                item = self.fx.call_function(operator.getitem, (made, i))
                self.nodes[value.name] = item
        else:
            self.nodes[node.results[0].name] = made

    def arg(self, arg: Arg) -> Any:
        """A torch.fx operand."""
        match arg:
            case Value():
                return self.nodes[arg.name]
            case Lit(value):
                return value
            case Sequence(kind, items):
                made = [self.arg(item) for item in items]
                return made if kind == "list" else tuple(made)
            case Slice(start, stop, step):
                return slice(self.arg(start), self.arg(stop), self.arg(step))
            case Mapping(pairs):
                return {name: self.arg(item) for name, item in pairs}
            case Graph():
                return self._region(arg)

    def _region(self, graph: Graph) -> torch.fx.Node:
        name = f"region_{sum(1 for key in vars(self.root)['_modules'] if key.startswith('region_'))}"
        setattr(self.root, name, _function(graph))
        return self.fx.get_attr(name)


def _function(graph: Graph) -> torch.fx.GraphModule:
    """A graph as a function of its inputs, in order."""
    module = torch.nn.Module()
    body = _Body(module)
    for i, entry in enumerate(graph.inputs):  # what is named after a path may be no identifier
        body.nodes[entry.value.name] = body.fx.placeholder(f"input_{i}")
    for node in graph.nodes:
        body.write(node)
    outputs = tuple(body.arg(output) for output in graph.outputs)
    body.fx.output(outputs[0] if graph.bare else outputs)
    return finished(module, body.fx)


def finished(root: torch.nn.Module, graph: torch.fx.Graph) -> torch.fx.GraphModule:
    """A GraphModule with the children and buffers of `root`, without the items that nothing reads."""
    for node in reversed(graph.nodes):
        if node.target is operator.getitem and not node.users:
            graph.erase_node(node)
    module = torch.fx.GraphModule(torch.nn.Module(), torch.fx.Graph())
    for name, child in root.named_children():
        module.add_module(name, child)  # as it is: given a root, GraphModule copies skeletons
    for name, constant in root.named_buffers(recurse=False):
        module.register_buffer(name, constant, persistent=False)
    module.graph = graph
    return module


class _Emitter:
    """Emits one program: parameters, state, nodes, writes, result."""

    def __init__(
        self,
        graph: Graph,
        interface: Interface,
        constants: MappingOf[str, torch.Tensor],
        model: torch.nn.Module,
        state: MappingOf[Path, int],
        derived: dict[Derivation, Derived],
    ) -> None:
        self.state = state
        self.derived = derived
        self.stages = stages(graph)
        self.graph = self.stages.call
        self.interface = interface
        self.constants = constants
        self.model = model
        self.root = torch.nn.Module()
        self.root.model = model
        self.body = _Body(self.root)

    def emit(self) -> torch.fx.GraphModule:
        """The GraphModule."""
        if self.state:
            self.given = self.body.fx.placeholder(self._unused("state"))
        values = self._parameters()
        leaves = self._leaves(values)
        for entry in self.graph.inputs:
            if not isinstance(entry.source, Kept):
                self.body.nodes[entry.value.name] = self._input(entry.source, leaves)
        pending = self._derived(list(self.stages.derivations))
        for node in self.graph.nodes:
            self.body.write(node)
            if pending:
                pending = self._derived(pending)
        outputs = tuple(self.body.arg(output) for output in self.graph.outputs)
        self._state_writes(outputs)
        self.body.fx.output(self._result(values, outputs))
        return finished(self.root, self.body.fx)

    def _derived(self, derivations: list[Derivation]) -> list[Derivation]:
        """Fetches the kept values whose sizes are known by now; returns the others."""
        pending = []
        for derivation in derivations:
            if not all(size.name in self.body.nodes for size in derivation.sizes):
                pending.append(derivation)
                continue
            sources = [self.body.nodes[entry.value.name] for entry in derivation.graph.inputs]
            name = f"derived_{derivation.first}"
            if derivation not in self.derived:
                tensors = len(sources) - len(derivation.sizes)
                self.derived[derivation] = Derived(_function(derivation.graph), tensors, derivation.narrowed)
            self.root.add_module(name, self.derived[derivation])
            made = self.body.fx.call_module(name, tuple(sources))
            for i, output in enumerate(derivation.graph.outputs):
                assert isinstance(output, Value)
                self.body.nodes[output.name] = self.body.fx.call_function(operator.getitem, (made, i))
        return pending

    def _unused(self, name: str) -> str:
        while any(parameter.name == name for parameter in self.interface.parameters):
            name += "_"
        return name

    def _parameters(self) -> list[torch.fx.Node]:
        made: list[torch.fx.Node] = []
        for parameter in self.interface.parameters:
            prefix = {"variadic": "*", "keywords": "**"}.get(parameter.kind, "")
            node = self.body.fx.create_node(
                "placeholder",
                prefix + parameter.name,
                (None,) if self._has_default(parameter.name) else (),
                name=parameter.name,
            )
            made.append(node)
        return made

    def _has_default(self, name: str) -> bool:
        """Python wants parameters without a default first; the guards have bound the call before."""
        seen = False
        for parameter in self.interface.parameters:
            if parameter.kind in ("variadic", "keywords"):
                continue
            seen = seen or parameter.default is not inspect.Parameter.empty or parameter.kind == "named"
            if parameter.name == name:
                return seen
        return False

    def _leaves(self, values: list[torch.fx.Node]) -> dict[int, torch.fx.Node]:
        leaves: dict[int, torch.fx.Node] = {}
        nested: list[tuple[Structure, torch.fx.Node]] = []
        for structure, node in zip(self.interface.arguments, values, strict=True):
            if isinstance(structure, Leaf):
                leaves.setdefault(structure.index, node)
            elif isinstance(structure, Container) and leaf_order((structure,)):
                nested.append((structure, node))
        if nested:
            unpack = Unpack(tuple(structure for structure, _ in nested))
            self.root.unpack = unpack
            opened = self.body.fx.call_module("unpack", tuple(node for _, node in nested))
            for i, index in enumerate(unpack.order):
                leaves.setdefault(index, self.body.fx.call_function(operator.getitem, (opened, i)))
        return leaves

    def _input(self, source: Source, leaves: dict[int, torch.fx.Node]) -> torch.fx.Node:
        match source:
            case Argument(index):
                return leaves[index]
            case State("closure", path):
                return self._kept(held(self.model, split_path(path)))
            case State(_, path) if split_path(path) in self.state:
                place = self.state[split_path(path)]
                return self.body.fx.call_function(operator.getitem, (self.given, place))
            case State(_, path):
                return self._state(split_path(path))
            case Constant(name):
                return self._kept(self.constants[name])
        raise InvalidGraph(f"an input from {source!r}")

    def _kept(self, tensor: torch.Tensor) -> torch.fx.Node:
        name = f"constant_{sum(1 for key in vars(self.root)['_buffers'] if key.startswith('constant_'))}"
        self.root.register_buffer(name, tensor, persistent=False)
        return self.body.fx.get_attr(name)

    def _state(self, path: tuple[str, ...]) -> torch.fx.Node:
        """Attributes as far as they go, then items of lists and dictionaries and what is in them."""
        items = next((i for i, name in enumerate(path) if name.startswith("[")), len(path))
        node = self.body.fx.get_attr(".".join(("model", *path[:items])))
        for name in path[items:]:
            if name.startswith("["):
                key = int(name[1:-1]) if name[1:-1].isdigit() else name[1:-1]
                node = self.body.fx.call_function(operator.getitem, (node, key))
            else:
                node = self.body.fx.call_function(getattr, (node, name))
        return node

    def _state_writes(self, outputs: tuple[Any, ...]) -> None:
        for write in self.interface.state_writes:
            owner = self.body.fx.get_attr(f"model.{write.module}" if write.module else "model")
            assert isinstance(write.leaf, Leaf)
            self.body.fx.call_function(setattr, (owner, write.name, outputs[write.leaf.index]))

    def _result(self, values: list[torch.fx.Node], outputs: tuple[Any, ...]) -> Any:
        plain = _native(self.interface.result, outputs)
        if plain is not None and not self.interface.object_writes:
            return plain.value
        self.root.finish = Finish(self.interface, self.model)
        return self.body.fx.call_module("finish", (tuple(values), outputs))


class _Native:
    """A result that torch.fx can return as it stands."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _native(structure: Structure, outputs: tuple[Any, ...]) -> _Native | None:
    match structure:
        case Leaf(index):
            return _Native(outputs[index])
        case Const(Lit(value)) if isinstance(value, None | bool | int | str):
            return _Native(value)
        case Container(_, "tuple" | "list" | "dict" as form, _, keys, items):
            made = [_native(item, outputs) for item in items]
            if any(item is None for item in made):
                return None
            values = [item.value for item in made if item is not None]
            if form != "dict":
                return _Native(values if form == "list" else tuple(values))
            names = [key.value.value for key in keys if isinstance(key, Const)]
            if len(names) != len(keys) or not all(isinstance(name, str) for name in names):
                return None
            return _Native(dict(zip(names, values, strict=True)))
        case _:
            return None
