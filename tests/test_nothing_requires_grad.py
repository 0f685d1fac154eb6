"""Gradients are on, and nothing requires grad: the graph without gradients serves, exactly as eager."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

import graphopt
from graphopt.analysis.standing_in import stands_in
from graphopt.cache.derived import Derived
from graphopt.ir.text import parse_graph
from graphopt.module import serving_of

X = torch.rand(2, 256)


class Folded(torch.nn.Module):
    """Much work on parameters, little on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(256, 256)
        self.b = torch.nn.Linear(256, 256)

    def weight(self) -> torch.Tensor:
        return self.a.weight @ self.b.weight

    def forward(self, x: torch.Tensor) -> Any:
        return torch.nn.functional.linear(x, self.weight(), self.a.bias + self.b.bias)


def _optimized(model: torch.nn.Module, *args: Any) -> graphopt.Optimized:
    opt = graphopt.optimize(model, args or (X,), passes=graphopt.BITWISE, measure=False, on_guard="error")
    assert opt.graph.kept
    return opt


def _graph(module: Any, *args: Any) -> str:
    """Which graph serves a call."""
    gradients = serving_of(module).newest.gradients(args or (X,), {})
    assert gradients is not None
    return "with" if gradients else "without"


def _alike(model: torch.nn.Module, module: Any, *args: Any) -> bool:
    """Whether both give the same bits, and the same gradients of everything that requires grad."""
    args = args or (X,)
    leaves = [t for t in (*model.parameters(), *args) if t.requires_grad]
    found = []
    for one in (model, module):
        y = one(*args)
        gradients = torch.autograd.grad(y.sum(), leaves, allow_unused=True) if y.requires_grad else ()
        found.append((y, gradients))
    (expected, expected_gradients), (y, gradients) = found
    return (
        torch.equal(y, expected)
        and y.requires_grad == expected.requires_grad
        and (y.grad_fn is None) == (expected.grad_fn is None)
        and y.is_leaf == expected.is_leaf
        and len(gradients) == len(expected_gradients)
        and all(
            (a is None and b is None) or torch.equal(a, b)
            for a, b in zip(gradients, expected_gradients, strict=True)
        )
    )


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_frozen_model_keeps_its_derived_values(when: str) -> None:
    model = Folded()
    if when == "before":
        model.requires_grad_(False)
    opt = _optimized(model)
    model.requires_grad_(False)
    assert _graph(opt.module) == "without"
    for _ in range(3):
        assert _alike(model, opt.module)
    derived = [one for one in serving_of(opt.module).newest._derived.values() if one.bytes]
    assert derived and all(isinstance(one, Derived) for one in derived)


