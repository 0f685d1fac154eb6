"""Grad-mode regions: fires, and refuses each thing it must, in the IR's own text."""

import torch

from passes.grad_mode_region import GradModeRegion
from tests.passes.golden import fires_and_refuses
from tests.sameness import assert_same

fires, refuses = fires_and_refuses(GradModeRegion())
X = "%x: f32[5] = argument 0"


def _region(enabled: bool, body: str) -> str:
    return f"""r: (%r0: f32[5]) = higher_order.wrap_with_set_grad_enabled({enabled}, graph {{
    %i: f32[5] = argument 0
    {body}
    }}, %x)
    %c: f32[5] = aten.cos.default(%r0)
    return %c"""


def test_a_region_without_gradients_is_its_contents_where_there_are_none() -> None:
    fires(
        X,
        _region(False, "%a: f32[5] = aten.sin.default(%i)\n%b: f32[5] = aten.neg.default(%a)\nreturn %b"),
        """%a_1: f32[5] = aten.sin.default(%x)
        %b_1: f32[5] = aten.neg.default(%a_1)
        %c: f32[5] = aten.cos.default(%b_1)
        return %c""",
    )


def test_a_region_that_hands_its_input_back_vanishes() -> None:
    fires(X, _region(False, "return %i"), "%c: f32[5] = aten.cos.default(%x)\nreturn %c")


def test_regions_within_regions_go_round_by_round() -> None:
    inner = """%s: f32[5] = higher_order.wrap_with_set_grad_enabled(False, graph {
    %j: f32[5] = argument 0
    %t: f32[5] = aten.sin.default(%j)
    return bare %t
    }, %i)
    return %s"""
    fires(X, _region(False, inner.replace("return bare %t", "yield %t")),
          "%t_1: f32[5] = aten.sin.default(%x)\n%c: f32[5] = aten.cos.default(%t_1)\nreturn %c")  # fmt: skip


def test_a_region_that_turns_gradients_on_stays() -> None:
    refuses(X, _region(True, "%a: f32[5] = aten.sin.default(%i)\nreturn %a"), "turns gradients on")


def test_where_gradients_are_wanted_the_region_stops_them() -> None:
    refuses(X, _region(False, "%a: f32[5] = aten.sin.default(%i)\nreturn %a"), gradients=True)


def test_a_region_on_or_returning_literals_stays() -> None:
    region = _region(False, "%a: f32[5] = aten.sin.default(%i)\nreturn %a")
    refuses(X, region.replace("}, %x)", "}, 2)"), "reads what is no value")
    refuses(X, _region(False, "return 1"), "returns what is no value, or another type than its region")
    other = _region(False, "%a: f64[5] = aten.to.dtype(%i, torch.float64)\nreturn %a")
    refuses(X, other, "returns what is no value, or another type than its region")


def test_writes_in_a_region_stay_in_order() -> None:
    body = "%a: f32[5] = aten.mul_.Tensor(%i, 2)\nreturn %a"
    after = "%a_1: f32[5] = aten.mul_.Tensor(%x, 2)\n%c: f32[5] = aten.cos.default(%a_1)\nreturn %c"
    fires(X, _region(False, body), after)


def test_programs_stay_what_they_are() -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x * 2
        with torch.no_grad():
            a, b = y.sin(), y.add_(1)
            with torch.enable_grad():
                c = (x * 2).cos()
        return a, b, c, y, (x * 2).cos()

    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert_same(program, torch.randn(5), passes=None)
            if grad:
                x = torch.randn(5, requires_grad=True)
                assert_same(lambda x: (x * 2).sin() + program(x)[2], x, passes=None, backward=True)
