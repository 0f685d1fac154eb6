"""What forward reads besides its arguments and its model's own attributes: classes, functions, variables."""

import copy
import functools
import os
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import graphopt
from graphopt.module import serving_of

X = torch.randn(2, 4)
FACTOR = 2.0


class Settings:
    bias = 1.0
    weight = torch.ones(4)


class Slotted:
    __slots__ = ("factor", "tensor")

    def __init__(self) -> None:
        self.factor = 2.0
        self.tensor = torch.ones(4)


def scaled(x: torch.Tensor, factor: float = 2.0, *, shift: float = 1.0) -> torch.Tensor:
    return x * factor + shift


class Base(nn.Module):
    factor = 3.0
    table = torch.full((4,), 2.0)
    pairs: ClassVar = {"a": 1.0}

    def inherited(self, x: torch.Tensor) -> torch.Tensor:
        return x - 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.helper(self.inherited(x))) * type(self).factor * self.table * self.twice


class Model(Base):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Tanh(), nn.Sigmoid())
        self.root = np.sqrt(np.float64(4.0))
        self.slotted = Slotted()

    @staticmethod
    def offset(x: torch.Tensor) -> torch.Tensor:
        return x + FACTOR

    @classmethod
    def shifted(cls, x: torch.Tensor) -> torch.Tensor:
        return cls.offset(x) + Settings.bias * Settings.weight + cls.pairs["a"]

    @property
    def twice(self) -> float:
        return self.slotted.factor * 2

    @torch.no_grad()
    def decorated(self, x: torch.Tensor) -> torch.Tensor:
        return x * FACTOR

    def helper(self, x: torch.Tensor) -> torch.Tensor:
        return self.decorated(scaled(self.shifted(x))) * self.root * self.slotted.tensor


def _set_global(name: str, value: object) -> None:
    globals()[name] = value


CHANGES: dict[str, Callable[[Model], Any]] = {
    "a class attribute": lambda m: setattr(Base, "factor", 5.0),
    "a class attribute that a subclass comes to shadow": lambda m: setattr(Model, "factor", 5.0),
    "an entry of a dictionary of the class": lambda m: Base.pairs.update(a=7.0),
    "an attribute of another class": lambda m: setattr(Settings, "bias", 5.0),
    "a tensor in another class": lambda m: setattr(Settings, "weight", torch.zeros(4)),
    "a method": lambda m: setattr(Model, "helper", lambda self, x: x * 7),
    "a method of one object": lambda m: setattr(m, "helper", types.MethodType(lambda self, x: x * 7, m)),
    "a method that a subclass comes to shadow": lambda m: setattr(Model, "inherited", lambda self, x: x * 7),
    "a forward that a subclass comes to shadow": lambda m: setattr(Model, "forward", lambda self, x: x * 7),
    "a static method": lambda m: setattr(Model, "offset", staticmethod(lambda x: x * 7)),
    "a class method": lambda m: setattr(Model, "shifted", classmethod(lambda cls, x: x * 7)),
    "a property": lambda m: setattr(Model, "twice", property(lambda self: 7.0)),
    "a decorated method": lambda m: setattr(Model, "decorated", lambda self, x: x * 7),
    "a function": lambda m: _set_global("scaled", lambda x: x * 7),
    "the defaults of a function": lambda m: setattr(scaled, "__defaults__", (7.0,)),
    "the keyword defaults of a function": lambda m: setattr(scaled, "__kwdefaults__", {"shift": 7.0}),
    "a global that methods read": lambda m: _set_global("FACTOR", 7.0),
    "a numpy scalar": lambda m: setattr(m, "root", np.float64(7.0)),
    "a number in a slot": lambda m: setattr(m.slotted, "factor", 7.0),
    "the order of sub-modules": lambda m: m.layers._modules.update({"0": m.layers._modules.pop("0")}),
    "two sub-modules, exchanged": lambda m: m.layers._modules.update(
        {"0": m.layers._modules["1"], "1": m.layers._modules["0"]}
    ),
}
_KINDS: tuple[type, ...] = (Settings, Base, Model)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    names = {name: globals()[name] for name in ("FACTOR", "scaled")}
    attributes = [(kind, {k: v for k, v in vars(kind).items() if not k.startswith("__")}) for kind in _KINDS]
    pairs, defaults, named = dict(Base.pairs), scaled.__defaults__, dict(scaled.__kwdefaults__)
    yield
    globals().update(names)
    for kind, before in attributes:
        for name in [name for name in vars(kind) if not name.startswith("__") and name not in before]:
            delattr(kind, name)
        for name, value in before.items():
            setattr(kind, name, value)
    Base.pairs.update(pairs)
    scaled.__defaults__, scaled.__kwdefaults__ = defaults, named


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_noticed_when_there_changes(name: str) -> None:
    model = Model()
    strict = graphopt.optimize(model, (X,), verify=False, on_guard="error")
    lenient = graphopt.optimize(model, (X,), verify=False)
    assert torch.equal(strict(X), model(X))
    CHANGES[name](model)
    with pytest.raises(graphopt.GuardError):
        strict(X)
    with pytest.warns(UserWarning, match="runs the original"):
        assert torch.equal(lenient(X), model(X))


