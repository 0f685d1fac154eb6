"""What torch's own tools do to a model, they do to `opt.module` alike: names, copies, pruning, tracing."""

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

import graphopt
from graphopt.module import OptimizedModule, serving_of

X = torch.randn(2, 4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.register_buffer("count", torch.zeros(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return self.body(x)


def linear() -> nn.Module:
    return nn.Linear(4, 4)


def drop_in_and_twin(make: Callable[[], nn.Module], train: bool = False) -> tuple[OptimizedModule, nn.Module]:
    model = make().train(train)
    twin = copy.deepcopy(model)
    return graphopt.optimize(model, (X,), verify=False, measure=False).module, twin


def assert_equal(module: nn.Module, twin: nn.Module, x: torch.Tensor = X) -> None:
    results = []
    for net in (module, twin):
        torch.manual_seed(0)
        results.append(net(x))
    assert results[0].dtype is results[1].dtype
    assert torch.equal(*results)


class Clashing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.original, self.variants, self.newest = 1, 2, nn.Linear(4, 4)
        self._original, self._policy, self._variants, self._warned, self._retired = 3, 4, 5, 6, 7

    def retire(self) -> str:
        return "retired"

    def violation(self) -> str:
        return "violated"

    def extra_repr(self) -> str:
        return "clashing"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.newest(x) * self.variants


@pytest.mark.filterwarnings("ignore:graphopt runs the original")
def test_the_models_own_names_win() -> None:
    module, twin = drop_in_and_twin(Clashing)
    for name in ("original", "variants", "_original", "_policy", "_variants", "_warned", "_retired"):
        assert getattr(module, name) == getattr(twin, name)
    assert module.newest is serving_of(module).original.newest
    for name in ("retire", "violation", "extra_repr"):
        assert getattr(module, name)() == getattr(twin, name)()
    module.variants = twin.variants = 3
    assert_equal(module, twin)


def test_isinstance_and_the_signature_are_the_originals() -> None:
    module, twin = drop_in_and_twin(linear)
    assert isinstance(module, nn.Linear)
    assert isinstance(module, OptimizedModule)
    assert inspect.signature(module.forward) == inspect.signature(twin.forward)
    assert torch.equal(module(input=X), serving_of(module).original(input=X))


def test_a_forward_set_on_the_drop_in_may_call_the_one_before() -> None:
    module, twin = drop_in_and_twin(linear)
    before = module.forward
    module.forward = lambda x: before(x) + 1
    twin.load_state_dict(module.state_dict())
    assert torch.equal(module(X), twin(X) + 1)


def test_apply_meets_what_modules_lists_and_returns_the_drop_in() -> None:
    seen: list[nn.Module] = []
    for make in (Net, linear):
        module, _ = drop_in_and_twin(make)
        seen.clear()
        assert module.apply(seen.append) is module
        assert {id(each) for each in seen} == {id(each) for each in module.modules()}

    def clear(each: nn.Module) -> None:
        if type(each) is nn.Linear:
            nn.init.zeros_(each.weight)

    assert module.apply(clear).weight.abs().sum() == 0


class Symmetric(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu() + weight.triu(1).T


UTILITIES: dict[str, Callable[[nn.Module], object]] = {
    "parametrize": lambda m: nn.utils.parametrize.register_parametrization(m, "weight", Symmetric()),
    "weight norm": lambda m: nn.utils.parametrizations.weight_norm(m),
    "old weight norm": lambda m: nn.utils.weight_norm(m),
    "old spectral norm": lambda m: nn.utils.spectral_norm(m),
    "prune": lambda m: nn.utils.prune.l1_unstructured(m, "weight", 0.5),
}


@pytest.mark.parametrize("name", UTILITIES)
@pytest.mark.filterwarnings("ignore:graphopt runs the original", "ignore::FutureWarning")
def test_a_weight_can_be_reparametrised(name: str) -> None:
    module, twin = drop_in_and_twin(linear)
    for net in (module, twin):
        torch.manual_seed(1)
        UTILITIES[name](net)
    assert_equal(module, twin)
    assert list(module.state_dict()) == list(twin.state_dict())


@pytest.mark.filterwarnings("ignore:graphopt runs the original")
def test_a_reparametrised_weight_can_be_made_plain_again() -> None:
    for add, remove in (
        ("parametrize", lambda m: nn.utils.parametrize.remove_parametrizations(m, "weight")),
        ("prune", lambda m: nn.utils.prune.remove(m, "weight")),
    ):
        module, twin = drop_in_and_twin(linear)
        for net in (module, twin):
            UTILITIES[add](net)
            remove(net)
        assert_equal(module, twin)
        assert list(module.state_dict()) == list(twin.state_dict())


def test_a_reparametrised_model_is_captured_and_follows_its_parameters() -> None:
    model = nn.utils.parametrizations.weight_norm(linear())
    twin = copy.deepcopy(model)
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    assert opt.report.equivalent
    for net in (model, twin):
        net.parametrizations.weight.original0.data.mul_(2)
    assert_equal(opt.module, twin)


@pytest.mark.filterwarnings("ignore:graphopt runs the original")
def test_dtypes_follow_to_half_double_and_assigned_states() -> None:
    module, twin = drop_in_and_twin(Net)
    for change in ("half", "double", "bfloat16"):
        for net in (module, twin):
            assert getattr(net, change)() is net
        assert_equal(module, twin, X.to(twin.body[0].weight.dtype))
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in Net().state_dict().items()
    }
    for net in (module, twin):
        net.load_state_dict(state, assign=True)
    assert_equal(module, twin)


@pytest.mark.filterwarnings("ignore:graphopt runs the original")
def test_functional_call_takes_other_parameters_and_differentiates() -> None:
    module, twin = drop_in_and_twin(linear)
    parameters = {name: torch.randn_like(p) for name, p in twin.named_parameters()}
    calls = [
        lambda p, net=net: torch.func.functional_call(net, p, (X,)).square().sum() for net in (module, twin)
    ]
    assert torch.equal(calls[0](parameters), calls[1](parameters))
    gradients = [torch.func.grad(call)(parameters) for call in calls]
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in parameters)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torch_jit_traces_it_under_its_own_names(train: bool) -> None:
    module, twin = drop_in_and_twin(Net, train)
    traced = torch.jit.trace(module, (X,), check_trace=False)
    twin.load_state_dict(module.state_dict())
    assert list(traced.state_dict()) == list(torch.jit.trace(twin, (X,), check_trace=False).state_dict())
    saved = io.BytesIO()
    torch.jit.save(traced, saved)
    saved.seek(0)
    twin.load_state_dict(module.state_dict())
    assert_equal(torch.jit.load(saved), twin)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_torch_export_takes_it_in_both_modes(strict: bool, train: bool) -> None:
    module, twin = drop_in_and_twin(Net, train)
    program = torch.export.export(module, (X,), strict=strict)
    assert set(program.state_dict) == set(torch.export.export(twin, (X,), strict=strict).state_dict)
    assert_equal(program.module(), twin)


def test_torch_export_names_its_parameters_and_makes_sizes_symbolic() -> None:
    module, twin = drop_in_and_twin(Net)
    program = torch.export.export(module, (X,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    assert_equal(program.module(), twin, torch.randn(7, 4))


def test_compiled_in_training_its_gradients_are_the_originals() -> None:
    module, twin = drop_in_and_twin(Net, train=True)
    module.compile(fullgraph=True, backend="aot_eager")
    assert serving_of(module).original._compiled_call_impl is None
    for net in (module, twin):
        torch.manual_seed(0)
        net(X).square().sum().backward()
    assert torch.equal(module.body[0].weight.grad, twin.body[0].weight.grad)
    assert torch.equal(module.count, twin.count)


def test_copies_with_the_model_keep_what_is_shared() -> None:
    module, _ = drop_in_and_twin(Net)
    model = serving_of(module).original
    for clone in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        for pair in ((module, model), (model, module)):
            copied = clone(pair)
            drop_in, other = (
                copied if isinstance(pair[0], OptimizedModule) and pair[0] is module else copied[::-1]
            )
            assert serving_of(drop_in).original is other


def test_a_data_parallel_replica_is_the_originals() -> None:
    module, twin = drop_in_and_twin(linear)
    replica = module._replicate_for_data_parallel()
    assert type(replica) is nn.Linear
    assert not replica._parameters
    assert serving_of(module).original._parameters
    twin.load_state_dict(module.state_dict())
    assert_equal(nn.DataParallel(module), twin)


def test_state_dict_hooks_run_under_a_parent() -> None:
    module, _ = drop_in_and_twin(linear)
    seen: list[Any] = []
    module.register_load_state_dict_post_hook(lambda net, keys: seen.append(net))
    module.register_state_dict_post_hook(lambda net, *rest: seen.append(net))
    parent = nn.Sequential(module)
    parent.load_state_dict(parent.state_dict())
    assert len(seen) == 2


def test_a_drop_in_inside_a_model_is_captured_with_it() -> None:
    inner, _ = drop_in_and_twin(linear)
    model = nn.Sequential(inner, nn.Linear(4, 4))
    twin = copy.deepcopy(model)
    opt = graphopt.optimize(model, (X,), on_guard="error", measure=False)
    assert opt.report.equivalent
    assert_equal(opt.module, twin)
