"""Nonsense is refused by place."""

import pytest

from graphopt.errors import InvalidGraph
from graphopt.ir.text import parse_graph


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected 'graph'"),
        ("graph {", "expected"),
        ("graph { return %x }", "%x is used before it is defined"),
        ("graph { %x: f33[2] = argument 0 return %x }", "expected a type"),
        ("graph { %x: f32[2] = argument 0 %x: f32[2] = argument 1 return %x }", "defined twice"),
        ("graph { %x: f32[2] = argument 0 return %x } more", "expected the end"),
        ("graph { ? }", "no token"),
        ("graph { %x: f32[<__import__('os')>] = argument 0 return %x }", "no size expression"),
    ],
)
def test_nonsense_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InvalidGraph, match=says.replace("(", r"\(")):
        parse_graph(text)
