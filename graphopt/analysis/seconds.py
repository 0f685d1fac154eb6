"""What a node costs in seconds, by a machine's profile: the same for the same profile, always.

An estimate for deciding between two ways of computing the same. It knows CPUs only, and adds up what
nodes take one after the other.
"""

import math
from collections.abc import Iterable, Mapping

from graphopt.analysis.contractions import Product, products
from graphopt.analysis.cost import hands_on, viewable
from graphopt.analysis.kinds import kind_of
from graphopt.analysis.sizes import Sizes
from graphopt.ir.graph import Graph, Node, State, Value
from graphopt.ir.literal import Lit
from graphopt.ir.ops import ONEDNN_LINEAR, Effect, effect_of, lookup
from graphopt.ir.types import TensorType
from graphopt.profile import FRESH, Profile, Table

_ONES = Sizes()
_NONE: frozenset[str] = frozenset()
_BY_BYTES = frozenset(
    ("pointwise", "broadcast", "strided", "copy", "transpose", "fill", "rows", "pad", "batch_norm")
)
_PAIRED = frozenset({"softmax", "norm", "reduce"})  # by rows and columns
_LIKE = {"broadcast": "pointwise", "strided": "pointwise", "depthwise": "convolution"}  # in their ratios
_MATRICES = frozenset(("aten.mm.default", "aten.matmul.default", "aten.addmm.default", "aten.bmm.default"))
NARROW = 15
"""Columns of a matrix that are few."""
_HEAD = 64  # the width that attention is measured at


def graph_seconds(graph: Graph, profile: Profile, sizes: Sizes = _ONES) -> float:
    """The sum over all nodes, sub-graphs included: seconds."""
    return sum(seconds_by_node(graph, profile, sizes).values())


def seconds_by_node(graph: Graph, profile: Profile, sizes: Sizes = _ONES) -> dict[str, float]:
    """The seconds of each node, by its name. Where the model's state does not fit into the cache, it has
    to be read from memory in each call."""
    state = [entry.value for entry in graph.inputs if isinstance(entry.source, State)]
    cold: set[str] = set()
    if sum(map(sizes.bytes, state)) > profile.cache:
        cold = {value.name for value in state}
    found: dict[str, float] = {}
    for node in graph.nodes:
        if hands_on(node, sizes) and any(value.name in cold for value in node.operands):
            cold.update(value.name for value in node.results)
        found[node.name] = node_seconds(node, profile, sizes, cold)
    return found


def node_seconds(node: Node, profile: Profile, sizes: Sizes = _ONES, cold: Iterable[str] = _NONE) -> float:
    """The seconds of one node; `cold` names the values that are in no cache. Both branches of a condition
    count."""
    tables = profile.tables
    regions = tuple(node.regions)
    if regions:
        return tables["number"].at() + sum(graph_seconds(region, profile, sizes) for region in regions)
    results = [value for value in node.results if isinstance(value.type, TensorType)]
    tensors = [value for value in node.operands if isinstance(value.type, TensorType)] + results
    if not node.op.startswith(("aten.", "mkldnn.")) or not results:
        return tables["number"].at()
    if hands_on(node, sizes):
        return tables["view"].at() * (1 + profile.switch)
    found = products(node, sizes)
    if found:
        seconds, kind = _contraction(node, found, profile, sizes)
    else:
        seconds, kind = _other(node, tensors, profile, sizes)
    seconds += profile.switch * tables[kind].least
    if kind not in ("rows", "gather"):  # these read some of it
        outside = set(cold)
        seconds += profile.read * sum(sizes.bytes(v) for v in node.operands if v.name in outside)
    if effect_of(node) is not Effect.WRITES:
        seconds += profile.fresh * sum(size for size in map(sizes.bytes, results) if size >= FRESH)
    return seconds


def _ratio(profile: Profile, kind: str, value: Value) -> float:
    """How many times as long as float32 another dtype takes; measured, or in proportion to its size."""
    assert isinstance(value.type, TensorType)
    dtype = str(value.type.dtype).removeprefix("torch.")
    if dtype == "float32":
        return 1.0
    known = profile.ratios.get(dtype, {})
    kind = _LIKE.get(kind, kind)
    if kind in known:
        return known[kind]
    if kind in _BY_BYTES:
        return 1.0
    floating = value.type.dtype.is_floating_point or value.type.dtype.is_complex
    return max(known.get("exp", value.type.dtype.itemsize / 4), 0.25) if floating else 1.0


