"""Affine folds on graphs in the IR's text: which operands go into a weight, and which forms fit together."""

import pytest

from graphopt.affine.channelwise import channelwise
from graphopt.affine.finding import AffineForms
from graphopt.affine.forms import nodes_of
from graphopt.analysis.stages import stages
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse_graph, print_graph
from graphopt.pipeline import Outcome, run_passes
from graphopt.steps import Site
from graphopt.testing import check_pass
from passes.affine_fold import AffineFold
from passes.dead_code import DeadCode

STATE = """
    %w: f32[64, 64] = param "w"
    %v: f32[64, 64] = param "v"
    %g: f32[64] = param "g"
    %h: f32[64] = param "h"
    %s: f32[] = param "s"
    %n: i64[64] = param "n"
"""
LINEAR = "%y: f32[512, 64] = aten.linear.default(%x, %w)\n"
OTHER = "%z: f32[512, 64] = aten.linear.default(%x, %v)\n"
ROW = "%a: f32[64] = aten.select.int(%x, 0, 0)\n"


@pytest.fixture(autouse=True)
def weights_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passes.affine_fold.price", lambda size, sources: -1.0)


def text(lines: str, x: str = "f32[512, 64]", more: str = "") -> str:
    return f"graph {{\n%x: {x} = argument 0\n{more}\n{STATE}\n{lines}\n}}"


def folded(lines: str, x: str = "f32[512, 64]", more: str = "") -> tuple[list[str], Outcome]:
    """The operators that a call runs after the pass, and what the pass did."""
    outcome = run_passes(parse_graph(text(lines, x, more)), [AffineFold(), DeadCode()])
    return [node.op.split(".")[1] for node in stages(outcome.graph).call.nodes], outcome


def norm(mean: str = "%h", variance: str = "%h", weight: str = "%g", bias: str = "%g") -> str:
    operands = f"%y, {weight}, {bias}, {mean}, {variance}, False, 0.1, 1e-05, True"
    return f"{LINEAR}{ROW}%r: f32[512, 64] = aten.batch_norm.default({operands})\nreturn %r"


