"""Another property or element of a tensor is seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from graphopt.verify import observe
from tests.verify.observed import constant, seen


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("dtype", lambda x: x.double()),
        ("dtype", lambda x: x.view(torch.int32)),
        ("shape", lambda x: x.reshape(3, 2)),
        ("strides", lambda x: x.t().contiguous().t()),
        ("storage offset", lambda x: torch.cat([x.new_zeros(1), x.reshape(-1)])[1:].view(2, 3)),
        ("requires_grad", lambda x: x.clone().requires_grad_()),
        ("type", lambda x: torch.nn.Parameter(x.clone(), requires_grad=False)),
        ("device", lambda x: x.to("meta")),
        ("layout", lambda x: x.to_sparse()),
    ],
)
def test_another_tensor_property_is_seen(field: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.arange(1.0, 7.0).reshape(2, 3)
    assert seen(torch.clone, torch.clone, x) is None
    assert f"output: {field} differs" in str(seen(torch.clone, change, x))


def test_a_leaf_in_place_of_a_computed_tensor_is_seen() -> None:
    def detached(x: torch.Tensor) -> torch.Tensor:
        return (x * 1).detach().requires_grad_()

    message = seen(lambda x: x * 1, detached, torch.ones(2, requires_grad=True))
    assert "is_leaf" in str(message)


def test_a_stale_view_is_observed_as_one() -> None:
    def stale(x: torch.Tensor) -> Any:
        y = x * 1
        views = y.unbind()
        y.mul_(2)
        return views

    x = torch.ones(2, requires_grad=True)
    assert seen(stale, stale, x, backward=True) is None
    message = seen(stale, lambda x: tuple((x * 2).view(2)[i] for i in range(2)), x)
    assert "differs, expected None" in str(message)


def test_a_lost_conjugate_bit_is_seen() -> None:
    x = torch.randn(3, dtype=torch.complex64)
    message = seen(lambda x: x.conj(), lambda x: x.view(3).conj().view(3), x)
    assert message is None
    physical = seen(lambda x: (x * 1).conj(), lambda x: (x * 1).conj().resolve_conj(), x)
    assert "conjugate bit" in str(physical)


def test_a_lost_negative_bit_is_seen() -> None:
    x = torch.randn(3, dtype=torch.complex64)

    def lazily(x: torch.Tensor) -> torch.Tensor:
        return (x * 1).conj().imag

    def physically(x: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real((x * 1).conj().resolve_conj())[..., 1]

    assert "negative bit" in str(seen(lazily, physically, x))


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.int64,
        torch.int8,
        torch.bool,
        torch.complex64,
        torch.complex128,
    ],
    ids=str,
)
def test_one_other_element_is_seen_in_every_dtype(dtype: torch.dtype) -> None:
    one = torch.tensor([[0, 1], [1, 1]]).to(dtype)
    other = torch.tensor([[0, 1], [0, 1]]).to(dtype)
    assert seen(constant(one), constant(one.clone())) is None
    message = str(seen(constant(one), constant(other)))
    assert "1 of 4 elements differ" in message
    assert "[1, 0]" in message


def test_elements_are_read_through_any_strides() -> None:
    one = torch.arange(6).reshape(2, 3)
    for view in (one.t(), one[:, 1], one[:1, 1].expand(1), one[0, 0].expand(2, 2), one[:, :0]):
        same = torch.tensor(view.tolist(), dtype=view.dtype).reshape(view.shape)
        contents = [observe(constant(x), ()).outputs[0] for x in (view, same)]
        assert contents[0].content == contents[1].content  # type: ignore[union-attr]


def test_the_sentence_names_path_size_and_ulps() -> None:
    one = {"logits": [torch.tensor(1.0)]}
    other = {"logits": [torch.tensor(1.0 + 2**-22)]}
    assert seen(constant(one), constant(other)) == (
        "output['logits'][0]: 1 of 1 elements differ, first at []: expected 1.0, "
        "got 1.000000238418579 (largest absolute difference 2.38e-07, 2 ULP)"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
def test_a_signed_zero_is_seen(dtype: torch.dtype) -> None:
    zero = torch.zeros(2, dtype=dtype)
    message = seen(constant(zero), constant(-zero))
    assert "signed zeros" in str(message)


def test_an_infinity_in_place_of_a_nan_is_seen() -> None:
    one, other = torch.tensor([math.nan]), torch.tensor([math.inf])
    assert seen(constant(one), constant(other)) is not None


def test_an_infinite_tolerance_leaves_the_elements_aside_and_nothing_else() -> None:
    one, other = torch.tensor([math.nan, 1.0]), torch.tensor([2.0, math.inf])
    assert seen(constant(one), constant(other), tolerance=math.inf) is None
    assert seen(constant(one), constant(other.double()), tolerance=math.inf) is not None
    assert seen(constant(one), constant(other.view(1, 2)), tolerance=math.inf) is not None


@pytest.mark.parametrize(
    ("dtype", "words", "payload"),
    [(torch.float32, torch.int32, 0x7FC00001), (torch.bfloat16, torch.int16, -1)],
    ids=str,
)
def test_nan_payloads_and_signs_are_not_told_apart(
    dtype: torch.dtype, words: torch.dtype, payload: int
) -> None:
    one = torch.tensor([math.nan], dtype=dtype)
    other = torch.tensor([payload], dtype=words).view(dtype)
    assert bool(other.isnan().all())
    assert seen(constant(one), constant(other)) is None


def test_an_imaginary_part_alone_is_seen() -> None:
    one, other = torch.tensor([1 + 1j]), torch.tensor([1 + 2j])
    assert "1 of 1 elements" in str(seen(constant(one), constant(other)))


def test_sparse_contents_are_seen() -> None:
    one, other = torch.eye(3).to_sparse(), torch.eye(3).mul(2).to_sparse()
    assert seen(constant(one), constant(one.clone())) is None
    assert "_values()" in str(seen(constant(one), constant(other)))
    rows, columns = torch.eye(3).to_sparse_csr(), torch.ones(3, 3).to_sparse_csr()
    assert "crow_indices()" in str(seen(constant(rows), constant(columns)))
