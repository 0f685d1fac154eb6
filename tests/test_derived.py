"""Derived parameters behind `opt.module`: never out of date, whatever changes the model."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import graphopt
from graphopt.cache.derived import Derived


class Folded(torch.nn.Module):
    """Much work on parameters, little on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(256, 256)
        self.b = torch.nn.Linear(256, 256)
        self.register_buffer("scale", torch.full((256,), 2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.a.weight @ self.b.weight * self.scale
        return torch.nn.functional.linear(x, weight, self.a.bias + self.b.bias)


def _optimized(model: torch.nn.Module | None = None) -> tuple[torch.nn.Module, graphopt.Optimized]:
    model = model or Folded().eval()
    opt = graphopt.optimize(model, (torch.rand(2, 256),), verify=False, measure=False)
    assert opt.graph.kept
    return model, opt


def _same(model: torch.nn.Module, opt: Any) -> bool:
    x = torch.rand(2, 256)
    with torch.no_grad():
        return torch.equal(model(x), opt(x))


def _kept(opt: graphopt.Optimized) -> list[torch.Tensor]:
    derived = [child for child in opt.graph_module.children() if isinstance(child, Derived)]
    return [value for one in derived for entry in one._entries.values() for value in entry.values]


def test_kept_values_are_the_same_objects_from_call_to_call() -> None:
    _, opt = _optimized()
    x = torch.rand(2, 256)
    with torch.no_grad():
        opt.graph_module(x)
        first = _kept(opt)
        opt.graph_module(x)
    assert first and all(a is b for a, b in zip(first, _kept(opt), strict=True))


def _ema(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9).add_(torch.rand_like(parameter), alpha=0.1)


def _assigned(model: torch.nn.Module) -> None:
    state = {name: torch.rand_like(tensor) for name, tensor in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def _step(make: Callable[..., torch.optim.Optimizer], **options: Any) -> Callable[[torch.nn.Module], None]:
    def step(model: torch.nn.Module) -> None:
        optimizer = make(model.parameters(), lr=0.1, **options)
        model(torch.rand(2, 256)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


CHANGES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda model: None,
    "fused adamw": _step(torch.optim.AdamW, fused=True),
    "fused adam": _step(torch.optim.Adam, fused=True),
    "fused sgd": _step(torch.optim.SGD, fused=True),
    "fused adagrad": _step(torch.optim.Adagrad, fused=True),
    "adamw": _step(torch.optim.AdamW),
    "sgd": _step(torch.optim.SGD),
    "data": lambda model: model.a.weight.data.mul_(2),
    "numpy": lambda model: model.a.weight.detach().numpy().fill(0.5),
    "numpy on a buffer": lambda model: model.scale.numpy().fill(0.5),
    "ema": _ema,
    "vector_to_parameters": lambda model: torch.nn.utils.vector_to_parameters(
        torch.rand(sum(p.numel() for p in model.parameters())), model.parameters()
    ),
    "there and back": lambda model: model.double().float(),
    "to another dtype": lambda model: model.bfloat16().float(),
    "load_state_dict": lambda model: model.load_state_dict(Folded().state_dict()),
    "load_state_dict assigned": _assigned,
    "train and eval": lambda model: model.train().eval(),
    "a new parameter": lambda model: setattr(model.a, "weight", torch.nn.Parameter(torch.rand(256, 256))),
    "data exchanged": lambda model: setattr(model.a.weight, "data", torch.rand(256, 256)),
    "frozen": lambda model: model.requires_grad_(False),
    "inference mode": lambda model: torch.inference_mode()(model.a.weight.add_)(1),
}


@pytest.mark.parametrize("through", ["the original", "the drop-in"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_is_noticed(change: str, through: str) -> None:
    model, opt = _optimized()
    assert _same(model, opt)
    CHANGES[change](model if through == "the original" else opt.module)
    assert _same(model, opt)
    assert _same(model, opt)
    CHANGES[change](model)
    assert _same(model, opt)


def test_a_write_that_nothing_counts_needs_invalidate() -> None:
    model, opt = _optimized()
    assert _same(model, opt)
    model.a.weight.data[77, 77] += 1.0
    opt.invalidate()
    assert _same(model, opt)


def test_a_call_that_runs_the_original_forgets_what_was_kept() -> None:
    model, opt = _optimized()
    assert _same(model, opt)
    model.a.weight.data[77, 77] += 1.0
    with pytest.warns(UserWarning, match="runs the original"), torch.no_grad():
        opt(torch.rand(5, 256))
    assert _same(model, opt)


def test_inference_tensors_are_computed_anew_each_time() -> None:
    with torch.inference_mode():
        model = Folded().eval().requires_grad_(False)
        opt = graphopt.optimize(model, (torch.rand(2, 256),), verify=False, measure=False)
        for _ in range(2):
            x = torch.rand(2, 256)
            assert torch.equal(model(x), opt(x))
            model.a.weight.data[77, 77] += 1.0
    assert not _kept(opt)


def test_calls_in_inference_mode_and_out_of_it_share_what_is_kept() -> None:
    model, opt = _optimized()
    x = torch.rand(2, 256)
    for context in (torch.inference_mode, torch.no_grad, torch.inference_mode):
        with context():
            assert torch.equal(model(x), opt(x))


def test_gradients_flow_into_every_source() -> None:
    model, opt = _optimized()
    assert _same(model, opt)
    x = torch.rand(2, 256)
    found = []
    for run in (model, opt):
        model.zero_grad()
        run(x).sum().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(map(torch.equal, *found))


class Raising(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.m = torch.nn.Parameter(torch.eye(200))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return x @ torch.linalg.cholesky(self.m.detach())


def test_a_derivation_that_raises_raises_as_eager_does_with_the_same_effects() -> None:
    model = Raising()
    twin = copy.deepcopy(model)
    opt = graphopt.optimize(model, (torch.rand(2, 200),), verify=False, measure=False)
    x = torch.rand(2, 200)
    for one in (model, twin):
        one.m.data[0, 0] = -1.0
    errors = []
    for one in (twin, opt):
        with torch.no_grad(), pytest.raises(torch.linalg.LinAlgError) as caught:
            one(x)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert torch.equal(model.calls, twin.calls)


def test_copies_and_pickles_derive_from_their_own_state() -> None:
    model, opt = _optimized()
    assert _same(model, opt)
    for twin in (copy.deepcopy(opt.module), pickle.loads(pickle.dumps(opt.module))):
        twin.a.weight.data.mul_(3)
        x = torch.rand(2, 256)
        with torch.no_grad():
            expected = copy.deepcopy(model)
            expected.a.weight.data.mul_(3)
            assert torch.equal(twin(x), expected(x))
    assert _same(model, opt)


def test_what_a_caller_does_to_the_result_reaches_no_kept_value() -> None:
    model, opt = _optimized()
    x = torch.rand(2, 256)
    with torch.no_grad():
        opt(x).fill_(float("nan"))
    assert _same(model, opt)


def test_sizes_have_values_of_their_own() -> None:
    class Positions(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n = x.shape[1]
            near = (torch.arange(n)[:, None] - torch.arange(n)[None]).abs().float().neg().exp().softmax(-1)
            return x @ near

    model = Positions()
    opt = graphopt.optimize(
        model,
        (torch.rand(3, 64),),
        dynamic_shapes=({1: torch.export.Dim.DYNAMIC},),
        verify=False,
        measure=False,
    )
    assert opt.graph.kept
    with torch.no_grad():
        for n in (64, 65, 64, 2, 1, 33, *range(40, 60)):
            x = torch.rand(3, n)
            assert torch.equal(model(x), opt(x))


def test_threads_that_change_and_call_see_their_own_changes() -> None:
    model, opt = _optimized()
    import threading

    wrong = []

    def work() -> None:
        for _ in range(20):
            if not _same(model, opt):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_compiled_code_follows_a_change_of_the_sources() -> None:
    model, opt = _optimized()
    computed = _count(opt)
    compiled = torch.compile(opt.module, fullgraph=True, backend="aot_eager")
    for change in (None, "data", "fused adamw", None, "load_state_dict assigned", None):
        before = len(computed)
        if change is not None:
            CHANGES[change](model)
            computed.clear()
            before = 0
        for _ in range(2):
            assert _same(model, compiled)
        assert len(computed) - before == (change is not None)


def _count(opt: graphopt.Optimized) -> list[int]:
    """Grows by each computation of kept values."""
    counted: list[int] = []
    for child in opt.graph_module.children():
        if isinstance(child, Derived):
            child._compute.register_forward_hook(lambda *_: counted.append(1))  # type: ignore[attr-defined]
    return counted


def test_a_model_compiled_elsewhere_is_still_served() -> None:
    model, opt = _optimized()
    torch.compile(model, backend="aot_eager")(torch.rand(2, 256))
    computed = _count(opt)
    assert _same(model, opt) and _same(model, opt)
    assert not computed
    assert graphopt.module.serving_of(opt.module).violation((torch.rand(2, 256),), {}) == ""


def test_a_saved_program_stores_what_is_derived(tmp_path: Path) -> None:
    model, opt = _optimized()
    model.a.weight.data.mul_(2)
    opt.save(tmp_path / "x.pt2")
    loaded = torch.export.load(tmp_path / "x.pt2").module()
    assert _same(model, loaded)
    operators = [node.target for node in loaded.graph.nodes if node.op == "call_function"]
    assert torch.ops.aten.matmul.default not in operators
    assert "stored" in str(opt.report)


def test_sources_may_have_any_name() -> None:
    layers = [torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(64, 64)) for _ in range(2)]
    model = torch.nn.Sequential(*layers)
    opt = graphopt.optimize(model, (torch.rand(2, 64),), verify=False, measure=False)
    assert opt.graph.kept
    x = torch.rand(2, 64)
    with torch.no_grad():
        assert torch.equal(model(x), opt(x))


def test_compiled_code_follows_a_change_of_an_expanded_value() -> None:
    class Expanded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Linear(256, 256)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            index = torch.arange(256).flip(0)[None].expand(2, -1)
            table = (self.a.weight @ self.a.weight.sin()).sum(0, keepdim=True).expand(2, -1)
            return x.gather(1, index) + table * x

    model, opt = _optimized(Expanded().eval())
    shapes = [shape for one in _derived(opt) for shape in one._shapes]
    slots = [slot.shape for one in _derived(opt) for slot in one.slots]
    assert shapes != slots  # some are expanded
    compiled = torch.compile(opt.module, fullgraph=True, backend="aot_eager")
    for change in (None, "data", "fused adamw", None):
        if change is not None:
            CHANGES[change](model)
        for _ in range(2):
            assert _same(model, compiled)


def _derived(opt: graphopt.Optimized) -> list[Derived]:
    return [one for one in opt.graph_module.children() if isinstance(one, Derived)]
