"""What each operator of products and sums computes, as a polynomial of its operands."""

import contextlib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import accumulate

import torch

from graphopt.algebra.contraction import contracted, product
from graphopt.algebra.equality import Equal, filled, on_diagonal, placed
from graphopt.algebra.families import united
from graphopt.algebra.polynomial import (
    MAX_FACTORS,
    Access,
    NoPolynomial,
    Polynomial,
    Term,
    along,
    number,
    plus,
    times,
)
from graphopt.algebra.reaches import extended
from graphopt.algebra.views import rearranged
from graphopt.ir.graph import Arg, Value
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.literal import Lit
from graphopt.ir.operands import tensor_of

Known = Callable[[Value], Polynomial]


@dataclass(frozen=True)
class Operands:
    """The operands of a node, by parameter. All raise NoPolynomial where there is none of the kind."""

    given: Mapping[str, Arg]
    known: Known
    exact: Mapping[float, Fraction]
    result: Value

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def tensor(self, name: str) -> Polynomial:
        """A tensor, or a number as one."""
        arg = self.given.get(name)
        return self.known(arg) if isinstance(arg, Value) else number(self.number(name))

    def tensors(self, name: str) -> list[Polynomial]:
        """A list of tensors."""
        arg = self.given.get(name)
        if not isinstance(arg, Items):
            raise NoPolynomial
        return [self.known(item) for item in arg.items if isinstance(item, Value)]

    def number(self, name: str, default: int | None = None) -> Fraction:
        """A finite number."""
        arg = self.given.get(name, Lit(default))
        value = arg.value if isinstance(arg, Lit) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise NoPolynomial
        return self.exact.get(value, Fraction(value))

    def integers(self, name: str) -> list[int]:
        """A list of integers, or one as such; empty where none are given."""
        arg = self.given.get(name)
        items = arg.items if isinstance(arg, Items) else () if arg is None else (arg,)
        found = [item.value for item in items if isinstance(item, Lit) and type(item.value) is int]
        if len(found) != len(items):
            raise NoPolynomial
        return found

    def only(self, *names: str) -> None:
        """Raises NoPolynomial where anything else is given."""
        if not set(self.given) <= set(names):
            raise NoPolynomial


Reader = Callable[[Operands], Polynomial]
Multiply = Callable[[Polynomial, Polynomial], Polynomial]


def _add(o: Operands) -> Polynomial:
    return plus(o.tensor("self"), o.tensor("other").scaled(o.number("alpha", 1)))


def _sub(o: Operands) -> Polynomial:
    return plus(o.tensor("self"), o.tensor("other").scaled(-o.number("alpha", 1)))


def _rsub(o: Operands) -> Polynomial:
    return plus(o.tensor("other"), o.tensor("self").scaled(-o.number("alpha", 1)))


def _mul(o: Operands) -> Polynomial:
    other = o.given["other"]
    if isinstance(other, Lit) and not other.value:
        raise NoPolynomial  # a zero has the sign of what is multiplied by it
    return times(o.tensor("self"), o.tensor("other"))


def _div(o: Operands) -> Polynomial:
    o.only("self", "other")
    by = o.number("other")
    if not by:
        raise NoPolynomial
    return o.tensor("self").scaled(1 / by)


def _power(
    p: Polynomial, exponent: Fraction, multiply: Callable[[Polynomial, Polynomial], Polynomial]
) -> Polynomial:
    if exponent.denominator != 1 or not 1 <= exponent <= MAX_FACTORS:
        raise NoPolynomial
    return reduce(multiply, [p] * int(exponent))


def _sum(o: Operands) -> Polynomial:
    o.only("self", "dim", "keepdim")
    return summed(o.tensor("self"), o)


def summed(p: Polynomial, o: Operands) -> Polynomial:
    """The sum over the dimensions that are named, or all, which stay with size 1 where that is asked for."""
    dims = o.integers("dim")
    rank = len(p.dims)
    gone = {dim % rank for dim in dims} if dims and rank else set(range(rank))
    found = p.summed(gone)
    if o.given.get("keepdim") != Lit(True):
        return found
    left = iter(found.dims)
    return Polynomial(tuple(() if i in gone else next(left) for i in range(rank)), found.terms)


