"""Values of every kind, what is drawn and what is raised are eager's."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.capture.kept.examples import F, X
from tests.sameness import assert_same


def test_random_operators_draw_eagers_numbers_and_dead_ones_still_draw(passes: Any) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        torch.rand(3)
        return torch.rand_like(x), torch.rand_like(x), F.dropout(x, 0.5), torch.bernoulli(x.sigmoid())

    assert_same(program, X, passes=passes)


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
