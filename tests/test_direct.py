"""The emitted graph as a function that calls operators directly."""

import torch

import graphopt
from graphopt.direct import direct


def _code_names(function: object) -> set[str]:
    code = function.__func__.__code__  # type: ignore[attr-defined]
    return {*code.co_names}


def test_no_operator_is_looked_up_in_a_call() -> None:
    x = torch.randn(3, 4)
    with torch.no_grad():
        opt = graphopt.optimize(lambda x: (x.sin() @ x.t()).relu_() + 1, (x,), measure=False)
    called = direct(opt.graph_module)
    assert "ops" not in _code_names(called)
    assert torch.equal(called(x), opt.graph_module(x))


def test_text_that_looks_like_an_operator_stays_text() -> None:
    op_ = "torch.ops.aten.sin.default(x)"
    x = torch.randn(3)
    opt = graphopt.optimize(lambda x, op_: {op_: x.sin(), "op_": x}, (x, op_), measure=False)
    found = direct(opt.graph_module)(x, op_)
    assert torch.equal(found[op_], x.sin()) and list(found) == [op_, "op_"]


def test_regions_and_operators_of_others_are_called_too() -> None:
    @torch.library.custom_op("graphopt_test::doubled", mutates_args=())
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    doubled.register_fake(torch.empty_like)

    def program(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = x.sin() * x
        return torch.ops.graphopt_test.doubled(y) + x

    x = torch.randn(3, requires_grad=True)
    opt = graphopt.optimize(program, (x,), measure=False, passes=[])
    assert torch.equal(direct(opt.graph_module)(x), program(x))
