"""Candidates for laws that hold where something is known of the operand, and their confirmation.

Elements that do not meet the conditions are replaced by such that do: each condition is tried on all values
that it admits, its bounds and both zeros among them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphopt.ir.laws import Condition, Form, conditions_in
from graphopt.ir.resolve import resolve

Tensors = Callable[[torch.dtype], Tensor]
Equal = Callable[[Tensor, Tensor], bool]


class Candidate(NamedTuple):
    """A law that may hold; `form` with the number, where it is filled with one."""

    form: str
    op: str
    free: str
    conditions: str
    operands: str = "self"
    literals: tuple[tuple[str, float], ...] = ()


_COMPARISONS = (("ge", ">=", "<"), ("gt", ">", "<="), ("le", "<=", ">"), ("lt", "<", ">="))
IN_A_RANGE = (
    Candidate("copy", "relu.default", "", ">=0"),
    Candidate("copy", "relu6.default", "", ">=0,<=6"),
    Candidate("copy", "hardtanh.default", "min_val,max_val", ">=min_val=-1,<=max_val=1"),
    Candidate("copy", "leaky_relu.default", "", ">=0"),
    Candidate("copy", "leaky_relu.default", "negative_slope", ">0"),  # 0 · −1 = −0
    Candidate("copy", "elu.default", "alpha", ">=0"),
    Candidate("copy", "celu.default", "alpha", ">=0"),
    Candidate("copy", "prelu.default", "weight", ">0"),
    Candidate("copy", "threshold.default", "threshold,value", ">threshold"),
    *(Candidate("copy", f"{name}.default", "", ">>=0") for name in ("abs", "absolute")),
    *(Candidate("copy", f"clamp.{kind}", "min,max", ">=min=,<=max=") for kind in ("default", "Tensor")),
    *(Candidate("copy", f"clamp_min.{kind}", "min", ">=min") for kind in ("default", "Tensor")),
    *(Candidate("copy", f"clamp_max.{kind}", "max", "<=max") for kind in ("default", "Tensor")),
    *(Candidate("copy", name, "other", ">>=other")
      for name in ("maximum.default", "max.other", "fmax.default")),
    *(Candidate("copy", name, "other", "<<=other")
      for name in ("minimum.default", "min.other", "fmin.default")),
    Candidate("copy", "nan_to_num.default", "nan,posinf,neginf", "finite"),
    *(Candidate("copy", f"{name}.Scalar", "other", ">>=0,<other") for name in ("remainder", "fmod")),
    Candidate("filled=0", "isnan.default", "", "number"),
    *(Candidate("filled=0", f"{name}.default", "", "finite") for name in ("isinf", "isposinf", "isneginf")),
    Candidate("filled=1", "isfinite.default", "", "finite"),
    Candidate("filled=0", "signbit.default", "", ">>=0,number"),
    *(Candidate(f"filled={number}", f"{name}.default", "", f"{how}0,number")
      for name in ("sign", "sgn") for number, how in ((1, ">"), (-1, "<"))),
    *(Candidate(f"filled={number}", f"{name}.Scalar", "other", condition)
      for name, true, false in _COMPARISONS
      for number, condition in ((1, f"{true}other,number"), (0, f"{false}other"))),
    *(Candidate(f"filled={number}", f"{name}.Scalar", "other", condition)
      for name, number in (("eq", 0), ("ne", 1)) for condition in (">other", "<other")),
    Candidate("filled=0", "sub.Tensor", "", "finite", "self,other"),
)  # fmt: skip

_VALUES_AND_PLACES = (
    *((f"{name}.dim", "dim,keepdim", "one dim", ()) for name in ("max", "min", "median")),
    ("sort.default", "dim,descending", "one dim=-1", ()),
    ("sort.stable", "stable,dim,descending", "one dim=-1", ()),
    ("topk.default", "dim,largest,sorted", "one dim=-1", (("k", 1),)),
    ("kthvalue.default", "dim,keepdim", "one dim=-1", (("k", 1),)),
    ("mode.default", "dim,keepdim", "one dim=-1", ()),
    ("cummax.default", "dim", "one dim", ()),
    ("cummin.default", "dim", "one dim", ()),
)
OF_ONE_ELEMENT = (
    *(Candidate("copy", name, "dim,keepdim", "one dim")
      for name in ("amax.default", "amin.default", "max.default", "min.default", "median.default",
                   "prod.default", "prod.dim_int", "cumprod.default")),
    *(Candidate(form, f"{name}/{place}", free, condition, "self", literals)
      for name, free, condition, literals in _VALUES_AND_PLACES
      for place, form in enumerate(("copy", "filled=0"))),
    *(Candidate("filled=0", f"{name}.default", "dim,keepdim", "one dim") for name in ("argmax", "argmin")),
    Candidate("filled=0", "argsort.default", "dim,descending", "one dim=-1"),
    *(Candidate(form, name, "dim,keepdim", "one dim") for form in ("copy", "plus-zero")
      for name in ("sum.default", "sum.dim_IntList", "mean.default", "mean.dim", "nanmean.default",
                   "nansum.default", "logsumexp.default", "cumsum.default", "logcumsumexp.default")),
    *(Candidate("absolute", name, "dim,keepdim", "one dim", "self", ((order, number),))
      for name, order in (
          ("linalg_vector_norm.default", "ord"), ("norm.Scalar", "p"), ("norm.ScalarOpt_dim", "p"))
      for number in (1, math.inf, -math.inf)),
    Candidate("one", "softmax.int", "dim", "one dim"),
    Candidate("minus-itself", "log_softmax.int", "dim", "one dim"),
    *(Candidate("minus-itself", f"{name}.{kind}", "dim,keepdim", "one dim", "self", ((given, 0),))
      for name in ("var", "std")
      for kind, given in (("default", "unbiased"), ("dim", "unbiased"), ("correction", "correction"))),
)  # fmt: skip


def confirmed(values: Tensors, equal: Equal, dtypes: dict[str, tuple[torch.dtype, ...]]) -> Iterator[str]:
    """The lines of the table for the candidates that hold."""
    for candidates, holds in ((IN_A_RANGE, _holds_in_a_range), (OF_ONE_ELEMENT, _holds_of_one)):
        for one in candidates:
            kinds = "".join(
                kind for kind in "bif" if all(holds(one, values(dtype), equal) for dtype in dtypes[kind])
            )
            if kinds:
                fixed = ",".join(f"{name}={value}" for name, value in one.literals)
                fields = (f"aten.{one.op}", one.form, one.operands, fixed, one.free, kinds, one.conditions)
                yield "\t".join(fields)


def _expected(form: str, x: Tensor, result: Tensor) -> Tensor:
    kind, _, number = form.partition("=")
    match Form(kind):
        case Form.FILLED:
            return torch.full_like(result, float(number))
        case Form.PLUS_ZERO:
            return x + 0.0 if x.is_floating_point() else x
        case Form.ABSOLUTE:
            return x.abs()
        case Form.MINUS_ITSELF:
            return x - x
        case Form.ONE:
            return x - x + 1
    return x


def _holds_in_a_range(one: Candidate, values: Tensor, equal: Equal) -> bool:
    f, ran = resolve(f"aten.{one.op}"), False
    edges = torch.tensor([0.0, -0.0, 1.0, 0.25, 6.0, -1.5, 2.0]).to(values.dtype)
    every = torch.cat([edges, _some(values) if one.free else values])
    for shaped in (every, every[::2], every[: len(every) // 2 * 2].view(2, -1).t(), *every[:4].unbind()):
        for tried in _given(one, shaped):
            admitted = _admitted(one, shaped, tried)
            if admitted is None:
                continue
            x, given = admitted
            try:
                result = f(**dict.fromkeys(one.operands.split(","), x), **given)
            except (RuntimeError, TypeError, IndexError):
                continue
            if result.shape != x.shape or (not one.form.startswith("filled") and result.dtype != x.dtype):
                continue
            ran = True
            if not equal(result, _expected(one.form, x, result)):
                return False
    return ran


def _some(values: Tensor) -> Tensor:
    """The special values and some others, for what takes many calls."""
    return torch.cat([values[:25], values[25 :: len(values) // 401 + 1]])


def _given(one: Candidate, x: Tensor) -> Iterator[dict[str, Any]]:
    """What the free parameters are tried with."""
    names = [name for name in one.free.split(",") if name]
    # Numbers beyond the dtype, and such as round in it, are none of its integers.
    numbers: list[Any] = [0.1, 0.0, -0.0, -1.5, math.inf, -math.inf]
    if not x.is_floating_point():
        numbers = [0, 1, -1, 3]
        limits = torch.iinfo(x.dtype) if x.dtype is not torch.bool else None
        numbers = [n for n in numbers if limits is not None and limits.min <= n <= limits.max]
    rolled = x.roll(3) if x.dim() else x.clone()
    limit = torch.finfo(x.dtype).max if x.is_floating_point() else math.inf
    filled = [number for number in numbers if abs(number) <= limit or math.isinf(number)]
    tensors = [torch.full_like(x, number) for number in filled] + [rolled, torch.zeros((), dtype=x.dtype)]
    choices = [*numbers, *tensors] if len(names) == 1 else numbers
    if "weight" in names:
        choices = [torch.full((1,), number, dtype=x.dtype) for number in filled]
    yield {}
    for name in names:
        yield from ({name: value} for value in (*choices, *tensors[:2]))
    for picked in itertools.product(choices, repeat=len(names)) if len(names) > 1 else ():
        yield dict(zip(names, picked, strict=True))


def _admitted(one: Candidate, x: Tensor, given: dict[str, Any]) -> tuple[Tensor, dict[str, Any]] | None:
    """The tensor with elements that meet the conditions alone, and the same strides or as wide ones; where
    each is compared with one of another tensor, those of both that do. None where there are none."""
    fits = torch.ones_like(x, dtype=torch.bool)
    for condition in conditions_in(one.conditions):
        fits &= _meets(condition, x, given)
    flat = x[fits]
    if not flat.numel():
        return None
    if any(isinstance(bound, Tensor) and bound.shape == x.shape and x.dim() for bound in given.values()):
        return flat, {n: b[fits] if isinstance(b, Tensor) and b.dim() else b for n, b in given.items()}
    admitted = torch.where(fits, x, flat[0])
    return admitted if x.is_contiguous() else torch.stack([admitted, admitted], -1)[..., 0], given


def _meets(condition: Condition, x: Tensor, given: dict[str, Any]) -> Tensor:
    nan = x.isnan()
    if condition.kind == "number":
        return ~nan
    if condition.kind == "finite":
        return x.isfinite()
    bound = given.get(condition.bound)
    if bound is None:
        text = condition.bound if condition.default is None else condition.default
        if not text or text.isidentifier():  # the operator raises where it has to be given
            return torch.ones_like(nan)
        bound = float(text)
    if not isinstance(bound, Tensor):
        wide = torch.tensor(bound, dtype=torch.float64 if isinstance(bound, float) else torch.int64)
        near = wide.to(x.dtype)
        # As it stands, and as it rounds: both must be met.
        bounds = [near, wide] if x.is_floating_point() else [near]
    else:
        bounds = [bound]
    met = torch.ones_like(nan)
    for other in bounds:
        number = x.to(other.dtype) if other.dim() == 0 else x
        same = (number == other) & (number.signbit() == other.signbit())
        compared = {
            ">=": number >= other, "<=": number <= other, ">": number > other, "<": number < other,
            ">>=": (number > other) | same, "<<=": (number < other) | same,
        }[condition.kind]  # fmt: skip
        met &= (compared | nan) & ~other.isnan()
    return met


def _holds_of_one(one: Candidate, values: Tensor, equal: Equal) -> bool:
    name, _, place = one.op.partition("/")
    f, ran = resolve(f"aten.{name}"), False
    for x, dim in _with_one(values):
        for given in _along(one, dim):
            try:
                results = f(x, **given, **{name: _number(name, value) for name, value in one.literals})
            except (RuntimeError, TypeError, IndexError):
                continue
            result = results[int(place)] if place else results
            if result.numel() != x.numel() or (not one.form.startswith("filled") and result.dtype != x.dtype):
                continue
            ran = True
            if not equal(result, _expected(one.form, x, result).reshape(result.shape)):
                return False
    return ran


def _with_one(values: Tensor) -> Iterator[tuple[Tensor, list[int] | None]]:
    """Tensors, and dimensions along which they have one element; None: they have one altogether."""
    few = torch.cat([values[:25], values[25 :: len(values) // 401 + 1]])
    for number in torch.cat([values[:2], values[6:25:5]]):
        yield number, None
        yield number.view(1, 1), None
        yield number.view(1), [0]
        yield number, [-1]
    if values.itemsize <= 2:
        yield values.view(-1, 1), [1]
    for some in (few, few[:2], few[9:12], few[4:12], few[:17]):
        half = some[: len(some) // 2 * 2]
        yield some.view(-1, 1), [1]
        yield some.view(1, -1), [0]
        yield some.view(1, 1, -1), [0, 1]
        yield some.view(1, -1, 1), [0, -1]
        yield half.view(2, 1, -1), [1]
        yield half.view(-1, 1, 2).transpose(0, 2), [-2]
        yield torch.stack([some, some], -1)[:, :1], [1]


def _along(one: Candidate, dim: list[int] | None) -> Iterator[dict[str, Any]]:
    """The free parameters: along dimensions, and whatever the others are."""
    names = [name for name in one.free.split(",") if name]
    spelled: list[dict[str, Any]] = [{}] if dim is None else [{"dim": dim}]
    if dim is not None and len(dim) == 1:
        spelled += [{"dim": dim[0]}, *([{}] if dim == [-1] and "=-1" in one.conditions else [])]
    for along in spelled:
        if "dim" in along and "dim" not in names:
            continue
        others = [name for name in names if name != "dim"]
        for picked in itertools.product((False, True), repeat=len(others)):
            yield {**along, **dict(zip(others, picked, strict=True))}
        yield along


def _number(name: str, value: float) -> Any:
    return bool(value) if name == "unbiased" else int(value) if math.isfinite(value) else value
