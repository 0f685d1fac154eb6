"""Another structure or literal in the outputs is seen."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import pytest
import torch

from tests.verify.observed import Box, Pair, Plain, Slotted, constant, seen


def test_two_runs_of_one_function_do_not_differ() -> None:
    def program(x: torch.Tensor, y: torch.Tensor) -> Any:
        y.add_(torch.rand(3))
        return {"a": x, "b": [x[1:], x.t(), 1.0], "c": torch.nn.functional.dropout(x)}

    x, y = torch.randn(3, 3), torch.randn(3)
    assert seen(program, program, x, y) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        ([1], [1, 1]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, OrderedDict(a=1)),
        (Pair(1, 2), (1, 2)),
        ({1}, {2}),
        ({1}, frozenset({1})),
        (Box(1), Box(2)),
        (Box([1]), Box((1,))),
        (Plain(1), Plain(2)),
        (Slotted(1), Slotted(2)),
        (Plain(1), Slotted(1)),
        (None, ()),
        (torch.max(torch.ones(2, 2), 0), tuple(torch.max(torch.ones(2, 2), 0))),
        (torch.Size([2]), (2,)),
        (range(2), range(3)),
    ],
)
def test_another_output_structure_is_seen(one: Any, other: Any) -> None:
    assert seen(constant(one), constant(one)) is None
    assert seen(constant(one), constant(other)) is not None


def test_a_member_of_a_model_output_that_became_none_is_seen() -> None:
    outputs = pytest.importorskip("transformers.modeling_outputs")
    full = outputs.BaseModelOutput(last_hidden_state=torch.ones(1), hidden_states=(torch.ones(2),))
    bare = outputs.BaseModelOutput(last_hidden_state=torch.ones(1))
    assert seen(constant(full), constant(full)) is None
    assert "output" in str(seen(constant(full), constant(bare)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (1.0, True),
        (0.0, -0.0),
        (1.0, 1.0 + 2**-52),
        (math.nan, 0.0),
        (complex(0, 0.0), complex(0, -0.0)),
        (complex(1, math.nan), complex(1, 1)),
        (-1, -2),
        ("a", "b"),
        ("a", b"a"),
        (None, 0),
        (torch.float32, torch.float64),
        (torch.device("cpu"), torch.device("meta")),
        (math.sin, math.cos),
        (int, float),
    ],
    ids=repr,
)
def test_another_literal_is_seen_by_its_type_and_bits(one: Any, other: Any) -> None:
    assert seen(constant(one), constant(one)) is None
    assert seen(constant([one]), constant([other])) is not None


def test_two_python_nans_of_other_bits_are_one_nan() -> None:
    assert seen(constant(math.nan), constant(-math.nan)) is None


def test_an_object_that_contains_itself_is_observed() -> None:
    def knot(length: int) -> list[Any]:
        items: list[Any] = list(range(length))
        items.append(items)
        return items

    assert seen(constant(knot(1)), constant(knot(1))) is None
    assert seen(constant(knot(1)), constant(knot(2))) is not None
