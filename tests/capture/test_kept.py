"""What capture and emit must keep: one program for each thing that a caller can observe."""

import copy
import dataclasses
import operator
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from graphopt.module import serving_of
from tests.sameness import assert_same

F = nn.functional
X = torch.arange(8.0).reshape(2, 4) - 3
PAIR = namedtuple("PAIR", "left right")


@pytest.fixture(autouse=True, params=[(), None], ids=["no passes", "default passes"])
def passes(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_outputs_that_are_inputs_stay_the_same_object(passes: Any) -> None:
    assert_same(lambda x: (x, x, x.view(-1)), X, passes=passes)


def test_outputs_that_are_views_of_each_other_share_storage(passes: Any) -> None:
    assert_same(lambda x: [(y := x * 2), y.t(), y[0], y[:, 1:], y.view(-1)], X, passes=passes)


def test_an_output_that_eager_copies_shares_nothing(passes: Any) -> None:
    assert_same(lambda x: ((y := x * 2), y.clone(), y.t().contiguous(), y.contiguous()), X, passes=passes)


def test_strides_are_kept(passes: Any) -> None:
    assert_same(lambda x: (x.t() + 1, x.t().clone(), torch.empty_like(x.t()).fill_(1)), X, passes=passes)


def test_writes_into_an_input_and_its_views_are_kept(passes: Any) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        before = x + 1
        x.add_(1)
        x.view(-1)[2:].mul_(2)
        x[0, 0] = 7
        return before * (x + 1)

    assert_same(program, X, passes=passes)


def test_a_write_through_one_of_two_inputs_that_share_storage_is_seen_in_the_other(passes: Any) -> None:
    base = X.clone()

    def program(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
        c = b * 2
        a.mul_(3)
        return c, b * 2

    assert_same(program, base[0], base.view(-1)[2:5], passes=passes)


def test_one_tensor_passed_twice_stays_one(passes: Any) -> None:
    x = X.clone()
    assert_same(lambda a, b: (a.add_(1), b * 2, a is b), x, x, passes=passes)


def test_the_out_argument_is_written_and_returned(passes: Any) -> None:
    assert_same(lambda x, y: torch.add(x, x, out=y), X, torch.empty(2, 4), passes=passes)


def test_random_operators_draw_eagers_numbers_and_dead_ones_still_draw(passes: Any) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        torch.rand(3)
        return torch.rand_like(x), torch.rand_like(x), F.dropout(x, 0.5), torch.bernoulli(x.sigmoid())

    assert_same(program, X, passes=passes)


def test_no_grad_and_autocast_regions_are_kept(passes: Any) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            y = x * 2
        with torch.autocast("cpu", torch.bfloat16):
            z = x @ x.t()
        return x * y, z

    assert_same(program, X.clone().requires_grad_(), backward=True, passes=passes)


def test_regions_that_hold_item_are_kept(passes: Any) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16):
            y = x @ x.t() * x.sum().item()
        with torch.no_grad():
            z = x * x.max().item()
        return y, x * z

    assert_same(program, X.clone().requires_grad_(), backward=True, passes=passes)


def test_regions_inside_and_beside_torch_cond_are_kept(passes: Any) -> None:
    def without(a: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return a + 1

    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = x * 3
        return x * y * torch.cond(x.sum() > 0, without, lambda a: a - 1, (x,))

    assert_same(program, X.clone().requires_grad_(), backward=True, passes=passes)


def test_no_grad_around_torch_cond_is_kept(passes: Any) -> None:
    def enabling(a: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            return (a * 3).detach() + a

    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            y = torch.cond(x.sum() > 0, enabling, lambda a: a - 1, (x,))
            with torch.enable_grad():
                z = x * y
        return x * y * z, y

    assert_same(program, X.clone().requires_grad_(), backward=True, passes=passes)
    with torch.no_grad():
        assert_same(program, X.clone().requires_grad_(), passes=passes)


def test_autocast_regions_around_torch_cond_are_kept(passes: Any) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16):
            y = x @ x.t()
            z = torch.cond(x.sum() > 0, lambda a: a @ a.t(), lambda a: a @ a.t() - 1, (x,))
            with torch.autocast("cpu", enabled=False):
                w = x @ x.t()
            first, _ = y.split(1)
        return z + (w @ x).sum(), first, y

    assert_same(program, X.clone().requires_grad_(), backward=True, passes=passes)


def test_no_grad_inside_an_autocast_region_is_kept(passes: Any) -> None:
    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    y = super().forward(x)
                return y * super().forward(x * 3)

    assert_same(Model(4, 4), X, backward=True, passes=passes)


@pytest.mark.parametrize("cache", [None, True, False])
def test_gradients_of_a_weight_used_twice_under_autocast_round_as_eagers(
    passes: Any, cache: bool | None
) -> None:
    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
                return super().forward(x) + super().forward(x * 3) + super().forward(x * 7)

    torch.manual_seed(0)
    assert_same(Model(4, 16), torch.randn(8, 4), backward=True, passes=passes)


def test_a_region_with_gradients_is_kept_for_calls_without() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            return x * 2

    leaf = X.clone().requires_grad_()
    opt = graphopt.optimize(program, (leaf,))
    with torch.no_grad(), pytest.warns(UserWarning, match="grad mode"):
        assert opt(leaf).requires_grad
    with torch.no_grad():
        assert_same(program, leaf)


def test_vmap_and_jvp_inside_forward_are_kept(passes: Any) -> None:
    assert_same(lambda x: torch.func.vmap(lambda row: row.sin().sum())(x), X, passes=passes)
    assert_same(lambda x: torch.func.jvp(torch.sin, (x,), (x,)), X, passes=passes)


def test_detach_and_data_stop_gradients(passes: Any) -> None:
    assert_same(lambda x: x.detach() * x + x.data, X.clone().requires_grad_(), backward=True, passes=passes)


def test_requires_grad_set_on_a_value_in_between_is_kept(passes: Any) -> None:
    class Model(nn.Conv1d):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            whole = x[:]
            hidden = x[:, None]
            hidden.requires_grad = True
            made = torch.ones(3).requires_grad_()
            y = super().forward(whole.requires_grad_()[:, None] + hidden)
            return y * made.sum(), y * made.sum(), made, hidden

    model = Model(1, 2, 2)
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        opt = assert_same(model, X, backward=True, passes=passes)
        assert not X.requires_grad
        opt(X)[0].sum().backward()
        assert not X.requires_grad


def test_branches_of_torch_cond_are_kept(passes: Any) -> None:
    def program(x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda a: a + 1, lambda a: a - 1, (x,))

    assert_same(program, X, other=(X + 100,), passes=passes)


def test_value_dependent_exceptions_are_raised_even_by_dead_code(passes: Any) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        torch.linalg.cholesky(x @ x.t())
        return x

    assert_same(program, X, other=(torch.full((2, 4), float("nan")),), passes=passes)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.bfloat16, torch.uint8])
