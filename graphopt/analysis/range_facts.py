"""What operators' results lie between, by what their operands do. Tests confirm each fact by execution."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from graphopt.analysis.intervals import (
    ANY,
    Range,
    absolute,
    added,
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
from graphopt.ir.operands import shape_of, type_of


@dataclass(frozen=True)
class Given:
    """The operands of a node, by parameter, for a result of a dtype."""

    operands: Mapping[str, Arg]
    range_of: Callable[[Value], Range]
    dtype: torch.dtype

    def __getitem__(self, name: str) -> Range:
        """What an operand lies between as the operator computes with it: of the dtype of the result."""
        return rounded(self.raw(name), self.dtype)

    def raw(self, name: str) -> Range:
        """What an operand lies between; ANY for what is not given."""
        match self.operands.get(name):
            case Value() as value:
                return self.range_of(value)
            case Lit(int() | float() as number) if number == number:
                return Range(number, number)
        return ANY

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
        ranges = [self.range_of(item) if isinstance(item, Value) else ANY for item in items] or [ANY]
        return union(rounded(one, self.dtype) for one in ranges)

    def elements(self, name: str) -> int | None:
        """How many elements a tensor has; None where calls decide that."""
        arg = self.operands[name]
        assert isinstance(arg, Value)
        return math.prod(shape_of(arg)) if type_of(arg).is_static else None


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
    if not isinstance(o.operands["exponent"], Lit):
        return ANY
    exponent = o.raw("exponent").low
    if exponent == 2:
        return squared(o["self"])
    return Range(0.0, math.inf, o["self"].nan) if exponent % 2 == 0 else ANY


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
    x = o["self"]
    if kind_of(o.dtype) != "f":
        return x
    if set(o.operands) != {"self"}:
        return ANY
    most = torch.finfo(o.dtype).max
    numbers = smaller(larger(x, Range(-most, -most)), Range(most, most))
    return union([Range(numbers.low, numbers.high), *([Range(0.0, 0.0)] if x.nan else [])])


def _sum(o: Given) -> Range:
    """Of the sign alone: sums round, and means may be above the largest element."""
    x = o["self"]
    nan = x.nan or not o.elements("self")
    # A sum of finite numbers may overflow one way and be taken back the other way.
    if x.is_positive:
        return Range(0.0, math.inf, nan)
    return Range(-math.inf, math.inf, nan or x.low < 0 < x.high)


def _median(o: Given) -> Range:
    return o["self"].with_nan(not o.elements("self"))


def _prod(o: Given) -> Range:
    x = o["self"]
    if not x.is_positive:
        return ANY
    return Range(0.0, 1.0, x.nan) if x.high <= 1 else Range(0.0, math.inf, True)


def _where(o: Given) -> Range:
    return union([o["self"], o["other"]])


def _with_zeros(o: Given) -> Range:
    return union([o["self"], Range(0.0, 0.0)])


def _arange(o: Given) -> Range:
    start, end, step = (o.operands.get(name, Lit(n)) for name, n in (("start", 0), ("end", 0), ("step", 1)))
    match start, end, step:
        # Others are rounded toward zero before, and floats that are added up may end past the last one.
        case Lit(int(first)), Lit(int(after)), Lit(int(by)) if by != 0 and kind_of(o.dtype) == "i":
            numbers = range(first, after, by)
            return union(Range(n, n) for n in (*numbers[:1], *numbers[-1:]) or (0,))
    return ANY


def _place(o: Given) -> Range:
    """Where along a dimension, or in all of a tensor."""
    elements = o.elements("self")
    return Range(0, math.inf if elements is None else max(elements - 1, 0))


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
    **_facts("view.dtype", lambda o: ANY),
    **_facts("kthvalue mode sort topk", _same("self")),
    **_facts("median", _median),
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
