"""Reading an exported program's torch.fx graph into the IR."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import sympy
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.amp.autocast_mode import _enter_autocast, _exit_autocast
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from graphopt.capture.callers import HERE, TORCH
from graphopt.capture.flat_regions import ENTER, EXIT, SET_GRAD, gathered
from graphopt.capture.symbols import Symbols
from graphopt.errors import Unsupported
from graphopt.guards.places import reachable
from graphopt.ir.graph import (
    Arg,
    Argument,
    Constant,
    Graph,
    Input,
    Mapping,
    Node,
    Origin,
    Sequence,
    Slice,
    Source,
    State,
    Value,
)
from graphopt.ir.literal import SCALARS, Lit
from graphopt.ir.types import Dim, ListType, NoneType, SymType, TensorType, Type

_MODEL = "model."  # where the wrapped model sits in the traced module


def read(
    program: ExportedProgram,
    model: torch.nn.Module,
    arguments: dict[int, str],
    trained: Iterable[torch.Tensor],
    symbols: Symbols,
    grad: bool,
) -> tuple[Graph, dict[str, torch.Tensor]]:
    """The graph of an exported program and the constant tensors that it owns.

    `arguments` names the inputs that are parameters of forward, by leaf index; `trained` are the real
    tensors requiring grad that forward was seen to use; `grad` is the grad mode of the trace.

    Raises Unsupported where one of these is no part of the model.
    """
    constants: dict[str, torch.Tensor] = {}
    sources = _sources(program, model, constants, {_identity(tensor) for tensor in trained})
    for spec in program.graph_signature.output_specs:
        if spec.kind is not OutputKind.USER_OUTPUT:
            raise Unsupported(f"torch.export returned a {spec.kind.name} output for {spec.target}")
    graph = _Reader(program.graph_module, symbols, grad, sources, arguments).read()
    return graph, constants


def _sources(
    program: ExportedProgram,
    model: torch.nn.Module,
    constants: dict[str, torch.Tensor],
    trained: set[object],
) -> list[Source]:
    sources: list[Source] = []
    places = {_identity(thing): path for path, thing in reachable(model) if isinstance(thing, torch.Tensor)}
    arguments = 0
    for spec in program.graph_signature.input_specs:
        target = (spec.target or "").removeprefix(_MODEL)
        if spec.kind is InputKind.USER_INPUT:
            sources.append(Argument(arguments))
            arguments += 1
        elif spec.kind is InputKind.PARAMETER:
            sources.append(State("param", target))
        elif spec.kind is InputKind.BUFFER:
            sources.append(State("buffer", target))
        elif spec.kind is InputKind.CONSTANT_TENSOR:
            tensor = program.constants[spec.target or ""]
            if torch._C._functorch.is_functorch_wrapped_tensor(tensor) or isinstance(tensor, FakeTensor):
                raise Unsupported(
                    "torch.export loses what torch.func.grad, vjp or jacrev differentiates inside forward",
                    remedy="take the gradient outside of the model, or use torch.func.jvp",
                )
            path = places.get(_identity(tensor))
            if path is None:
                if _identity(tensor) in trained:
                    raise Unsupported(
                        "forward reads a parameter that is no part of the model",
                        remedy="make it an attribute of the model, or pass it as an argument",
                    )
                sources.append(Constant(target))
                constants[target] = tensor
            else:
                in_function = any(name.startswith(("closure ", "global ")) for name in path)
                sources.append(State("closure" if in_function else "attribute", ".".join(path)))
        else:
            raise Unsupported(f"a {spec.kind.name.lower()} input ({target}) cannot be kept")
    return sources


def _identity(tensor: torch.Tensor) -> object:
    """Equal for a tensor and the detached alias of it that torch.export keeps of a parameter."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    if wrapped or tensor.layout is not torch.strided or tensor.numel() == 0 or tensor.is_meta:
        return id(tensor)
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