def test_every_kind_of_element_goes_through(dtype: torch.dtype, passes: Any) -> None:
    assert_same(lambda x: (x.t().contiguous(), x == x, x.to(torch.float64) if x.is_floating_point() else x),
                X.to(dtype), passes=passes)  # fmt: skip


def test_conjugate_and_negative_bits_are_kept(passes: Any) -> None:
    z = torch.randn(3, dtype=torch.complex64)
    assert_same(lambda a: (a.conj(), a.conj().imag, a.conj() * 2), z, passes=passes)
    assert_same(lambda a: (a * 2, a), z.conj(), passes=passes)
    assert_same(lambda a: (a * 2, a), z.conj().imag, passes=passes)


def test_closed_over_tensors_of_every_kind_are_kept(passes: Any) -> None:
    z = torch.randn(2, 4, dtype=torch.complex64)
    for kept in (z.conj(), z.conj().imag, torch.tensor(2.0), torch.ones(0, 4), X.to_sparse(), X.bool()):
        assert_same(lambda x, kept=kept: (kept * 1, x + 1), X, passes=passes)


def test_size_one_and_empty_shapes_go_through(passes: Any) -> None:
    for shape in [(1, 4), (0, 4), (1, 1), ()]:
        assert_same(lambda x: (x.sum(), x.expand(3, *x.shape), x + x), torch.ones(shape), passes=passes)


def test_python_numbers_from_tensors_are_read_at_run_time(passes: Any) -> None:
    assert_same(lambda x: (x.sum().item(), x.shape[0], x * x.max().item()), X, other=(X + 1,), passes=passes)


def test_sizes_that_depend_on_values_are_found_at_run_time(passes: Any) -> None:
    assert_same(lambda x: (torch.nonzero(x), x[x > 0], x.unique()), X, other=(X.abs() + 1,), passes=passes)


def test_tensors_made_of_numbers_are_made_anew_each_call(passes: Any) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        made = torch.tensor([1.0, 2, 3, 4])
        made.add_(1)
        return made + x

    opt = assert_same(program, X, passes=passes)
    assert torch.equal(opt(X), opt(X))


@dataclasses.dataclass
class Box:
    tensor: torch.Tensor
    items: list[torch.Tensor]


