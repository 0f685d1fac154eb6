"""Which products another library takes: those that it has a kernel for, and that lie as it reads them."""

import pytest

from graphopt import kernels
from graphopt.builder import Builder
from graphopt.draft import Draft
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of
from graphopt.ir.ops import ONEDNN_LINEAR
from graphopt.ir.text import parse_graph
from graphopt.kernels import as_torch_has_it, by_onednn, for_compilers, has_kernels

GIVEN = """
    %x: f32[8, 6] = argument 0
    %w: f32[4, 6] = argument 1
    %m: f32[6, 4] = argument 2
    %c: f32[4] = argument 3
    %turned: f32[4, 6]{1, 4} = argument 4
    %wide: f32[4, 6]{12, 2} = argument 5
    %rows: f32[8, 6]{1, 8} = argument 6
    %twice: f64[4, 6] = argument 7
    %there: f32[4, 6] on "meta" = argument 8
    %some: f32[<s0>, 6] = argument 9
    %none: f32[0, 6] = argument 10
    %x3: f32[2, 8, 6] = argument 11
    %gap: f32[4]{2} = argument 12
    %longer: f32[5] = argument 13
    %v: f32[6] = argument 14
    %m3: f32[2, 6, 4] = argument 15
    %across: f32[6, 4]{2, 12} = argument 16
    %w1: f32[4, 6, 1]{1, 4, 1} = argument 17
    %image: f32[1, 6, 3, 3] = argument 20
    %images: f32[2, 6, 3, 3] = argument 21
    %last: f32[1, 6, 3, 3]{54, 1, 18, 6} = argument 22
    %pixels: f32[4, 6, 1, 1] = argument 23
    %windows: f32[4, 6, 3, 3] = argument 24
    %unbatched: f32[6, 3, 3] = argument 25
    %spread: f32[4, 6, 1, 1]{12, 2, 1, 1} = argument 26
    %n: int = argument 27
    %single: f32[1, 3, 3] = argument 28
    %thin: f32[4, 1, 1, 1] = argument 29
    %ix: i64[8, 6] = argument 30
    %iw: i64[4, 6] = argument 31"""


def is_taken(operation: str, kind: str) -> bool:
    graph = parse_graph(f"graph {{ {GIVEN} %y: f32{kind} = aten.{operation} return %y }}")
    node = graph.nodes[-1]
    build = Builder(Draft(graph), like=node)
    made = by_onednn(node, build)
    if made is None:
        return False
    assert made.type == node.results[0].type
    (product,) = (one for one in build.nodes if one.op == ONEDNN_LINEAR)
    given = operands_of(node)
    bias = {"aten.linear.default": given.get("bias"), "aten.addmm.default": given.get("self")}.get(node.op)
    assert product.args[2] == (bias or Lit(None))
    return True


