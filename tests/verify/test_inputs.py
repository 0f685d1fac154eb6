"""Other values of the example's arguments: which change, which stay, and that they stay legal."""

import pytest
import torch

from graphopt.verify.inputs import Varied, other_values, unvaried


def varied(*args: torch.Tensor, seed: int = 0, integers: bool = True) -> Varied | None:
    return other_values(args, {}, {}, seed, False, integers)


def drawn(tensor: torch.Tensor, seed: int = 0) -> torch.Tensor:
    made = varied(tensor, seed=seed)
    assert made is not None and made.integers
    result: torch.Tensor = made.args[0]
    return result


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_integers_are_drawn_from_the_range_of_the_example(dtype: torch.dtype) -> None:
    example = torch.tensor([[7, 3], [5, 3]], dtype=dtype).t()
    for seed in range(20):
        made = drawn(example, seed)
        assert (made.dtype, made.shape, made.stride()) == (dtype, example.shape, example.stride())
        assert int(made.min()) >= 3 and int(made.max()) <= 7
    assert any(not torch.equal(drawn(example, seed), example) for seed in range(20))
    assert example.tolist() == [[7, 5], [3, 3]]


def test_the_widest_range_is_drawn_from() -> None:
    drawn(torch.tensor([[-(2**63), 2**63 - 1]]))


def test_booleans_are_drawn() -> None:
    example = torch.ones(64, dtype=torch.bool)
    made = drawn(example)
    assert 16 < int(made.sum()) < 48 and made.dtype is torch.bool


def test_offsets_stay_offsets() -> None:
    """Kernels read memory by them unchecked."""
    example = torch.tensor([0, 3, 3, 8, 20])
    others = [drawn(example, seed) for seed in range(20)]
    assert all(bool((made.diff() >= 0).all()) and (made[0], made[-1]) == (0, 20) for made in others)
    assert any(not torch.equal(made, example) for made in others)


def test_what_stays_is_named() -> None:
    args = (
        torch.tensor([1, 1]), torch.tensor([0, 9]), torch.zeros(0, 2), torch.ones(1).expand(3),
        torch.eye(2).to_sparse(), torch.randn(2, dtype=torch.complex64), torch.randn(2),
    )  # fmt: skip
    assert list(unvaried(args, {"x": torch.tensor(3)})) == [
        "args[0], kwargs['x']: all elements are alike",
        "args[1]: both ends of what is sorted stay",
        "args[2]: empty",
        "args[3]: expanded",
        "args[4]: not a plain tensor on the CPU",
        "args[5]: of torch.complex64",
    ]
    assert varied(*args[:6]) is None


def test_integers_stay_on_request() -> None:
    example = torch.tensor([[7, 3], [5, 3]])
    assert varied(example, integers=False) is None
    made = varied(example, torch.randn(9), integers=False)
    assert made is not None and not made.integers and torch.equal(made.args[0], example)


def test_views_of_one_tensor_stay_views_of_one() -> None:
    base = torch.tensor([[7, 3], [5, 3]])
    made = varied(base, base.t())
    assert made is not None and torch.equal(made.args[0].t(), made.args[1])