def test_tensors_in_classes_and_slots_are_read_at_each_call() -> None:
    model = Model()
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    Base.table = torch.full((4,), 7.0)
    model.slotted.tensor = torch.full((4,), 7.0)
    assert torch.equal(opt(X), model(X))


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.zeros(4))
        self.register_buffer("b", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.b + x
        self.a.add_(1)
        return before + self.b


def test_tensors_tied_after_capture_are_noticed() -> None:
    model = Writes()
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    opt(X)
    model.b = model.a
    with pytest.raises(graphopt.GuardError, match="different objects"):
        opt(X)


def test_a_variable_of_a_function_among_the_arguments_is_guarded() -> None:
    factor = 2.0

    def set_factor(value: float) -> None:
        nonlocal factor
        factor = value

    def scale(x: torch.Tensor) -> torch.Tensor:
        return x * factor * FACTOR

    opt = graphopt.optimize(lambda x, f: f(x), (X, scale), on_guard="error", measure=False)
    assert torch.equal(opt(X, scale), scale(X))
    set_factor(3.0)
    with pytest.raises(graphopt.GuardError, match="factor"):
        opt(X, scale)
    set_factor(2.0)
    _set_global("FACTOR", 3.0)
    with pytest.raises(graphopt.GuardError, match="FACTOR"):
        opt(X, scale)


def test_a_tensor_that_a_function_among_the_arguments_reads_may_change_in_its_values_alone() -> None:
    weight = torch.ones(4)

    def scale(x: torch.Tensor) -> torch.Tensor:
        return x * weight.float()

    opt = graphopt.optimize(lambda x, f: f(x), (X, scale), on_guard="error", measure=False)
    weight.add_(1)
    assert torch.equal(opt(X, scale), X * 2)
    weight.data = weight.data.double()
    with pytest.raises(graphopt.GuardError, match="weight"):
        opt(X, scale)


def test_an_environment_variable_that_forward_asks_for_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return x * (2.0 if os.getenv("GRAPHOPT_TEST") else 3.0)

    opt = graphopt.optimize(program, (X,), on_guard="error", measure=False)
    assert torch.equal(opt(X), program(X))
    monkeypatch.setenv("GRAPHOPT_TEST", "1")
    with pytest.raises(graphopt.GuardError, match="GRAPHOPT_TEST is '1', captured with None"):
        opt(X)


def test_a_setting_that_layers_ask_for_is_guarded() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 3, 8)
    with torch.no_grad():
        opt = graphopt.optimize(model, (x,), on_guard="error", measure=False)
        opt(x)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with pytest.raises(graphopt.GuardError, match="get_fastpath_enabled"):
                opt(x)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act: Any = torch.sigmoid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_made_after_a_change_does_not_take_the_change_for_granted(copied: Any) -> None:
    model = Scaled()
    opt = graphopt.optimize(model, (X,), measure=False)
    assert serving_of(copied(opt.module)).violation((X,), {}) == ""
    model.act = torch.tanh
    with pytest.warns(UserWarning, match="runs the original"):
        assert torch.equal(copied(opt.module)(X), torch.tanh(X))


def weighted(
    weight: torch.Tensor, x: torch.Tensor, by: dict[str, float], *, rows: list[float]
) -> torch.Tensor:
    return x * weight * by["a"] * rows[0]


class Partly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = functools.partial(nn.functional.gelu, approximate="tanh")
        self.weighted = functools.partial(weighted, torch.tensor(3.0), by={"a": 2.0}, rows=[1.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x) + self.weighted(x)


HELD: dict[str, Callable[[Partly], object]] = {
    "a keyword": lambda m: m.act.keywords.update(approximate="none"),
    "one keyword less": lambda m: m.act.keywords.clear(),
    "an entry of a dictionary": lambda m: m.weighted.keywords["by"].update(a=5.0),
    "an entry of a list": lambda m: m.weighted.keywords["rows"].__setitem__(0, 7.0),
    "the elements of a tensor": lambda m: m.weighted.args[0].fill_(4.0),
}


@pytest.mark.parametrize("what", HELD)
def test_what_a_partial_function_holds_is_looked_at_in_each_call(what: str) -> None:
    model, x = Partly(), torch.randn(4)
    opt = graphopt.optimize(model, (x,), measure=False, on_guard="recapture")
    assert torch.equal(opt(x), model(x))
    before = model(x)
    HELD[what](model)
    assert not torch.equal(model(x), before)
    assert torch.equal(opt(x), model(x))
