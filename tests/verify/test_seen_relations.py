"""Other relations among outputs, arguments and state are seen, and lost writes."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.verify import copy_arguments, difference, observe
from tests.verify.observed import Counter, seen


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
