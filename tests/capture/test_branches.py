"""Branches on values: eager's way is captured, and its conditions are asked again at each call."""

import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from graphopt.module import serving_of
from tests.sameness import assert_same

F = nn.functional
X = torch.arange(8.0).reshape(2, 4) + 1
ROWS = ({0: torch.export.Dim.DYNAMIC},)


def positive(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if x.sum() > 0 else x + 1


def test_a_branch_on_values_is_taken_as_eager_takes_it() -> None:
    for x in (X, -X):
        assert_same(positive, x.clone().requires_grad_(), backward=True)


def test_values_that_would_take_another_branch_run_the_original() -> None:
    opt = graphopt.optimize(positive, (X,), on_guard="error", measure=False)
    with pytest.raises(graphopt.GuardError, match=r"test_branches.py:.* was True at capture"):
        opt(-X)
    both = graphopt.optimize(positive, (X,), on_guard="recapture", measure=False)
    for x in (-X, X, -X):
        assert torch.equal(both(x), positive(x))
    assert len(serving_of(both.module).variants) == 2


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: torch.is_nonzero(x[0, 0] > 0),
        lambda x: bool((x > 0).all()) and not (x > 100).any(),
        lambda x: 3.0 in x,
        lambda x: max(x[0, 0], x[0, 1]) is x and x[0, 0] < x[0, 1],
    ],
)
def test_whatever_asks_for_a_bool_becomes_a_condition(asks: Callable[[torch.Tensor], bool]) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if asks(x) else x + 1

    assert_same(program, X)
    opt = graphopt.optimize(program, (X,), on_guard="recapture", measure=False)
    for x in (-X, X.flip(0), X.flip(1), X * 100):
        assert torch.equal(opt(x), program(x))


