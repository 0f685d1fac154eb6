"""Redundant views: fires, and refuses each thing it must, in the IR's own text."""

import pytest
import torch

from passes.redundant_view import RedundantView
from tests.passes.golden import fires_and_refuses
from tests.sameness import assert_same

fires, refuses = fires_and_refuses(RedundantView())
X = "%x: f32[2, 3] = argument 0"


@pytest.mark.parametrize(
    "chain",
    [
        "%a: f32[2, 3] = aten.contiguous.default(%x)",
        "%a: f32[2, 3] = aten.to.dtype(%x, torch.float32)",
        "%a: f32[2, 3] = aten.dropout.default(%x, 0.5, False)",
        "%a: f32[2, 3] = aten.expand.default(%x, [2, -1])",
        "%a: f32[2, 3] = aten.slice.Tensor(%x, 0, 0, 9223372036854775807)",
        "%a: f32[2, 3] = aten.view.default(%x, [2, 3])",
        "%a: f32[2, 3] = aten.reshape.default(%x, [2, 3])",
        "%t: f32[3, 2]{1, 3} = aten.t.default(%x)\n%a: f32[2, 3] = aten.transpose.int(%t, -1, -2)",
        "%t: f32[3, 2]{1, 3} = aten.permute.default(%x, [1, 0])\n%a: f32[2, 3] = aten.mT.default(%t)",
        "%t: f32[1, 2, 3] = aten.unsqueeze.default(%x, 0)\n%a: f32[2, 3] = aten.squeeze.dim(%t, 0)",
        "%t: f32[6] = aten.view.default(%x, [6])\n%a: f32[2, 3] = aten.view.default(%t, [2, 3])",
        "t: (%t: f32[2, 3]) = aten.split.Tensor(%x, 2)\n%a: f32[2, 3] = aten.alias.default(%t)",
    ],
)
def test_a_chain_that_ends_where_it_began_is_its_beginning(chain: str) -> None:
    outcome = fires(
        X,
        f"{chain}\n%b: f32[2, 3] = aten.sin.default(%a)\nreturn %b",
        "\n".join(line for line in chain.splitlines() if "%a" not in line and "t: (" not in line)
        + "\n%b: f32[2, 3] = aten.sin.default(%x)\nreturn %b",
    )
    assert outcome.steps[-1].why == "shows what %x shows"


def test_a_product_is_asked_whether_its_operand_requires_grad() -> None:
    """matmul of a batch and a matrix rounds otherwise where the matrix requires grad."""
    refuses(
        '%x: f32[5, 2, 3]{3, 15, 1} = argument 0; %w: f32[3, 4] = param "w"',
        """%a: f32[3, 4] = aten.detach.default(%w)
        %b: f32[5, 2, 4] = aten.matmul.default(%x, %a)
        return %b""",
        "like %w, which may require grad, by which a product chooses its way",
    )


def test_views_spelled_differently_are_one() -> None:
    fires(
        X,
        """%a: f32[3, 2]{1, 3} = aten.t.default(%x)
        %b: f32[3, 2]{1, 3} = aten.transpose.int(%x, 0, 1)
        %c: f32[3, 2]{1, 3} = aten.add.Tensor(%a, %b)
        return %c""",
        """%a: f32[3, 2]{1, 3} = aten.t.default(%x)
        %c: f32[3, 2]{1, 3} = aten.add.Tensor(%a, %a)
        return %c""",
    )


def test_views_stay_views_whatever_is_written() -> None:
    fires(
        X,
        """%y: f32[2, 3] = aten.sin.default(%x)
        %a: f32[3, 2]{1, 3} = aten.t.default(%y)
        %w: f32[2, 3] = aten.add_.Tensor(%y, 1)
        %b: f32[3, 2]{1, 3} = aten.t.default(%y)
        %c: f32[3, 2]{1, 3} = aten.add.Tensor(%a, %b)
        return %c""",
        """%y: f32[2, 3] = aten.sin.default(%x)
        %a: f32[3, 2]{1, 3} = aten.t.default(%y)
        %w: f32[2, 3] = aten.add_.Tensor(%y, 1)
        %c: f32[3, 2]{1, 3} = aten.add.Tensor(%a, %a)
        return %c""",
    )