def _mean(o: Operands) -> Polynomial:
    found = _sum(o)
    return found.scaled(Fraction(math.prod(found.shape), math.prod(o.tensor("self").shape)))


def _squared_error(o: Operands) -> Polynomial:
    error = plus(o.tensor("self"), o.tensor("target").scaled(Fraction(-1)))
    squares, kind = times(error, error), o.number("reduction", 1)
    if not kind:
        return squares
    return squares.summed(range(len(squares.dims))).scaled(
        Fraction(1, math.prod(squares.shape)) if kind == 1 else Fraction(1)
    )


def _spelled(text: str, *names: str) -> Reader:
    """A contraction by the labels of its operands and of its result: "ik kj ij"."""
    *labels, out = text.split(" ")
    return lambda o: contracted([o.tensor(name) for name in names], labels, out)


def _with_bias(inner: Reader) -> Reader:
    """beta · self + alpha · inner."""
    return lambda o: plus(o.tensor("self").scaled(o.number("beta", 1)), inner(o).scaled(o.number("alpha", 1)))


def _linear(o: Operands) -> Polynomial:
    x, weight = o.tensor("input"), o.tensor("weight")
    outer, rows = _named("b", x)[:-1], ["j"] * (len(weight.dims) - 1)
    found = contracted([x, weight], [[*outer, "k"], [*rows, "k"]], [*outer, *rows])
    return plus(found, o.tensor("bias")) if "bias" in o else found


def _inner(o: Operands) -> Polynomial:
    a, b = o.tensor("self"), o.tensor("other")
    if not a.dims or not b.dims:
        return times(a, b)
    rows, columns = _named("a", a)[:-1], _named("b", b)[:-1]
    return contracted([a, b], [[*rows, "k"], [*columns, "k"]], [*rows, *columns])


def _tensordot(o: Operands) -> Polynomial:
    a, b = o.tensor("self"), o.tensor("other")
    left, right = _named("a", a), _named("b", b)
    for i, j in zip(o.integers("dims_self"), o.integers("dims_other"), strict=True):
        right[j] = left[i]
    out = [name for name in (*left, *right) if (*left, *right).count(name) == 1]
    return contracted([a, b], [left, right], out)


def _bilinear(o: Operands) -> Polynomial:
    a, b, weight = o.tensor("input1"), o.tensor("input2"), o.tensor("weight")
    outer = _named("b", a)[:-1]
    found = contracted([a, weight, b], [[*outer, "i"], ["o", "i", "j"], [*outer, "j"]], [*outer, "o"])
    return plus(found, o.tensor("bias")) if "bias" in o else found


def _named(letter: str, p: Polynomial) -> list[str]:
    return [f"{letter}{i}" for i in range(len(p.dims))]


def _einsum(o: Operands) -> Polynomial:
    equation, operands = o.given.get("equation"), o.tensors("tensors")
    if not isinstance(equation, Lit) or not isinstance(equation.value, str):
        raise NoPolynomial
    inputs, arrow, out = equation.value.replace(" ", "").partition("->")
    labels = [_labels(one, len(p.dims)) for one, p in zip(inputs.split(","), operands, strict=True)]
    names = [name for one in labels for name in one]
    dots = sorted({name for name in names if name.isdigit()}, reverse=True, key=int)
    if not arrow:
        once = sorted(name for name in set(names) if names.count(name) == 1 and not name.isdigit())
        return contracted(operands, labels, [*dots, *once])
    before, hidden, after = out.partition("...")
    return contracted(operands, labels, [*before, *(dots if hidden else []), *after])


def _labels(text: str, rank: int) -> list[str]:
    """The labels of one operand; for what an ellipsis stands for, numbers, counted from the last."""
    before, dots, after = text.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    return [*before, *map(str, reversed(range(hidden))), *after]


