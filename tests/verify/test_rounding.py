"""The float64 judge: lets other roundings pass, and nothing else."""

import pytest
import torch

from graphopt.ir.text import parse_graph
from graphopt.verify.rounding import Reference, excess_error, gradient_excess, reference_bytes, widened

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


def test_a_result_that_is_exact_by_chance_asks_for_no_other() -> None:
    x = _inputs()[0]
    x[0] -= x.double().sum().float()  # so near to zero that any order of summation is far off
    assert excess_error(parse_graph(SUM), parse_graph(IN_PARTS), [x], 0) is None
    assert excess_error(parse_graph(IN_PARTS), parse_graph(SUM), [x], 0) is None


OUTER = """graph {
 %x: f32[4096] = argument 0
 %y: f32[4096] = argument 1
 %z: f32[4096, 8] = argument 2
 %a: f32[4096, 4096] = aten.outer.default(%y, %x)
 %r: f32[4096, 8] = aten.matmul.default(%a, %z)
 return %r
}"""
FACTORED = OUTER.replace(
    "%a: f32[4096, 4096] = aten.outer.default(%y, %x)", "%a: f32[8] = aten.matmul.default(%x, %z)"
)
FACTORED = FACTORED.replace("aten.matmul.default(%a, %z)", "aten.outer.default(%y, %a)")


def test_errors_that_are_large_together_are_measured_by_the_row_they_are_in() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y, z = (torch.randn(shape, generator=generator) for shape in ((4096,), (4096,), (4096, 8)))
    y[0] = 1e4
    assert excess_error(parse_graph(OUTER), parse_graph(FACTORED), [x, y, z], 0) is None


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_digits_that_cancel_are_missed(scale: float) -> None:
    squares = """graph {
     %a: f32[64] = argument 0
     %b: f32[64] = argument 1
     %d: f32[64] = aten.sub.Tensor(%a, %b)
     %e: f32[64] = aten.mul.Tensor(%d, %d)
     %s: f32[] = aten.sum.default(%e)
     return %s
    }"""
    expanded = """graph {
     %a: f32[64] = argument 0
     %b: f32[64] = argument 1
     %p: f32[] = aten.dot.default(%a, %a)
     %q: f32[] = aten.dot.default(%b, %b)
     %r: f32[] = aten.dot.default(%a, %b)
     %t: f32[] = aten.add.Tensor(%p, %q)
     %s: f32[] = aten.sub.Tensor(%t, %r, alpha=2)
     return %s
    }"""
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(64, generator=generator)
    b = a + scale * torch.randn(64, generator=generator)
    reason = excess_error(parse_graph(squares), parse_graph(expanded), [a, b], 0)
    assert (reason is None) == (scale == 1.0)


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


NUMBER = """graph {{
 %x: f32[64] = argument 0
 %y: f32[64] = aten.exp.default(%x)
 %z: f32[64] = aten.{turned}
 %s: f32[] = aten.{summed}.default(%z)
 %n: float = aten.item.default(%s)
 return %n
}}"""


def test_a_number_that_is_read_from_a_tensor_may_round_as_the_tensor_may() -> None:
    right = parse_graph(NUMBER.format(turned="clone.default(%y)", summed="sum"))
    other = parse_graph(NUMBER.format(turned="flip.default(%y, [0])", summed="sum"))
    wrong = parse_graph(NUMBER.format(turned="clone.default(%y)", summed="mean"))
    x = torch.linspace(0, 3, 64)
    for inputs in ([x], [x * torch.nan], [x * torch.inf], [x * 100]):
        assert excess_error(right, other, inputs, 0) is None
    reason = excess_error(right, wrong, [x], 0)
    assert reason is not None and "error against float64" in reason


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


SQUARE = """graph {
 %x: f32[50] = argument 0
 %w: f32[50] = argument 1
 %a: f32[50] = aten.mul.Tensor(%x, %x)
 %y: f32[50] = aten.mul.Tensor(%a, %w)
 return %y
}"""


