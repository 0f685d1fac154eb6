"""Copies of arguments keep every relation among them."""

from __future__ import annotations

import torch

from graphopt.verify import copy_arguments
from tests.verify.observed import Box, Pair, Plain


def test_a_copy_shares_nothing_with_the_original() -> None:
    x = torch.zeros(3)
    (copied, items), kwargs = copy_arguments((x, [x]), {"x": x})
    copied.add_(1)
    items.append(1)
    assert x.tolist() == [0, 0, 0]
    assert kwargs["x"] is copied
    assert items[0] is copied


def test_views_of_one_storage_stay_views_of_one_storage() -> None:
    x = torch.arange(6.0)
    (a, b, c), _ = copy_arguments((x[1:4], x.view(2, 3).t(), x[:1].expand(4)))
    assert a.storage_offset() == 1
    assert b.stride() == (1, 3)
    assert c.stride() == (0,)
    a.fill_(9)
    assert b.reshape(-1).tolist() == [0, 9, 9, 4, 9, 5]


def test_a_view_in_another_dtype_stays_a_view() -> None:
    x = torch.zeros(2)
    (a, b), _ = copy_arguments((x, x.view(torch.int32)))
    b.fill_(1)
    assert a.view(torch.int32).tolist() == [1, 1]


def test_a_copy_keeps_requires_grad_parameters_and_gradients() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    gradient = torch.full((2,), 3.0)
    weight.grad = gradient
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    inner = weight * 2
    (a, b, c), _ = copy_arguments((weight, frozen, inner))
    assert type(a) is torch.nn.Parameter
    assert a.grad is not None
    assert torch.equal(a.grad, gradient)
    assert a.grad is not gradient
    assert type(b) is torch.nn.Parameter
    assert not b.requires_grad
    assert c.is_leaf
    assert c.requires_grad
    assert torch.equal(c, inner)


def test_a_copy_keeps_lazy_bits() -> None:
    x = torch.randn(3, dtype=torch.complex64)
    (a, b, c), _ = copy_arguments((x, x.conj(), x.conj().imag))
    assert b.is_conj()
    assert c.is_neg()
    assert torch.equal(b, x.conj())
    assert torch.equal(c, x.conj().imag)
    a.zero_()
    assert b.abs().sum() == 0
    assert c.abs().sum() == 0


def test_a_copy_reaches_tensors_inside_objects() -> None:
    x = torch.zeros(2)
    (box, plain, pair), _ = copy_arguments((Box(x), Plain([x[1:]]), Pair(x, 1)))
    pair.left.add_(1)
    assert box.value.tolist() == [1, 1]
    assert plain.value[0].tolist() == [1]
    assert x.tolist() == [0, 0]


def test_a_copy_keeps_sparse_and_empty_tensors() -> None:
    sparse, empty = torch.eye(2).to_sparse(), torch.ones(0, 3)
    (a, b, c), _ = copy_arguments((sparse, empty, torch.eye(2).to_sparse_csr()))
    assert c.layout == torch.sparse_csr
    assert a.layout == torch.sparse_coo
    assert torch.equal(a.to_dense(), torch.eye(2))
    assert b.shape == (0, 3)