def _vecdot(o: Operands) -> Polynomial:
    both = times(o.tensor("x"), o.tensor("y"))
    return both.summed([(o.integers("dim") or [-1])[0] % len(both.dims)])


def _kron(o: Operands) -> Polynomial:
    a, b = o.tensor("self"), o.tensor("other")
    mine, theirs = _named("a", a), _named("b", b)
    if len(mine) != len(theirs):
        raise NoPolynomial
    order = [name for pair in zip(mine, theirs, strict=True) for name in pair]
    found = contracted([a, b], [mine, theirs], order)
    return Polynomial(tuple(map(operator.add, found.dims[::2], found.dims[1::2])), found.terms)


def _addcmul(o: Operands) -> Polynomial:
    added = times(o.tensor("tensor1"), o.tensor("tensor2")).scaled(o.number("value", 1))
    return plus(o.tensor("self"), added)


def _filled(o: Operands, number: Fraction) -> Polynomial:
    kind = tensor_of(o.result)
    assert kind is not None
    return filled([int(size) for size in kind.shape], (Term(number, ()),) if number else ())


def _eye(o: Operands) -> Polynomial:
    ones = _filled(o, Fraction(1))
    rows, columns = (along(*dim) if dim else Access() for dim in ones.dims)
    return Polynomial(ones.dims, (Term(Fraction(1), (Equal(o.result, (rows, columns)),)),))


def _diag(o: Operands) -> Polynomial:
    p, offset = o.tensor("self"), o.number("diagonal", 0)
    if len(p.dims) == 1 and not offset:
        return on_diagonal(p, o.result)
    if len(p.dims) != 2:
        raise NoPolynomial
    return rearranged(p, lambda operand: torch.diagonal(operand, int(offset)))


def _cat(o: Operands) -> Polynomial:
    parts = o.tensors("tensors")
    return _joined(parts, o.integers("dim") or [0], o)


def _stack(o: Operands) -> Polynomial:
    parts = o.tensors("tensors")
    dim = (o.integers("dim") or [0])[0] % (len(parts[0].dims) + 1)
    return _joined([Polynomial((*p.dims[:dim], (), *p.dims[dim:]), p.terms) for p in parts], [dim], o)


def _joined(parts: Sequence[Polynomial], dims: Sequence[int], o: Operands) -> Polynomial:
    """One after the other along all of some dimensions."""
    for dim in dims:
        at = dim % len(parts[0].dims)
        sizes = [p.shape[at] for p in parts]
        starts = accumulate(sizes, initial=0)
        parts = [placed(p, at, start, sum(sizes), o.result) for p, start in zip(parts, starts, strict=False)]
    return united(reduce(plus, parts))


def _stacked(least: int, dim: int) -> Reader:
    """Tensors of at least some dimensions one after the other, as vstack, hstack and dstack have them."""

    def read(o: Operands) -> Polynomial:
        return _joined([_at_least(p, least) for p in o.tensors("tensors")], [dim], o)

    return read


def _at_least(p: Polynomial, rank: int) -> Polynomial:
    """With dimensions of size 1 as torch.atleast_1d, 2d and 3d put them."""
    before = 1 if rank > 1 and len(p.dims) < 2 else 0
    dims = ((),) * before + p.dims
    return Polynomial(dims + ((),) * (rank - len(dims)), p.terms)


def _hstack(o: Operands) -> Polynomial:
    parts = [_at_least(p, 1) for p in o.tensors("tensors")]
    return _joined(parts, [0 if len(parts[0].dims) == 1 else 1], o)


def _column_stack(o: Operands) -> Polynomial:
    parts = [Polynomial(p.dims + ((),) * (2 - len(p.dims)), p.terms) for p in o.tensors("tensors")]
    return _joined(parts, [1], o)


def _block_diag(o: Operands) -> Polynomial:
    parts = o.tensors("tensors")
    if any(len(p.dims) != 2 for p in parts):
        raise NoPolynomial
    return _joined(parts, [0, 1], o)