class _Reader:
    """Reads one torch.fx graph; sub-graphs get a reader of their own."""

    def __init__(
        self,
        module: torch.fx.GraphModule,
        symbols: Symbols,
        grad: bool,
        sources: list[Source] | None = None,
        arguments: dict[int, str] | None = None,
    ) -> None:
        self.module = module
        self.symbols = symbols
        self.grad = grad
        self.sources = sources
        self.arguments = arguments or {}
        self.taken = {node.name for node in module.graph.nodes}
        self.args: dict[str, Arg] = {}  # by torch.fx name
        self.lists: dict[str, tuple[Value, ...]] = {}  # results of nodes that return sequences
        self.inputs: list[Input] = []
        self.nodes: list[Node] = []
        self.outputs: tuple[Arg, ...] = ()
        self.bare = False

    def read(self) -> Graph:
        """The IR graph."""
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self._input(node)
            elif node.op == "get_attr":
                self._attribute(node)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self._output(node)
            else:
                raise Unsupported(f"a {node.op} node ({node.target}) in an exported graph")
        return Graph(
            tuple(self.inputs), gathered(self.nodes, self.outputs, self.grad), self.outputs, self.bare
        )

    def _input(self, node: torch.fx.Node) -> None:
        index = len(self.inputs)
        source = self.sources[index] if self.sources is not None else Argument(index)
        value = Value(self._input_name(node, source), _type(node.meta.get("val"), self.symbols))
        self.inputs.append(Input(value, source))
        self.args[node.name] = value

    def _input_name(self, node: torch.fx.Node, source: Source) -> str:
        """A name that tells what the input is, rather than where the traced wrapper kept it."""
        name = node.name
        if isinstance(source, State):
            name = re.sub(r"\W", "_", source.path)
        elif isinstance(source, Argument):
            name = self.arguments.get(source.index, name)
        while name in self.taken and name != node.name:
            name += "_"
        self.taken.add(name)
        return name

    def _attribute(self, node: torch.fx.Node) -> None:
        thing: Any = self.module
        for name in str(node.target).split("."):
            thing = getattr(thing, name)
        if not isinstance(thing, torch.fx.GraphModule):
            raise Unsupported(
                f"a {type(thing).__name__} ({node.target}) inside a sub-graph",
                remedy="pass it to the sub-graph as an operand",
            )
        self.args[node.name] = _Reader(thing, self.symbols, self._mode_of_users(node)).read()

    def _mode_of_users(self, node: torch.fx.Node) -> bool:
        """The grad mode in which a sub-graph runs."""
        mode = self.grad
        for other in self.module.graph.nodes:
            if other in node.users:
                break
            if other.target is torch._C._set_grad_enabled:
                mode = other.args[0]
        return mode

    def _output(self, node: torch.fx.Node) -> None:
        returned = node.args[0]
        items = returned if isinstance(returned, list | tuple) else (returned,)
        self.bare = items is not returned
        self.outputs = tuple(self._arg(item) for item in items)

    def _call(self, node: torch.fx.Node) -> None:
        if self._is_item_of_list(node) or self._is_proven_assertion(node) or self._is_mode(node):
            return
        value = node.meta.get("val", _NO_VALUE)
        if value is _NO_VALUE:
            value = self._region_values(node)
        many = isinstance(value, list | tuple)
        if many:
            results = tuple(
                Value(f"{node.name}_r{i}", _type(item, self.symbols)) for i, item in enumerate(value)
            )
            self.lists[node.name] = results
        else:
            results = (Value(node.name, _type(value, self.symbols)),)
            self.args[node.name] = results[0]
        self.nodes.append(
            Node(
                node.name,
                operator_name(node.target),
                tuple(self._arg(a) for a in node.args),
                tuple((name, self._arg(a)) for name, a in node.kwargs.items()),
                results,
                many,
                tuple(_origins(node)),
            )
        )

    def _is_item_of_list(self, node: torch.fx.Node) -> bool:
        if getattr(node.target, "__name__", "") != "getitem" or len(node.args) != 2:
            return False
        source, index = node.args
        if not isinstance(source, torch.fx.Node) or not isinstance(index, int):
            return False
        results = self.lists.get(source.name)
        if results is None:
            return False
        self.args[node.name] = results[index]
        return True

    def _is_proven_assertion(self, node: torch.fx.Node) -> bool:
        """torch.export adds metadata assertions that eager does not run; the guards imply them."""
        if node.target is not torch.ops.aten._assert_tensor_metadata.default:
            return False
        operand = self._arg(node.args[0])
        if not isinstance(operand, Value) or not isinstance(operand.type, TensorType):
            return False
        asserted = dict(node.kwargs)
        return (
            len(node.args) == 1
            and asserted.pop("dtype", operand.type.dtype) == operand.type.dtype
            and asserted.pop("device", operand.type.device) == operand.type.device
            and asserted.pop("layout", torch.strided) == torch.strided
            and operand.type.strides is not None
            and not asserted
        )

    def _is_mode(self, node: torch.fx.Node) -> bool:
        """Whether it changes a mode, which leaves a mark for `gathered`."""
        if node.target is _enter_autocast or node.target is torch._C._set_grad_enabled:
            args: tuple[Arg, ...] = tuple(self._arg(arg) for arg in node.args)
            op = ENTER if node.target is _enter_autocast else SET_GRAD
        elif node.target is _exit_autocast and isinstance(node.args[0], torch.fx.Node):
            args, op = (Lit(node.args[0].name),), EXIT
        else:
            return False
        self.nodes.append(Node(node.name, op, args, (), (), True, tuple(_origins(node))))
        return True

    def _region_values(self, node: torch.fx.Node) -> Any:
        for arg in reversed(node.args):
            region = self.args.get(arg.name) if isinstance(arg, torch.fx.Node) else None
            if isinstance(region, Graph):
                return tuple(_Typed(output) for output in region.outputs)
        if getattr(node.target, "__module__", "") == "torch._functorch.predispatch":
            return None
        raise Unsupported(f"torch.export gave no type for {node.name} ({node.target})")

    def _arg(self, arg: Any) -> Arg:
        if isinstance(arg, torch.fx.Node):
            if arg.name in self.lists:
                return Sequence("list", self.lists[arg.name])
            return self.args[arg.name]
        if isinstance(arg, list | tuple):
            kind = "list" if isinstance(arg, list) else "tuple"
            return Sequence(kind, tuple(self._arg(item) for item in arg))
        if isinstance(arg, slice):
            return Slice(self._arg(arg.start), self._arg(arg.stop), self._arg(arg.step))
        if isinstance(arg, dict):
            return Mapping(tuple((str(key), self._arg(item)) for key, item in arg.items()))
        if isinstance(arg, torch.SymInt | torch.SymFloat | torch.SymBool):
            raise Unsupported(f"a symbolic number ({arg}) that no node makes")
        if type(arg) not in SCALARS:
            raise Unsupported(f"an operand of type {type(arg).__name__} ({arg!r})")
        return Lit(arg)