@pytest.fixture(autouse=True)
def with_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "has_onednn", lambda: True)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("linear.default(%x, %w)", "[8, 4]"),
        ("linear.default(%x, %w, %c)", "[8, 4]"),
        ("linear.default(%x, %turned)", "[8, 4]"),
        ("linear.default(%x3, %w)", "[2, 8, 4]"),
        ("mm.default(%x, %m)", "[8, 4]"),
        ("matmul.default(%x3, %m)", "[2, 8, 4]"),
        ("addmm.default(%c, %x, %m)", "[8, 4]"),
        ("conv2d.default(%image, %pixels)", "[1, 4, 3, 3]"),
        ("conv2d.default(%image, %pixels, %c)", "[1, 4, 3, 3]"),
        ("conv2d.default(%image, %pixels, None, [1, 1], [0, 0], [1, 1], 1)", "[1, 4, 3, 3]"),
    ],
)
def test_it_takes(operation: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_taken(operation, kind)
    monkeypatch.setattr(kernels, "has_onednn", lambda: False)
    assert not is_taken(operation, kind)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("linear.default(%rows, %w)", "[8, 4]"),
        ("linear.default(%x, %wide)", "[8, 4]"),
        ("linear.default(%x, %twice)", "[8, 4]"),
        ("linear.default(%x, %there)", "[8, 4]"),
        ("linear.default(%some, %w)", "[<s0>, 4]"),
        ("linear.default(%ix, %iw)", "[8, 4]"),
        ("linear.default(%none, %w)", "[0, 4]"),
        ("linear.default(%x, %w)", "[8, 4]{1, 8}"),
        ("linear.default(%x, %w, %gap)", "[8, 4]"),
        ("linear.default(%x, %w, %longer)", "[8, 4]"),
        ("linear.default(%v, %w)", "[4]"),
        ("linear.default(%x, %v)", "[8]"),
        ("linear.default(%x, %w1)", "[8, 4]"),
        ("mm.default(%x, %across)", "[8, 4]"),
        ("mm.default(%x, %n)", "[8, 4]"),
        ("matmul.default(%x3, %m3)", "[2, 8, 4]"),
        ("matmul.default(%x, %v)", "[8]"),
        ("addmm.default(%c, %x, %m, beta=2)", "[8, 4]"),
        ("addmm.default(%c, %x, %m, alpha=2)", "[8, 4]"),
        ("mul.Tensor(%x, %x)", "[8, 6]"),
        ("conv2d.default(%images, %pixels)", "[2, 4, 3, 3]"),
        ("conv2d.default(%last, %pixels)", "[1, 4, 3, 3]"),
        ("conv2d.default(%image, %spread)", "[1, 4, 3, 3]"),
        ("conv2d.default(%image, %pixels)", "[1, 4, 3, 3]{36, 1, 12, 4}"),
        ("conv2d.default(%unbatched, %pixels)", "[4, 3, 3]"),
        ("conv2d.default(%single, %thin)", "[4, 3, 3]"),
        ("conv2d.default(%image, %windows)", "[1, 4, 1, 1]"),
        ("conv2d.default(%image, %windows, None, [1, 1], [1, 1])", "[1, 4, 3, 3]"),
        ("conv2d.default(%image, %pixels, None, [2, 2])", "[1, 4, 2, 2]"),
        ("conv2d.default(%image, %pixels, None, [1, 2])", "[1, 4, 3, 2]"),
        ("conv2d.default(%image, %pixels, None, [1, 1], [1, 1])", "[1, 4, 5, 5]"),
        ("conv2d.default(%image, %pixels, None, [1, 1], [0, 0], [2, 2])", "[1, 4, 3, 3]"),
        ("conv2d.default(%image, %pixels, None, 1)", "[1, 4, 3, 3]"),
        ("conv2d.default(%image, %pixels, None, [1, 1], [0, 0], [1, 1], 2)", "[1, 4, 3, 3]"),
        ("conv2d.default(%image, %pixels, None, [1, 1], [0, 0], [1, 1], %n)", "[1, 4, 3, 3]"),
    ],
)
def test_it_leaves(operation: str, kind: str) -> None:
    assert not is_taken(operation, kind)


def test_none_of_its_operators_is_left_where_others_are_to_read_the_graph() -> None:
    text = """graph { %x: f32[8, 6] = argument 0 %w: f32[4, 6] = argument 1 %c: f32[4] = argument 2
        %r: f32[8, 6] = aten.relu.default(%x) %y: f32[8, 4] = OP return %y }"""
    graph = parse_graph(text.replace("OP", f'{ONEDNN_LINEAR}(%r, %w, %c, "none", [], "")'))
    plain = parse_graph(text.replace("OP", "aten.linear.default(%r, %w, %c)"))
    assert has_kernels(graph) and not has_kernels(plain)
    assert as_torch_has_it(graph) == plain and as_torch_has_it(plain) is plain
    assert [node.op for node in for_compilers(graph).nodes] == [
        "aten.relu.default",
        "graphopt_kernels.linear.default",
    ]
