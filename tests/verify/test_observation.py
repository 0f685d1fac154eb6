"""Each fact of an observation has a test in which a deviation in it alone is seen."""

from __future__ import annotations

import math
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from graphopt.verify import copy_arguments, difference, observe

Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Box:
    value: Any


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def seen(
    expected: Callable[..., Any],
    actual: Callable[..., Any],
    *args: Any,
    backward: bool = False,
    tolerance: float = 0.0,
) -> str | None:
    """The difference between two callables on equal copies of the arguments."""
    first, _ = copy_arguments(args)
    second, _ = copy_arguments(args)
    return difference(
        observe(expected, first, backward=backward),
        observe(actual, second, backward=backward),
        tolerance=tolerance,
    )


def constant(value: Any) -> Callable[..., Any]:
    return lambda *args: value


def test_two_runs_of_one_function_do_not_differ() -> None:
    def program(x: torch.Tensor, y: torch.Tensor) -> Any:
        y.add_(torch.rand(3))
        return {"a": x, "b": [x[1:], x.t(), 1.0], "c": torch.nn.functional.dropout(x)}

    x, y = torch.randn(3, 3), torch.randn(3)
    assert seen(program, program, x, y) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        ([1], [1, 1]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, OrderedDict(a=1)),
        (Pair(1, 2), (1, 2)),
        ({1}, {2}),
        ({1}, frozenset({1})),
        (Box(1), Box(2)),
        (Box([1]), Box((1,))),
        (Plain(1), Plain(2)),
        (Slotted(1), Slotted(2)),
        (Plain(1), Slotted(1)),
        (None, ()),
        (torch.max(torch.ones(2, 2), 0), tuple(torch.max(torch.ones(2, 2), 0))),
        (torch.Size([2]), (2,)),
        (range(2), range(3)),
    ],
)
def test_another_output_structure_is_seen(one: Any, other: Any) -> None:
    assert seen(constant(one), constant(one)) is None
    assert seen(constant(one), constant(other)) is not None


def test_a_member_of_a_model_output_that_became_none_is_seen() -> None:
    outputs = pytest.importorskip("transformers.modeling_outputs")
    full = outputs.BaseModelOutput(last_hidden_state=torch.ones(1), hidden_states=(torch.ones(2),))
    bare = outputs.BaseModelOutput(last_hidden_state=torch.ones(1))
    assert seen(constant(full), constant(full)) is None
    assert "output" in str(seen(constant(full), constant(bare)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (1.0, True),
        (0.0, -0.0),
        (1.0, 1.0 + 2**-52),
        (math.nan, 0.0),
        (complex(0, 0.0), complex(0, -0.0)),
        (complex(1, math.nan), complex(1, 1)),
        (-1, -2),
        ("a", "b"),
        ("a", b"a"),
        (None, 0),
        (torch.float32, torch.float64),
        (torch.device("cpu"), torch.device("meta")),
        (math.sin, math.cos),
        (int, float),
    ],
    ids=repr,
)
def test_another_literal_is_seen_by_its_type_and_bits(one: Any, other: Any) -> None:
    assert seen(constant(one), constant(one)) is None
    assert seen(constant([one]), constant([other])) is not None


def test_two_python_nans_of_other_bits_are_one_nan() -> None:
    assert seen(constant(math.nan), constant(-math.nan)) is None


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


def test_an_output_that_is_no_longer_the_input_itself_is_seen() -> None:
    message = seen(lambda x: x, lambda x: x.view(-1), torch.ones(2))
    assert "output: which tensor object it is" in str(message)


def test_an_output_that_no_longer_shares_the_inputs_memory_is_seen() -> None:
    message = seen(lambda x: x[:], lambda x: x.clone(), torch.ones(2))
    assert "output: whose memory it shares" in str(message)


def test_two_outputs_that_became_one_tensor_are_seen() -> None:
    def apart(x: torch.Tensor) -> Any:
        return x + 1, x + 1

    def merged(x: torch.Tensor) -> Any:
        y = x + 1
        return y, y

    assert "output[1]: which tensor object" in str(seen(apart, merged, torch.ones(2)))
    assert "output[1]: which tensor object" in str(seen(merged, apart, torch.ones(2)))


def test_two_outputs_that_no_longer_share_memory_are_seen() -> None:
    def shared(x: torch.Tensor) -> Any:
        y = x + 1
        return y, y[:]

    message = seen(shared, lambda x: ((x + 1), (x + 1)[:]), torch.ones(2))
    assert "output[1]: whose memory it shares" in str(message)


