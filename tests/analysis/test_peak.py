"""The bytes that nodes hold at once."""

from textwrap import dedent

import pytest

from graphopt.analysis.peak import peak_bytes
from graphopt.analysis.sizes import Sizes
from graphopt.ir.text import parse_graph

CASES = {
    "what is read no more is freed": (
        """
          %b: f32[4, 4] = aten.sin.default(%a)
          %c: f32[4, 4] = aten.sin.default(%b)
          %d: f32[4, 4] = aten.sin.default(%c)
        """,
        2,
    ),
    "a view holds the memory that it shows": (
        """
          %b: f32[4, 4] = aten.sin.default(%a)
          %t: f32[4, 4]{1, 4} = aten.t.default(%b)
          %c: f32[4, 4] = aten.sin.default(%a)
          %d: f32[4, 4] = aten.add.Tensor(%c, %t)
        """,
        3,
    ),
    "an einsum of three holds the product of two": (
        """
          %d: f32[4, 4] = aten.einsum.default("ij,jk,kl->il", [%a, %a, %a])
        """,
        2,
    ),
    "a view of an input holds nothing": (
        """
          %t: f32[4, 4]{1, 4} = aten.t.default(%a)
          %d: f32[4, 4]{1, 4} = aten.sin.default(%t)
        """,
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_counts(name: str) -> None:
    body, tensors = CASES[name]
    graph = parse_graph(
        dedent("graph {\n  %a: f32[4, 4] = argument 0\n") + dedent(body).strip("\n") + "\n  return %d\n}\n"
    )
    assert peak_bytes(graph.nodes, graph.returned, Sizes()) == tensors * 64


def test_what_else_nothing_reads_is_held_until_it_is_read() -> None:
    body, _ = CASES["what is read no more is freed"]
    text = dedent("graph {\n  %a: f32[4, 4] = argument 0\n") + dedent(body).strip("\n") + "\n  return %d\n}\n"
    graph = parse_graph(text)
    first, *rest = graph.nodes
    assert peak_bytes(rest, graph.returned, Sizes(), first.results) == 2 * 64
    assert peak_bytes(rest[1:], graph.returned, Sizes(), first.results) == 2 * 64
    assert peak_bytes(rest[1:], graph.returned, Sizes()) == 64
