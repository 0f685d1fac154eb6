"""The same operator by another library: oneDNN's products of matrices where MKL's are slower.

torch multiplies float32 matrices by MKL, which takes a slow path on other makers' CPUs; oneDNN's kernels are
compiled for the CPU that they run on. torch has an operator for them, which gives no gradients, and which
compilers take for one of their own.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from graphopt.builder import Builder
from graphopt.internals import has_onednn
from graphopt.ir.graph import Arg, Graph, Node, Value
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of, tensor_of
from graphopt.ir.ops import ONEDNN_LINEAR
from graphopt.ir.types import TensorType

_MORE = Lit("none"), Items("list", ()), Lit("")  # no function of the result on top
_LIBRARY = "graphopt_kernels"
_PLAIN = {"stride": Lit(1), "padding": Lit(0), "dilation": Lit(1)}


def by_onednn(node: Node, build: Builder) -> Value | None:
    """The result of a node, made by oneDNN; None where it is no product of two static float32 matrices on a
    CPU, each as it lies or transposed, or oneDNN has no fast kernel for it."""
    if not has_onednn():
        return None
    given = operands_of(node)
    match node.op:
        case "aten.linear.default":
            return _linear(build, node, given["input"], given["weight"], given.get("bias"))
        case "aten.mm.default":
            return _product(build, node, given["self"], given["mat2"])
        case "aten.matmul.default":
            return _product(build, node, given["self"], given["other"])
        case "aten.addmm.default" if set(given) == {"self", "mat1", "mat2"}:
            return _product(build, node, given["mat1"], given["mat2"], given["self"])
        case "aten.conv2d.default":
            return _convolution(build, node, given)
    return None


def _product(build: Builder, node: Node, x: Arg, y: Arg, bias: "Arg | None" = None) -> Value | None:
    if len(_shape(y)) != 2:
        return None
    return _linear(build, node, x, build("aten.t.default", y), bias)


def _linear(build: Builder, node: Node, x: Arg, weight: Arg, bias: "Arg | None") -> Value | None:
    if not all(_is_dense(arg, turned=arg is weight) for arg in (x, weight, *node.results)):
        return None
    if min(len(_shape(x)), len(_shape(weight))) < 2:
        return None
    if isinstance(bias, Value) and not (_is_dense(bias) and _shape(bias) == _shape(weight)[:1]):
        return None
    return build.typed(ONEDNN_LINEAR, [x, weight, bias or Lit(None), *_MORE], node.results[0].type)


def _convolution(build: Builder, node: Node, given: Mapping[str, Arg]) -> Value | None:
    """Of single pixels of one image: a product of the weight with the pixels."""
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    for name, value in given.items():
        if name in _PLAIN and not (isinstance(value, Items) and set(value.items) == {_PLAIN[name]}):
            return None
        if name == "groups" and value != Lit(1):
            return None
    if not all(_is_dense(arg, turned=False) for arg in (x, weight, *node.results)) or len(_shape(x)) != 4:
        return None
    if _shape(x)[0] != 1 or _shape(weight)[2:] != (1, 1):
        return None
    channels, pixels = _shape(x)[1], math.prod(_shape(x)[2:])
    turned = build("aten.t.default", build("aten.view.default", x, [channels, pixels]))
    rows = build("aten.view.default", weight, [*_shape(weight)[:2]])
    kind = TensorType(torch.float32, (_shape(weight)[0], pixels), (pixels, 1), torch.device("cpu"))
    product = build.typed(ONEDNN_LINEAR, [rows, turned, Lit(None), *_MORE], kind)
    if isinstance(bias, Value):
        product = build("aten.add.Tensor", product, build("aten.unsqueeze.default", bias, 1))
    return build("aten.view.default", product, [*_shape(node.results[0])])


def _kind(arg: Arg) -> TensorType | None:
    return tensor_of(arg) if isinstance(arg, Value) else None


def _shape(arg: Arg) -> tuple[int, ...]:
    """Its sizes; none of what is no static tensor."""
    kind = _kind(arg)
    return tuple(map(int, kind.shape)) if kind is not None and kind.is_static else ()


def _is_dense(arg: Arg, turned: bool = True) -> bool:
    """Whether it is a float32 tensor on the CPU with elements, which lie without gaps in order; or as a
    matrix `turned`."""
    kind = _kind(arg)
    if kind is None or kind.dtype != torch.float32 or kind.device.type != "cpu":
        return False
    if not all(kind.shape):
        return False
    return kind.is_contiguous or (turned and kind.strides == (1, *kind.shape[:1]))


def as_torch_has_it(graph: Graph) -> Graph:
    """The graph with none but operators that files of programs may hold."""
    return _respelled(graph, "aten.linear.default")


def for_compilers(graph: Graph) -> Graph:
    """The graph with an operator in oneDNN's place that compilers call as it is."""
    return _respelled(graph, f"{_LIBRARY}.linear.default")


def _respelled(graph: Graph, op: str) -> Graph:
    nodes = (
        replace(node, op=op, args=node.args[:3]) if node.op == ONEDNN_LINEAR else node for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes)) if has_kernels(graph) else graph


def has_kernels(graph: Graph) -> bool:
    """Whether a graph has operators that neither compilers nor files know."""
    return any(node.op == ONEDNN_LINEAR for node in graph.nodes)


@torch.library.custom_op(f"{_LIBRARY}::linear", mutates_args=(), device_types="cpu")
def _called_as_it_is(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    made: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return made


@_called_as_it_is.register_fake
def _shaped(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))
