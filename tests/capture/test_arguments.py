"""Arguments of unusual kinds: served exactly and guarded, or refused by one clear error."""

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import operator
import pathlib
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import graphopt
from graphopt.module import serving_of

X = torch.randn(2, 4)


class Colour(enum.Enum):
    RED = 2
    BLUE = 3


class Level(enum.IntEnum):
    LOW = 2
    HIGH = 3


Pair = collections.namedtuple("Pair", "tensor factor")


@dataclasses.dataclass
class Inner:
    factor: float


@dataclasses.dataclass
class Outer:
    inner: Inner


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    factor: float


class Shared:
    factor = 2


class Number(int):
    pass


class Deque(collections.deque):  # type: ignore[type-arg]
    pass


def holding_itself(make: Callable[[], Any], factor: float) -> Any:
    made = make()
    made.append(factor)
    made.append(made)
    return made


# How forward reads a factor from an argument, and two arguments that differ in it.
SERVED: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "numpy number": (lambda a: float(a), np.float32(2), np.float32(3)),
    "numpy number used as it is": (lambda a: a, np.float64(2), np.float64(3)),
    "negative zero of numpy": (lambda a: float(np.copysign(1, a)), np.float32(0.0), np.float32(-0.0)),
    "dtype": (lambda a: torch.ones((), dtype=a), torch.float64, torch.float16),
    "device": (lambda a: len(a.type), torch.device("cpu"), torch.device("meta")),
    "size": (lambda a: a.numel(), torch.Size([2, 3]), torch.Size([2, 4])),
    "enum": (lambda a: a.value, Colour.RED, Colour.BLUE),
    "int enum": (lambda a: a, Level.LOW, Level.HIGH),
    "subclass of int": (lambda a: a, Number(2), Number(3)),
    "named tuple": (lambda a: a.tensor * a.factor, Pair(X, 2), Pair(X, 3)),
    "none": (lambda a: 2 if a is None else 3, None, 0),
    "nested dataclasses": (lambda a: a.inner.factor, Outer(Inner(2.0)), Outer(Inner(3.0))),
    "slots": (lambda a: a.factor, Slotted(2.0), Slotted(3.0)),
    "set": (lambda a: len(a), {"a", "b"}, {"a", "b", "c"}),
    "frozen set": (lambda a: 2 if "a" in a else 3, frozenset("ab"), frozenset("cb")),
    "list that holds itself": (lambda a: a[1][1][0], holding_itself(list, 2.0), holding_itself(list, 3.0)),
    "deque that holds itself": (lambda a: a[1][1][0], holding_itself(Deque, 2.0), holding_itself(Deque, 3.0)),
    "slice": (lambda a: len(range(9)[a]), slice(0, 2), slice(0, 3)),
    "slice of floats": (lambda a: 2 if type(a.stop) is int else 3, slice(0, 2), slice(0, 2.0)),
    "range": (lambda a: sum(a), range(3), range(4)),
    "bytes": (lambda a: a[0], b"\2", b"\3"),
    "bytearray": (lambda a: a[0], bytearray(b"\2"), bytearray(b"\3")),
    "date": (lambda a: a.year, datetime.date(2000, 1, 1), datetime.date(2001, 1, 1)),
    "decimal": (lambda a: float(a), decimal.Decimal(2), decimal.Decimal(3)),
    "path": (lambda a: len(a.name), pathlib.Path("ab"), pathlib.Path("abc")),
    "pattern": (lambda a: len(a.pattern), re.compile("ab"), re.compile("abc")),
    "function": (lambda a: a(X), torch.sin, torch.cos),
    "partial": (lambda a: a(X), functools.partial(torch.add, other=2), functools.partial(torch.add, other=3)),
    "ellipsis": (lambda a: 2 if a is ... else 3, ..., 0),
    "nested sixty deep": (lambda a: 2, functools.reduce(lambda inner, _: [inner], range(60), X), [X]),
    "sparse": (lambda a: a.to_dense(), X.to_sparse(), (X + 1).to_sparse_csr()),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.filterwarnings("ignore:graphopt runs", "ignore:Sparse")