@pytest.mark.parametrize(
    "view",
    [
        "%a: f32[2, 3] = aten.slice.Tensor(%y, 0, 1, 3)",  # as large, elsewhere
        "%a: f32[2, 3] = aten.clone.default(%x)",  # memory of its own
        "%a: f32[2, 3] = aten.reshape.default(%t, [2, 3])",  # copies
        "%a: f32[2, 3]{1, 2} = aten.as_strided.default(%x, [2, 3], [1, 2], 0)",
        "%a: i32[2, 3] = aten.view.dtype(%x, torch.int32)",
    ],
)
def test_what_shows_something_else_stays(view: str) -> None:
    dtype = "i32" if "i32" in view else "f32"
    strides = "{1, 2}" if "{1, 2}" in view else ""
    refuses(
        f"{X}; %y: f32[3, 3] = argument 1; %t: f32[3, 2]{{1, 3}} = argument 2",
        f"%s: f32[2, 3] = aten.slice.Tensor(%y, 0, 0, 2)\n{view}\n"
        f"%b: {dtype}[2, 3]{strides} = aten.neg.default(%a)\n"
        "%c: f32[2, 3] = aten.neg.default(%s)\nreturn %b, %c",
    )


def test_a_node_of_several_results_goes_whole_or_not_at_all() -> None:
    refuses(
        X,
        """%s: f32[1, 3] = aten.slice.Tensor(%x, 0, 0, 1)
        t: (%a: f32[1, 3], %b: f32[1, 3]) = aten.split.Tensor(%x, 1)
        %c: f32[1, 3] = aten.add.Tensor(%a, %b)
        %d: f32[1, 3] = aten.add.Tensor(%c, %s)
        return %d""",
    )


def test_a_node_without_results_stays() -> None:
    refuses("%x: b8[] = argument 0", "n: () = aten._assert_async.default(%x)\nreturn %x")


def test_the_caller_does_not_get_one_object_for_two() -> None:
    why = "shows what %x shows, but the caller gets both objects"
    refuses(X, "%a: f32[2, 3] = aten.view.default(%x, [2, 3])\nreturn %a", why)


def test_an_in_place_result_is_the_object_it_wrote() -> None:
    body = """%w: f32[2, 3] = aten.mul_.Tensor(%x, 2)
        %a: f32[2, 3] = aten.view.default(%w, [2, 3])
        return %a"""
    refuses(X, body, "shows what %w shows, but the caller gets both objects")
    # and so is what an in-place operator on a view of a returned view returns
    body = """%y: f32[2, 3] = aten.sin.default(%x)
        %a: f32[6] = aten.view.default(%y, [6])
        %b: f32[6] = aten.view.default(%y, [6])
        %w: f32[6] = aten.mul_.Tensor(%b, 2)
        return %a, %w"""
    refuses(X, body, "shows what %a shows, but the caller gets both objects")


def test_an_object_that_is_handed_back_stays_the_object() -> None:
    fires(X, "%a: f32[2, 3] = aten.contiguous.default(%x)\nreturn %a", "return %x")


def test_what_may_be_resized_in_place_stays_apart() -> None:
    why = "shows what %y shows, but one of the two is given another shape in place"
    refuses(
        X,
        """%y: f32[2, 3] = aten.sin.default(%x)
        %a: f32[2, 3] = aten.view.default(%y, [2, 3])
        %w: f32[3, 2] = aten.resize_.default(%a, [3, 2])
        return %y""",
        why,
    )


