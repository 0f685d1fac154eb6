"""One linear map in the place of an affine form."""

from graphopt.affine.forms import Form, input_of, widest
from graphopt.affine.weights import Weights, weights_of
from graphopt.builder import Builder
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.operands import operands_of, type_of
from graphopt.ir.types import TensorType


def applied_once(form: Form, views: tuple[Node, ...], build: Builder) -> tuple[Value, Weights] | None:
    """Adds the nodes that give what the form gives, seen through views, by one linear map; and its weight
    and bias. None where the result would lie otherwise in memory."""
    wide = widest(form)
    made = weights_of(form, build)
    x, kind = input_of(form), wide.node.results[0].type
    operands = [x, made.weight] if made.bias is None else [x, made.weight, made.bias]
    if "conv" in wide.node.op:
        if type_of(made.weight).strides != type_of(wide.weight).strides:
            return None
        given = operands_of(wide.node)
        how: dict[str, Arg] = {n: arg for n, arg in given.items() if n not in ("input", "weight", "bias")}
        result = build.typed(wide.node.op, operands, kind, how)
    else:
        if wide.node.op != "aten.linear.default" and not type_of(x).is_contiguous:
            return None
        result = build.typed("aten.linear.default", operands, kind)
    for view in views:
        result = _seen(view, result, build)
    return result, made


def _seen(view: Node, value: Value, build: Builder) -> Value:
    """What a view shows of another tensor than its own."""
    args = [value if _is_tensor(arg) else arg for arg in view.args]
    return build.typed(view.op, args, view.results[0].type, dict(view.kwargs))


def _is_tensor(arg: Arg) -> bool:
    return isinstance(arg, Value) and isinstance(arg.type, TensorType)
