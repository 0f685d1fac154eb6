"""`opt.module` is a drop-in: state, attributes, copies, compilers, parents, hooks, speed of the guards."""

import copy
import io
import pickle
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from graphopt.module import OptimizedModule, serving_of

X = torch.randn(2, 4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.register_buffer("count", torch.zeros(()), persistent=False)
        self.config = {"name": "net"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return self.body(x)

    def generate(self, n: int) -> int:
        return n + 1


def optimized(model: nn.Module, *args: Any) -> graphopt.Optimized:
    return graphopt.optimize(model, args or (X,), verify=False, measure=False, on_guard="error")


def test_names_and_state_are_the_originals() -> None:
    model = Net()
    module = optimized(model).module
    assert list(module.state_dict()) == list(model.state_dict())
    for names in ("named_parameters", "named_buffers", "named_modules"):
        ours = [name for name, _ in getattr(module, names)()]
        assert ours == [name for name, _ in getattr(model, names)()]
    assert all(a is b for a, b in zip(module.parameters(), model.parameters(), strict=True))
    assert module.config is model.config
    assert module.generate(1) == 2
    assert module.body is model.body
    with pytest.raises(AttributeError):
        module.missing  # noqa: B018


def test_state_loads_strictly_both_ways() -> None:
    model, other = Net(), Net()
    module = optimized(model).module
    module.load_state_dict(other.state_dict(), strict=True)
    assert torch.equal(model.body[0].weight, other.body[0].weight)
    Net().load_state_dict(module.state_dict(), strict=True)
    with pytest.raises(RuntimeError, match="Missing key"):
        module.load_state_dict({}, strict=True)


def test_moving_and_changing_mode_act_on_the_original_and_return_the_drop_in() -> None:
    model = Net()
    module = optimized(model).module
    assert module.eval() is module
    assert not model.training
    assert not module.body[2].training
    assert module.double() is module
    assert model.body[0].weight.dtype is torch.float64
    module.training = True
    assert model.training
    module.extra = 3
    assert model.extra == 3
    del module.extra
    assert not hasattr(model, "extra")


def test_it_works_as_a_part_of_another_module() -> None:
    model = Net()
    parent = nn.Sequential(optimized(model).module, nn.Linear(4, 2))
    twin = nn.Sequential(Net(), nn.Linear(4, 2))
    assert list(parent.state_dict()) == list(twin.state_dict())
    parent.load_state_dict(twin.state_dict())
    parent.eval()
    assert not model.training
    parent.to(torch.float64)
    assert model.body[0].weight.dtype is torch.float64


def test_it_trains_to_the_same_weights() -> None:
    model = Net()
    twin, opt = copy.deepcopy(model), optimized(model)
    results = []
    for net in (twin, opt.module):
        torch.manual_seed(0)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(5):
            optimizer.zero_grad()
            net(X).square().sum().backward()
            optimizer.step()
        results.append(net.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_copies_and_pickles_stand_on_their_own() -> None:
    model = Net().eval()
    module = optimized(model).module
    saved = io.BytesIO()
    torch.save(module, saved)
    saved.seek(0)
    copies = [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(saved, weights_only=False),
    ]
    for other in copies:
        assert torch.equal(other(X), model(X))
        other.body[0].weight.data.zero_()
        assert not torch.equal(other(X), model(X))
        assert len(serving_of(other).variants) == 1
        assert serving_of(other).violation((X,), {}) == ""
        with pytest.raises(graphopt.GuardError):
            other(torch.randn(3, 4))


LOAD = """
import sys, torch
from graphopt.module import OptimizedModule, serving_of
module = torch.load(sys.argv[1], weights_only=False)
x = torch.ones(5, 4)
assert serving_of(module).violation((x,), {}) == ""
print(module(x).sum().item())
"""


def test_a_pickle_runs_in_another_process(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU())
    module = optimized(model, torch.ones(5, 4)).module
    torch.save(module, tmp_path / "module.pt")
    run = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "module.pt")], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) == module(torch.ones(5, 4)).sum().item()


def test_torch_compile_takes_it_whole() -> None:
    model = Net().eval()
    compiled = torch.compile(optimized(model).module, fullgraph=True, backend="eager")
    assert torch.equal(compiled(X), model(X))
    other = torch.randn(3, 4)
    assert torch.equal(compiled(other), model(other))
    model.train()
    torch.manual_seed(0)
    expected = copy.deepcopy(model)(X)
    torch.manual_seed(0)
    assert torch.equal(compiled(X), expected)


@pytest.mark.parametrize("strict", [False, True])
def test_torch_export_takes_it_under_its_own_names(strict: bool) -> None:
    model = Net().eval()
    program = torch.export.export(optimized(model.eval()).module, (X,), strict=strict)
    assert set(program.graph_signature.parameters) == {name for name, _ in model.named_parameters()}
    assert torch.equal(program.module()(X), model(X))