def test_what_is_resized_under_another_name_stays_apart() -> None:
    """An in-place operator returns the object that it wrote; out= resizes it."""
    body = """%y: f32[2, 3] = aten.sin.default(%x)
        %a: f32[2, 3] = aten.view.default(%y, [2, 3])
        %w: f32[2, 3] = aten.neg_.default(%a)
        %o: f32[1] = aten.mul.out(%z, %z, out=%w)
        return %y"""
    why = "shows what %y shows, but one of the two is given another shape in place"
    refuses(f"{X}; %z: f32[1] = argument 1", body, why)


@pytest.mark.parametrize("view", ["aten.detach.default(%y)", "aten.view.default(%y, [2, 3])"])
def test_where_gradients_flow_a_view_is_part_of_their_graph(view: str) -> None:
    body = f"%y: f32[2, 3] = aten.sin.default(%x)\n%a: f32[2, 3] = {view}\n"
    body += "%b: f32[2, 3] = aten.cos.default(%a)\nreturn %b"
    refuses(X, body, "like %y, but gradients may flow through both", gradients=True)


def test_where_gradients_flow_an_object_that_is_handed_back_goes() -> None:
    before = "%a: f32[2, 3] = aten.contiguous.default(%x)\n%b: f32[2, 3] = aten.cos.default(%a)\nreturn %b"
    fires(X, before, "%b: f32[2, 3] = aten.cos.default(%x)\nreturn %b", gradients=True)


def test_a_lazy_conjugate_is_no_operand_handed_back() -> None:
    """resolve_conj hands back what is no lazy conjugate; an argument may be one."""
    refuses(
        "%x: c64[2] = argument 0",
        "%a: c64[2] = aten.resolve_conj.default(%x)\n%b: c64[2] = aten.neg.default(%a)\nreturn %b",
    )


def test_symbolic_sizes_are_left_alone() -> None:
    refuses(
        "%x: f32[<s0>, 3] = argument 0",
        "%a: f32[<s0>, 3] = aten.contiguous.default(%x)\n%b: f32[<s0>, 3] = aten.neg.default(%a)\nreturn %b",
    )


@pytest.mark.parametrize(
    "program",
    [
        lambda x: x.t().t().contiguous() + x.unsqueeze(0).squeeze(0),
        lambda x: (x.t(), x.transpose(0, 1), x[:], x.expand(3, 4)),
        lambda x: (y := x * 2, y.view(-1), y.view(12).add_(1), y.reshape(-1)),
        lambda x: (x[:0].t().t(), x[:1].squeeze(0).unsqueeze(0), x[0, 0].expand(1)),
        lambda x: torch.view_as_real(torch.view_as_complex(x.view(3, 2, 2))).sum(),
        lambda x: x.to(torch.float32) + x.float().to("cpu"),
    ],
)
def test_programs_stay_what_they_are(program: object) -> None:
    with torch.no_grad():
        assert_same(program, torch.randn(3, 4), passes=None)  # type: ignore[arg-type]


def test_a_place_in_the_memory_is_no_part_of_the_argument() -> None:
    part = torch.randn(20)[4:].view(4, 4)
    with torch.no_grad():
        assert_same(lambda x: x.as_strided((4, 4), (4, 1), 0) * 3, part, passes=["redundant-view"])


def test_a_move_to_another_device_is_no_move_within_one() -> None:
    """The same call with the operand on the target's device hands it back."""
    fires(
        '%x: f32[3] = argument 0; %y: f32[3] on "meta" = argument 1',
        """%a: f32[3] = aten.to.device(%x, device("cpu"), torch.float32)
        %b: f32[3] = aten.to.device(%y, device("cpu"), torch.float32)
        %c: f32[3] = aten.add.Tensor(%a, %b)
        return %c""",
        """%b: f32[3] = aten.to.device(%y, device("cpu"), torch.float32)
        %c: f32[3] = aten.add.Tensor(%x, %b)
        return %c""",
    )
