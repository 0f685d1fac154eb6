"""Changes of a model's make-up after capture: what is added, removed, exchanged or shadowed is noticed."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import graphopt

X = torch.randn(4, 3)
TABLE = {"scale": 2.0, 3: 1.0}


class Various(nn.Module):
    scale = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3)])
        self.plain = nn.Linear(3, 3, bias=False)
        self.act: Any = F.relu
        self.part: Any = functools.partial(F.leaky_relu, negative_slope=0.5)
        self.factors = [1.0, 2.0]
        self.nested = {"a": {"b": 3.0}}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        x = self.part(self.act(self.plain(x))) * self.scale * getattr(self, "extra", 1.0)
        return x * sum(self.factors) * self.nested["a"]["b"] * TABLE["scale"] * TABLE[3]


CHANGES: dict[str, Callable[[Various], Any]] = {
    "a sub-module is appended": lambda m: m.layers.append(nn.Sigmoid()),
    "a sub-module is removed": lambda m: m.layers.__delitem__(0),
    "a missing bias is given": lambda m: setattr(m.plain, "bias", nn.Parameter(torch.ones(3))),
    "a function is exchanged": lambda m: setattr(m, "act", F.silu),
    "a partial is exchanged": lambda m: setattr(
        m, "part", functools.partial(F.leaky_relu, negative_slope=0.1)
    ),
    "forward is replaced": lambda m: setattr(m.plain, "forward", lambda x: x * 2),
    "a class attribute is shadowed": lambda m: setattr(m, "scale", 3.0),
    "an absent attribute is given": lambda m: setattr(m, "extra", 3.0),
    "a list grows": lambda m: m.factors.append(5.0),
    "a nested dictionary changes": lambda m: m.nested["a"].update(b=5.0),
    "the class is exchanged": lambda m: setattr(m.plain, "__class__", nn.Identity),
    "all attributes are exchanged": lambda m: setattr(m, "__dict__", Various().__dict__),
    "all parameters of a sub-module are exchanged": lambda m: setattr(
        m.plain, "_parameters", {"weight": nn.Parameter(torch.ones(3, 3)), "bias": None}
    ),
    "all sub-modules are exchanged": lambda m: setattr(m, "_modules", dict(Various()._modules)),
    "a global dictionary changes": lambda m: TABLE.update(scale=7.0),
    "an entry under a number changes": lambda m: TABLE.update({3: 7.0}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_noticed_when(name: str) -> None:
    model, before = Various(), dict(TABLE)
    strict = graphopt.optimize(model, (X,), verify=False, on_guard="error")
    lenient = graphopt.optimize(model, (X,), verify=False)
    strict(X)
    try:
        CHANGES[name](model)
        with pytest.raises(graphopt.GuardError):
            strict(X)
        with pytest.warns(UserWarning, match="runs the original"):
            assert torch.equal(lenient(X), model(X))
    finally:
        TABLE.clear()
        TABLE.update(before)


DEFAULT = torch.ones(3)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Tanh(), nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) * 2)


def test_sub_modules_that_exchange_their_names_but_not_their_order_are_noticed() -> None:
    model = Pair()
    opt = graphopt.optimize(model, (X,), verify=False, on_guard="error")
    first, second = model.first, model.second
    del model.first, model.second
    model.second, model.first = first, second
    with pytest.raises(graphopt.GuardError):
        opt(X)


class Tuples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factors = (2.0, 3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factors[0] + self.factors[1]


def test_a_tuple_exchanged_for_an_equal_one_is_served_and_for_another_one_not() -> None:
    model = Tuples()
    opt = graphopt.optimize(model, (X,), verify=False, on_guard="error")
    model.factors = (float("2"), float("3"))
    assert torch.equal(opt(X), model(X))
    model.factors = (2.0, 4.0)
    for _ in range(2):
        with pytest.raises(graphopt.GuardError):
            opt(X)
    model.factors = (2.0, 3.0)
    assert torch.equal(opt(X), model(X))


def test_a_default_that_is_a_tensor_may_be_given() -> None:
    def program(x: torch.Tensor, y: torch.Tensor = DEFAULT) -> torch.Tensor:
        return x + y

    opt = graphopt.optimize(program, (X,), on_guard="error", measure=False)
    assert torch.equal(opt(X), X + 1)
    assert torch.equal(opt(X, torch.zeros(3)), X)


def test_an_object_that_the_model_keeps_is_returned_and_no_copy_of_it() -> None:
    kept = [1, 2]
    opt = graphopt.optimize(lambda x: (x, kept), (X,), measure=False)
    assert opt(X)[1] is kept
    kept.append(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert opt(X)[1] is kept and kept == [1, 2, 3]


def test_keys_of_other_types_are_told_apart() -> None:
    opt = graphopt.optimize(
        lambda d: {k: v * 2 for k, v in d.items()}, ({1: X},), on_guard="error", measure=False
    )
    with pytest.raises(graphopt.GuardError, match="keys"):
        opt({True: X})


def test_slices_are_compared_by_value() -> None:
    opt = graphopt.optimize(lambda x, s: x[s], (X, slice(0, 2)), on_guard="error", measure=False)
    assert torch.equal(opt(X, slice(0, 2)), X[:2])
    with pytest.raises(graphopt.GuardError):
        opt(X, slice(0, 3))


def test_sizes_divided_by_a_number_can_be_symbolic() -> None:
    opt = graphopt.optimize(
        lambda x: x.reshape(x.shape[0] // 2, -1), (X,), dynamic_shapes="auto", measure=False
    )
    assert opt(torch.randn(8, 3)).shape == (4, 6)


def test_a_pending_backward_pass_is_not_disturbed() -> None:
    model = nn.BatchNorm1d(3)
    pending = (torch.ones(3, requires_grad=True) * model.running_mean).sum()
    graphopt.optimize(model, (X,), measure=False)
    pending.backward()


def test_a_compiled_drop_in_follows_the_mode_of_a_sub_module() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    compiled = torch.compile(graphopt.optimize(model, (X,), measure=False).module, backend="eager")
    compiled(X)
    model[1].eval()
    assert torch.equal(compiled(X), model(X))


def test_containers_can_be_indexed_through_the_drop_in() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    module = graphopt.optimize(model, (X,), measure=False).module
    assert len(module) == 2
    assert module[0] is model[0]
    assert list(module) == list(model)