def test_nested_containers_and_dataclasses_go_in_and_out(passes: Any) -> None:
    def program(box: Box, *more: torch.Tensor, scale: float = 2.0, **named: Any) -> Any:
        out = OrderedDict(a=box.tensor * scale, b=PAIR(more[0], named["z"]["y"] + 1))
        return {"out": out, 3: Box(more[0], [box.items[0]]), "same": box, "none": None, "dtype": X.dtype}

    assert_same(
        program, Box(X, [X + 1]), X * 2, scale=3.0, z={"y": X + 2}, other=(Box(X - 1, [X * 2]), X + 5),
        passes=passes,
    )  # fmt: skip


def test_lists_dictionaries_and_objects_that_forward_fills_are_filled(passes: Any) -> None:
    def program(box: Box, found: dict[str, torch.Tensor]) -> Any:
        box.items.append(box.tensor * 2)
        box.tensor = box.tensor + 1
        found["new"] = box.tensor
        return box, found["old"]

    assert_same(program, Box(X, [X + 1]), {"old": X}, passes=passes)


def test_no_arguments_and_no_tensor_result(passes: Any) -> None:
    assert_same(lambda: torch.ones(3), passes=passes)
    assert_same(lambda x: None, X, passes=passes)
    assert_same(lambda x: (1, 1.0, True, "a", -0.0, float("nan")), X, passes=passes)


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.tied = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4)
        self.other.weight = self.tied.weight
        self.register_buffer("count", torch.zeros(()))
        self.last = torch.zeros(2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        y = self.other(self.tied(self.norm(x)))
        self.last = y.detach()
        return y * self.count


@pytest.mark.parametrize("training", [True, False])
def test_buffers_attributes_and_statistics_are_written(training: bool, passes: Any) -> None:
    model = Stateful().train(training)
    opt = assert_same(model, X, backward=True, passes=passes)
    result = opt(X)
    assert torch.equal(model.last, result / model.count)
    assert opt.module.last is model.last


class Reassigned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.count = torch.cat([self.count, self.count.new_ones(1)])[1:]
        return x, self.count


def test_a_buffer_that_forward_replaces_is_replaced_not_overwritten(passes: Any) -> None:
    model = Reassigned()
    first = model.count
    opt = assert_same(model, X, passes=passes)
    assert model.count is first
    _, returned = opt(X)
    assert model.count is returned
    assert torch.equal(first, torch.zeros(2))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_modules_go_through(kind: Any, passes: Any) -> None:
    assert_same(kind(4, 5, 2, dropout=0.5), torch.randn(3, 2, 4), backward=True, passes=passes)


def test_the_fused_path_of_transformer_layers_is_taken_where_eager_takes_it(passes: Any) -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    assert_same(model, torch.randn(2, 3, 8), passes=passes)
    with torch.no_grad():
        opt = assert_same(model, torch.randn(2, 3, 8), passes=passes)
    assert any("_transformer_encoder_layer_fwd" in node.op for node in opt.graph.nodes)


class Settings:
    def __init__(self) -> None:
        self.names = ["a"]


class Result:
    def __init__(self, value: torch.Tensor, settings: Settings) -> None:
        self.value, self.settings = value, settings


def test_objects_of_the_model_are_handed_out_as_they_are(passes: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.settings, self.layer, self.table = Settings(), nn.Linear(4, 4), [torch.ones(2)]

        def forward(self, x: torch.Tensor, seen: list[Any]) -> tuple[Any, ...]:
            seen.append(self.settings)
            return Result(self.layer(x), self.settings), self.settings.names, self.layer, self.table, self

    model = Model()
    opt = graphopt.optimize(model, (X, []), passes=passes, on_guard="error")
    for module in (opt.module, copy.deepcopy(opt.module)):
        original = serving_of(module).original
        seen: list[Any] = []
        result, *owned = module(X, seen)
        expected = [original.settings.names, original.layer, original.table, original]
        assert seen[0] is result.settings is original.settings
        assert all(map(operator.is_, owned, expected))
        assert torch.equal(result.value, model.layer(X))
    model.settings = Settings()
    with pytest.raises(graphopt.GuardError, match="settings"):
        opt(X, [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_grouped_products_are_kept_with_the_strides_of_their_kernels(passes: Any, dtype: torch.dtype) -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.weight = nn.Parameter(torch.randn(2, 7, 8, dtype=dtype))

        def forward(self, x: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = F.grouped_mm(x, self.weight.transpose(1, 2), offs=ends)
            return y, y.contiguous(), y.detach().reshape(-1)

    x, ends = torch.randn(6, 8).to(dtype), torch.tensor([2, 6], dtype=torch.int32)
    assert_same(
        Experts(), x, ends, passes=passes, backward=True, other=(x, torch.tensor([3, 6], dtype=torch.int32))
    )
