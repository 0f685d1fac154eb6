"""Each guard: a call that breaks it is named and served by the original."""

import copy
import pickle
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from graphopt.module import serving_of

X = torch.randn(2, 4)
SCALE = 2.0
WEIGHT = torch.ones(4)


class Model(nn.Module):
    shift = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
        self.power = 2
        self.options = types.SimpleNamespace(negate=False)
        self.tables = [torch.ones(4), {"more": torch.ones(4)}]

    def forward(self, x: torch.Tensor, y: Any = None, *, mode: str = "add") -> torch.Tensor:
        h = self.inner(x) ** self.power + self.shift
        h = h * self.tables[0] * self.tables[1]["more"] * SCALE * WEIGHT
        if self.options.negate:
            h = -h
        return h if y is None else h + y


def optimized(model: nn.Module, *args: Any, on_guard: str = "error", **options: Any) -> graphopt.Optimized:
    return graphopt.optimize(model, args, verify=False, measure=False, on_guard=on_guard, **options)


class Subclass(torch.Tensor):
    pass


BROKEN_CALLS: dict[str, tuple[Callable[[], tuple[Any, ...]], str]] = {
    "shape": (lambda: (torch.randn(3, 4),), "argument x: the shape is (3, 4), captured with (2, 4)"),
    "dtype": (lambda: (X.double(),), "argument x: the dtype is torch.float64"),
    "stride": (lambda: (torch.randn(4, 2).t(),), "argument x: the stride is (1, 2)"),
    "class": (lambda: (X.as_subclass(Subclass),), "argument x: the type is"),
    "no tensor": (lambda: (3,), "argument x: the type is <class 'int'>"),
    "constant": (lambda: (X, 1.0), "argument y: the value is 1.0, captured with None"),
    "signature": (lambda: (X, None, None), "does not fit the signature"),
    "negative bit": (lambda: (torch._neg_view(X),), "negative"),
}


@pytest.mark.parametrize("name", BROKEN_CALLS)
def test_a_call_that_breaks_a_guard_is_named(name: str) -> None:
    make, says = BROKEN_CALLS[name]
    opt = optimized(Model().eval(), X)
    with pytest.raises(graphopt.GuardError) as raised:
        opt(*make())
    assert says in str(raised.value)


def test_the_same_call_spelled_otherwise_is_served() -> None:
    model = Model().eval()
    opt = optimized(model, X)
    for result in (opt(x=X), opt(X, None), opt(X, y=None, mode="add"), opt(torch.randn(2, 4).copy_(X))):
        assert torch.equal(result, model(X))


@pytest.mark.parametrize("captured", [1, 1.0, True, -0.0, float("nan"), "a"])
def test_constant_arguments_are_told_apart_by_type_and_bits(captured: Any) -> None:
    model = Model().eval()
    model.forward = types.MethodType(lambda self, x, y: (x, y), model)  # type: ignore[method-assign]
    opt = optimized(model, X, captured)
    opt(X, captured)
    for other in (1, 1.0, True, 0.0, -0.0, "a", "b", None):
        if type(other) is type(captured) and repr(other) == repr(captured):
            continue
        with pytest.raises(graphopt.GuardError, match="argument y"):
            opt(X, other)


def _break_scale(model: Model) -> None:
    globals()["SCALE"] = 3.0


def _break_weight(model: Model) -> None:
    globals()["WEIGHT"] = torch.full((4,), 2.0)