class _NoValue:
    pass


_NO_VALUE = _NoValue()


class _Typed:
    """Stands for a value of a known IR type where torch.export left none."""

    def __init__(self, arg: Arg) -> None:
        self.type: Type = arg.type if isinstance(arg, Value) else NoneType()


def _type(value: Any, symbols: Symbols) -> Type:
    if isinstance(value, _Typed):
        return value.type
    if isinstance(value, torch.Tensor):
        strides = value.stride() if value.layout is torch.strided else None
        return TensorType(
            value.dtype,
            tuple(_dim(size, symbols) for size in value.shape),
            None if strides is None else tuple(_dim(stride, symbols) for stride in strides),
            value.device,
        )
    if isinstance(value, torch.SymInt):
        return SymType("int", symbols.plain(value.node.expr))
    if isinstance(value, torch.SymFloat):
        return SymType("float", symbols.plain(value.node.expr))
    if isinstance(value, torch.SymBool):
        return SymType("bool")
    if isinstance(value, bool | int | float):
        return SymType(type(value).__name__)
    if isinstance(value, list | tuple):
        return ListType(tuple(_type(item, symbols) for item in value))
    if value is None:
        return NoneType()
    raise Unsupported(f"a value of type {type(value).__name__} in the graph")


def _dim(size: Any, symbols: Symbols) -> Dim:
    if isinstance(size, int):
        return size
    expr: sympy.Expr = symbols.plain(size.node.expr)
    return int(expr) if expr.is_Integer else expr


def operator_name(target: Any) -> str:
    """The IR's name of a torch.fx call target: "aten.add.Tensor", "higher_order.cond", "operator.mul"."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target}"
    module = getattr(target, "__module__", "")
    name = getattr(target, "__name__", "")
    if module in ("_operator", "operator"):
        return f"operator.{name}"
    if module == "torch._functorch.predispatch":
        return f"functorch.{name}"
    if module in ("math", "builtins"):
        return f"{module}.{name}"
    if module.partition(".")[0] == "torch" and getattr(torch, name, None) is target:
        return f"torch.{name}"
    raise Unsupported(f"the graph calls {module}.{name}, which is no operator")


_FRAME = re.compile(r'File "([^"]*)", line (\d+), in [^\n]*\n?[ \t]*([^\n]*)')


def _origins(node: torch.fx.Node) -> Iterator[Origin]:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values() if not entry[0].startswith("_")]
    module = _module_path(paths[-1]) if paths else ""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if not frame[0].startswith((TORCH, HERE, "torch/", "<"))]
    if own:
        file, line, text = own[-1]
        yield Origin(file, int(line), text.strip(), module)
    elif module:
        yield Origin("", 0, "", module)


def _module_path(path: str) -> str:
    """The model's own qualified name of a module that ran inside the traced wrapper."""
    path = path.removeprefix("L['self'].").removeprefix("self.")
    return "" if path == "model" else path.removeprefix(_MODEL)
