"""Affine folds: what goes into the weight of a linear map, and what does not."""

import copy
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from graphopt.analysis.stages import stages
from graphopt.ir.text import parse_graph
from graphopt.pipeline import run_passes
from graphopt.testing import check_pass
from passes.affine_fold import AffineFold
from tests.sameness import assert_same

PASSES = ["redundant-view", "identity-operation", "affine-fold", "dead-code"]
IMAGE = (8, 16, 24, 24)
ROWS = (4, 512, 64)


class Program(nn.Module):
    """`forward` on some input, with parameters g, h and s (of `size` channels), and layers."""

    def __init__(self, forward: Callable[..., Any], size: int = 64, **layers: nn.Module) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.rand(size) + 0.5)
        self.h = nn.Parameter(torch.randn(size))
        self.s = nn.Parameter(torch.rand(()) + 0.5)
        self.w = nn.Parameter(torch.randn(64, size) / 8)
        self.register_buffer("calls", torch.zeros(()))
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._forward = forward
        for layer in self.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
                nn.init.uniform_(layer.running_var, 0.5, 2.0)  # type: ignore[arg-type]
                if layer.affine:
                    nn.init.uniform_(layer.weight, 0.5, 2.0)
                    nn.init.normal_(layer.bias)
        self.eval()

    def forward(self, x: torch.Tensor) -> Any:
        return self._forward(self, x)


def channels(v: torch.Tensor) -> torch.Tensor:
    return v.reshape(1, -1, 1, 1)


def frozen(p: Program, y: torch.Tensor) -> torch.Tensor:
    scale = channels(p.g) * (channels(p.h).square() + 1e-5).rsqrt()
    return y * scale + (channels(p.h) - channels(p.g) * scale)