LEFT = {
    "a norm without statistics": norm(mean="None", variance="None").replace("False", "True"),
    "a norm by statistics of the call": norm().replace("False", "True"),
    "another operator": LINEAR + "%r: f32[512, 64] = aten.maximum.default(%y, %g)\nreturn %r",
    "a norm by a mean of the call": norm(mean="%a"),
    "a norm by a variance of the call": norm(variance="%a"),
    "a norm with a weight of the call": norm(weight="%a"),
    "a norm with a bias of the call": norm(bias="%a"),
    "a norm whose eps is computed": LINEAR
    + "%e: float = aten._local_scalar_dense.default(%s)\n"
    + "%r: f32[512, 64] = aten.batch_norm.default(%y, %g, %h, %g, %h, False, 0.1, %e, True)\nreturn %r",
    "a table": LINEAR
    + '%r: f32[512, 64] = aten.mul.Tensor(%y, %t)\nreturn %r',
    "integers": LINEAR + "%r: f32[512, 64] = aten.mul.Tensor(%y, %n)\nreturn %r",
    "zero as a divisor": LINEAR + "%r: f32[512, 64] = aten.div.Tensor(%y, 0)\nreturn %r",
    "a bias of the call": ROW
    + "%y: f32[512, 64] = aten.linear.default(%x, %w, %a)\n"
    + "%r: f32[512, 64] = aten.mul.Tensor(%y, %g)\nreturn %r",
    "a bias of a multiple": "%y: f32[512, 64] = aten.addmm.default(%g, %x, %w, beta=2)\n"
    + "%r: f32[512, 64] = aten.mul.Tensor(%y, %g)\nreturn %r",
    "what is the same in every call": "%y: f32[64, 64] = aten.linear.default(%v, %w)\n"
    + "%r: f32[64, 64] = aten.mul.Tensor(%y, %g)\n"
    + "%q: f32[512, 64] = aten.mm.default(%x, %r)\nreturn %q",
    "a product of a vector": ROW
    + "%y: f32[64] = aten.linear.default(%a, %w)\n%r: f32[64] = aten.mul.Tensor(%y, 2)\nreturn %r",
    "a product with a vector": "%y: f32[512] = aten.matmul.default(%x, %g)\n"
    + "%r: f32[512] = aten.mul.Tensor(%y, 2)\nreturn %r",
    "a sum that is scaled": LINEAR
    + OTHER
    + "%r: f32[512, 64] = aten.add.Tensor(%y, %z, alpha=2)\nreturn %r",
    "a product of two": LINEAR + OTHER + "%r: f32[512, 64] = aten.mul.Tensor(%y, %z)\nreturn %r",
    "a sum with an argument": LINEAR + "%r: f32[512, 64] = aten.add.Tensor(%y, %t)\nreturn %r",
    "a sum with what is read elsewhere": LINEAR
    + OTHER
    + "%r: f32[512, 64] = aten.add.Tensor(%y, %z)\nreturn %r, %z",
    "a sum that broadcasts": "%i: f32[1, 64] = aten.slice.Tensor(%w, 0, 0, 1)\n"
    + "%y: f32[512, 1] = aten.linear.default(%x, %i)\n"
    + "%r: f32[512, 64] = aten.add.Tensor(%y, %x)\nreturn %r",
    "what is turned in place": LINEAR
    + "%a: f32[64, 512]{1, 64} = aten.t_.default(%y)\n"
    + "%r: f32[64, 512]{1, 64} = aten.mul.Tensor(%a, 2)\n"
    + "%q: f32[64, 512]{1, 64} = aten.relu.default(%r)\nreturn %q",
    "one part of several": LINEAR
    + "parts: (%a: f32[512, 64]) = aten.chunk.default(%y, 1)\n"
    + "%r: f32[512, 64] = aten.mul.Tensor(%a, 2)\n%q: f32[512, 64] = aten.relu.default(%r)\nreturn %q",
    "a view of the size of another": LINEAR
    + "%a: f32[512, 64] = aten.view_as.default(%y, %x)\n"
    + "%r: f32[512, 64] = aten.mul.Tensor(%a, 2)\n%q: f32[512, 64] = aten.relu.default(%r)\nreturn %q",
    "the bits": LINEAR
    + "%a: i32[512, 64] = aten.view.dtype(%y, torch.int32)\n"
    + "%r: i32[512, 64] = aten.mul.Tensor(%a, 2)\n%q: i32[512, 64] = aten.neg.default(%r)\nreturn %q",
    "what may add up": LINEAR
    + "%a: f32[1, 64] = aten.sum_to_size.default(%y, [1, 64])\n"
    + "%r: f32[1, 64] = aten.add.Tensor(%a, 2)\n%q: f32[1, 64] = aten.relu.default(%r)\nreturn %q",
    "what is written in place": LINEAR
    + "%a: f32[512, 64] = aten.clamp_.default(%y, 0)\n"
    + "%r: f32[512, 64] = aten.mul.Tensor(%a, 2)\nreturn %r",
    "a part that the caller gets": LINEAR
    + "%a: f32[100, 64] = aten.slice.Tensor(%y, 0, 0, 100)\n"
    + "%r: f32[100, 64] = aten.mul.Tensor(%a, 2)\nreturn %r",
    "a view that is given another shape": LINEAR
    + "%a: f32[64, 512] = aten.view.default(%y, [64, 512])\n"
    + "%r: f32[64, 512] = aten.mul.Tensor(%a, 2)\n"
    + "%q: f32[2, 2] = aten.resize_.default(%r, [2, 2])\n%p: f32[2, 2] = aten.relu.default(%q)\nreturn %p",
    "what is checked": LINEAR
    + "none: () = aten._assert_tensor_metadata.default(%y, [512, 64])\nreturn",
    "one linear map": LINEAR + "return %y",
}  # fmt: skip


@pytest.mark.parametrize("what", LEFT)
def test_it_leaves(what: str) -> None:
    _, outcome = folded(LEFT[what], more="%t: f32[512, 64] = argument 1" if "%t" in LEFT[what] else "")
    assert not any(step.pass_name == "affine-fold" for step in outcome.steps)
    if what == "one linear map":
        assert not outcome.missed


def test_a_norm_that_writes_its_statistics_does_more_than_scale() -> None:
    for lines, scales in ((norm(), True), (norm().replace("False", "True"), False)):
        node = parse_graph(text(lines)).nodes[-1]
        assert (channelwise(node, node.operands[0], 1, lambda value: True) is not None) is scales


@pytest.mark.parametrize("shape", ["512, 64", "512, 1"])
def test_a_table_that_is_state_is_left(shape: str) -> None:
    ops, _ = folded(LEFT["a table"], more=f'%t: f32[{shape}] = param "t"')
    assert ops == ["linear", "mul"]


