"""Side effects of forward that leave no operator behind: each is refused, and undone."""

import collections
import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import graphopt
from graphopt.module import serving_of

X = torch.randn(2, 4)
CALLS = 0
TALLY: collections.Counter[str] = collections.Counter()
NESTED: dict[str, list[int]] = {"log": []}
STEPS = itertools.count()
ARRAY = np.zeros(2)


class Statistics:
    calls = 0


class Slotted:
    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0


class Names(list[str]):
    pass


class Model(nn.Module):
    calls = 0

    def __init__(self, effect: Callable[["Model"], Any]) -> None:
        super().__init__()
        self.effect = effect
        self.tally: collections.Counter[str] = collections.Counter()
        self.names = Names()
        self.data = bytearray(2)
        self.array = np.zeros(2)
        self.slotted = Slotted()
        self.steps = itertools.count()
        self.rows = (i for i in range(9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.effect(self)
        return x + 1


def _global(model: Model) -> None:
    global CALLS
    CALLS += 1


def _new_global(model: Model) -> None:
    global ABSENT
    ABSENT = 1


def _add(owner: Any, by: int = 1) -> None:
    owner.calls += by


EFFECTS: dict[str, tuple[Callable[[Model], Any], str]] = {
    "an attribute of the model's class": (lambda m: _add(type(m)), "Model.calls"),
    "an attribute of another class": (lambda m: _add(Statistics), "Statistics.calls"),
    "a global": (_global, "global CALLS"),
    "a new global": (_new_global, "global ABSENT"),
    "a counter": (lambda m: m.tally.update("a"), "tally"),
    "a global counter": (lambda m: TALLY.update("a"), "TALLY"),
    "a list in a global dictionary": (lambda m: NESTED["log"].append(1), "NESTED"),
    "a subclass of list": (lambda m: m.names.append("a"), "names"),
    "a bytearray": (lambda m: m.data.__setitem__(0, 1), "data"),
    "a numpy array": (lambda m: m.array.__setitem__(0, 1), "array"),
    "a global numpy array": (lambda m: ARRAY.__setitem__(0, 1), "ARRAY"),
    "a slot": (lambda m: _add(m.slotted), "slotted.calls"),
    "an iterator": (lambda m: next(m.steps), "steps"),
    "a generator": (lambda m: next(m.rows), "rows"),
    "a global iterator": (lambda m: next(STEPS), "STEPS"),
    "the environment": (lambda m: os.environ.update(GRAPHOPT_TEST="1"), "GRAPHOPT_TEST"),
    "what is printed": (lambda m: print("hello", file=sys.stderr), "prints"),
}


def _state(model: Model) -> tuple[Any, ...]:
    """All that the effects change."""
    own = (model.tally, model.names, bytes(model.data), model.array, model.slotted.calls, model.steps)
    shared = (type(model).calls, Statistics.calls, CALLS, "ABSENT" in globals(), TALLY, NESTED, ARRAY, STEPS)
    return (*map(repr, (*own, *shared)), model.rows.gi_frame.f_lasti, dict(os.environ))  # type: ignore


@pytest.mark.parametrize("name", EFFECTS)
def test_it_is_refused_and_undone_to_change(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    effect, says = EFFECTS[name]
    model = Model(effect)
    before = _state(model)
    with pytest.raises(graphopt.Unsupported, match=says) as raised:
        graphopt.optimize(model, (X,), measure=False)
    assert raised.value.remedy
    assert _state(model) == before
    assert capsys.readouterr() == ("", "")


def test_a_set_of_tensors_is_refused() -> None:
    kept = {torch.ones(4)}
    with pytest.raises(graphopt.Unsupported, match="set of tensors"):
        graphopt.optimize(lambda x: x + next(iter(kept)), (X,), measure=False)


def test_a_function_among_the_arguments_is_refused_where_it_fills_a_list() -> None:
    seen: list[torch.Tensor] = []
    with pytest.raises(graphopt.Unsupported, match="reads seen, a list"):
        graphopt.optimize(lambda x, f: f(x), (X, lambda x: seen.append(x) or x), measure=False)
    assert seen == []


def test_a_module_that_forward_makes_and_drops_is_no_effect() -> None:
    opt = graphopt.optimize(lambda x: Slotted().calls + x, (X,), on_guard="error", measure=False)
    assert torch.equal(opt(X), X)


class Marks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mark = 1
        return x + 1


def test_what_every_call_sets_alike_is_set_by_the_first_optimised_call() -> None:
    model = Marks()
    opt = graphopt.optimize(model, (X,), measure=False)
    assert not hasattr(model, "mark")
    with pytest.warns(UserWarning, match="mark is not there"):
        opt(X)
    assert model.mark == 1
    assert serving_of(opt.module).violation((X,), {}) == ""
    model.mark = 2
    assert "first call" in serving_of(opt.module).violation((X,), {})
    opt(X)
    assert model.mark == 1


def test_what_is_set_alike_where_no_guard_can_look_is_refused() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        Statistics.calls = 1
        return x + 1

    with pytest.raises(graphopt.Unsupported, match=r"Statistics\.calls"):
        graphopt.optimize(program, (X,), measure=False)
    assert Statistics.calls == 0
