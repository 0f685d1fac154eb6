"""Which tensors are filled with one number on every call."""

import pytest

from graphopt.analysis.filled import MAX_ELEMENTS, MAX_NODES, Filled
from graphopt.ir.literal import Lit
from graphopt.ir.text import parse_graph


def number(lines: str, name: str = "a", kind: str = "f32[2, 4]") -> Lit | None:
    """What is known of a value as the graph's last node reads it."""
    graph = parse_graph(
        f"""graph {{ %x: f32[2, 4] = argument 0 %p: f32[2, 4] = param "p" %c: f32[2, 4] = constant "c"
        %n: int<s0> = argument 1 {lines} %last: {kind} = aten.neg.default(%{name}) return %last }}"""
    )
    value = {value.name: value for value in graph.values}[name]
    return Filled(graph).number(value, graph.nodes[-1])


ONES = "%o: f32[2, 4] = aten.ones.default([2, 4])"


@pytest.mark.parametrize(
    ("lines", "filled"),
    [
        ("%a: f32[2, 4] = aten.ones.default([2, 4])", 1.0),
        ("%a: f32[2, 4] = aten.full.default([2, 4], -0.0)", -0.0),
        ("%a: i64[2, 4] = aten.full.default([2, 4], 7)", 7),
        (f"{ONES} %b: b8[2, 4] = aten.to.dtype(%o, torch.bool) %a: b8[2, 4] = aten.logical_not.default(%b)",
         False),
        (f"{ONES} %s: f32[2, 4] = aten.rsub.Scalar(%o, 1.0) %a: f32[2, 4] = aten.mul.Tensor(%s, -3.4e38)",
         -0.0),
        (f"{ONES} s: (%l: f32[2, 2]{{4, 1}}, %a: f32[2, 2]{{4, 1}}) = aten.split.Tensor(%o, 2, 1)", 1.0),
        (f"{ONES} %a: f32[4, 4] = aten.cat.default([%o, %o])", 1.0),
        (f"{ONES} %a: f32[2, 4] = aten.add.Tensor(%o, %o)", 2.0),
    ],
)  # fmt: skip
def test_what_reads_no_input_is_run(lines: str, filled: float) -> None:
    assert number(lines) == Lit(filled)


@pytest.mark.parametrize(
    "lines",
    [
        "%a: f32[2, 4] = aten.ones_like.default(%x)",
        "%a: f32[2, 4] = aten.zeros_like.default(%p)",
        "%a: f32[2, 4] = aten.zeros_like.default(%c)",
        "%a: f32[<s0>, 4] = aten.ones.default([%n, 4])",
        f"{ONES} %a: f32[2, 4] = aten.mul.Tensor(%o, %x)",
        "%a: f32[1] = aten.rand.default([1])",
        "%a: f32[2, 4]{none} = aten.zeros.default([2, 4], layout=torch.sparse_coo)",
        "%a: f32[2, 4] = mylib.ones.default([2, 4])",
        "%a: f32[4] = aten.arange.default(4)",
        "%a: f32[0, 4] = aten.ones.default([0, 4])",
        "%a: c64[2, 4] = aten.ones.default([2, 4], dtype=torch.complex64)",
        "%a: f32[2] = aten.full.default([2], nan)",
        f"%a: f32[{MAX_ELEMENTS + 1}] = aten.ones.default([{MAX_ELEMENTS + 1}])",
        f"%o: f32[{MAX_ELEMENTS + 1}] = aten.ones.default([{MAX_ELEMENTS + 1}]) "
        "%a: f32[] = aten.sum.default(%o)",
        '%a: f32[2, 4] on "meta" = aten.ones.default([2, 4], device=device("meta"))',
        # Running it does not give what the graph says, or raises.
        "%a: f64[2, 4] = aten.ones.default([2, 4])",
        "%a: f32[4, 2] = aten.ones.default([2, 4])",
        "%a: f32[<s0>, 4] = aten.ones.default([2, 4])",
        f"{ONES} s: (%l: f32[2, 2]{{none}}, %a: f32[2, 2]{{4, 1}}) = aten.split.Tensor(%o, 2, 1)",
        f"{ONES} %a: f32[2, 4] = aten.view.default(%o, [3, 3])",
        f"{ONES} s: (%a: f32[2, 2]{{4, 1}}) = aten.split.Tensor(%o, 2, 1)",
        f"{ONES} %a: f32[2, 2]{{4, 1}} = aten.split.Tensor(%o, 2, 1)",
        '%a: f32[2, 4] = aten.ones.default([2, 4], device=device("meta"))',
        '%a: f32[2, 4] = aten.full.default([2, 4], mapping("k": 4))',
        f"{ONES} %a: (f32[2, 2], f32[2, 2]) = aten.split.Tensor(%o, 2, 1)",
    ],
)
def test_of_what_else_nothing_is_known(lines: str) -> None:
    assert number(lines) is None


def test_zeros_of_both_signs_are_not_one_number() -> None:
    both = "%z: f32[1] = aten.zeros.default([1]) %m: f32[1] = aten.neg.default(%z)"
    assert number(f"{both} %a: f32[2] = aten.cat.default([%z, %m])") is None
    assert number(f"{both} %a: f32[2] = aten.cat.default([%m, %m])") == Lit(-0.0)


def test_what_was_written_by_then_is_not_known() -> None:
    written = f"{ONES} %v: f32[8] = aten.view.default(%o, [8]) %w: f32[8] = aten.mul_.Tensor(%v, 2)"
    assert number(written, "o") is None and number(written, "v") is None
    assert number(f"{written} %a: f32[2, 4] = aten.neg.default(%o)") is None
    assert number(f"{ONES} %a: f32[2, 4] = aten.neg.default(%o) %w: f32[2, 4] = aten.mul_.Tensor(%o, 2)") == (
        Lit(-1.0)
    )


def test_long_chains_are_left_alone() -> None:
    def chain(count: int) -> str:
        links = (f"%v{i + 1}: f32[2, 4] = aten.neg.default(%v{i})" for i in range(count))
        return "%v0: f32[2, 4] = aten.ones.default([2, 4]) " + " ".join(links)

    assert number(chain(MAX_NODES), f"v{MAX_NODES}") == Lit(1.0)
    assert number(chain(MAX_NODES + 1), f"v{MAX_NODES + 1}") is None