CHANGES: dict[str, tuple[Callable[[Model], Any], str | None]] = {
    "mode of a sub-module that matters": (lambda m: m.inner[1].train(), "inner.1.training"),
    "attribute": (lambda m: setattr(m, "power", 3), "power is 3"),
    "attribute of the same value but another type": (lambda m: setattr(m, "power", 2.0), "power is 2.0"),
    "attribute of the class": (lambda m: setattr(type(m), "shift", 5.0), "shift"),
    "attribute of an object": (lambda m: setattr(m.options, "negate", True), "options.negate"),
    "global number": (_break_scale, "SCALE"),
    "global tensor": (_break_weight, "WEIGHT"),
    "sub-module": (lambda m: m.inner.__setitem__(0, nn.Linear(4, 4)), "inner.0"),
    "dtype of the state": (lambda m: m.inner[0].double(), "inner.0.weight"),
    "weights in place": (lambda m: m.inner[0].weight.data.mul_(2), None),
    "weights by assignment": (
        lambda m: m.inner[0].load_state_dict(nn.Linear(4, 4).state_dict(), assign=True), None
    ),
    "a new parameter": (lambda m: setattr(m.inner[0], "weight", nn.Parameter(torch.randn(4, 4))), None),
    "tensor in a list": (lambda m: m.tables.__setitem__(0, torch.full((4,), 3.0)), None),
    "tensor in a dictionary": (lambda m: m.tables[1].update(more=torch.full((4,), 3.0)), None),
}  # fmt: skip


@pytest.fixture
def as_before() -> Any:
    before = SCALE, WEIGHT, Model.shift
    yield
    globals()["SCALE"], globals()["WEIGHT"], Model.shift = before


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_around_the_call_is_followed_or_named(name: str, as_before: None) -> None:
    change, says = CHANGES[name]
    model = Model().eval()
    strict, lenient = optimized(model, X), optimized(model, X, on_guard="original")
    change(model)
    x = X.double() if "dtype" in name else X
    torch.manual_seed(0)
    expected = model(x) if says is None or "dtype" not in name else None
    if says is None:
        torch.manual_seed(0)
        assert torch.equal(strict(x), expected)
        return
    with pytest.raises(graphopt.GuardError) as raised:
        strict(X)
    assert says in str(raised.value)
    if expected is not None:
        with pytest.warns(UserWarning, match="runs the original"):
            torch.manual_seed(0)
            assert torch.equal(lenient(x), expected)


def test_modes_are_guarded() -> None:
    opt = optimized(Model().eval(), X)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(graphopt.GuardError, match="autocast on cpu"):
        opt(X)
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(graphopt.GuardError, match="default dtype"):
            opt(X)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"), pytest.raises(graphopt.GuardError, match="torch function modes"):
        opt(X)


def test_what_an_autocast_region_takes_by_default_is_guarded() -> None:
    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu"):
                return super().forward(x)

    opt = optimized(Model(4, 4), X)
    torch.set_autocast_cache_enabled(False)
    try:
        with pytest.raises(graphopt.GuardError, match="is_autocast_cache_enabled"):
            opt(X)
    finally:
        torch.set_autocast_cache_enabled(True)
    torch.set_autocast_dtype("cpu", torch.float16)
    try:
        with pytest.raises(graphopt.GuardError, match="autocast dtype on cpu"):
            opt(X)
    finally:
        torch.set_autocast_dtype("cpu", torch.bfloat16)
    opt(X)


def test_grad_mode_is_guarded_only_where_forward_asks_for_it() -> None:
    plain = optimized(nn.Linear(4, 4), X)
    with torch.no_grad():
        plain(X)
    with torch.inference_mode():
        plain(X)
    asks = graphopt.optimize(
        lambda x: x + 1 if torch.is_grad_enabled() else x, (X,), on_guard="error", measure=False
    )
    with torch.no_grad(), pytest.raises(graphopt.GuardError, match="grad mode"):
        asks(X)


def test_requires_grad_is_guarded_only_where_forward_reads_it() -> None:
    opt = graphopt.optimize(lambda x: x * 2 if x.requires_grad else x, (X,), on_guard="error", measure=False)
    with pytest.raises(graphopt.GuardError, match="requires_grad is True"):
        opt(X.clone().requires_grad_())


def test_the_storage_offset_is_guarded_only_where_forward_reads_it() -> None:
    base = torch.randn(3, 4)
    opt = graphopt.optimize(lambda x: x.as_strided((2,), (1,)), (base[0],), on_guard="error", measure=False)
    with pytest.raises(graphopt.GuardError, match="storage offset is 4"):
        opt(base[1])
    graphopt.optimize(lambda x: x * 2, (base[0],), on_guard="error", measure=False)(base[1])


