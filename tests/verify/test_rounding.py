"""The float64 judge: lets other roundings pass, and nothing else."""

import pytest
import torch

from graphopt.ir.text import parse_graph
from graphopt.verify.rounding import Reference, excess_error, widened

SUM = """
graph {
  %x: f32[4096] = argument 0
  %s: f32[] = aten.sum.default(%x)
  return %s
}"""
IN_PARTS = """
graph {
  %x: f32[4096] = argument 0
  %v: f32[64, 64] = aten.view.default(%x, [64, 64])
  %p: f32[64] = aten.sum.dim_IntList(%v, [0])
  %s: f32[] = aten.sum.default(%p)
  return %s
}"""


def _inputs() -> list[torch.Tensor]:
    return [torch.randn(4096, generator=torch.Generator().manual_seed(1))]


def test_another_order_of_summation_is_let_pass() -> None:
    assert excess_error(parse_graph(SUM), parse_graph(IN_PARTS), _inputs(), 0) is None


@pytest.mark.parametrize("factor", ["1.00001", "0.999", "-1"])
def test_another_function_is_not(factor: str) -> None:
    wrong = SUM.replace("return %s", f"%t: f32[] = aten.mul.Tensor(%s, {factor})\n  return %t")
    reason = excess_error(parse_graph(SUM), parse_graph(wrong), _inputs(), 0)
    assert reason is not None and "times the original's error" in reason


def test_one_element_far_off_is_found() -> None:
    right = "graph {\n %x: f32[4096] = argument 0\n %y: f32[4096] = aten.sin.default(%x)\n return %y\n}"
    wrong = right.replace("return %y", "%z: f32[4096] = aten.clamp.default(%y, -1.0, 0.99999)\n return %z")
    x = torch.zeros(4096)
    x[7] = torch.pi / 2
    reason = excess_error(parse_graph(right), parse_graph(wrong), [x], 0)
    assert reason is not None and "largest error" in reason


def test_what_was_finite_stays_finite() -> None:
    right = "graph {\n %x: f32[3] = argument 0\n %y: f32[3] = aten.exp.default(%x)\n return %y\n}"
    wrong = """graph {
     %x: f32[3] = argument 0
     %a: f32[3] = aten.add.Tensor(%x, 80)
     %b: f32[3] = aten.exp.default(%a)
     %y: f32[3] = aten.mul.Tensor(%b, 1.8048513878454153e-35)
     return %y
    }"""
    x = torch.tensor([1.0, 2.0, 30.0])
    assert excess_error(parse_graph(right), parse_graph(wrong), [x], 0) == (
        "output 0 is not finite where the original is"
    )


def test_integers_and_written_inputs_are_compared() -> None:
    right = "graph {\n %x: f32[3] = argument 0\n %y: i64[] = aten.argmax.default(%x)\n return %y\n}"
    wrong = right.replace("argmax", "argmin")
    x = torch.tensor([1.0, 2.0, 3.0])
    assert excess_error(parse_graph(right), parse_graph(wrong), [x], 0) == (
        "output 0 is no floating number, and differs"
    )
    writes = "graph {\n %x: f32[3] = argument 0\n %y: f32[3] = aten.mul_.Tensor(%x, 2)\n return 1\n}"
    reason = excess_error(parse_graph(writes), parse_graph(writes.replace("2)", "3)")), [x], 0)
    assert reason is not None and reason.startswith("input 0, written,")
    assert x.tolist() == [1.0, 2.0, 3.0]


def test_a_deliberate_down_cast_is_part_of_the_function() -> None:
    graph = parse_graph("""graph {
     %x: f32[1] = argument 0
     %a: bf16[1] = aten.to.dtype(%x, torch.bfloat16)
     %b: f32[1] = aten.to.dtype(%a, torch.float32)
     return %b
    }""")
    (result,) = Reference().run(graph, [torch.tensor([1.001], dtype=torch.float64)])
    assert result.dtype == torch.float64 and float(result) == 1.0


def test_the_reference_draws_what_the_graph_draws() -> None:
    graph = parse_graph("""graph {
     %x: f32[50] = argument 0
     %a: f32[50] = aten.rand_like.default(%x)
     %b: f32[50] = aten.dropout.default(%a, 0.5, True)
     %c: f32[50] = aten.add.Tensor(%b, %x)
     return %c
    }""")
    x = torch.zeros(50)
    torch.manual_seed(3)
    (wide,) = Reference().run(graph, [widened(x)])
    torch.manual_seed(3)
    expected = torch.dropout(torch.rand_like(x), 0.5, True)
    assert wide.dtype == torch.float64 and torch.equal(wide.float(), expected)


def test_operators_without_a_float64_kernel_run_in_their_own_types() -> None:
    graph = parse_graph("""graph {
     %x: bf16[2, 2] = argument 0
     %y: i16[2, 2] = aten.view.dtype(%x, torch.int16)
     return %y
    }""")
    x = torch.randn(2, 2).bfloat16()
    (bits,) = Reference().run(graph, [widened(x)])
    assert torch.equal(bits, x.view(torch.int16))
