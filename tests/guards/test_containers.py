"""What forward reads out of containers that a model holds, of whatever kind, is looked at in each call."""

import collections
import types
from array import array
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import graphopt

X = torch.ones(2)
SHOWN = {"a": 2.0}


class Config(dict[Any, float]):
    scale = 1.0


class Holding(nn.Module):
    def __init__(self, held: Any, read: Callable[[Any], float]) -> None:
        super().__init__()
        self.held, self.read = held, read

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.read(self.held)


def _first(held: Any) -> Any:
    return held[0]


def _a(held: Any) -> Any:
    return held["a"]


Case = tuple[Callable[[], Any], Callable[[Any], float], Callable[[Any], object]]
CASES: dict[str, Case] = {
    "a dictionary of its own class": (lambda: Config(a=2.0), _a, lambda h: h.update(a=5.0)),
    "its attributes": (lambda: Config(a=2.0), lambda h: h.scale, lambda h: setattr(h, "scale", 5.0)),
    "a counter": (lambda: collections.Counter(a=2), _a, lambda h: h.update(a=5)),
    "a dictionary that is shown": (
        lambda: types.MappingProxyType(SHOWN), _a, lambda h: SHOWN.update(a=SHOWN["a"] + 1)
    ),
    "keys that are floats": (lambda: {1.5: 2.0}, lambda h: h[1.5], lambda h: h.update({1.5: 5.0})),
    "keys with dots": (lambda: {"a.b": 2.0}, lambda h: h["a.b"], lambda h: h.update({"a.b": 5.0})),
    "keys like places": (lambda: {"@0": 2.0, "a": 1.0}, lambda h: h["@0"], lambda h: h.update({"@0": 5.0})),
    "keys that are tuples": (lambda: {(1, 2): 2.0}, lambda h: h[1, 2], lambda h: h.update({(1, 2): 5.0})),
    "keys that are dtypes": (
        lambda: {torch.int8: 2.0}, lambda h: h[torch.int8], lambda h: h.update({torch.int8: 5.0})
    ),
    "a set that grows": (lambda: {2.0}, sum, lambda h: h.add(5.0)),
    "a set of other members": (lambda: {2.0}, sum, lambda h: (h.clear(), h.add(5.0))),
    "a list in a default": (
        lambda: (lambda numbers=[2.0]: numbers[0]), lambda h: h(), lambda h: h.__defaults__[0].insert(0, 5.0)
    ),
}  # fmt: skip
EXCHANGED: dict[str, tuple[Any, Any, Callable[[Any], float]]] = {
    "a set": ({2.0}, {5.0}, sum),
    "a frozen set": (frozenset({2.0}), frozenset({5.0}), sum),
    "a range": (range(2, 3), range(5, 6), _first),
    "bytes": (b"\x02", b"\x05", _first),
}


@pytest.mark.parametrize("what", CASES)
def test_a_change_of_it_is_noticed(what: str) -> None:
    made, read, change = CASES[what]
    model = Holding(made(), read)
    opt = graphopt.optimize(model, (X,), measure=False, on_guard="recapture")
    before = model(X)
    assert torch.equal(opt(X), before)
    change(model.held)
    assert not torch.equal(model(X), before)
    assert torch.equal(opt(X), model(X))


@pytest.mark.parametrize("what", CASES)
def test_a_change_of_it_is_noticed_by_compilers(what: str) -> None:
    made, read, change = CASES[what]
    model = Holding(made(), read)
    torch._dynamo.reset()
    compiled = torch.compile(graphopt.optimize(model, (X,), measure=False).module, backend="eager")
    assert torch.equal(compiled(X), model(X))
    change(model.held)
    assert torch.equal(compiled(X), model(X))


def test_a_large_set_may_not_grow() -> None:
    model = Holding(set(range(100)), len)
    opt = graphopt.optimize(model, (X,), measure=False, on_guard="recapture")
    assert torch.equal(opt(X), model(X))
    model.held.add(1000)
    assert torch.equal(opt(X), model(X))


@pytest.mark.parametrize("what", EXCHANGED)
def test_another_in_its_place_is_noticed(what: str) -> None:
    one, other, read = EXCHANGED[what]
    model = Holding(one, read)
    opt = graphopt.optimize(model, (X,), measure=False, on_guard="recapture")
    assert torch.equal(opt(X), model(X))
    model.held = other
    assert torch.equal(opt(X), model(X))


@pytest.mark.parametrize("held", [array("d", [2.0]), bytearray(b"\x02"), memoryview(b"\x02")])
def test_an_array_of_numbers_is_refused(held: Any) -> None:
    with pytest.raises(graphopt.Unsupported, match="an array of numbers"):
        graphopt.optimize(Holding(held, _first), (X,), measure=False)


def test_a_container_that_stays_is_served_by_the_graph() -> None:
    held = {(1, 2): 2.0, "a.b": {3, 4}, "c": Config(a=1.0)}
    model = Holding(held, lambda h: h[1, 2] * len(h["a.b"]) * h["c"]["a"])
    opt = graphopt.optimize(model, (X,), measure=False, on_guard="error")
    for _ in range(3):
        assert torch.equal(opt(X), model(X))
