"""Everything capture refuses, one test each, and that a refusal leaves no trace."""

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import graphopt
from graphopt.module import serving_of
from graphopt.verify.difference import difference
from graphopt.verify.observation import observe

X = torch.arange(8.0).reshape(2, 4) - 3
LOG: list[int] = []
GENERATOR = torch.Generator()


def refusal(model: Callable[..., Any], *args: Any) -> str:
    """The message with which a model is refused; asserts that nothing was left behind."""
    args = args or (X.clone(),)
    module = model if isinstance(model, nn.Module) else None
    before = observe(lambda: None, (), module=module)
    state = torch.get_rng_state(), random.getstate(), torch.is_grad_enabled(), torch.get_num_threads()
    contents = [a.clone() for a in args]
    with pytest.raises(graphopt.Unsupported) as raised:
        graphopt.optimize(model, args, measure=False)
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1:] == (random.getstate(), torch.is_grad_enabled(), torch.get_num_threads())
    assert all(map(torch.equal, contents, args))
    assert difference(before, observe(lambda: None, (), module=module)) is None
    assert raised.value.remedy
    return str(raised.value)


def test_control_flow_on_data_is_refused_at_its_line() -> None:
    def number(x: torch.Tensor) -> torch.Tensor:
        return x if x.sum().item() > 0 else x + 1

    def written(x: torch.Tensor) -> torch.Tensor:
        x.view(-1).add_(1)
        return x if x.sum() > 0 else x + 1

    for program in (number, written):
        message = refusal(program)
        assert "data-dependent" in message
        assert __file__ in message


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class Appends(Counts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return x + 1


class Settles(Counts):
    """Fills a cache and a flag on its first call."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.calls == 0:
            self.table = torch.arange(4.0)
            self.options = {"scale": 2.0}
            self.calls = 1
        return x * self.table * self.options["scale"]


def test_what_the_first_call_settles_is_kept_from_the_second_call_on() -> None:
    model = Settles()
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    assert model.calls == 0
    assert not hasattr(model, "table")
    with pytest.raises(graphopt.GuardError):
        opt(X)
    model(X)
    assert torch.equal(opt(X), model(X))
    model.table = torch.zeros(4)
    assert torch.equal(opt(X), model(X))
    model.options["scale"] = 3.0
    with pytest.raises(graphopt.GuardError, match="scale"):
        opt(X)


@pytest.mark.parametrize(("kind", "name"), [(Counts, "calls"), (Appends, "seen")])
def test_python_state_that_forward_changes_is_refused_and_put_back(kind: Any, name: str) -> None:
    model = kind()
    assert name in refusal(model)
    assert model.calls == 0
    assert model.seen == []


def test_a_global_or_closed_over_list_that_forward_fills_is_refused() -> None:
    mine: list[int] = []

    def fills_global(x: torch.Tensor) -> torch.Tensor:
        LOG.append(1)
        return x + 1

    def fills_closure(x: torch.Tensor) -> torch.Tensor:
        mine.append(1)
        return x + 1

    assert "LOG" in refusal(fills_global)
    assert "mine" in refusal(fills_closure)
    assert LOG == mine == []


def test_a_closed_over_tensor_that_forward_writes_is_left_as_it_was() -> None:
    total = torch.zeros(4)

    def program(x: torch.Tensor) -> torch.Tensor:
        total.add_(1)
        return x + total

    opt = graphopt.optimize(program, (X,), verify=False)
    assert torch.equal(total, torch.zeros(4))
    assert torch.equal(opt(X), X + 1)
    assert torch.equal(total, torch.ones(4))


def test_a_buffer_that_takes_part_in_gradients_after_a_call_is_left_a_constant() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("last", torch.zeros(2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last.copy_(x.exp()) * 2 if x[0, 0] < 0 else x

    model = Remembers()
    graphopt.optimize(model, (X.clone().requires_grad_(),), measure=False)
    assert not model.last.requires_grad
    assert torch.equal(model.last, torch.zeros(2, 4))


def test_printing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        print("hello")
        return x

    assert "prints" in refusal(program)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_random_numbers_from_outside_torch_are_refused(draw: Callable[[], float]) -> None:
    assert "random" in refusal(lambda x: x * draw())


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 100


def test_a_custom_backward_is_left_to_the_original() -> None:
    leaf, apply = X.clone().requires_grad_(), Doubled.apply
    for program in (Doubled.apply, lambda x: apply(x) + 1):
        opt = graphopt.optimize(program, (leaf,), measure=False)
        with torch.no_grad():
            assert serving_of(opt.module).violation((leaf,), {}) == ""
            assert torch.equal(opt(leaf), program(leaf))
        with pytest.warns(UserWarning, match="grad mode"):
            (gradient,) = torch.autograd.grad(opt(leaf).sum(), leaf)
        assert torch.equal(gradient, torch.full_like(X, 100))


PROGRAMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "sets requires_grad": lambda x: (x * 2).detach().requires_grad_(False),
    "retain_grad": lambda x: (x * 2).retain_grad(),
    "gradient hook": lambda x: (x * 2).register_hook(print),
    "grad": lambda x: x.grad,
    "grad_fn": lambda x: (x * 2).grad_fn,
    "version counter": lambda x: x * x._version,
    "memory address": lambda x: x * x.data_ptr(),
    "numpy": lambda x: x.numpy(),
    "torch.manual_seed": lambda x: torch.manual_seed(0) and torch.rand_like(x),
    "torch.get_rng_state": lambda x: torch.get_rng_state(),
    "autograd.grad": lambda x: torch.autograd.grad(x.sum(), x),
    "torch.Generator": lambda x: x + torch.rand(4, generator=GENERATOR),
    "torch.func.grad": lambda x: torch.func.grad(lambda y: y.square().sum())(x),
    "inference_mode": lambda x: _in_inference_mode(x),
    ".data": lambda x: x.data.mul_(2),
}


def _in_inference_mode(x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return x * 2


@pytest.mark.parametrize("name", PROGRAMS)
def test_effects_that_a_graph_would_drop_are_refused(name: str) -> None:
    assert name in refusal(
        PROGRAMS[name], X.clone().requires_grad_(name in ("grad_fn", "gradient hook", "retain_grad"))
    )


def test_backward_hooks_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    handle = model[0].register_full_backward_hook(lambda module, grads, outputs: None)
    assert "_backward_hooks of 0" in refusal(model)
    handle.remove()
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    model[0].register_full_backward_hook(lambda module, grads, outputs: None)
    with pytest.raises(graphopt.GuardError, match="hook"):
        opt(X)


def test_forward_hooks_are_traced_and_guarded() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    handle = model[0].register_forward_hook(lambda module, args, result: result * 2)
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    assert torch.equal(opt(X), model(X))
    other = model[0].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    with pytest.raises(graphopt.GuardError, match="hook"):
        opt(X)
    other.remove()
    assert torch.equal(opt(X), model(X))
    handle.remove()
    with pytest.raises(graphopt.GuardError, match="added or removed"):
        opt(X)


def _scaling(by: float) -> Callable[..., torch.Tensor]:
    return lambda module, args, result: result * by


def test_a_hook_exchanged_for_one_that_holds_another_number_is_noticed_at_the_first_call() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    handle = model[0].register_forward_hook(_scaling(2.0))
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    handle.remove()
    handle = model[0].register_forward_hook(_scaling(3.0))
    with pytest.raises(graphopt.GuardError, match="hook"):
        opt(X)
    handle.remove()
    model[0].register_forward_hook(_scaling(2.0))
    assert torch.equal(opt(X), model(X))


def test_variables_of_a_hook_are_guarded() -> None:
    factor, table = 2.0, {"by": 1.0}
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].register_forward_hook(lambda module, args, result: result * factor * table["by"])
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    assert torch.equal(opt(X), model(X))
    factor = 3.0
    with pytest.raises(graphopt.GuardError, match="hook"):
        opt(X)
    factor = 2.0
    table["by"] = 3.0
    with pytest.raises(graphopt.GuardError, match="by"):
        opt(X)


@pytest.fixture
def register_global() -> Iterator[Callable[..., Any]]:
    """Registers hooks of all modules, and removes them in the end."""
    handles = []

    def register(hook: Callable[..., Any], kind: str = "forward_hook") -> Any:
        handles.append(getattr(nn.modules.module, f"register_module_{kind}")(hook))
        return handles[-1]

    yield register
    for handle in handles:
        handle.remove()


def _doubled(module: nn.Module, args: Any, result: Any) -> Any:
    return result * 2 if isinstance(result, torch.Tensor) else None


def test_the_variables_of_a_hook_of_all_modules_are_guarded(register_global: Callable[..., Any]) -> None:
    factor = 2.0
    table = {"by": 1.0}

    def hook(module: nn.Module, args: Any) -> Any:
        return args[0] * factor * table["by"] if isinstance(module, nn.Linear) else None

    register_global(hook, "forward_pre_hook")
    model = nn.Sequential(nn.Linear(4, 4))
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    assert torch.equal(opt(X), model(X))
    factor = 3.0
    with pytest.raises(graphopt.GuardError, match="hook"):
        opt(X)
    factor = 2.0
    table["by"] = 3.0
    with pytest.raises(graphopt.GuardError, match="by"):
        opt(X)


def test_a_hook_of_all_modules_that_is_removed_is_noticed(register_global: Callable[..., Any]) -> None:
    handle = register_global(_doubled)
    model = nn.Sequential(nn.Linear(4, 4))
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    assert torch.equal(opt(X), model(X))
    handle.remove()
    with pytest.raises(graphopt.GuardError, match="added or removed"):
        opt(X)


def test_a_hook_of_all_modules_does_not_run_once_more_around_the_drop_in(
    register_global: Callable[..., Any],
) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    plain = graphopt.optimize(model, (X,), measure=False)
    register_global(_doubled)
    hooked = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    expected = model(X)
    assert torch.equal(hooked(X), expected)
    with pytest.warns(UserWarning, match="hook"):
        assert torch.equal(plain(X), expected)
    seen: list[str] = []
    hooked.module.register_forward_hook(lambda module, args, result: seen.append("own"))
    assert torch.equal(hooked(X), expected) and seen == ["own"]


class HooksItself(nn.Module):
    """Registers its hooks on the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.hooked = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.hooked:
            self.inner.register_forward_hook(_scaling(2.0))
            self.hooked = True
        return self.inner(x)


def test_hooks_that_the_first_call_registers_are_kept_from_the_second_call_on() -> None:
    model = HooksItself()
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    assert not model.inner._forward_hooks
    expected = model(X)
    assert torch.equal(opt(X), expected)


def test_a_hook_that_collects_is_refused() -> None:
    model, seen = nn.Sequential(nn.Linear(4, 4)), []
    model[0].register_forward_hook(lambda module, args, result: seen.append(result))
    assert "seen" in refusal(model)
    assert seen == []


@pytest.mark.parametrize(
    ("model", "args", "says"),
    [
        (3, (X,), "no model"),
        (nn.Linear, (X,), "no model"),
        ("missing.pt2", (X,), "missing.pt2"),
        (lambda x: x, (X, X), "signature"),
        (nn.Linear(3, 3), (X,), "raises without graphopt"),
        (torch.jit.script(nn.Linear(4, 4)), (X,), "TorchScript"),
        (torch.compile(nn.Linear(4, 4)), (X,), "compiled already"),
    ],
)
def test_what_is_no_capturable_call_is_refused(model: Any, args: tuple[Any, ...], says: str) -> None:
    with pytest.raises(graphopt.Unsupported, match=says):
        graphopt.optimize(model, args, measure=False)


def test_success_leaves_no_trace_either() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.LSTM(4, 4))
    model[0].weight.grad = torch.ones(4, 4)
    twin, attributes = copy.deepcopy(model), [set(vars(module)) for module in model.modules()]
    before = observe(lambda: None, (), module=model)
    random_state, x = torch.get_rng_state(), X.clone()
    graphopt.optimize(model, (x,), measure=False)
    assert torch.equal(random_state, torch.get_rng_state())
    assert difference(before, observe(lambda: None, (), module=model)) is None
    assert torch.equal(x, X)
    assert torch.equal(model[0].weight.grad, torch.ones(4, 4))
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert all(a.training == b.training for a, b in zip(model.modules(), twin.modules(), strict=True))


def test_a_buffer_that_takes_in_a_gradient_history_is_put_back() -> None:
    class Remembers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 3)
            self.register_buffer("last", torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.last.mul_(0.5).add_(self.linear(x).sum(0))
            return self.last * 2

    model = Remembers()
    opt = graphopt.optimize(model, (torch.randn(2, 3),), passes=[], measure=False)
    assert not model.last.requires_grad and model.last.is_leaf and not model.last.any()
    assert model.linear.weight.grad is None
    del opt