def test_an_unusual_argument_is_served_and_another_value_is_noticed(name: str) -> None:
    read, one, other = SERVED[name]

    def program(x: torch.Tensor, argument: Any) -> Any:
        return x * read(argument)

    opt = graphopt.optimize(program, (X, one), measure=False)
    assert opt.report.equivalent
    assert serving_of(opt.module).violation((X, one), {}) == ""
    assert serving_of(opt.module).violation((X, other), {}) != ""
    for argument in (one, other):
        expected, actual = program(X, argument), opt(X, argument)
        assert torch.equal(expected, actual) and expected.dtype is actual.dtype


def test_a_slice_of_tensors_is_read_at_each_call() -> None:
    def program(x: torch.Tensor, part: slice) -> torch.Tensor:
        return x * part.start

    opt = graphopt.optimize(program, (X, slice(torch.tensor(2), None)), on_guard="error", measure=False)
    start = torch.tensor(3)
    assert torch.equal(opt(X, slice(start, None)), X * 3)


class Threshold(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def closure(factors: list[int]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x * factors[0]


def by_class(kind: type) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x * kind.factor  # type: ignore[attr-defined]


def by_default(x: torch.Tensor, table: list[int] = [2]) -> torch.Tensor:  # noqa: B006
    return x * table[0]


IN_A_TUPLE: Any = ([],)
IN_A_TUPLE[0].append(IN_A_TUPLE)

REFUSED: dict[str, tuple[Any, str]] = {
    "numpy array": (np.ones(2), "ndarray"),
    "numpy array of no dimension": (np.array(2.0), "ndarray"),
    "generator": ((i for i in range(3)), "uses it up"),
    "iterator": (iter([1]), "uses it up"),
    "map": (map(abs, [1]), "uses it up"),
    "torch.Generator": (torch.Generator(), "cannot hold its state"),
    "storage": (torch.ones(2).untyped_storage(), "Storage"),
    "module": (Threshold(), "the module Threshold"),
    "module in a list": ([Threshold()], "the module Threshold"),
    "method": (Threshold().eval, "a method of a Threshold"),
    "method of a tensor": (torch.ones(2).sin, "a method of a Tensor"),
    "closure": (closure([2]), "reads factors, a list"),
    "closure over a class": (by_class(Shared), "reads kind, a type"),
    "changeable default": (by_default, "changeable defaults"),
    "class": (Shared, "the class Shared, which holds factor"),
    "Python module": (graphopt, "the Python module graphopt"),
    "lock": (threading.Lock(), "cannot be taken apart"),
    "set of tensors": ({X}, "order"),
    "tensor as a key": ({X: 1}, "key of class"),
    "set as a key": ({frozenset([1]): X}, "key of class"),
    "nested tensor": (torch.nested.nested_tensor([X, X]), "nested tensor"),
    "jagged tensor": (torch.nested.nested_tensor([X, X], layout=torch.jagged), "nested tensor"),
    "holding itself in a tuple": (IN_A_TUPLE, "by way of a tuple"),
    "ten thousand levels": (functools.reduce(lambda inner, _: [inner], range(10_000), X), "deeper than 64"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_or_watched_is_refused(name: str) -> None:
    argument, says = REFUSED[name]
    with pytest.raises(graphopt.Unsupported, match=says) as raised:
        graphopt.optimize(lambda x, a: x * 2, (X, argument), measure=False)
    assert raised.value.remedy


def test_an_order_that_a_new_set_would_not_have_is_refused() -> None:
    numbers = {8, 0}  # both fall into the first place: who comes first stays first
    turned = set((0, 8)) if list(numbers) == [8, 0] else set((8, 0))
    order = next(each for each in (numbers, turned) if list(set(list(each))) == list(each))
    assert graphopt.optimize(lambda x, a: x * next(iter(a)), (X, order), measure=False).report.equivalent
    grown = set(range(100)) - set(range(1, 100)) | {64}
    if list(set(list(grown))) != list(grown):
        with pytest.raises(graphopt.Unsupported, match="order"):
            graphopt.optimize(lambda x, a: x * 2, (X, grown), measure=False)


MISSING = object()


class Unset:
    pass


UNSET = Unset()


@pytest.mark.filterwarnings("ignore:graphopt runs")
@pytest.mark.parametrize(("mark", "other"), [(MISSING, object()), (UNSET, Unset())])
def test_an_object_that_forward_knows_by_identity_stays_itself(mark: object, other: object) -> None:
    def program(x: torch.Tensor, flag: object = MISSING) -> torch.Tensor:
        return x * 2 if flag is MISSING or flag is UNSET else x * 3

    calls = ((X,), (X, mark), (X, other))
    for example in calls:
        opt = graphopt.optimize(program, example, measure=False)
        assert opt.report.equivalent
        for call in calls:
            assert torch.equal(opt(*call), program(*call))


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = [2]
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("mask", torch.ones(4))

    def forward(self, x: torch.Tensor, table: Any, factor: torch.Tensor) -> torch.Tensor:
        own = table is self.table or factor is self.weight or factor is self.mask
        return x * (self.table[0] if own else 5) * factor


@pytest.mark.filterwarnings("ignore:graphopt runs")
def test_a_list_of_the_models_own_stays_itself_and_is_watched() -> None:
    model = Holder()
    opt = graphopt.optimize(model, (X, model.table, torch.ones(4)), measure=False)
    assert serving_of(opt.module).violation((X, model.table, torch.ones(4)), {}) == ""
    assert torch.equal(opt(X, model.table, torch.ones(4)), X * 2)
    model.table[0] = 3
    assert torch.equal(opt(X, model.table, torch.ones(4)), X * 3)
    assert torch.equal(opt(X, [2], torch.ones(4)), X * 5)


@pytest.mark.filterwarnings("ignore:graphopt runs")
def test_a_call_with_the_models_own_objects_is_told_from_one_without() -> None:
    model = Holder()
    plain = graphopt.optimize(model, (X, [2], torch.ones(4)), measure=False)
    parameter = graphopt.optimize(model, (X, [2], nn.Parameter(torch.ones(4))), measure=False)
    assert plain.report.equivalent and parameter.report.equivalent
    for opt in (plain, parameter):
        for call in ((X, model.table, torch.ones(4)), (X, [2], model.mask), (X, [2], model.weight)):
            assert torch.equal(opt(*call), model(*call))


@pytest.mark.parametrize("name", ["weight", "mask"])
def test_a_tensor_of_the_models_own_is_refused_as_an_example(name: str) -> None:
    model = Holder()
    with pytest.raises(graphopt.Unsupported, match="one object") as raised:
        graphopt.optimize(model, (X, [2], getattr(model, name)), measure=False)
    assert "a clone or a view" in raised.value.remedy
    assert graphopt.optimize(model, (X, [2], getattr(model, name)[:]), measure=False).report.equivalent


@pytest.mark.filterwarnings("ignore:graphopt runs")
def test_constants_of_an_arguments_class_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    opt = graphopt.optimize(lambda x, a: x * a.factor, (X, Shared()), measure=False)
    assert torch.equal(opt(X, Shared()), X * 2)
    monkeypatch.setattr(Shared, "factor", 3)
    assert torch.equal(opt(X, Shared()), X * 3)


@dataclasses.dataclass
class Named(dict):  # type: ignore[type-arg]
    hidden: Any = None

    def __post_init__(self) -> None:
        self["hidden"] = self.hidden


def test_a_constant_of_the_class_that_the_object_hides_is_not_asked() -> None:
    opt = graphopt.optimize(lambda a: a.hidden * 2, (Named(X),), on_guard="error", measure=False)
    assert torch.equal(opt(Named(X + 1)), (X + 1) * 2)


def test_a_function_that_reads_only_operators_is_served() -> None:
    opt = graphopt.optimize(lambda x, f: f(x, 2), (X, operator.mul), on_guard="error", measure=False)
    assert torch.equal(opt(X, operator.mul), X * 2)
