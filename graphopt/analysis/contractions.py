"""The products of matrices that an operator computes: what its FLOPs are made of.

A product is `batch` times [m, k] @ [k, n]. Convolutions are products over the pixels of the result (of
the operand, where transposed), recurrent networks products over all steps, einsum one for each pair of
operands that it contracts.
"""

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass

from graphopt.analysis.sizes import Sizes
from graphopt.ir.graph import Arg, Node, Sequence, Value
from graphopt.ir.literal import Lit
from graphopt.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Product:
    """`batch` products of [m, k] with [k, n]."""

    batch: int
    m: int
    n: int
    k: int

    @property
    def flops(self) -> int:
        """A multiply-add counts two."""
        return 2 * self.batch * self.m * self.n * self.k


Shape = tuple[int, ...]


def products(node: Node, sizes: Sizes) -> tuple[Product, ...]:
    """The products that a node computes; none for what is no contraction."""
    space, _, name = node.op.partition(".")
    name = name.partition(".")[0]
    tensors = [value for value in node.operands if isinstance(value.type, TensorType)]
    if space not in ("aten", "mkldnn") or not tensors:
        return ()
    shapes = [sizes.shape(value) for value in tensors]
    match name.removesuffix("_") if name != "_convolution" else name:
        case "mm" | "bmm" | "matmul" | "mv" | "dot" | "vdot":
            return (_matmul(shapes[0], shapes[1]),)
        case "addmm" | "baddbmm" | "addmv" | "addbmm":
            return (_matmul(shapes[1], shapes[2]),)
        case "linear" | "inner" | "_linear_pointwise":
            return (_over_last(shapes[0], shapes[1]),)
        case "linalg_vecdot":
            return (Product(math.prod(shapes[0][:-1]), 1, 1, (shapes[0] or (1,))[-1]),)
        case "tensordot":
            k = math.prod(shapes[0][dim] for dim in _numbers(node.args[2]))
            return (_around(math.prod(shapes[0]), math.prod(shapes[1]), k),)
        case "chain_matmul" | "linalg_multi_dot":
            return _chain([_row(shapes[0])[0], *(_column(shape)[1] for shape in shapes)])
        case "linalg_matrix_power":
            power = abs(_numbers(node.args[1])[0])
            times = max(power.bit_length() + power.bit_count() - 2, 0)
            return (_matmul(shapes[0], shapes[0]),) * times
        case "einsum":
            path = _numbers(dict(node.kwargs).get("path", Lit(None)))
            return _einsum(_equation(node), shapes, path)
        case "bilinear":
            out, k, n = shapes[2]
            return (Product(1, math.prod(shapes[0][:-1]), out * n, k),)
        case "scaled_dot_product_attention":
            batch = math.prod(sizes.shape(node.results[0])[:-2])
            rows, inner, columns = shapes[0][-2], shapes[0][-1], shapes[1][-2]
            return (Product(batch, rows, columns, inner), Product(batch, rows, shapes[2][-1], columns))
        case "lstm" | "gru" | "rnn_tanh" | "rnn_relu":
            rows = math.prod(shapes[0][:-1])
            return tuple(Product(1, rows, *shape) for shape in _matrices(node.args[3 if
                         node.op.endswith(".data") else 2], sizes))  # fmt: skip
        case "lstm_cell" | "gru_cell" | "rnn_tanh_cell" | "rnn_relu_cell":
            rows = math.prod(shapes[0][:-1])
            weights = [sizes.shape(arg) for arg in node.args[2:4] if isinstance(arg, Value)]
            return tuple(Product(1, rows, *shape) for shape in weights)
        case "conv_transpose1d" | "conv_transpose2d" | "conv_transpose3d":
            return (_convolution(shapes[0], shapes[1], channels=shapes[1][0], groups=_groups(node, 6)),)
        case "conv1d" | "conv2d" | "conv3d":
            made = sizes.shape(node.results[0])
            return (_convolution(made, shapes[1], channels=shapes[1][0], groups=_groups(node, 6)),)
        case "convolution" | "_convolution":
            at = shapes[0] if node.args[6] == Lit(True) else sizes.shape(node.results[0])
            return (_convolution(at, shapes[1], channels=shapes[1][0], groups=_groups(node, 8)),)
    return ()


def _row(shape: Shape) -> Shape:
    return (1, *shape) if len(shape) == 1 else shape


def _column(shape: Shape) -> Shape:
    return (*shape, 1) if len(shape) == 1 else shape


