"""Tensors made from Python numbers: equal ones are one, and stay apart where it can be told."""

import torch

from graphopt.ir.graph import Constant
from tests.sameness import assert_same


def _constants(opt: object) -> int:
    return sum(isinstance(entry.source, Constant) for entry in opt.graph.inputs)  # type: ignore[attr-defined]


def test_equal_constants_are_one_and_what_is_made_of_them_too() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return x * torch.tensor([1.0, 2.0]) + x * torch.tensor([1.0, 2.0])

    with torch.no_grad():
        opt = assert_same(program, torch.randn(2), passes=None)
    assert _constants(opt) == 1
    assert [node.op for node in opt.graph.nodes] == ["aten.mul.Tensor", "aten.add.Tensor"]
    assert_same(program, torch.randn(2, requires_grad=True), passes=None, backward=True)


def test_constants_that_differ_in_a_bit_type_or_shape_stay_apart() -> None:
    def program(x: torch.Tensor) -> list[torch.Tensor]:
        made = [torch.tensor(value) for value in (0.0, -0.0, 0, [0.0], float("nan"))]
        return [x / one for one in made]

    opt = assert_same(program, torch.randn(2), passes=None)
    assert _constants(opt) == 5


def test_what_is_written_is_not_shared() -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        first, second = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])
        first.add_(1)
        return x * first, x * second, first

    assert_same(program, torch.randn(2), passes=None, other=(torch.randn(2),))
    assert_same(program, torch.randn(2), passes=(), other=(torch.randn(2),))


def test_what_the_caller_gets_stays_two() -> None:
    assert_same(lambda x: (torch.tensor([1.0]), torch.tensor([1.0]), x + 1), torch.randn(2), passes=None)


def test_a_constant_that_requires_grad_is_as_in_eager() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return x * torch.tensor([1.0, 2.0]) * torch.tensor([1.0, 2.0])

    assert_same(program, torch.randn(2, requires_grad=True), passes=None, backward=True)
