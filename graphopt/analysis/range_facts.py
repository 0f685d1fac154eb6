"""What operators' results lie between, by what their operands do. Tests confirm each fact by execution."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from graphopt.analysis.intervals import (
    ANY,
    Range,
    absolute,
    added,
    any_of,
    divided,
    larger,
    multiplied,
    negated,
    rounded,
    smaller,
    squared,
    union,
)
from graphopt.ir.graph import Arg, Sequence, Value
from graphopt.ir.laws import kind_of
from graphopt.ir.literal import Lit
from graphopt.ir.types import TensorType


@dataclass(frozen=True)
class Given:
    """The operands of a node, by parameter, for a result of a dtype."""

    operands: dict[str, Arg]
    range_of: Callable[[Value], Range]
    dtype: torch.dtype

    def __getitem__(self, name: str) -> Range:
        """What an operand lies between as the operator computes with it: of the dtype of the result."""
        return rounded(self.raw(name), self.dtype)

    def raw(self, name: str) -> Range:
        """What an operand lies between; ANY for what is not given."""
        arg = self.operands.get(name)
        if isinstance(arg, Value):
            return self.range_of(arg)
        if not isinstance(arg, Lit) or not isinstance(arg.value, int | float) or arg.value != arg.value:
            return ANY
        return Range(arg.value, arg.value)

    def number(self, name: str, default: float) -> Range:
        """What a number that may be left out lies between."""
        return self[name] if name in self.operands else rounded(Range(default, default), self.dtype)

    def scaled(self, name: str) -> Range:
        """What alpha times an operand lies between; it may be rounded before it is added."""
        return rounded(multiplied(self[name], self.number("alpha", 1)), self.dtype)

    def all(self, name: str) -> Range:
        """What the tensors of a list lie between."""
        arg = self.operands.get(name)
        items = arg.items if isinstance(arg, Sequence) else ()
        values = [item for item in items if isinstance(item, Value)]
        if not values or len(values) != len(items):
            return ANY
        return union(rounded(self.range_of(value), self.dtype) for value in values)

    def elements(self, name: str) -> bool:
        """Whether a tensor is known to have elements."""
        arg = self.operands.get(name)
        kind = arg.type if isinstance(arg, Value) else None
        return isinstance(kind, TensorType) and all(isinstance(n, int) and n > 0 for n in kind.shape)


Fact = Callable[[Given], Range]


def _between(low: float, high: float, infinite: bool = False) -> Fact:
    """Whatever the operand; NaN of NaN, and where `infinite` says so, of infinities."""

    def fact(o: Given) -> Range:
        x = o["self"]
        return Range(low, high, x.nan or (infinite and x.may_be_infinite))

    return fact


def _same(name: str) -> Fact:
    return lambda o: o[name]


def _add(o: Given) -> Range:
    return added(o["self"], o.scaled("other"))


def _sub(o: Given) -> Range:
    return added(o["self"], negated(o.scaled("other")))


def _rsub(o: Given) -> Range:
    return added(o["other"], negated(o.scaled("self")))


def _mul(o: Given) -> Range:
    if o.operands["self"] == o.operands["other"]:
        return squared(o["self"])
    return multiplied(o["self"], o["other"])


def _div(o: Given) -> Range:
    return ANY if "rounding_mode" in o.operands else divided(o["self"], o["other"])


def _pow(o: Given) -> Range:
    exponent = o.operands.get("exponent")
    if exponent in (Lit(2), Lit(2.0)):
        return squared(o["self"])
    even = isinstance(exponent, Lit) and isinstance(exponent.value, int) and exponent.value % 2 == 0
    positive = even and kind_of(o.dtype) == "f"
    return Range(0.0, math.inf, o["self"].nan) if positive else ANY


def _exp(o: Given) -> Range:
    x = o["self"]
    return Range(0.0, 1.0 if x.high <= 0 else math.inf, x.nan)


def _sqrt(o: Given) -> Range:
    x = o["self"]
    return Range(0.0 if x.is_positive else -0.0, max(1.0, x.high), x.nan or x.low < 0)


def _clamp(low: str, high: str, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Fact:
    def fact(o: Given) -> Range:
        x = o["self"]
        if low in o.operands or bounds[0] > -math.inf:
            x = larger(x, o.number(low, bounds[0]))
        if high in o.operands or bounds[1] < math.inf:
            x = smaller(x, o.number(high, bounds[1]))
        return x

    return fact


def _relu(o: Given) -> Range:
    return larger(o["self"], Range(0, 0))


def _nan_to_num(o: Given) -> Range:
    x, limits = o["self"], any_of(o.dtype)
    if set(o.operands) != {"self"} or kind_of(o.dtype) != "f" or limits is None:
        return ANY if kind_of(o.dtype) == "f" else x
    most = torch.finfo(o.dtype).max
    numbers = smaller(larger(x, Range(-most, -most)), Range(most, most))
    return union([Range(numbers.low, numbers.high), *([Range(0.0, 0.0)] if x.nan else [])])


def _sum(o: Given) -> Range:
    """Of the sign alone: sums round, and means may be above the largest element."""
    x = o["self"]
    opposite = x.low == -math.inf and x.high == math.inf
    if kind_of(o.dtype) != "f":
        return ANY
    nan = x.nan or opposite or not o.elements("self")
    # A sum of finite numbers may overflow one way and be taken back the other way.
    if x.is_positive:
        return Range(0.0, math.inf, nan)
    return Range(-math.inf, math.inf, nan or x.low < 0 < x.high)


def _prod(o: Given) -> Range:
    x = o["self"]
    if kind_of(o.dtype) != "f" or not x.is_positive:
        return ANY
    return Range(0.0, 1.0, x.nan) if x.high <= 1 else Range(0.0, math.inf, True)


def _where(o: Given) -> Range:
    return union([o["self"], o["other"]])


def _with_zeros(o: Given) -> Range:
    return union([o["self"], Range(0.0, 0.0)])


def _arange(o: Given) -> Range:
    given = o.number("start", 0), o.raw("end"), o.number("step", 1)
    if kind_of(o.dtype) != "i" or not all(one.is_finite and one.low == int(one.low) for one in given):
        return ANY
    numbers = range(*(int(one.low) for one in given))
    return Range(min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1])) if numbers else Range(0, 0)


def _place(o: Given) -> Range:
    """Where along a dimension, or in all of a tensor."""
    arg = o.operands.get("self")
    kind = arg.type if isinstance(arg, Value) else None
    if not isinstance(kind, TensorType) or not all(isinstance(n, int) for n in kind.shape):
        return Range(0, math.inf)
    return Range(0, max(math.prod(map(int, kind.shape)) - 1, 0))


def _number(value: float) -> Fact:
    return lambda o: Range(value, value)


def _facts(names: str, fact: Fact) -> dict[str, Fact]:
    return dict.fromkeys(names.split(), fact)


_MOVED = """
    alias alias_copy broadcast_to channel_shuffle chunk clone contiguous detach detach_copy diagonal
    expand expand_as expand_copy flatten flip fliplr flipud gather index_select lift_fresh
    lift_fresh_copy mT moveaxis movedim narrow numpy_T permute permute_copy pixel_shuffle
    pixel_unshuffle positive ravel repeat repeat_interleave reshape reshape_as roll rot90 select slice
    split split_with_sizes squeeze squeeze_copy swapaxes swapdims t take take_along_dim tensor_split
    tile transpose unbind unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze
    view view_as view_copy _reshape_alias _unsafe_view _to_copy to type_as amax amin msort cummax
    cummin"""
MOVED = frozenset(_MOVED.split())
"""Each element of each floating result is an element of the operand."""
FIRST = frozenset(
    ("max", "min", "median", "nanmedian", "kthvalue", "mode", "sort", "topk", "cummax", "cummin")
)
"""Of several results, the first has elements of the operand, and the others say where they were."""

FACTS: dict[str, Fact] = {
    **_facts(" ".join(sorted(MOVED)), _same("self")),
    **_facts("median kthvalue mode sort topk", _same("self")),
    **_facts("max min", lambda o: o["self"]),
    **_facts("max.other maximum", lambda o: larger(o["self"], o["other"])),
    **_facts("min.other minimum", lambda o: smaller(o["self"], o["other"])),
    **_facts("cat concat concatenate stack hstack vstack dstack column_stack", lambda o: o.all("tensors")),
    **_facts("where", _where),
    **_facts("masked_fill", lambda o: union([o["self"], o["value"]])),
    **_facts("tril triu diag_embed block_diag", _with_zeros),
    **_facts("sigmoid hardsigmoid", _between(0.0, 1.0)),
    **_facts("tanh erf", _between(-1.0, 1.0)),
    **_facts("sin cos", _between(-1.0, 1.0, infinite=True)),
    **_facts("softmax _softmax", _between(0.0, 1.0, infinite=True)),
    **_facts("log_softmax _log_softmax", _between(-math.inf, 0.0, infinite=True)),
    **_facts("log_sigmoid", _between(-math.inf, 0.0)),
    **_facts("sign", _between(-1, 1)),
    **_facts("exp exp2", _exp),
    **_facts("sqrt", _sqrt),
    **_facts("abs absolute", lambda o: absolute(o["self"])),
    **_facts("square", lambda o: squared(o["self"])),
    **_facts("pow", _pow),
    **_facts("neg negative", lambda o: negated(o["self"])),
    **_facts("add", _add),
    **_facts("sub subtract", _sub),
    **_facts("rsub", _rsub),
    **_facts("mul multiply", _mul),
    **_facts("div divide true_divide", _div),
    **_facts("relu", _relu),
    **_facts("clamp clip", _clamp("min", "max")),
    **_facts("clamp_min", _clamp("min", "")),
    **_facts("clamp_max", _clamp("", "max")),
    **_facts("hardtanh", _clamp("min_val", "max_val", (-1.0, 1.0))),
    **_facts("relu6", _clamp("", "", (0.0, 6.0))),
    **_facts("nan_to_num", _nan_to_num),
    **_facts("sum mean", _sum),
    **_facts("prod", _prod),
    **_facts("norm linalg_vector_norm var std",
             lambda o: Range(0.0, math.inf, True)),
    **_facts("zeros zeros_like new_zeros", _number(0.0)),
    **_facts("ones ones_like new_ones", _number(1.0)),
    **_facts("full full_like new_full", lambda o: o["fill_value"]),
    **_facts("eye one_hot", lambda o: Range(0.0, 1.0)),
    **_facts("arange", _arange),
    **_facts("argmax argmin argsort", _place),
}  # fmt: skip
"""By the operator's name, or name and overload. What is not here may be anything."""


def fact_of(op: str, result: int) -> Fact | None:
    """The fact of one result of an operator, by its number; None where nothing is known."""
    namespace, _, name = op.partition(".")
    base = name.partition(".")[0]
    if namespace != "aten":
        return None
    if result and base in FIRST:
        return _place
    return FACTS.get(name) or FACTS.get(base)