class OfArguments(torch.nn.Module):
    """A model without parameters: what it makes is of sizes alone, or of no effect but on gradients."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        table = torch.arange(256.0).cos().sin().exp().cumsum(0).outer(torch.arange(256.0).sin())
        return (x * 1).sin() @ table.tanh().exp()


def test_so_does_a_model_without_parameters_until_its_argument_requires_grad() -> None:
    model = OfArguments()
    opt = _optimized(model)
    wanted = X.clone().requires_grad_()
    for args, graph in ((X, "without"), (wanted, "with"), (X, "without"), (wanted * 1, "with")):
        assert _graph(opt.module, args) == graph
        assert _alike(model, opt.module, args)
    assert _graph(opt.module, wanted.detach()) == "without"


CHANGES: dict[str, Callable[[Any], Any]] = {
    "all parameters": lambda m: m.requires_grad_(True),
    "one parameter": lambda m: m.b.weight.requires_grad_(),
    "an assignment": lambda m: setattr(m.a.bias, "requires_grad", True),
    "a new parameter": lambda m: setattr(m.b, "weight", torch.nn.Parameter(torch.rand(256, 256))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_requires_grad_is_noticed_at_the_next_call(change: str) -> None:
    model = Folded().requires_grad_(False)
    opt = _optimized(model)
    for _ in range(3):
        assert _alike(model, opt.module)
    CHANGES[change](model)
    for _ in range(2):
        assert _graph(opt.module) == "with"
        assert opt.module(X).requires_grad
        assert _alike(model, opt.module)
    model.requires_grad_(False)
    assert _graph(opt.module) == "without"
    assert _alike(model, opt.module)


def test_toggling_many_times_is_followed_each_time() -> None:
    model = Folded()
    opt = _optimized(model)
    parameters = list(model.parameters())
    for step in range(40):
        for i, parameter in enumerate(parameters):
            parameter.requires_grad_(bool(step >> i & 1))
        with torch.set_grad_enabled(step % 7 != 0):
            assert _alike(model, opt.module)
            wanted = torch.is_grad_enabled() and bool(step & 15)
            assert _graph(opt.module) == ("with" if wanted else "without")


def test_without_torchs_check_the_flags_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C._dynamo.guards, "TensorGuards")
    model = Folded().requires_grad_(False)
    opt = _optimized(model)
    for wanted in (False, True, False):
        model.b.bias.requires_grad_(wanted)
        assert _graph(opt.module) == ("with" if wanted else "without")
        assert _alike(model, opt.module)


class Adapted(Folded):
    """A frozen base with a trainable adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)
        self.adapter = torch.nn.Linear(256, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.adapter(x)


def test_a_trainable_adapter_on_a_frozen_base_gets_its_gradients() -> None:
    model = Adapted()
    twin = copy.deepcopy(model)
    opt = _optimized(model)
    assert _graph(opt.module) == "with"
    for one in (twin, opt.module):
        optimizer = torch.optim.SGD([p for p in one.parameters() if p.requires_grad], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            one(X).square().sum().backward()
            optimizer.step()
    assert all(map(torch.equal, model.parameters(), twin.parameters()))
    model.adapter.requires_grad_(False)
    assert _graph(opt.module) == "without"
    assert _alike(model, opt.module)


def test_copies_and_modes_look_at_their_own_parameters() -> None:
    model = Folded().requires_grad_(False)
    opt = _optimized(model)
    assert _alike(model, opt.module)
    copied = copy.deepcopy(opt.module)
    copied.a.weight.requires_grad_()
    assert (_graph(opt.module), _graph(copied)) == ("without", "with")
    assert _alike(model, opt.module) and copied(X).requires_grad
    model.train()
    assert _alike(model, opt.module)
    model.a.weight.requires_grad_()
    model.eval()
    assert _graph(opt.module) == "with"
    assert _alike(model, opt.module)


def _closing_over(scale: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    def scaled(x: torch.Tensor) -> torch.Tensor:
        table = torch.arange(256.0).cos().sin().exp().cumsum(0).outer(torch.arange(256.0).sin())
        return (x * 1).sin() @ table.tanh().exp() * scale

    return scaled


class Attribute(OfArguments):
    def __init__(self, scale: torch.Tensor) -> None:
        super().__init__()
        self.scales = [scale]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.scales[0]


@pytest.mark.parametrize("make", [_closing_over, Attribute])
def test_a_tensor_in_a_closure_or_list_that_comes_to_require_grad_is_noticed(make: Any) -> None:
    scale = torch.rand(256)
    model = make(scale)
    opt = graphopt.optimize(model, (X,), measure=False)
    assert opt.graph.kept
    for _ in range(2):
        assert not opt.module(X).requires_grad
    assert _graph(opt.module) == "without"
    scale.requires_grad_()
    for _ in range(2):
        (expected,) = torch.autograd.grad(model(X).sum(), scale)
        (found,) = torch.autograd.grad(opt.module(X).sum(), scale)
        assert torch.equal(found, expected)


class WithFunction(OfArguments):
    def forward(self, x: torch.Tensor, function: Any) -> torch.Tensor:  # type: ignore[override]
        y: torch.Tensor = function(super().forward(x))
        return y


def test_a_tensor_of_a_function_among_the_arguments_counts() -> None:
    scale = torch.rand(256)

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return x * scale

    model = WithFunction()
    try:
        opt = graphopt.optimize(model, (X, scaled), measure=False)
    except graphopt.Unsupported:
        pytest.skip("refused altogether")
    assert not opt.module(X, scaled).requires_grad
    scale.requires_grad_()
    assert opt.module(X, scaled).requires_grad


def test_arguments_in_containers_count() -> None:
    class Nested(OfArguments):
        def forward(self, given: Any) -> torch.Tensor:  # type: ignore[override]
            return super().forward(given["x"]) * given["scales"][0]

    model = Nested()
    scale = torch.rand(256)
    opt = _optimized(model, {"x": X, "scales": [scale]})
    assert _graph(opt.module, {"x": X, "scales": [scale]}) == "without"
    scale.requires_grad_()
    assert _graph(opt.module, {"x": X, "scales": [scale]}) == "with"
    (found,) = torch.autograd.grad(opt.module({"x": X, "scales": [scale]}).sum(), scale)
    (expected,) = torch.autograd.grad(model({"x": X, "scales": [scale]}).sum(), scale)
    assert torch.equal(found, expected)


def test_tangents_are_eagers_where_nothing_requires_grad() -> None:
    class Detached(OfArguments):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + x.detach()

    model = Detached()
    opt = _optimized(model)
    tangents = []
    with forward_ad.dual_level():
        for one in (model, opt.module):
            y = one(forward_ad.make_dual(X, torch.ones_like(X)))
            tangents.append(forward_ad.unpack_dual(y).tangent)
    assert torch.equal(tangents[0], tangents[1])
    assert _graph(opt.module) == "without"


def _whole_chunk(x: torch.Tensor) -> torch.Tensor:
    return x.chunk(1)[0]


def _seen_without_gradients(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return x.view(-1)


def _detached(x: torch.Tensor) -> torch.Tensor:
    return x.view(-1).detach()


HANDED_OUT = [_whole_chunk, _seen_without_gradients, _detached]


@pytest.mark.parametrize("hand_out", HANDED_OUT)
def test_results_are_the_views_that_eager_hands_out(hand_out: Callable[..., torch.Tensor]) -> None:
    class Viewed(Folded):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return hand_out(super().forward(x))

    model = Viewed().requires_grad_(False)
    opt = _optimized(model)
    assert _alike(model, opt.module)
    factor = torch.ones(1, requires_grad=True)
    outcomes = []
    for one in (model, opt.module):
        outcome = []
        for write in (lambda y: y.mul_(factor), lambda y: y.detach_()):
            try:
                write(one(X))
                outcome.append("done")
            except RuntimeError as error:
                outcome.append(str(error).partition("(")[0])
        outcomes.append(outcome)
    assert outcomes[0] == outcomes[1]


def test_what_sets_requires_grad_itself_keeps_its_graph_with_gradients() -> None:
    class Setting(Folded):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).requires_grad_()

    model = Setting().requires_grad_(False)
    opt = _optimized(model)
    assert opt.module(X).requires_grad
    assert _graph(opt.module) == "with"


def test_a_slower_graph_without_gradients_serves_no_call_with_gradients_on() -> None:
    model = Folded().requires_grad_(False)
    serving = serving_of(_optimized(model).module)
    serving.policy.left = frozenset({False})
    serving.original = torch.nn.Identity()  # it tells who served
    assert serving(X) is X
    model.requires_grad_(True)
    assert serving(X) is not X


def test_freezing_computes_kept_values_again() -> None:
    """torch multiplies a batch by a matrix in another way where the matrix requires grad."""

    class Batched(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Parameter(torch.rand(2, 33, 35).transpose(0, 1))
            self.b = torch.nn.Parameter(torch.rand(35, 26))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + (self.a @ self.b).sin().cumsum(0).cumsum(1)

    torch.manual_seed(0)
    model = Batched()
    x = torch.zeros(33, 2, 26)
    opt = graphopt.optimize(model, (x,), measure=False)
    assert opt.graph.kept
    with torch.no_grad():
        expected = [model(x), model.requires_grad_(False)(x)]
        assert not torch.equal(*expected)
        model.requires_grad_(True)
        assert torch.equal(opt.module(x), expected[0])
        model.requires_grad_(False)
        assert torch.equal(opt.module(x), expected[1])


def test_an_operator_that_nobody_confirmed_may_make_what_requires_grad() -> None:
    text = """graph {{
      %x: f32[2] = argument 0
      %y: f32[2] = {0}(%x)
      return %y
    }}"""
    known, unknown = (parse_graph(text.format(op)) for op in ("aten.sin.default", "aten.unknown.default"))
    assert stands_in(known, known)
    assert not stands_in(unknown, known) and not stands_in(known, unknown)