class Told(nn.Module):
    """Takes another way when it is traced, as transformers' masks do."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        traced = torch.compiler.is_compiling() or isinstance(mask, torch._subclasses.FakeTensor)
        if not traced and mask.all():
            return F.scaled_dot_product_attention(x, x, x)
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)


def test_a_model_that_looks_for_stand_ins_goes_eagers_way() -> None:
    x, mask = torch.randn(2, 4, 4).requires_grad_(), torch.ones(4, 4, dtype=torch.bool)
    opt = assert_same(Told(), x, mask, backward=True)
    assert not any(node.op == "aten.to.dtype" for node in opt.graph.nodes)
    attention = next(n for n in opt.graph.nodes if "scaled_dot_product_attention" in n.op)
    assert len(attention.args) == 3
    with pytest.raises(graphopt.GuardError, match=r"the branch at .*test_branches.py"):
        opt(x, mask.tril())


def test_a_condition_on_state_follows_the_state() -> None:
    class Flagged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("ready", torch.tensor(True))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if self.ready else x

    model = Flagged()
    opt = graphopt.optimize(model, (X,), measure=False)
    assert torch.equal(opt(X), X * 2)
    model.ready.fill_(False)
    with pytest.warns(UserWarning, match="branch"):
        assert torch.equal(opt(X), X)


def test_a_closed_over_tensor_that_decides_is_asked_at_each_call() -> None:
    switch = torch.ones(())

    def program(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if switch else x

    opt = graphopt.optimize(program, (X,), on_guard="recapture", measure=False)
    for value in (0.0, 1.0):
        switch.fill_(value)
        assert torch.equal(opt(X), program(X))


def test_a_condition_that_raises_leaves_the_exception_to_the_original() -> None:
    def program(x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return x * 2 if x[i].sum() > 0 else x

    opt = graphopt.optimize(program, (X, torch.tensor([1])), measure=False)
    with pytest.warns(UserWarning, match="raises"), pytest.raises(IndexError):
        opt(X, torch.tensor([7]))


def test_what_only_a_condition_computes_is_not_computed_twice() -> None:
    opt = graphopt.optimize(positive, (X,), passes=[], measure=False)
    assert [node.op for node in opt.graph.nodes] == ["aten.mul.Tensor"]


def test_what_falls_the_same_way_in_every_call_is_not_asked_again() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(4).expand(2, 4)
        packed = (torch.diff(places, dim=-1) != 1).cumsum(-1)
        first = (packed[:, -1] == 0).all()
        return x * 2 if first and not torch.ones(3).bool().any().logical_not() else x

    opt = assert_same(program, X.clone().requires_grad_(), passes=[], backward=True)
    assert serving_of(opt.module).variants[0].program.conditions is None
    assert [node.op for node in opt.graph.nodes] == ["aten.mul.Tensor"]
    ran = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        ran.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    torch._dynamo.reset()
    assert torch.equal(torch.compile(opt.module, fullgraph=True, backend=backend)(X), X * 2)
    assert ran == [torch.ops.aten.mul.Tensor]  # what a compiler can choose for itself


CHANGING: dict[str, Callable[[torch.Tensor], Any]] = {
    "the argument itself": lambda x: x.flatten()[0],
    "a draw": lambda x: torch.rand(()) < 2,
    "memory that nothing fills": lambda x: torch.empty(2).isnan().logical_or(torch.ones(2)).all(),
    "a size": lambda x: (torch.arange(x.shape[0]) < 5).all(),
    "a tensor that was there": lambda x: X.sum() > 0,
}


@pytest.mark.parametrize("what", CHANGING)
def test_what_may_fall_otherwise_is_asked_in_each_call(what: str) -> None:
    opt = graphopt.optimize(
        lambda x: x * 2 if CHANGING[what](x) else x + 1,
        (X,),
        measure=False,
        dynamic_shapes=ROWS,
    )
    variant = serving_of(opt.module).variants[0]
    assert variant.program.conditions is not None or variant.attempts.asks_within


def test_a_branch_on_a_size_follows_the_size() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if (torch.arange(x.shape[0]) < 5).all() else x + 1

    opt = graphopt.optimize(program, (X,), measure=False, dynamic_shapes=ROWS, on_guard="recapture")
    for rows in (2, 7, 5):
        x = torch.randn(rows, 4)
        assert torch.equal(opt(x), program(x))


def test_a_program_with_conditions_pickles() -> None:
    opt = graphopt.optimize(positive, (X,), on_guard="error", measure=False)
    again: Any = pickle.loads(pickle.dumps(opt.module))
    assert torch.equal(again(X), X * 2)
    with pytest.raises(graphopt.GuardError, match="branch"):
        again(-X)


def test_a_branch_inside_a_region_without_gradients_is_kept() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            scale = 2.0 if x.sum() > 0 else 3.0
        return x * scale

    assert_same(program, X.clone().requires_grad_(), backward=True)


def test_a_branch_inside_a_frozen_part_is_asked_without_running_that_part() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            drawn = F.dropout(x @ x.t(), 0.5)
            y = drawn * 2 if x.sum() > 0 else drawn
        return x.sum() * y

    opt = assert_same(program, X.clone().requires_grad_(), backward=True)
    branches = serving_of(opt.module).variants[0].program.conditions
    assert branches is not None
    assert [node.op for node in branches.graph.nodes] == ["aten.sum.default", "aten.gt.Scalar"]


def test_a_branch_on_memory_that_forward_makes_and_fills_is_kept() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        filled = torch.zeros(4)
        filled[1:].add_(2)
        early = bool(filled.sum() + x.sum() > 0)
        filled.view(2, 2)[0].sub_(100)
        late = bool(filled.sum() + x.sum() > 0)
        return filled * x + early - 3 * late

    for x in (X, -X, X * 100):
        opt = assert_same(program, x)
    with pytest.raises(graphopt.GuardError, match="branch"):
        opt(X)


class Cached(nn.Module):
    """Caches a table, and computes it anew where it is told that it is traced."""

    @functools.cached_property
    def table(self) -> Any:
        made = functools.lru_cache(lambda size: torch.arange(size))

        def choose(size: int) -> torch.Tensor:
            return torch.arange(size) if torch.compiler.is_compiling() else made(size)

        return choose

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.table(4)


def test_no_stand_in_is_left_in_a_cache() -> None:
    model = Cached()
    assert callable(model.table)
    graphopt.optimize(model, (X,), measure=False)
    assert type(model.table(4)) is torch.Tensor


def test_a_branch_on_what_a_frozen_part_wrote_is_refused() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x.mul_(-1)
        return x * 2 if x.sum() > 0 else x

    with pytest.raises(graphopt.Unsupported, match="writes before"):
        graphopt.optimize(program, (X,), measure=False)


def test_a_saved_program_raises_where_values_would_take_another_branch(tmp_path: Any) -> None:
    opt = graphopt.optimize(positive, (X,), measure=False)
    opt.save(tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    assert torch.equal(loaded(X), X * 2)
    with pytest.raises(RuntimeError, match=r"test_branches.py.* was True at capture"):
        loaded(-X)


@pytest.mark.parametrize("gradient", [1, 2])
def test_gradients_of_the_exported_path_are_compared_with_eagers(gradient: int) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_exporting():
            return x + (x if gradient == 2 else x.detach())
        return next(x * 2 for _ in (x == x).nonzero())

    x = X.clone().requires_grad_()
    if gradient == 2:
        assert_same(program, x, backward=True)
    else:
        with pytest.raises(graphopt.Unsupported, match="gradient of args"):
            graphopt.optimize(program, (x,), verify=False)