def test_memory_shared_by_empty_tensors_is_told_apart() -> None:
    def shared(x: torch.Tensor) -> Any:
        y = x.clone()
        return y, y[:]

    message = seen(shared, lambda x: (x.clone(), x.clone()), torch.ones(0))
    assert "whose memory it shares" in str(message)


def test_an_output_swapped_for_the_other_equal_argument_is_seen() -> None:
    message = seen(lambda x, y: x, lambda x, y: y, torch.ones(2), torch.ones(2))
    assert "which tensor object" in str(message)


def test_a_lost_write_to_an_argument_is_seen() -> None:
    message = seen(lambda x: x.add_(1) * 2, lambda x: (x + 1) * 2, torch.zeros(2))
    assert str(message).startswith("args[0]: 2 of 2 elements differ")


def test_a_lost_change_of_an_arguments_shape_is_seen() -> None:
    message = seen(lambda x: x.t_() * 1, lambda x: x.t() * 1, torch.ones(2, 3))
    assert str(message).startswith("args[0]: shape differs")


def test_a_lost_append_to_an_arguments_list_is_seen() -> None:
    def append(items: list[int]) -> None:
        items.append(1)

    assert str(seen(append, lambda items: None, [])).startswith("args[0]")


def test_an_argument_whose_memory_was_replaced_is_seen() -> None:
    def replace(x: torch.Tensor) -> None:
        x.data = x.data.clone()

    message = seen(lambda x: None, replace, torch.ones(2))
    assert "args[0]: whose memory it shares" in str(message)


def test_a_write_seen_through_an_aliasing_argument_is_kept_by_the_copy() -> None:
    x = torch.zeros(4)
    args, _ = copy_arguments((x, x[1:3]))
    observation = observe(lambda x, y: y.fill_(1), args)
    assert difference(observation, observe(lambda x, y: y.fill_(1), (x, x[1:3]))) is None
    assert x.tolist() == [0, 1, 1, 0]