def _flipped(o: Operands) -> Polynomial:
    p = o.tensor("self")
    indices = [index for dim in o.integers("dims") for index in p.dims[dim]]
    return p.with_({i: Access(i.size - 1, ((i, -1),)) for i in indices}, p.dims)


def _with_zeros(p: Polynomial, dim: int, before: int, after: int, value: Value) -> Polynomial:
    """Of products, zeros around one factor would meet what is infinite in another."""
    if all(len(term.factors) == 1 for term in p.terms):
        with contextlib.suppress(NoPolynomial):
            return extended(p, dim, before, after)
    return placed(p, dim, before, before + p.shape[dim] + after, value)


def _padded(o: Operands) -> Polynomial:
    p, pads = o.tensor("self"), o.integers("pad")
    if o.given.get("mode", Lit("constant")) != Lit("constant") or any(pad < 0 for pad in pads):
        raise NoPolynomial
    if o.given.get("value", Lit(None)) != Lit(None) and o.number("value"):
        raise NoPolynomial
    for place, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        if before or after:
            dim = len(p.dims) - 1 - place
            p = _with_zeros(p, dim, before, after, o.result)
    return p


_MM = "ik kj ij"
READERS: dict[str, Reader] = {
    **dict.fromkeys(("add",), _add),
    **dict.fromkeys(("sub", "subtract"), _sub),
    "rsub": _rsub,
    **dict.fromkeys(("mul", "multiply"), _mul),
    **dict.fromkeys(("div", "divide", "true_divide"), _div),
    **dict.fromkeys(("neg", "negative"), lambda o: o.tensor("self").scaled(Fraction(-1))),
    "positive": lambda o: o.tensor("self"),
    "square": lambda o: _power(o.tensor("self"), Fraction(2), times),
    "pow": lambda o: _power(o.tensor("self"), o.number("exponent"), times),
    "addcmul": _addcmul,
    "sum": _sum,
    "mean": _mean,
    "mse_loss": _squared_error,
    "trace": _spelled("ii ", "self"),
    "mm": _spelled(_MM, "self", "mat2"),
    "bmm": _spelled("bik bkj bij", "self", "mat2"),
    "mv": _spelled("ik k i", "self", "vec"),
    "dot": _spelled("k k ", "self", "tensor"),
    "vdot": _spelled("k k ", "self", "other"),
    "outer": _spelled("i j ij", "self", "vec2"),
    "addmm": _with_bias(_spelled(_MM, "mat1", "mat2")),
    "addmv": _with_bias(_spelled("ik k i", "mat", "vec")),
    "addr": _with_bias(_spelled("i j ij", "vec1", "vec2")),
    "addbmm": _with_bias(_spelled("bik bkj ij", "batch1", "batch2")),
    "baddbmm": _with_bias(_spelled("bik bkj bij", "batch1", "batch2")),
    "matmul": lambda o: product(o.tensor("self"), o.tensor("other")),
    "linear": _linear,
    "inner": _inner,
    "bilinear": _bilinear,
    "tensordot": _tensordot,
    "einsum": _einsum,
    "linalg_multi_dot": lambda o: reduce(product, o.tensors("tensors")),
    "chain_matmul": lambda o: reduce(product, o.tensors("matrices")),
    "linalg_matrix_power": lambda o: _power(o.tensor("self"), o.number("n"), product),
    "linalg_vecdot": _vecdot,
    "kron": _kron,
    **dict.fromkeys(("zeros", "zeros_like", "new_zeros"), lambda o: _filled(o, Fraction(0))),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), lambda o: _filled(o, Fraction(1))),
    **dict.fromkeys(("full", "full_like", "new_full"), lambda o: _filled(o, o.number("fill_value"))),
    "eye": _eye,
    "diag": _diag,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "stack": _stack,
    **dict.fromkeys(("vstack", "row_stack"), _stacked(2, 0)),
    "hstack": _hstack,
    "dstack": _stacked(3, 2),
    "column_stack": _column_stack,
    "block_diag": _block_diag,
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
    "flip": _flipped,
}
"""By the operator's name, whatever the overload: an operand of another kind is none."""