def test_hooks_on_the_drop_in_run_around_the_graph() -> None:
    opt = optimized(nn.Linear(4, 4))
    seen = []
    opt.module.register_forward_pre_hook(lambda module, args: seen.append("before"))
    opt.module.register_forward_hook(lambda module, args, result: seen.append("after"))
    opt(X)
    assert seen == ["before", "after"]


def test_function_transforms_run() -> None:
    model = nn.Linear(4, 4)
    module = optimized(model, X[0]).module
    lenient = graphopt.optimize(model, (X[0],), verify=False, measure=False).module
    with pytest.warns(UserWarning, match="functorch"):
        assert torch.equal(torch.func.vmap(lenient)(X), torch.func.vmap(model)(X))
    zeros = {"weight": torch.zeros(4, 4), "bias": torch.zeros(4)}
    assert torch.equal(torch.func.functional_call(module, zeros, (X[0],)), torch.zeros(4))
    grads = [torch.func.grad(lambda x, m=m: m(x).sum())(X[0]) for m in (lenient, model)]
    assert torch.equal(*grads)


def test_a_saved_program_loads_in_plain_torch_with_its_own_names(tmp_path: Path) -> None:
    model = Net().eval()
    opt = optimized(model)
    opt.save(tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2")
    assert set(program.state_dict) >= set(model.state_dict())
    assert torch.equal(program.module()(X), model(X))
    again = graphopt.optimize(tmp_path / "net.pt2", (X,), on_guard="error", measure=False)
    assert torch.equal(again(X), model(X))


@pytest.mark.parametrize("inputs", [1, 8])
def test_a_call_costs_at_most_ten_microseconds_and_two_an_input_above_the_graph(inputs: int) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

        def forward(self, *xs: torch.Tensor) -> torch.Tensor:
            h = sum(xs)
            for layer in self.layers:
                h = layer(h)
            return h

    args = tuple(torch.randn(2, 4) for _ in range(inputs))
    opt = optimized(Sum().eval(), *args)
    opt(*args)
    differences = []
    with torch.no_grad():
        for _ in range(400):
            start = time.perf_counter()
            opt.module(*args)
            middle = time.perf_counter()
            opt.graph_module(*args)
            differences.append((middle - start) - (time.perf_counter() - middle))
    assert statistics.median(differences) < (10 + 2 * inputs) * 1e-6


def test_a_region_that_raises_leaves_the_mode_where_only_the_graph_with_gradients_has_it() -> None:
    def program(x: torch.Tensor) -> None:
        with torch.no_grad():
            torch.multinomial(x, 1)

    opt = graphopt.optimize(program, (torch.ones(3),), on_guard="error", measure=False)
    with torch.enable_grad(), pytest.raises(RuntimeError, match="probability"):
        try:
            opt(-torch.ones(3))
        finally:
            assert torch.is_grad_enabled()


def _retired() -> tuple[OptimizedModule, torch.nn.Module]:
    model = torch.nn.Linear(4, 4)
    module = graphopt.optimize(model, (torch.ones(2, 4),), measure=False).module
    serving_of(module).retire()
    return module, model


def test_a_drop_in_that_runs_the_original_for_good_is_not_asked_on_the_way() -> None:
    module, model = _retired()
    module.forward = None  # type: ignore[assignment]
    assert torch.equal(module(torch.ones(2, 4)), model(torch.ones(2, 4)))


HOOKS: dict[str, Callable[[Any, Callable[..., Any]], Any]] = {
    name: lambda m, hook, name=name: getattr(m, name)(hook)  # type: ignore[misc]
    for name in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook")
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", HOOKS)
def test_its_own_hooks_still_run(name: str, when: str) -> None:
    seen: list[object] = []
    module, model = _retired()
    if when == "before":
        module = graphopt.optimize(model, (torch.ones(2, 4),), measure=False).module
    HOOKS[name](module, lambda *given: seen.append(given))
    if when == "before":
        serving_of(module).retire()
    y = module(torch.ones(2, 4, requires_grad=True))
    y.sum().backward()
    assert len(seen) == 1
    assert torch.equal(y, model(torch.ones(2, 4)))


def test_it_compiles_copies_and_pickles_as_before() -> None:
    module, model = _retired()
    expected = model(torch.ones(2, 4))
    assert torch.equal(torch.compile(module, fullgraph=True, backend="eager")(torch.ones(2, 4)), expected)
    for made in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert torch.equal(made(torch.ones(2, 4)), expected)
    module.compile(backend="eager")
    assert torch.equal(module(torch.ones(2, 4)), expected)