def test_products_of_batches_are_left() -> None:
    lines = "%y: f32[4, 64, 64] = aten.matmul.default(%x, %b)\n"
    lines += "%r: f32[4, 64, 64] = aten.mul.Tensor(%y, %g)\nreturn %r"
    ops, _ = folded(lines, "f32[4, 64, 64]", '%b: f32[4, 64, 64] = param "b"')
    assert ops == ["matmul", "mul"]


def test_weights_of_unknown_size_or_layout_are_left() -> None:
    lines = "%y: f32[512, 64] = aten.linear.default(%x, %b)\n"
    lines += "%r: f32[512, 64] = aten.mul.Tensor(%y, 2)\nreturn %r"
    for kind in ("f32[<s0>, 64]", "f32[64, 64]{none}"):
        assert folded(lines, more=f'%b: {kind} = param "b"')[0] == ["linear", "mul"]


def test_numbers_that_come_of_sizes_are_left() -> None:
    lines = "%e: int<s0> = aten.sym_size.int(%x, 0)\n"
    lines += "%y: f32[<s0>, 64] = aten.linear.default(%x, %w)\n"
    lines += "%r: f32[<s0>, 64] = aten.mul.Tensor(%y, %e)\nreturn %r"
    assert folded(lines, "f32[<s0>, 64]")[0] == ["sym_size", "linear", "mul"]


CONVOLUTION = '%k: f32[16, 16, 3] = param "k"\n%c: f32[16, 1] = param "c"'


@pytest.mark.parametrize("window", ["[%e, 1]", "1, [%e, 0]", "1, 0, [%e, 1]", "1, 0, 1, %e"])
def test_windows_of_unknown_size_slide_as_they_did(window: str) -> None:
    lines = "%e: int<s0> = aten.sym_size.int(%x, 0)\n"
    lines += "%o: f32[16, 16, 1, 1] = aten.view.default(%d, [16, 16, 1, 1])\n"
    lines += f"%y: f32[<s0>, 16, 9, 9] = aten.conv2d.default(%x, %o, None, {window})\n"
    lines += "%z: f32[<s0>, 16, 9, 9] = aten.conv2d.default(%x, %o)\n"
    lines += "%r: f32[<s0>, 16, 9, 9] = aten.add.Tensor(%y, %z)\nreturn %r"
    ops, _ = folded(lines, "f32[<s0>, 16, 9, 9]", '%d: f32[16, 16] = param "d"')
    assert ops.count("conv2d") == 2


@pytest.mark.parametrize("padding", [0, 1])
def test_a_shift_goes_into_all_convolutions_or_none(padding: int) -> None:
    size = 30 + 2 * padding
    lines = "%a: f32[8, 16, 32] = aten.add.Tensor(%x, %c)\n"
    lines += "%y: f32[8, 16, 30] = aten.conv1d.default(%a, %k)\n"
    lines += f"%z: f32[8, 16, {size}] = aten.conv1d.default(%a, %k, None, [1], [{padding}])\nreturn %y, %z"
    ops, _ = folded(lines, "f32[8, 16, 32]", CONVOLUTION)
    assert ops == ["add"] * padding + ["conv1d", "conv1d"]


@pytest.mark.parametrize("step", ["aten.rsub.Scalar(%x, 1)", "norm"])
def test_what_adds_among_other_things_stays_before_padding(step: str) -> None:
    if step == "norm":
        step = "aten.batch_norm.default(%x, None, None, %m, %m, False, 0.1, 1e-05, True)"
    lines = f"%a: f32[8, 16, 32] = {step}\n"
    lines += "%y: f32[8, 16, 32] = aten.conv1d.default(%a, %k, None, [1], [1])\nreturn %y"
    ops, outcome = folded(lines, "f32[8, 16, 32]", CONVOLUTION + '\n%m: f32[16] = param "m"')
    assert len(ops) == 2 and not outcome.steps


def test_maps_along_other_dimensions_do_not_share_what_stands_in_front() -> None:
    lines = "%a: f32[8, 16, 16] = aten.mul.Tensor(%x, %c)\n"
    lines += "%y: f32[8, 16, 14] = aten.conv1d.default(%a, %k)\n"
    lines += "%z: f32[8, 16, 16] = aten.linear.default(%a, %d)\nreturn %y, %z"
    ops, _ = folded(lines, "f32[8, 16, 16]", CONVOLUTION + '\n%d: f32[16, 16] = param "d"')
    assert ops == ["mul", "conv1d", "linear"]