def _matmul(left: Shape, right: Shape) -> Product:
    """As torch.matmul does it: a matrix on the right takes all rows of the left at once."""
    left, right = _row(left), _column(right)
    m, k, n = left[-2], left[-1], right[-1]
    if len(right) == 2:
        return Product(1, math.prod(left[:-1]), n, k)
    outer = [(1,) * (max(len(left), len(right)) - len(shape)) + shape[:-2] for shape in (left, right)]
    batch = math.prod(b if a == 1 else a for a, b in zip(*outer, strict=True))
    return Product(batch, m, n, k)


def _over_last(left: Shape, right: Shape) -> Product:
    k = right[-1] if right else 1
    return _around(math.prod(left), math.prod(right), k)


def _around(left: int, right: int, k: int) -> Product:
    return Product(1, left // max(k, 1), right // max(k, 1), k)


def _convolution(at: Shape, weight: Shape, *, channels: int, groups: int) -> Product:
    """At each pixel of `at` [N, channels, *pixels], or [channels, *pixels], all of the kernel."""
    pixels = math.prod(at) // max(channels, 1)
    return Product(groups, pixels, channels // max(groups, 1), math.prod(weight[1:]))


def _groups(node: Node, position: int) -> int:
    arg = node.args[position] if position < len(node.args) else dict(node.kwargs).get("groups", Lit(1))
    return (_numbers(arg) or [1])[0]


def _chain(sizes: list[int]) -> tuple[Product, ...]:
    """The cheapest order of a chain of matrices [s0, s1] @ [s1, s2] @ ..., which is what torch takes."""
    best: dict[tuple[int, int], tuple[int, tuple[Product, ...]]] = {}
    for i in range(len(sizes) - 1):
        best[i, i + 1] = (0, ())
    for length in range(2, len(sizes)):
        for i in range(len(sizes) - length):
            j = i + length
            options = []
            for middle in range(i + 1, j):
                last = Product(1, sizes[i], sizes[j], sizes[middle])
                (left, before), (right, between) = best[i, middle], best[middle, j]
                options.append((left + right + last.flops, (*before, *between, last)))
            best[i, j] = min(options, key=lambda option: option[0])
    return best[0, len(sizes) - 1][1]


def _matrices(arg: Arg, sizes: Sizes) -> list[Shape]:
    values = [item for item in arg.items if isinstance(item, Value)] if isinstance(arg, Sequence) else []
    return [shape for shape in map(sizes.shape, values) if len(shape) == 2]


def _numbers(arg: Arg) -> list[int]:
    match arg:
        case Lit(int() as value):
            return [value]
        case Lit(tuple() | list() as values):
            return [value for value in values if isinstance(value, int)]
        case Sequence(_, items):
            return [value for item in items for value in _numbers(item)]
    return []


def _equation(node: Node) -> str:
    equation = node.args[0]
    assert isinstance(equation, Lit) and isinstance(equation.value, str)
    return equation.value.replace(" ", "")


def _einsum(equation: str, shapes: Items[Shape], path: list[int]) -> tuple[Product, ...]:
    """The products of contracting the operands two at a time, in the order of `path` or from the left."""
    left, arrow, right = equation.partition("->")
    terms: list[list[str]] = []
    size: dict[str, int] = {}
    for text, shape in zip(left.split(","), shapes, strict=True):
        start, dots, end = text.partition("...")
        more = len(shape) - len(start) - len(end)  # the dimensions of "..." are numbered from the right
        term = [*start, *(f"...{i}" for i in reversed(range(more if dots else 0))), *end]
        terms.append(term)
        for label, extent in zip(term, shape, strict=True):
            size[label] = max(size.get(label, 1), extent)
    every = [label for term in terms for label in term]
    kept = set(right.replace("...", "")) if arrow else {label for label in every if every.count(label) == 1}
    kept |= {label for label in every if label.startswith("...")} if "..." in right or not arrow else set()

    found: list[Product] = []
    while len(terms) > 1:
        first, second = sorted(path[:2]) if len(path) >= 2 else (0, 1)
        path = path[2:]
        b, a = set(terms.pop(second)), set(terms.pop(first))
        wanted = kept.union(*terms)
        a, b = a & (wanted | b), b & (wanted | a)  # what is in one alone and not wanted is summed before

        parts = (a & b & wanted, a - b, b - a, (a & b) - wanted)
        found.append(Product(*(math.prod(size[label] for label in part) for part in parts)))
        made = sorted((a | b) & wanted)
        terms = [*terms, made] if len(path) >= 2 else [made, *terms]
    return tuple(found)
