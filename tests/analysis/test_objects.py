"""Which values may be one tensor object."""

import pytest

from graphopt.analysis.objects import Objects
from graphopt.ir.text import parse_graph


@pytest.mark.parametrize(
    ("line", "one"),
    [
        ("%b: f32[2] = aten.sin.default(%a)", False),
        ("%b: f32[2] = aten.view.default(%a, [2])", False),  # another object on its memory
        ("%b: f32[2] = aten.clone.default(%a)", False),
        ("%b: f32[2] = aten.contiguous.default(%a)", True),  # hands it back
        ("%b: f32[2] = aten.to.dtype(%a, torch.float32)", True),
        ("%b: f64[2] = aten.to.dtype(%a, torch.float64)", False),
        ("%b: f32[<s0>] = aten.reshape.default(%a, [%n])", True),
        ("%b: f32[2] = aten.add_.Tensor(%a, 1)", True),
        ("%b: f32[2] = aten.add.out(%x, %x, out=%a)", True),
        ("%b: f32[2] = mylib.unknown.default(%x, %a)", True),
        ("%b: f32[2] = aten.add_.Tensor(%x, 1)", False),
    ],
)
def test_a_result_may_be_its_operand(line: str, one: bool) -> None:
    graph = parse_graph(
        f"graph {{ %x: f32[2] = argument 0 %n: int<s0> = argument 1 %a: f32[2] = aten.cos.default(%x) {line} "
        "return %b }"
    )
    objects = Objects(graph)
    assert (objects.of("b") == objects.of("a")) is one