TOGETHER = {
    "a number, then a vector": (
        "%a: f32[8, 16, 32] = aten.add.Tensor(%x, 2)\n%b: f32[8, 16, 32] = aten.add.Tensor(%a, %c)\n"
        "%y: f32[8, 16, 30] = aten.conv1d.default(%b, %k)\nreturn %y"
    ),
    "a number after": (
        "%y: f32[8, 16, 30] = aten.conv1d.default(%x, %k)\n%a: f32[8, 16, 30] = aten.add.Tensor(%y, 2)\n"
        "%b: f32[8, 16, 30] = aten.add.Tensor(%a, %c)\nreturn %b"
    ),
    "one number that is a tensor before groups": (
        "%a: f32[8, 16, 32] = aten.div.Tensor(%x, %s)\n%b: f32[8, 16, 32] = aten.add.Tensor(%a, %s)\n"
        "%y: f32[8, 16, 30] = aten.conv1d.default(%b, %q, None, [1], [0], [1], 4)\nreturn %y"
    ),
    "a large factor": (
        "%y: f32[8, 16, 30] = aten.conv1d.default(%x, %k)\n"
        "%a: f32[8, 16, 30] = aten.mul.Tensor(%y, 1000000)\nreturn %a"
    ),
}


@pytest.mark.parametrize("what", TOGETHER)
def test_one_convolution_does(what: str) -> None:
    more = CONVOLUTION + '\n%q: f32[16, 4, 3] = param "q"'
    ops, _ = folded(TOGETHER[what], "f32[8, 16, 32]", more)
    assert ops == ["conv1d"]
    _check(text(TOGETHER[what], "f32[8, 16, 32]", more))


def _check(before: str) -> None:
    """The error is no larger, and the rest of what `check_pass` looks at."""
    after = run_passes(parse_graph(before), [AffineFold()]).graph
    check_pass(AffineFold(), before, print_graph(after))


def test_two_sums_are_one_fold() -> None:
    lines = [f"%a{i}: f32[512, 64] = aten.linear.default(%x, %{w})" for i, w in enumerate("wvwv")]
    lines += ["%b: f32[512, 64] = aten.add.Tensor(%a0, %a1)", "%c: f32[512, 64] = aten.sub.Tensor(%a2, %a3)"]
    lines += ["%r: f32[512, 64] = aten.sub.Tensor(%b, %c)", "return %r"]
    ops, outcome = folded("\n".join(lines))
    assert ops == ["linear"] and len(outcome.steps) == 1


def test_a_number_goes_past_views_of_any_size_and_what_may_be_one() -> None:
    lines = "%y: f32[<s0>, 64] = aten.linear.default(%x, %w)\n"
    lines += "%e: int<s0> = aten.sym_size.int(%x, 0)\n"
    lines += "%a: f32[64, <s0>] = aten.view.default(%y, [64, %e])\n"
    lines += "%r: f32[64, <s0>] = aten.mul.Tensor(%a, 2)\n"
    lines += "%q: f32[64, <s0>] = aten.relu.default(%r)\nreturn %q"
    assert folded(lines, "f32[<s0>, 64]")[0] == ["sym_size", "linear", "view", "relu"]
    lines = LINEAR + "%a: f32[64, 512] = aten.reshape.default(%y, [64, 512])\n"
    lines += "%r: f32[64, 512] = aten.mul.Tensor(%a, 2)\n"
    lines += "%q: f32[64, 512] = aten.relu.default(%r)\nreturn %q"
    assert folded(lines)[0] == ["linear", "reshape", "relu"]


def test_the_input_goes_into_the_weight_however_often_it_is_added() -> None:
    lines = LINEAR + "%a: f32[512, 64] = aten.mul.Tensor(%x, %g)\n"
    lines += "%b: f32[512, 64] = aten.add.Tensor(%a, %x)\n"
    lines += "%r: f32[512, 64] = aten.add.Tensor(%y, %b)\nreturn %r"
    assert folded(lines)[0] == ["linear"]
    _check(text(lines))


def test_a_view_keeps_the_sizes_that_it_reads() -> None:
    lines = "%y: f32[<s0>, 64] = aten.linear.default(%x, %w)\n%e: int<s0> = aten.sym_size.int(%x, 0)\n"
    lines += "%a: f32[<s0>, 64] = aten.slice.Tensor(%y, 0, 0, %e)\n"
    lines += "%r: f32[<s0>, 64] = aten.mul.Tensor(%a, 2)\n"
    lines += "%q: f32[<s0>, 64] = aten.relu.default(%r)\nreturn %q"
    ops, outcome = folded(lines, "f32[<s0>, 64]")
    assert ops == ["sym_size", "linear", "slice", "relu"]
    (seen,) = [node for node in outcome.graph.nodes if node.op == "aten.slice.Tensor"]
    assert [value.name for value in seen.operands][1:] == ["e"]