class Counter(torch.nn.Module):
    calls: torch.Tensor

    def __init__(self, step: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("calls", torch.zeros(()))
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(self.step)
        return x * self.weight


def test_a_lost_write_to_a_buffer_is_seen() -> None:
    one, other = Counter(1.0), Counter(0.0)
    x = torch.ones(2)
    message = difference(observe(one, (x,), module=one), observe(other, (x,), module=other))
    assert str(message).startswith("buffer 'calls': 1 of 1 elements differ")


def test_a_parameter_changed_by_the_call_is_seen() -> None:
    one, other = Counter(1.0), Counter(1.0)

    def train(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            result = x * other.weight
            other.weight.add_(1)
        return result.requires_grad_()

    x = torch.ones(2)
    expected = observe(lambda x: one(x).detach().requires_grad_(), (x,), module=one)
    other.calls += 1
    message = difference(expected, observe(train, (x,), module=other))
    assert str(message).startswith("parameter 'weight'")


def test_an_output_that_is_no_longer_the_buffer_is_seen() -> None:
    one, other = Counter(1.0), Counter(1.0)
    message = difference(
        observe(lambda: one.calls, (), module=one),
        observe(lambda: other.calls.clone(), (), module=other),
    )
    assert "output: which tensor object" in str(message)


def test_untied_weights_are_seen() -> None:
    tied, apart = torch.nn.Module(), torch.nn.Module()
    tied.a = tied.b = torch.nn.Parameter(torch.ones(1))
    apart.a, apart.b = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    message = difference(observe(lambda: None, (), module=tied), observe(lambda: None, (), module=apart))
    assert "parameter 'b': which tensor object" in str(message)


def test_a_random_draw_more_is_seen_though_no_value_changed() -> None:
    def draw(x: torch.Tensor) -> torch.Tensor:
        torch.rand(1)
        return x * 1

    assert str(seen(lambda x: x * 1, draw, torch.ones(2))).startswith("random state")


def test_the_seed_decides_what_is_drawn_and_the_callers_stream_stays() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second, other = (observe(torch.rand, (3,), seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert difference(first, second) is None
    assert difference(first, other) is not None


def test_a_grad_mode_left_behind_is_seen_and_undone() -> None:
    def switch_off(x: torch.Tensor) -> torch.Tensor:
        torch.set_grad_enabled(False)
        return x

    assert "grad mode" in str(seen(lambda x: x, switch_off, torch.ones(1)))
    assert torch.is_grad_enabled()


def test_another_exception_type_is_seen() -> None:
    def fail(kind: type[Exception]) -> Callable[[torch.Tensor], None]:
        def raising(x: torch.Tensor) -> None:
            raise kind("no")

        return raising

    x = torch.ones(1)
    assert seen(fail(ValueError), fail(ValueError), x) is None
    assert "ValueError (no)" in str(seen(fail(ValueError), fail(TypeError), x))
    assert "no exception" in str(seen(fail(ValueError), lambda x: None, x))


def test_a_write_before_an_exception_is_seen() -> None:
    def write_then_fail(x: torch.Tensor) -> None:
        x.add_(1)
        torch.linalg.cholesky(-torch.eye(2))

    def fail(x: torch.Tensor) -> None:
        torch.linalg.cholesky(-torch.eye(2))

    assert str(seen(write_then_fail, fail, torch.zeros(1))).startswith("args[0]")


def test_a_gradient_that_no_longer_arrives_is_seen() -> None:
    def both(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x * w

    def one(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x * w.detach()

    x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    assert seen(both, both, x, w, backward=True) is None
    assert seen(both, one, x, w, backward=False) is None
    assert str(seen(both, one, x, w, backward=True)).startswith("gradient of args[1]")
    assert str(seen(one, both, x, w, backward=True)).startswith("gradient of args[1]")


def test_another_gradient_is_seen_within_a_stated_tolerance_only() -> None:
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * (1 + 2**-20)

    x = torch.ones(2, requires_grad=True)
    message = seen(lambda x: x * 1, Scaled.apply, x, backward=True)
    assert "8 ULP" in str(message)
    assert seen(lambda x: x * 1, Scaled.apply, x, backward=True, tolerance=1e-5) is None
    assert seen(lambda x: x * 1, Scaled.apply, x, backward=True, tolerance=1e-7)


def test_a_gradients_memory_layout_is_not_told_apart() -> None:
    def transposed(x: torch.Tensor) -> torch.Tensor:
        return x.t() @ torch.arange(4.0).reshape(2, 2)

    def plain(x: torch.Tensor) -> torch.Tensor:
        return (torch.arange(4.0).reshape(2, 2).t() @ x).t()

    x = torch.ones(2, 2, requires_grad=True)
    gradients = []
    for program in (transposed, plain):
        (copied,), _ = copy_arguments((x,))
        gradients.append(observe(program, (copied,), backward=True).gradients)
    assert gradients[0] == gradients[1]


def test_the_gradient_of_a_complex_output_is_seen() -> None:
    x = torch.ones(2, dtype=torch.complex64, requires_grad=True)
    message = seen(lambda x: x * 1j, lambda x: (x * 1j).detach() + x * 0, x, backward=True)
    assert "gradient of args[0]" in str(message)


def test_a_backward_that_no_longer_raises_is_seen() -> None:
    def spoiled(x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        z = y * 1
        y.mul_(2)
        return z + y * 0

    def fine(x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        return y * 1 + (y * 2) * 0

    message = seen(spoiled, fine, torch.ones(2, requires_grad=True), backward=True)
    assert str(message).startswith("backward: expected RuntimeError")


def test_the_gradient_of_a_parameter_is_seen() -> None:
    one, other = Counter(1.0), Counter(1.0)
    x = torch.ones(2)
    expected = observe(one, (x,), module=one, backward=True)
    with torch.no_grad():
        other.weight.copy_(one.weight)
    observed = observe(lambda x: other(x) * 1, (x * 1,), module=other, backward=True)
    assert difference(expected, observed) is None
    doubled = Counter(1.0)
    observed = observe(lambda x: doubled(x) + 0 * doubled.weight, (x,), module=doubled)
    assert str(difference(expected, observed)).startswith("gradient of parameter 'weight'")


def test_an_object_that_contains_itself_is_observed() -> None:
    def knot(length: int) -> list[Any]:
        items: list[Any] = list(range(length))
        items.append(items)
        return items

    assert seen(constant(knot(1)), constant(knot(1))) is None
    assert seen(constant(knot(1)), constant(knot(2))) is not None


# ------------------------------------------------------------------------------------------
# Copying arguments
# ------------------------------------------------------------------------------------------


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