def _leaves(count: int = 2, size: int = 50) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, generator=generator, requires_grad=True) for _ in range(count)]


def test_gradients_that_round_otherwise_are_let_pass() -> None:
    other = SQUARE.replace("%a: f32[50] = aten.mul.Tensor(%x, %x)", "%a: f32[50] = aten.mul.Tensor(%x, %w)")
    other = other.replace("(%a, %w)", "(%a, %x)")
    inputs = _leaves()
    assert gradient_excess(parse_graph(SQUARE), parse_graph(other), inputs, 0) is None
    assert all(leaf.grad is None for leaf in inputs)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            "%d: f32[50] = aten.detach.default(%x)\n %a: f32[50] = aten.mul.Tensor(%d, %x)",
            "times the original's",
        ),
        ("%d: f32[50] = aten.detach.default(%x)\n %a: f32[50] = aten.mul.Tensor(%d, %d)", "is missing"),
    ],
)
def test_a_right_result_with_a_wrong_gradient_is_found(line: str, found: str) -> None:
    wrong = SQUARE.replace("%a: f32[50] = aten.mul.Tensor(%x, %x)", line)
    assert excess_error(parse_graph(SQUARE), parse_graph(wrong), _leaves(), 0) is None
    reason = gradient_excess(parse_graph(SQUARE), parse_graph(wrong), _leaves(), 0)
    assert reason is not None and reason.startswith("the gradient of %x") and found in reason
    assert (
        gradient_excess(parse_graph(SQUARE), parse_graph(wrong), [leaf.detach() for leaf in _leaves()], 0)
        is None
    )


def test_a_gradient_that_sums_hide_is_found() -> None:
    """Every row of a softmax sums to 1: from cotangents of ones its gradient is 0."""
    right = """graph {
     %x: f32[5, 10] = argument 0
     %y: f32[5, 10] = aten.softmax.int(%x, -1)
     return %y
    }"""
    wrong = right.replace(
        "return %y",
        """%d: f32[5, 10] = aten.detach.default(%y)
     %z: f32[5, 10] = aten.sub.Tensor(%y, %y)
     %r: f32[5, 10] = aten.add.Tensor(%z, %d)
     return %r""",
    )
    x = torch.randn(5, 10, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert excess_error(parse_graph(right), parse_graph(wrong), [x], 0) is None
    assert gradient_excess(parse_graph(right), parse_graph(wrong), [x], 0) is not None


def test_gradients_of_what_draws_and_of_what_runs_in_its_own_types_are_judged() -> None:
    graph = """graph {
     %x: f32[50] = argument 0
     %w: f32[50] = argument 1
     %b: f32[50] = aten.dropout.default(%x, 0.5, True)
     %c: bf16[50] = aten.to.dtype(%b, torch.bfloat16)
     %d: f32[50] = aten.to.dtype(%c, torch.float32)
     %y: f32[50] = aten.mul.Tensor(%d, %w)
     return %y
    }"""
    assert gradient_excess(parse_graph(graph), parse_graph(graph), _leaves(), 0) is None
    wrong = graph.replace("(%d, %w)", "(%d, %d)")
    assert gradient_excess(parse_graph(graph), parse_graph(wrong), _leaves(), 0) is not None


def test_a_reference_keeps_everything_for_gradients_and_frees_what_is_dead_otherwise() -> None:
    chain = "\n".join(
        f"%a{i + 1}: f32[n] = aten.sin.default(%a{i})".replace("[n]", "[<n>]") for i in range(10)
    )
    graph = parse_graph(f"graph {{\n%a0: f32[<n>] = argument 0\n{chain}\nreturn %a10\n}}")
    assert reference_bytes(graph, {"n": 100}, backward=False) == 2 * 800
    assert reference_bytes(graph, {"n": 100}, backward=True) == 12 * 800