def repvgg(p: Program, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(p.n(p.c(x)) + p.m(p.d(x)) + p.o(x))


def conv(*args: Any, **kwargs: Any) -> nn.Module:
    return nn.Conv2d(*args, **kwargs)


FOLDS: dict[str, tuple[Program, tuple[int, ...], list[str]]] = {
    "conv1d and norm": (
        Program(lambda p, x: p.n(p.c(x)), c=nn.Conv1d(16, 32, 3), n=nn.BatchNorm1d(32)),
        (8, 16, 600),
        ["conv1d"],
    ),
    "conv2d and norm": (
        Program(lambda p, x: p.n(p.c(x)), c=conv(16, 32, 3, bias=False), n=nn.BatchNorm2d(32)),
        IMAGE,
        ["conv2d"],
    ),
    "conv2d, strided, dilated, in groups": (
        Program(
            lambda p, x: p.n(p.c(x)),
            c=conv(16, 32, 3, stride=2, dilation=2, padding=1, groups=4),
            n=nn.BatchNorm2d(32, affine=False),
        ),
        (8, 16, 48, 48),
        ["conv2d"],
    ),
    "padding by name": (
        Program(lambda p, x: p.n(p.c(x)), c=conv(16, 32, 4, padding="same"), n=nn.BatchNorm2d(32)),
        IMAGE,
        ["conv2d"],
    ),
    "conv3d and norm": (
        Program(lambda p, x: p.n(p.c(x)), c=nn.Conv3d(4, 8, 3), n=nn.BatchNorm3d(8)),
        (4, 4, 16, 16, 16),
        ["conv3d"],
    ),
    "transposed convolution and norm": (
        Program(lambda p, x: p.n(p.c(x)), c=nn.ConvTranspose2d(16, 8, 2, 2), n=nn.BatchNorm2d(8)),
        IMAGE,
        ["conv_transpose2d"],
    ),
    "no batch dimension": (
        Program(lambda p, x: p.c(x) * p.g.view(-1, 1, 1), c=conv(16, 64, 3)),
        (16, 64, 64),
        ["conv2d"],
    ),
    "frozen norm spelled out": (
        Program(lambda p, x: frozen(p, p.c(x)), c=conv(16, 64, 1)),
        IMAGE,
        ["conv2d"],
    ),
    "norm of the last layer": (
        Program(lambda p, x: p.n(p.l(x)), l=nn.Linear(64, 96), n=nn.BatchNorm1d(96)),
        (2048, 64),
        ["linear"],
    ),
    "layer scale": (Program(lambda p, x: p.g * p.l(x), l=nn.Linear(64, 64)), ROWS, ["linear"]),
    "no bias": (Program(lambda p, x: p.l(x) * p.g, l=nn.Linear(64, 64, bias=False)), ROWS, ["linear"]),
    "divided, subtracted from, negated": (
        Program(lambda p, x: -(p.h - p.l(x) / p.g) - 3, l=nn.Linear(64, 64)),
        ROWS,
        ["linear"],
    ),
    "numbers": (Program(lambda p, x: (p.l(x) * 0.125 + 2) / 3, l=nn.Linear(64, 64)), ROWS, ["linear"]),
    "one number that is a tensor": (
        Program(lambda p, x: (p.l(x) + p.s) * p.s, l=nn.Linear(64, 64, bias=False)),
        ROWS,
        ["linear"],
    ),
    "a number less it": (
        Program(lambda p, x: torch.rsub(p.l(x), 1.0), l=nn.Linear(64, 64)),
        ROWS,
        ["linear"],
    ),
    "mm and bias": (Program(lambda p, x: x @ p.w + p.h), (2048, 64), ["linear"]),
    "matmul, scaled": (Program(lambda p, x: torch.matmul(x, p.w) * p.g + p.h), ROWS, ["linear"]),
    "addmm": (Program(lambda p, x: torch.addmm(p.h, x, p.w) * p.g), (2048, 64), ["linear"]),
    "weight that is derived": (Program(lambda p, x: (x @ p.w.sin().t()) * p.g), ROWS, ["linear"]),
    "a number beyond views": (
        Program(
            lambda p, x: (p.l(x).view(4, 512, 8, 8).transpose(1, 2) / 8).softmax(-1), l=nn.Linear(64, 64)
        ),
        ROWS,
        ["linear", "view", "transpose", "softmax"],
    ),
    "three branches": (
        Program(
            repvgg,
            c=conv(16, 16, 3, padding=1, bias=False),
            d=conv(16, 16, 1),
            n=nn.BatchNorm2d(16),
            m=nn.BatchNorm2d(16),
            o=nn.BatchNorm2d(16),
        ),
        IMAGE,
        ["conv2d", "relu"],
    ),
    "three branches in groups": (
        Program(
            repvgg,
            c=conv(16, 16, 3, padding=1, groups=4),
            d=conv(16, 16, 1, groups=4),
            n=nn.BatchNorm2d(16),
            m=nn.BatchNorm2d(16),
            o=nn.BatchNorm2d(16),
        ),
        IMAGE,
        ["conv2d", "relu"],
    ),
    "dilated branches": (
        Program(
            lambda p, x: p.c(x) - p.d(x),
            c=conv(16, 16, 3, padding=2, dilation=2),
            d=conv(16, 16, 1, dilation=3),
        ),
        IMAGE,
        ["conv2d"],
    ),
    "kernels of other shapes": (
        Program(
            lambda p, x: p.c(x) + p.d(x) + p.e(x),
            c=conv(16, 16, (1, 3), padding=(0, 1)),
            d=conv(16, 16, (3, 3), padding=(1, 1)),
            e=conv(16, 16, (3, 1), padding=(1, 0)),
        ),
        IMAGE,
        ["conv2d"],
    ),
    "strided branches": (
        Program(
            lambda p, x: p.c(x) + p.d(x), c=conv(16, 32, 3, stride=2, padding=1), d=conv(16, 32, 1, stride=2)
        ),
        IMAGE,
        ["conv2d"],
    ),
    "a layer and its input": (Program(lambda p, x: x + p.l(x) * p.g, l=nn.Linear(64, 64)), ROWS, ["linear"]),
    "two layers of one input": (
        Program(lambda p, x: p.l(x) - p.k(x) * p.g, l=nn.Linear(64, 64), k=nn.Linear(64, 64, bias=False)),
        ROWS,
        ["linear"],
    ),
    "scaled and shifted before layers": (
        Program(
            lambda p, x: (p.l(y := x.sigmoid() * p.g + p.h).relu(), p.k(y), torch.matmul(y, p.w)),
            l=nn.Linear(64, 32),
            k=nn.Linear(64, 16, bias=False),
        ),
        ROWS,
        ["sigmoid", "linear", "relu", "linear", "linear"],
    ),
    "before and after": (
        Program(lambda p, x: p.l(x.sigmoid() * p.g) * p.h, l=nn.Linear(64, 64)),
        ROWS,
        ["sigmoid", "linear"],
    ),
    "scaled before a padded convolution": (
        Program(lambda p, x: p.c(x.relu() * channels(p.g)), size=16, c=conv(16, 8, 3, padding=1)),
        IMAGE,
        ["relu", "conv2d"],
    ),
    "scaled before a convolution in groups": (
        Program(lambda p, x: p.c(x.relu() * channels(p.g)), size=16, c=conv(16, 32, 3, groups=4)),
        IMAGE,
        ["relu", "conv2d"],
    ),
    "norm before a convolution": (
        Program(lambda p, x: p.c(p.n(x.relu())), c=conv(16, 8, 3, groups=2), n=nn.BatchNorm2d(16)),
        IMAGE,
        ["relu", "conv2d"],
    ),
    "norm before a depthwise convolution": (
        Program(lambda p, x: p.c(p.n(x.relu())), c=conv(16, 16, 3, groups=16), n=nn.BatchNorm2d(16)),
        IMAGE,
        ["relu", "conv2d"],
    ),
    "one number before a layer": (
        Program(lambda p, x: p.l(x.sigmoid() * 3 - p.s), l=nn.Linear(64, 64)),
        ROWS,
        ["sigmoid", "linear"],
    ),
    "scaled between layers": (
        Program(
            lambda p, x: (p.l(y := p.k(x) * p.g), p.m(y).relu()),
            k=nn.Linear(64, 64),
            l=nn.Linear(64, 32),
            m=nn.Linear(64, 16),
        ),
        ROWS,
        ["linear", "linear", "linear", "relu"],
    ),
    "norms between convolutions": (
        Program(
            lambda p, x: p.n(p.d(p.m(p.c(x)))),
            c=conv(16, 16, 1, bias=False),
            m=nn.BatchNorm2d(16),
            d=conv(16, 8, 3),
            n=nn.BatchNorm2d(8),
        ),
        IMAGE,
        ["conv2d", "conv2d"],
    ),
    "more sums than one fold goes through": (
        Program(
            lambda p, x: sum((p.l(x) for _ in range(40)), p.k(x)), k=nn.Linear(64, 64), l=nn.Linear(64, 64)
        ),
        ROWS,
        ["linear"],
    ),
    "more steps than one fold goes through": (
        Program(
            lambda p, x: functools.reduce(lambda y, _: y * p.g + p.h, range(40), p.l(x)), l=nn.Linear(64, 64)
        ),
        ROWS,
        ["linear"],
    ),
    "one channel": (
        Program(lambda p, x: p.n(p.c(x)) * p.s + p.g, size=1, c=conv(16, 1, 3), n=nn.BatchNorm2d(1)),
        (8, 16, 96, 96),
        ["conv2d"],
    ),
    "scaled before a transposed convolution": (
        Program(lambda p, x: p.c(x.relu() * channels(p.g)), size=16, c=nn.ConvTranspose2d(16, 8, 2, 2)),
        IMAGE,
        ["relu", "conv_transpose2d"],
    ),
}


def optimized(model: nn.Module, *args: Any, **options: Any) -> graphopt.Optimized:
    with torch.no_grad():
        return graphopt.optimize(model, args, passes=PASSES, measure=False, **options)


def run_by_a_call(opt: graphopt.Optimized) -> list[str]:
    return [node.op.split(".")[1] for node in stages(opt.graph).call.nodes]


@pytest.mark.parametrize("name", FOLDS)
def test_it_is_folded(name: str) -> None:
    model, shape, expected = FOLDS[name]
    opt = optimized(model, torch.randn(shape))
    assert run_by_a_call(opt) == expected
    assert opt.report.equivalent and not opt.report.rolled_back
    assert any(step.claim.value == "rounding" for step in opt.report.steps)


@pytest.mark.parametrize("name", ["layer scale", "three branches", "scaled and shifted before layers"])
def test_of_other_weights_the_fold_is_made_again(name: str) -> None:
    model, shape, _ = FOLDS[name]
    model, x = copy.deepcopy(model), torch.randn(shape)
    opt = optimized(model, x, on_guard="error")
    with torch.no_grad():
        for change in (lambda p: p.mul_(1.5), lambda p: p.data.copy_(torch.rand_like(p) + 0.5)):
            for parameter in model.parameters():
                change(parameter)
            for expected, found in zip(_tuple(model(x)), _tuple(opt(x)), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_every_floating_dtype_is_derived_in_float64_and_rounded_once(dtype: torch.dtype) -> None:
    model = Program(lambda p, x: p.l(x) * p.g + p.h, l=nn.Linear(64, 64)).to(dtype)
    opt = optimized(model, torch.randn(ROWS, dtype=dtype))
    assert run_by_a_call(opt) == ["linear"] and opt.report.equivalent
    kept = {value.name: value for value in opt.graph.values if value.name in opt.graph.kept}
    assert {value.type.dtype for value in kept.values()} == {dtype}  # type: ignore[union-attr]
    made = [opt.graph.producer[name] for name in kept]
    assert {node.operands[0].type.dtype for node in made} == {torch.float64}  # type: ignore[union-attr]


def test_in_float16_nothing_is_folded_for_its_range_ends_at_small_numbers() -> None:
    model = Program(lambda p, x: p.l(x) * p.g, l=nn.Linear(64, 64))
    model.g.data.fill_(1e-6)  # as layer scales start: times a weight it is less than float16 holds
    opt = optimized(model.half(), torch.randn(ROWS, dtype=torch.float16))
    assert run_by_a_call(opt) == ["linear", "mul"] and opt.report.equivalent
    assert "too large for its type, or too small" in opt.report.missed[0].why_not


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_what_is_not_finite_and_then_scaled_by_zero_stays_nan(number: float) -> None:
    model = Program(lambda p, x: (p.l(x) + p.h) * 0.0, l=nn.Linear(64, 64))
    model.h.data.fill_(number)
    opt, x = optimized(model, torch.randn(ROWS)), torch.randn(ROWS)
    assert run_by_a_call(opt) == ["linear"] and not opt.report.rolled_back
    with torch.no_grad():
        assert opt(x).isnan().all() and model(x).isnan().all()


def test_an_infinite_scale_makes_no_shift_out_of_none() -> None:
    model = Program(lambda p, x: p.l(x) * p.g, l=nn.Linear(1, 64, bias=False))
    nn.init.constant_(model.g, math.inf)
    opt, x = optimized(model, torch.ones(4, 512, 1)), torch.ones(4, 512, 1)
    assert run_by_a_call(opt) == ["linear"]
    with torch.no_grad():
        assert torch.equal(opt(x), model(x)) and opt(x).isinf().all()


@pytest.mark.parametrize("sizes", [(64, 0), (0, 64)])
def test_layers_without_channels_are_no_obstacle(sizes: tuple[int, int], monkeypatch: Any) -> None:
    monkeypatch.setattr("passes.affine_fold.price", lambda size, sources: -1.0)
    with warnings.catch_warnings(action="ignore"):
        model = Program(lambda p, x: p.l(x.relu() * p.g[: sizes[0]]) * p.h[: sizes[1]], l=nn.Linear(*sizes))
    assert run_by_a_call(optimized(model, torch.randn(4, sizes[0]))) == ["relu", "linear"]


def test_as_many_layers_as_a_model_has_leave_room_in_the_graph() -> None:
    layers = [layer for _ in range(150) for layer in (conv(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU())]
    model = nn.Sequential(*layers).eval().to("meta")
    report = optimized(model, torch.empty(IMAGE, device="meta"), verify=False).report
    assert len([step for step in report.steps if step.pass_name == "affine-fold"]) == 150


def test_a_chain_may_be_longer_than_the_stack_is_deep() -> None:
    lines = [f"%y{i + 1}: f32[512, 64] = aten.mul.Tensor(%y{i}, %g)" for i in range(2_000)]
    graph = parse_graph(
        "graph {\n%x: f32[512, 64] = argument 0\n"
        '%w: f32[64, 64] = param "w"\n%g: f32[64] = param "g"\n'
        "%y0: f32[512, 64] = aten.linear.default(%x, %w)\n" + "\n".join(lines) + "\nreturn %y2000\n}"
    )
    steps = run_passes(graph, [AffineFold()]).steps
    assert sum(len(step.saved) for step in steps) == 8 * 32  # as many in each round


def test_where_the_graph_would_grow_too_large_nothing_is_folded(monkeypatch: Any) -> None:
    monkeypatch.setattr("graphopt.draft._GROWTH", 1)
    monkeypatch.setattr("graphopt.draft._SOME", 0)
    model = Program(lambda p, x: p.n(p.c(x)), c=conv(16, 32, 3), n=nn.BatchNorm2d(32))
    opt = optimized(model, torch.randn(IMAGE))
    assert not opt.report.steps
    assert [missed.why_not for missed in opt.report.missed] == ["the graph would grow too large"]


def test_under_autocast_weights_are_cast_by_it() -> None:
    model = Program(lambda p, x: p.l(p.k(x)) / 2, l=nn.Linear(64, 64), k=nn.Linear(64, 64))
    with torch.autocast("cpu", torch.bfloat16):
        assert not optimized(model, torch.randn(ROWS)).report.steps


def test_symbolic_sizes_are_no_obstacle() -> None:
    model = Program(lambda p, x: p.g * (x.sigmoid() @ p.w), l=nn.Linear(64, 64))
    batch = torch.export.Dim("batch", min=2, max=4096)
    opt = optimized(model, torch.randn(512, 64), dynamic_shapes={"x": {0: batch}}, on_guard="error")
    assert run_by_a_call(opt) == ["sigmoid", "linear"]
    with torch.no_grad():
        torch.testing.assert_close(opt(x := torch.randn(7, 64)), model(x))


def test_where_gradients_are_wanted_nothing_is_folded() -> None:
    assert_same(
        Program(lambda p, x: p.n(p.l(x)) * p.s, l=nn.Linear(64, 96), n=nn.BatchNorm1d(96)),
        torch.randn(2048, 64), passes=PASSES, backward=True,
    )  # fmt: skip


def test_a_convolution_in_training_mode_keeps_its_norm() -> None:
    model = nn.Sequential(conv(16, 32, 3), nn.BatchNorm2d(32)).train()
    assert run_by_a_call(optimized(model, torch.randn(IMAGE))).count("batch_norm") == 1


def _writes(p: Program, x: torch.Tensor) -> torch.Tensor:
    y = p.l(x)
    x.zero_()
    return (y + x) * p.g


def _writes_inner(p: Program, x: torch.Tensor) -> Any:
    y = x.sin()
    z = torch.matmul(y * p.g[0], p.w) + p.h
    y.add_(1)
    return z * p.h, y


def _written_weight(p: Program, x: torch.Tensor) -> torch.Tensor:
    y = p.l(x) * p.g
    p.calls.add_(1)
    return y


LEFT: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "the result is returned, too": (lambda p, x: ((y := p.l(x)), y * p.g), ROWS),
    "something else reads it": (lambda p, x: (y := p.l(x)) * p.g + y.sin(), ROWS),
    "scaled along another dimension": (lambda p, x: p.l(x).transpose(1, 2) * p.h[:, None], (4, 64, 64)),
    "the number comes with the call": (lambda p, x: p.l(x) * x[0, 0, 0], ROWS),
    "the weight comes with the call": (lambda p, x: (x @ x.mean((0, 1)).outer(p.g)) * p.h, ROWS),
    "the number is an integer tensor": (lambda p, x: p.l(x) * torch.tensor(3), ROWS),
    "the result has another dtype": (lambda p, x: p.l(x) * p.g.double(), ROWS),
    "an operand is added to itself": (lambda p, x: (y := p.l(x)) + y, ROWS),
    "one is added twice over": (lambda p, x: torch.add(p.l(x), p.h, alpha=2), ROWS),
    "divided by it": (lambda p, x: p.h / p.l(x), ROWS),
    "rounded down": (lambda p, x: torch.div(p.l(x), p.g, rounding_mode="floor"), ROWS),
    "another input": (lambda p, x: p.l(x.sin()) + p.l(x.cos()), ROWS),
    "the state is written": (_written_weight, ROWS),
    "a number is added that rounds": (lambda p, x: (p.l(x) + 12582912.0) - 12582912.0, ROWS),
    "a view negates it": (lambda p, x: torch._neg_view(p.l(x).view(-1, 64)).add(3).relu(), ROWS),
    "its bits are read as integers": (lambda p, x: (p.l(x).view(torch.int32) * 2).relu(), ROWS),
    "its bits are read as other floats": (lambda p, x: (p.l(x).view(torch.bfloat16) * 2).relu(), ROWS),
    "the caller sees where it lies": (lambda p, x: p.l(x)[:, 1:] * 0.5, ROWS),
}


@pytest.mark.parametrize("why", LEFT)
def test_it_is_left_where(why: str) -> None:
    program, shape = LEFT[why]
    model = Program(program, l=nn.Linear(64, 64))
    with torch.no_grad():
        assert not assert_same(model, torch.randn(shape), passes=PASSES[2:]).report.steps


def test_it_is_left_where_the_weight_costs_more_to_hold_than_it_saves() -> None:
    model = Program(lambda p, x: p.l(x) * p.g, size=4096, l=nn.Linear(4096, 4096))
    report = optimized(model, torch.randn(2, 4096)).report
    assert not report.steps
    assert "and to hold other weights for it 68." in report.missed[0].why_not


def test_what_is_written_in_between_is_read_before() -> None:
    model = Program(_writes, l=nn.Linear(64, 64))
    with torch.no_grad():
        assert not assert_same(model, torch.randn(ROWS), passes=["affine-fold"]).report.steps
        report = assert_same(Program(_writes_inner), torch.randn(ROWS), passes=["affine-fold"]).report
    assert [missed.why_not for missed in report.missed] == ["an operand may be written in between"]


def test_it_is_said_what_the_caller_could_tell() -> None:
    model = Program(lambda p, x: p.l(x)[1:] * 0.5, l=nn.Linear(64, 64))
    missed = optimized(model, torch.randn(ROWS)).report.missed
    assert [one.why_not for one in missed] == ["the caller, or a node, can tell how it lies in its memory"]


def test_a_result_that_is_given_another_shape_in_place_stays_where_it_lies() -> None:
    outcome = check_pass(
        AffineFold(),
        """
        graph {
          %x: f32[512, 64] = argument 0
          %w: f32[64, 64] = param "w"
          %c: f32[512, 64] = aten.sin.default(%x)
          %y: f32[512, 64] = aten.linear.default(%x, %w)
          %v: f32[1, 512, 64] = aten.view.default(%y, [1, 512, 64])
          %z: f32[1, 512, 64] = aten.mul.Tensor(%v, 0.5)
          %o: f32[512, 64] = aten.sin.out(%c, out=%z)
          %s: f32[] = aten.sum.default(%o)
          return %s
        }""",
    )
    assert [one.why_not for one in outcome.missed] == [
        "the caller, or a node, can tell how it lies in its memory"
    ]


APART: dict[str, tuple[nn.Module, nn.Module]] = {
    "no centre": (conv(16, 16, 3, padding=1, stride=2), conv(16, 16, 2, stride=2, padding=0)),
    "other groups": (conv(16, 16, 3, padding=1), conv(16, 16, 1, groups=2)),
    "no common centre": (conv(16, 16, 3, padding=1), conv(16, 16, 2, dilation=2, padding=1)),
    "other dilations": (conv(16, 16, 3, padding=1), conv(16, 16, 3, padding=2, dilation=2)),
    "kernels along other dimensions": (
        conv(16, 16, (3, 1), padding=(1, 0)),
        conv(16, 16, (1, 3), padding=(0, 1)),
    ),
    "centres between two taps": (
        conv(16, 16, 3, stride=7, padding=3, dilation=2),
        conv(16, 16, 1, stride=7),
    ),
    "two that are transposed": (nn.ConvTranspose2d(16, 16, 1), nn.ConvTranspose2d(16, 16, 1)),
    "one that is transposed": (conv(16, 16, 1), nn.ConvTranspose2d(16, 16, 1)),
    "another that is transposed": (nn.ConvTranspose2d(16, 16, 3, padding=1), conv(16, 16, 1)),
    "the input of one that is transposed": (nn.Identity(), nn.ConvTranspose2d(16, 16, 1)),
    "strides of the first": (conv(16, 16, 1, stride=9), conv(16, 16, 3, padding=1, stride=8)),
    "strides that differ": (conv(16, 16, 3, padding=1, stride=8), conv(16, 16, 1, stride=9)),
    "dilations that differ": (conv(16, 16, 3, stride=8), conv(16, 16, 3, stride=8, dilation=2)),
    "padded on one side": (conv(16, 16, 4, padding="same"), conv(16, 16, 1)),
}


@pytest.mark.parametrize("why", APART)
def test_convolutions_stay_apart_of(why: str) -> None:
    first, second = APART[why]
    model = Program(lambda p, x: p.c(x) + p.d(x), c=first, d=second)
    with torch.no_grad():
        assert not assert_same(model, torch.randn(IMAGE), passes=["affine-fold"]).report.steps


STAND: dict[str, Callable[..., Any]] = {
    "a shift before padding": lambda p, x: p.c(x.relu() + channels(p.g)),
    "what is read by something else": lambda p, x: (p.c(y := x.relu() * channels(p.g)), y.sin()),
    "what is returned": lambda p, x: (p.c(y := x.relu() * channels(p.g)), y),
    "what is scaled along a row": lambda p, x: p.c(x.relu() * p.g[:1].expand(24)),
}


@pytest.mark.parametrize("what", STAND)
def test_before_a_layer_it_leaves(what: str) -> None:
    model = Program(STAND[what], size=16, c=conv(16, 16, 3, padding=1))
    with torch.no_grad():
        assert not assert_same(model, torch.randn(IMAGE), passes=["affine-fold"]).report.steps


def test_two_maps_of_one_weight_are_folded_apart() -> None:
    layer = nn.Linear(64, 64)
    model = Program(lambda p, x: (p.l(x) * p.g, p.l(x.sin()) * p.h), l=layer)
    assert sorted(run_by_a_call(optimized(model, torch.randn(ROWS)))) == ["linear", "linear", "sin"]


def test_no_more_memory_is_held_than_the_state_takes() -> None:
    def program(p: Program, x: torch.Tensor) -> torch.Tensor:
        return sum((p.l(x + i) * p.g).sin() for i in range(40))  # type: ignore[return-value]

    model = Program(program, size=2048, l=nn.Linear(64, 2048))  # 0.5 MB, 40 times
    report = optimized(model, torch.randn(64, 8, 64)).report
    assert len([step for step in report.steps if step.pass_name == "affine-fold"]) == 40
    model = Program(program, size=65536, l=nn.Linear(256, 65536))  # 64 MB
    with torch.device("meta"):
        report = optimized(model.to("meta"), torch.randn(64, 8, 256)).report
    assert 0 < report.after.kept_bytes <= 64 << 20 + sum(p.nbytes for p in model.parameters())
    assert "what may be kept is used up" in [missed.why_not for missed in report.missed]


def test_the_golden_text() -> None:
    outcome = check_pass(
        AffineFold(),
        """
        graph {
          %x: f32[512, 64] = argument 0
          %w: f32[64, 64] = param "w"
          %g: f32[64] = param "g"
          %y: f32[512, 64] = aten.linear.default(%x, %w)
          %z: f32[512, 64] = aten.mul.Tensor(%y, %g)
          return %z
        }""",
        """
        graph {
          %x: f32[512, 64] = argument 0
          %w: f32[64, 64] = param "w"
          %g: f32[64] = param "g"
          %y_1: f64[64, 64] = aten._to_copy.default(%w, dtype=torch.float64)
          %y_2: f64[64] = aten._to_copy.default(%g, dtype=torch.float64)
          %y_3: f64[64] = aten.reshape.default(%y_2, [64])
          %y_4: f64[64, 1] = aten.reshape.default(%y_3, [-1, 1])
          %y_5: f64[64, 64] = aten.mul.Tensor(%y_1, %y_4)
          %y_6: f32[64, 64] kept = aten._to_copy.default(%y_5, dtype=torch.float32)
          %y_7: f32[512, 64] = aten.linear.default(%x, %y_6)
          return %y_7
        }""",
    )
    (step,) = outcome.steps
    assert [node.name for node in step.saved] == ["z"]
    assert step.evidence == "holds 0.0164 MB"


def test_weights_whose_product_does_not_fit_are_left_to_the_original() -> None:
    model, x = Program(lambda p, x: p.l(x) * p.g, l=nn.Linear(64, 64)), torch.randn(ROWS) * 1e-30
    opt = optimized(model, x)
    assert run_by_a_call(opt) == ["linear"]
    with torch.no_grad():
        model.l.weight.mul_(1e25)  # type: ignore[operator]
        model.g.mul_(1e20)
        assert model(x).isfinite().all()
        torch.testing.assert_close(opt(x), model(x))