def _contraction(node: Node, found: tuple[Product, ...], profile: Profile, sizes: Sizes) -> tuple[float, str]:
    name = node.op.split(".")[1].removesuffix("_")
    first = next(value for value in node.operands if isinstance(value.type, TensorType))
    tables = profile.tables
    if node.op == ONEDNN_LINEAR:
        (one,) = found
        return tables["onednn_linear"].at(*(max(size, 1) for size in (one.m, one.n, one.k))), "onednn_linear"
    if name == "scaled_dot_product_attention":
        one, other = found
        base = tables["attention"].at(one.batch, one.m, one.n) * _ratio(profile, "attention", first)
        return base * max((one.k + other.n) / 2, _HEAD / 4) / _HEAD, "attention"
    if "conv" in name:
        kernel = math.prod(sizes.shape(node.operands[1])[2:])
        base = convolution_seconds(found[0], kernel, tables)
        return base * _ratio(profile, "convolution", first), "convolution"
    if name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        return _recurrent(node, found, profile, sizes), "lstm"
    seconds = 0.0
    for one in found:
        kind = "linear" if one.batch == 1 else "bmm"
        shape = (one.m, one.n, one.k) if one.batch == 1 else (one.batch, one.m, one.n, one.k)
        table = "narrow" if kind == "linear" and is_narrow(node, sizes) else kind
        seconds += tables[table].at(*(max(size, 1) for size in shape)) * _ratio(profile, kind, first)
    if name == "einsum":
        seconds += 4 * len(found) * tables["view"].at()
    if name == "matmul" and found[0].batch > 1:
        seconds += _folded(node, profile, sizes)
    return seconds, "linear"


def is_narrow(node: Node, sizes: Sizes = _ONES) -> bool:
    """Whether it multiplies by few columns, which lie so that this is slow: as rows of few elements, or
    the other matrix as columns."""
    if node.op not in _MATRICES:
        return False
    (one,) = products(node, sizes)
    if not 1 < one.n <= NARROW < one.m:
        return False
    left, right = (arg.type for arg in node.args[-2:] if isinstance(arg, Value))
    return _strides_by_one(right) or not _strides_by_one(left)


def _strides_by_one(kind: object) -> bool:
    return isinstance(kind, TensorType) and _last_stride(kind) == 1


def _folded(node: Node, profile: Profile, sizes: Sizes) -> float:
    """torch.matmul makes one dimension of the leading ones, which may take a copy."""
    seconds = 0.0
    for value in node.operands:
        shape = sizes.shape(value)
        if len(shape) > 3 and not viewable(value, (math.prod(shape[:-2]), *shape[-2:]), sizes):
            seconds += profile.tables["copy"].at(2 * max(sizes.bytes(value), 1))
    return seconds


def convolution_seconds(one: Product, kernel: int, tables: Mapping[str, Table]) -> float:
    """The seconds of a convolution in float32, with so many elements under its kernel."""
    if one.batch > 1 and one.n == 1 and one.k == kernel:
        return tables["depthwise"].at(max(one.batch * one.m * kernel / 9, 1))
    table = tables["pointwise_convolution" if kernel == 1 else "convolution"]
    if one.batch == 1:
        return table.at(one.m, one.n, one.k)
    least = table.at(1, 1, 1)
    return least + one.batch * max(table.at(one.m, one.n, one.k) - least, least / 10)


def _recurrent(node: Node, found: tuple[Product, ...], profile: Profile, sizes: Sizes) -> float:
    """Of two matrices each, the first meets all steps at once, the second one step after the other; LSTMs
    are one call into oneDNN for each layer and direction."""
    shape = sizes.shape(node.operands[0])
    batch_first = node.op.endswith(".input") and node.args[-1] == Lit(True)
    steps = max(shape[1 if batch_first and len(shape) == 3 else 0], 1)
    ratio = _ratio(profile, "linear", node.operands[0])
    tables = profile.tables
    seconds = 0.0
    for first, second in zip(found[::2], found[1::2], strict=False):
        rows = max(first.m / steps, 1)
        if node.op == "aten.lstm.input":
            flops = first.flops + second.flops
            seconds += tables["lstm"].at(steps, rows, math.sqrt(flops / (16 * steps * rows))) * ratio
            continue
        gates = tables["tanh"].at(rows * second.n / 2)
        seconds += tables["linear"].at(first.m, first.n, first.k) * ratio
        seconds += steps * (tables["linear"].at(rows, second.n, second.k) * ratio + gates)
    return seconds


