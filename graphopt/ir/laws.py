"""Laws of operators that hold bit for bit: which calls give back an operand's elements, or what is simpler.

The table `laws.tsv` is made of candidates that were confirmed by execution, over every bit pattern of
the 16-bit types and the special values of the others (`python -m bench.operators.laws`). A NaN's payload
is left aside.
"""

import enum
import importlib.resources
import math
import re
from dataclasses import dataclass
from functools import cache

import torch

from graphopt.ir.literal import Lit


class Form(enum.Enum):
    """What a law says of an operator f and its operand x."""

    COPY = "copy"  # f(x) = x, with the literals that the law names
    SAME = "same"  # f(x, x) = x
    IDEMPOTENT = "idempotent"  # f(f(x)) = f(x)
    INVOLUTION = "involution"  # f(f(x)) = x
    CAST = "cast"  # f(x) = x, rounded to the dtype of the result
    FILLED = "filled"  # f(x) = the law's number
    PLUS_ZERO = "plus-zero"  # f(x) = x + 0: of −0.0, 0.0
    ABSOLUTE = "absolute"  # f(x) = |x|
    MINUS_ITSELF = "minus-itself"  # f(x) = x − x: 0, or NaN where x is not finite
    ONE = "one"  # f(x) = x − x + 1

    __hash__ = object.__hash__  # in C: laws are looked up for each node


@dataclass(frozen=True, slots=True)
class Condition:
    """What must be known of the operand besides.

    `kind` "number": no element is NaN; "finite": nor infinite; "one": it has size 1 along the dimensions that
    the bound names, or has one element where none are given. Else how each element that is no NaN compares
    with the bound: ">=", "<=", ">", "<"; ">>=": greater, or the very same bits; "<<=": smaller, or these.
    """

    kind: str
    bound: str = ""  # a parameter or a number
    default: str | None = None  # what the parameter is where it is not given; "": then nothing is asked


@dataclass(frozen=True, slots=True)
class Law:
    """One law of one operator, for values of some dtypes.

    `operands` names x (twice for SAME), `literals` what must be given as it stands, `free` the
    parameters that may be anything; all others are at their defaults. Operand and result have one type,
    but for CAST and FILLED, and but for dimensions of size 1. `op` ends in "/0", "/1" where the law is of
    one of several results.
    """

    op: str
    form: Form
    operands: tuple[str, ...]
    literals: tuple[tuple[str, float], ...]
    free: tuple[str, ...]
    kinds: str  # of dtypes: b(ool), i(nteger), f(loat), c(omplex)
    conditions: tuple[Condition, ...] = ()
    number: float = 0.0  # for FILLED


@cache
def _table() -> dict[str, tuple[Law, ...]]:
    found: dict[str, list[Law]] = {}
    for line in importlib.resources.files("graphopt.ir").joinpath("laws.tsv").read_text().splitlines():
        if not line.startswith("#"):
            op, form, operands, literals, free, kinds, conditions = line.split("\t")
            form, _, number = form.partition("=")
            pairs = (pair.split("=") for pair in filter(None, literals.split(",")))
            law = Law(
                op,
                Form(form),
                tuple(operands.split(",")),
                tuple((name, float(value)) for name, value in pairs),
                tuple(filter(None, free.split(","))),
                kinds,
                conditions_in(conditions),
                float(number or 0),
            )
            found.setdefault(op, []).append(law)
    return {op: tuple(laws) for op, laws in found.items()}


def conditions_in(text: str) -> tuple[Condition, ...]:
    """Conditions as the table spells them: ">=min=,<=max=1,finite,one dim=-1"."""
    found = []
    for part in filter(None, text.split(",")):
        kind, bound, default = _CONDITION.fullmatch(part).groups()  # type: ignore[union-attr]
        found.append(Condition(kind, bound, default))
    return tuple(found)


_CONDITION = re.compile(r"(number|finite|one|[<>]+=?) ?([^=]*)(?:=(.*))?")


@cache
def laws_of(op: str, *forms: Form) -> tuple[Law, ...]:
    """The confirmed laws of an operator, or of one of its results, in the order of the forms; none where
    nothing was confirmed."""
    return tuple(law for form in forms for law in _table().get(op, ()) if law.form is form)


def kind_of(dtype: torch.dtype) -> str:
    """The kind of a dtype, as in `Law.kinds`; "" where no law is confirmed for it."""
    if dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        return "f"
    if dtype in (torch.complex64, torch.complex128):
        return "c"
    if dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        return "i"
    return "b" if dtype is torch.bool else ""


def is_number(literal: object, number: float) -> bool:
    """Whether a literal is that number, the sign of zero included."""
    value = literal.value if isinstance(literal, Lit) else None
    if not isinstance(value, bool | int | float) or value != number:
        return False
    return math.copysign(1.0, value) == math.copysign(1.0, number)


def holds(source: torch.dtype, target: torch.dtype) -> bool:
    """Whether a dtype keeps every value of another apart, so that a cast there and back changes nothing."""
    if source == target:
        return True
    if kind_of(source) == "b":
        return kind_of(target) != ""
    if kind_of(source) == kind_of(target) == "i":
        return source.itemsize <= target.itemsize  # two's complement: a sign lost comes back
    if kind_of(source) == "i" and kind_of(target) == "f":
        return max(-torch.iinfo(source).min, torch.iinfo(source).max) <= 2 / torch.finfo(target).eps
    if kind_of(source) == kind_of(target) == "f":
        narrow, wide = torch.finfo(source), torch.finfo(target)
        return wide.eps <= narrow.eps and wide.max >= narrow.max
    return source == torch.complex64 and target == torch.complex128
