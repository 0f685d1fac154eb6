"""What the guard knows of the model's own tensors after calls that were served."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from graphopt.internals import look_of
from graphopt.module import serving_of

X = torch.randn(2, 4)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.register_buffer("scale", torch.ones(4, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.second(self.first(x)) * self.scale.real
        return h * 2 if self.first.weight.requires_grad else h


class Subclass(torch.Tensor):
    pass


def _set_data(model: Model, weight: torch.Tensor) -> None:
    model.first.weight.data = weight


CHANGES: dict[str, Callable[[Model], Any]] = {
    "a shape": lambda m: _set_data(m, torch.ones(1, 4)),
    "strides": lambda m: _set_data(m, torch.randn(4, 4).t()),
    "a dtype": lambda m: m.double(),
    "a device": lambda m: m.to("meta"),
    "requires_grad": lambda m: m.first.weight.requires_grad_(False),
    "a class": lambda m: m.register_buffer("scale", m.scale.as_subclass(Subclass)),
    "a layout": lambda m: m.register_buffer("scale", m.scale.to_sparse()),
    "no tensor": lambda m: m.register_buffer("scale", None),
    "one tensor for two": lambda m: setattr(m.second, "weight", m.first.weight),
}


@pytest.fixture(params=[True, False], ids=["gradients", "no gradients"])
def served(request: pytest.FixtureRequest) -> Any:
    model = Model()
    with torch.set_grad_enabled(request.param):
        opt = graphopt.optimize(model, (X,), verify=False, measure=False, on_guard="error")
        for _ in range(3):
            opt.module(X)
        yield opt, model


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_after_calls_that_were_served_is_noticed(name: str, served: Any) -> None:
    opt, model = served
    CHANGES[name](model)
    with pytest.raises(graphopt.errors.GuardError, match=r"state tensor|scale|requires_grad"):
        opt.module(X)


UNSEEN: dict[str, Callable[[Model], Any]] = {
    "other values": lambda m: _set_data(m, torch.randn(4, 4)),
    "a new parameter": lambda m: setattr(m.first, "weight", nn.Parameter(torch.randn(4, 4))),
    "the conjugate bit": lambda m: m.register_buffer("scale", m.scale.conj()),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_the_graph_does_not_depend_on_may_change(name: str, served: Any) -> None:
    opt, model = served
    UNSEEN[name](model)
    torch.testing.assert_close(opt.module(X), model(X))


def test_calls_under_other_modes_are_served_in_turn() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x)

    model = Plain()
    opt = graphopt.optimize(model, (X,), verify=False, measure=False, on_guard="error")
    for _ in range(2):
        for mode in (torch.no_grad(), torch.enable_grad(), torch.inference_mode()):
            with mode:
                assert torch.equal(opt.module(X), model(X))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_torchs_check_says_no_where_a_tensor_looks_different_or_comes_twice(mode: Any) -> None:
    with mode():
        _check_look()


def _check_look() -> None:
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    alike = look_of([a, b])
    assert alike is not None
    assert alike(torch.ones(2, 3), torch.zeros(2, 3))
    assert not alike(a, a)
    different = {
        "class": nn.Parameter(b),
        "subclass": b.as_subclass(Subclass),
        "dtype": b.double(),
        "shape": torch.randn(3, 3),
        "dimensions": torch.randn(2, 3, 1),
        "strides": torch.randn(3, 2).t(),
        "device": b.to("meta"),
        "layout": b.to_sparse(),
        "requires_grad": b.detach().requires_grad_(),
        "no tensor": 3,
        "None": None,
    }
    assert [name for name, other in different.items() if alike(a, other)] == []


def test_torchs_check_is_not_asked_about_layouts_that_it_tells_apart_in_part() -> None:
    assert look_of([torch.eye(2).to_sparse_csr()]) is None


def test_without_torchs_check_the_facts_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C._dynamo.guards, "TensorGuards")
    model = Model()
    opt = graphopt.optimize(model, (X,), verify=False, measure=False, on_guard="original")
    for _ in range(2):
        assert serving_of(opt.module).violation((X,), {}) == ""
    model.double()
    assert "state tensor" in serving_of(opt.module).violation((X,), {})
