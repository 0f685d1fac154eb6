"""Containers and objects that go in and out are eager's."""

import copy
import dataclasses
import operator
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from graphopt.module import serving_of
from tests.capture.kept.examples import PAIR, X
from tests.sameness import assert_same


@dataclasses.dataclass
class Box:
    tensor: torch.Tensor
    items: list[torch.Tensor]


def test_nested_containers_and_dataclasses_go_in_and_out(passes: Any) -> None:
    def program(box: Box, *more: torch.Tensor, scale: float = 2.0, **named: Any) -> Any:
        out = OrderedDict(a=box.tensor * scale, b=PAIR(more[0], named["z"]["y"] + 1))
        return {"out": out, 3: Box(more[0], [box.items[0]]), "same": box, "none": None, "dtype": X.dtype}

    assert_same(
        program, Box(X, [X + 1]), X * 2, scale=3.0, z={"y": X + 2}, other=(Box(X - 1, [X * 2]), X + 5),
        passes=passes,
    )  # fmt: skip


def test_lists_dictionaries_and_objects_that_forward_fills_are_filled(passes: Any) -> None:
    def program(box: Box, found: dict[str, torch.Tensor]) -> Any:
        box.items.append(box.tensor * 2)
        box.tensor = box.tensor + 1
        found["new"] = box.tensor
        return box, found["old"]

    assert_same(program, Box(X, [X + 1]), {"old": X}, passes=passes)


def test_no_arguments_and_no_tensor_result(passes: Any) -> None:
    assert_same(lambda: torch.ones(3), passes=passes)
    assert_same(lambda x: None, X, passes=passes)
    assert_same(lambda x: (1, 1.0, True, "a", -0.0, float("nan")), X, passes=passes)


class Settings:
    def __init__(self) -> None:
        self.names = ["a"]


class Result:
    def __init__(self, value: torch.Tensor, settings: Settings) -> None:
        self.value, self.settings = value, settings


def test_objects_of_the_model_are_handed_out_as_they_are(passes: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.settings, self.layer, self.table = Settings(), nn.Linear(4, 4), [torch.ones(2)]

        def forward(self, x: torch.Tensor, seen: list[Any]) -> tuple[Any, ...]:
            seen.append(self.settings)
            return Result(self.layer(x), self.settings), self.settings.names, self.layer, self.table, self

    model = Model()
    opt = graphopt.optimize(model, (X, []), passes=passes, on_guard="error", measure=False)
    for module in (opt.module, copy.deepcopy(opt.module)):
        original = serving_of(module).original
        seen: list[Any] = []
        result, *owned = module(X, seen)
        expected = [original.settings.names, original.layer, original.table, original]
        assert seen[0] is result.settings is original.settings
        assert all(map(operator.is_, owned, expected))
        assert torch.equal(result.value, model.layer(X))
    model.settings = Settings()
    with pytest.raises(graphopt.GuardError, match="settings"):
        opt(X, [])