def _other(node: Node, tensors: list[Value], profile: Profile, sizes: Sizes) -> tuple[float, str]:
    results = [value for value in node.results if isinstance(value.type, TensorType)]
    kind = _refined(node, kind_of(node.op), tensors, results[0])
    largest = max(map(sizes.elements, tensors))
    table = profile.tables[kind]
    if kind in _PAIRED:
        rows, columns = _rows(node, kind, largest, sizes.elements(results[0]), sizes)
        at = table.by_rows(max(rows, 1), max(columns, 1))
    else:
        size = largest
        if kind == "rows":
            size = 2 * sum(map(sizes.bytes, results))
        elif kind in _BY_BYTES:
            size = sum(_footprint(value, sizes) for value in tensors)
        elif kind == "gather":
            size = sizes.elements(results[0])
        at = table.at(max(size, 1))
    if node.op.startswith("aten._safe_softmax."):  # it looks for rows of −inf alone
        tables, made = profile.tables, max(sizes.bytes(results[0]), 1)
        at += tables["compare"].at(largest) + tables["scan"].at(largest) + tables["pointwise"].at(3 * made)
    return at * _ratio(profile, kind, tensors[0]), kind


def _refined(node: Node, kind: str, tensors: list[Value], result: Value) -> str:
    """What flags, numbers and layouts among the operands make of the kind."""
    name = node.op.split(".")[1].removesuffix("_")
    if kind == "pow" and any(arg in _CHEAP_POWERS for arg in node.args[1:2]):
        return "pointwise"
    if effect_of(node) is Effect.RANDOM:
        return "random"
    if name == "batch_norm" and effect_of(node) is Effect.WRITES:
        return "norm"
    assert isinstance(result.type, TensorType)
    if kind == "pointwise":
        layouts = [v.type for v in tensors if isinstance(v.type, TensorType) and v.type.shape]
        if any(_last_stride(one) not in (0, 1) for one in layouts if one.shape == result.type.shape):
            same = all(one.strides == result.type.strides for one in layouts)
            return "pointwise" if same else "strided"
        return "pointwise" if all(one.shape == result.type.shape for one in layouts) else "broadcast"
    if kind == "copy":
        first = tensors[0].type
        assert isinstance(first, TensorType)
        return (
            "copy" if _last_stride(first) in (0, 1) or first.strides == result.type.strides else "transpose"
        )
    return kind


_CHEAP_POWERS = tuple(map(Lit, (2, 2.0, 3, 3.0, 0.5, -0.5, -1, -1.0, -2, -2.0, 1, 1.0, 0, 0.0)))


def _last_stride(kind: TensorType) -> object:
    return kind.strides[-1] if kind.strides and kind.shape[-1] != 1 else 1


def _footprint(value: Value, sizes: Sizes) -> int:
    """Bytes of a tensor, an expanded dimension counted once."""
    assert isinstance(value.type, TensorType)
    strides = value.type.strides or (1,) * len(value.type.shape)
    extents = (
        sizes.number(size) for size, stride in zip(value.type.shape, strides, strict=True) if stride != 0
    )
    return math.prod(extents) * value.type.dtype.itemsize


def _rows(node: Node, kind: str, elements: int, made: int, sizes: Sizes) -> tuple[int, int]:
    """How many rows, and how long they are."""
    shape = sizes.shape(node.operands[0])
    if kind == "reduce":
        return made, elements // max(made, 1)
    named = dict(zip(lookup(node.op).parameters, node.args, strict=False)) | dict(node.kwargs)
    columns = (shape or (1,))[-1]
    if kind == "norm" and "num_groups" in named and isinstance(named["num_groups"], Lit):
        groups = named["num_groups"].value
        columns = math.prod(shape[1:]) // max(groups, 1) if isinstance(groups, int) else columns
    elif kind == "norm" and len(shape) > 2 and "normalized_shape" not in named:
        columns = math.prod(shape[2:])
    return elements // max(columns, 1), columns