@pytest.mark.parametrize("op, ops", [("linear", ["t", "linear"]), ("mm", ["t", "mm", "mul"])])
def test_of_what_lies_turned_only_the_same_operator_makes_the_same_strides(op: str, ops: list[str]) -> None:
    lines = "%a: f32[512, 64]{1, 512} = aten.t.default(%x)\n"
    lines += f"%y: f32[512, 64] = aten.{op}.default(%a, %w)\n"
    lines += "%r: f32[512, 64] = aten.mul.Tensor(%y, %g)\nreturn %r"
    found, outcome = folded(lines, "f32[64, 512]")
    assert found == ops
    assert [missed.why_not for missed in outcome.missed] == ["its result would lie otherwise in memory"] * (
        op == "mm"
    )


def test_a_scaled_input_and_the_input_go_into_one_weight() -> None:
    lines = "%a: f32[512, 64] = aten.mul.Tensor(%x, %g)\n"
    lines += "%y: f32[512, 64] = aten.linear.default(%a, %w)\n"
    lines += "%r: f32[512, 64] = aten.add.Tensor(%y, %x)\nreturn %r"
    ops, outcome = folded(lines)
    assert ops == ["linear"]
    assert [step.site for step in outcome.steps] == [Site("affine-fold", "r"), Site("dead-code", "a")]
    _check(text(lines))


def test_what_a_weight_is_made_from_is_counted_once() -> None:
    lines = LINEAR + "%a: f32[512, 64] = aten.mul.Tensor(%y, %g)\n"
    lines += "%r: f32[512, 64] = aten.add.Tensor(%a, %g)\nreturn %r"
    forms = AffineForms(parse_graph(text(lines)))
    fold = forms.fold(forms.maps["y"])
    assert fold.root.name == "r" and forms.sources(fold.form) == 2


def _chain(first: str, last: str, count: int) -> str:
    lines = [f"%{first}{i + 1}: f32[512, 64] = aten.mul.Tensor(%{first}{i}, %g)" for i in range(count)]
    return (
        "\n".join(lines).replace(f"%{first}0)", f"%{first}0)").replace(f"%{first}{count}:", f"%{last}:")
        + "\n"
    )


@pytest.mark.parametrize("count", [40, 2_000])
def test_chains_of_any_length_stand_in_front_in_between_and_beside(count: int) -> None:
    front = "%p0: f32[512, 64] = aten.relu.default(%x)\n" + _chain("p", "a", count)
    front += "%r: f32[512, 64] = aten.linear.default(%a, %w)\nreturn %r"
    between = "%p0: f32[512, 64] = aten.linear.default(%x, %w)\n" + _chain("p", "a", count)
    between += "%r: f32[512, 64] = aten.linear.default(%a, %v)\nreturn %r"
    beside = OTHER + "%p0: f32[512, 64] = aten.linear.default(%x, %w)\n" + _chain("p", "a", count)
    beside += "%r: f32[512, 64] = aten.add.Tensor(%z, %a)\nreturn %r"
    ends = ["relu", "linear"], ["linear", "linear"], ["linear"]
    for lines, end in zip((front, between, beside), ends, strict=True):
        ops, _ = folded(lines)
        assert ops == end if count == 40 else len(ops) < count + 3


def _preludes(lines: str) -> list[list[str]]:
    graph: Graph = parse_graph(text(lines))
    return [[node.name for node in nodes_of(one.form)] for one in AffineForms(graph).preludes()]


def test_what_stands_in_front_may_be_the_second_operand() -> None:
    lines = "%a: f32[512, 64] = aten.sub.Tensor(%h, %x)\n"
    assert _preludes(lines + "%r: f32[512, 64] = aten.linear.default(%a, %w)\nreturn %r") == [["a"]]


def test_what_stands_in_front_ends_where_something_else_reads_it() -> None:
    lines = "%a: f32[512, 64] = aten.mul.Tensor(%x, %g)\n%b: f32[512, 64] = aten.mul.Tensor(%a, %h)\n"
    lines += "%r: f32[512, 64] = aten.linear.default(%b, %w)\n%q: f32[512, 64] = aten.relu.default({})\n"
    assert _preludes(lines.format("%a") + "return %r, %q") == [["b"]]
    assert _preludes(lines.format("%x") + "return %r, %q") == [["a", "b"]]
    assert _preludes(lines.format("%b") + "return %r, %q") == []
    assert _preludes(lines.format("%a") + "return %r, %q, %b") == []