def test_tensors_that_were_different_must_stay_different_and_the_same_the_same() -> None:
    x, y = torch.randn(2), torch.randn(2)
    different = graphopt.optimize(lambda a, b: (a is b, a + b), (x, y), on_guard="error", measure=False)
    with pytest.raises(graphopt.GuardError, match="twice"):
        different(x, x)
    same = graphopt.optimize(lambda a, b: (a is b, a + b), (x, x), on_guard="error", measure=False)
    with pytest.raises(graphopt.GuardError, match="the same object as a"):
        same(x, y)


def test_untying_weights_is_noticed() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    opt = optimized(model, X)
    model[1].weight = nn.Parameter(torch.randn(4, 4))
    with pytest.raises(graphopt.GuardError, match="one object"):
        opt(X)


def test_the_original_runs_and_is_named_once() -> None:
    model = Model().eval()
    opt = optimized(model, X, on_guard="original")
    other = torch.randn(5, 4)
    with pytest.warns(UserWarning, match=r"argument x: the shape is \(5, 4\)") as warned:
        assert torch.equal(opt(other), model(other))
        assert torch.equal(opt(other), model(other))
    assert len(warned) == 1


def test_recapture_makes_variants_up_to_eight() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    opt = optimized(model, X, on_guard="recapture")
    for size in range(3, 9):
        opt(torch.randn(size, 4))
    opt.module.eval()
    opt(X)
    assert len(serving_of(opt.module).variants) == 8
    opt(X)
    other = torch.randn(9, 4)
    with pytest.warns(UserWarning, match="8 variants"):
        assert torch.equal(opt(other), model(other))
    assert len(serving_of(opt.module).variants) == 8


def test_sizes_zero_and_one_and_out_of_range_run_the_original_under_dynamic_shapes() -> None:
    model = Model().eval()
    opt = optimized(model, X, dynamic_shapes="auto")
    for size in (2, 7, 128):
        x = torch.randn(size, 4)
        assert torch.equal(opt(x), model(x))
    lenient = optimized(model, X, dynamic_shapes="auto", on_guard="original")
    for size in (0, 1):
        x = torch.randn(size, 4)
        with pytest.raises(graphopt.GuardError, match="sizes"):
            opt(x)
        assert torch.equal(lenient(x), model(x))


def test_relations_between_symbolic_sizes_are_guarded() -> None:
    opt = graphopt.optimize(
        lambda x, y: torch.cat([x, x]) + y, (torch.randn(3), torch.randn(6)), dynamic_shapes="auto",
        on_guard="error", measure=False
    )  # fmt: skip
    opt(torch.randn(5), torch.randn(10))
    with pytest.raises(graphopt.GuardError):
        opt(torch.randn(5), torch.randn(9))


def test_guards_bind_anew_to_copies_and_pickles() -> None:
    model = Model().eval()
    opt = optimized(model, X)
    copied = copy.deepcopy(opt.module)
    loaded = pickle.loads(pickle.dumps(opt.module))
    model.power = 3
    for module in (copied, loaded):
        assert torch.equal(module(X), serving_of(module).original(X))
        assert module.power == 2
        module.options.negate = True
        with pytest.raises(graphopt.GuardError, match="negate"):
            module(X)


def test_sizes_that_are_scaled_by_a_fraction_are_checked() -> None:
    def halved(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, scale_factor=0.5) + 1

    opt = graphopt.optimize(
        halved, (torch.randn(1, 1, 60),), dynamic_shapes="auto", verify=False, on_guard="error"
    )
    for size in (9, 60, 61):
        x = torch.randn(1, 1, size)
        assert torch.equal(opt(x), halved(x))
    with pytest.raises(graphopt.errors.GuardError, match="TruncToInt"):
        opt(torch.randn(1, 1, 3))
