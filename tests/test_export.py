"""`opt.save`: symbolic sizes, arguments in containers, and what a file cannot hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import graphopt
from graphopt.ir.text import print_graph

X = torch.randn(4, 6)


def loaded(opt: graphopt.Optimized, folder: Path) -> torch.export.ExportedProgram:
    opt.save(folder / "program.pt2")
    return torch.export.load(folder / "program.pt2")


# A program, the example arguments, and others of other sizes.
PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[Any, ...]]] = {
    "linear": (nn.Linear(6, 4), (X,), (torch.randn(9, 6),)),
    "sizes in arithmetic": (
        lambda x, y: torch.cat([x, y]) * x.shape[1],
        (X, torch.randn(8, 6)),
        (torch.randn(3, 5), torch.randn(2, 5)),
    ),
    "sizes divided": (
        lambda x, y: torch.cat([x, y]).reshape(-1, 3) + x.shape[1],
        (X, torch.randn(8, 6)),
        (torch.randn(6, 9), torch.randn(2, 9)),
    ),
    "one size half the other": (
        lambda x, y: x + y[::2],
        (X, torch.randn(8, 6)),
        (torch.randn(5, 3), torch.randn(10, 3)),
    ),
    "strided": (lambda x: x * 2, (X.t(),), (torch.randn(9, 5).t(),)),
    "convolution": (
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2)),
        (torch.randn(2, 3, 16, 16),),
        (torch.randn(5, 3, 32, 20),),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_symbolic_sizes_is_saved_and_serves_other_sizes(name: str, tmp_path: Path) -> None:
    program, args, others = PROGRAMS[name]
    opt = graphopt.optimize(program, args, dynamic_shapes="auto", on_guard="error", measure=False)
    module = loaded(opt, tmp_path).module()
    for call in (args, others):
        assert torch.equal(module(*call), opt(*call))
    again = graphopt.optimize(tmp_path / "program.pt2", args, measure=False)
    assert torch.equal(again(*args), opt(*args))


def test_bounds_and_relations_of_sizes_are_saved(tmp_path: Path) -> None:
    batch = Dim("batch", min=3, max=16)
    opt = graphopt.optimize(
        lambda x, y: x + y,
        (X, X + 1),
        dynamic_shapes={"x": {0: batch}, "y": {0: batch}},
        on_guard="error",
        measure=False,
    )
    program = loaded(opt, tmp_path)
    (bounds,) = program.range_constraints.values()
    assert (bounds.lower, bounds.upper) == (3, 16)
    module = program.module()
    assert torch.equal(module(torch.ones(16, 6), torch.ones(16, 6)), torch.full((16, 6), 2.0))
    for sizes in ((2, 2), (17, 17), (4, 5)):
        with pytest.raises(AssertionError, match="Guard failed"):
            module(*(torch.ones(size, 6) for size in sizes))


class Nested(nn.Module):
    def forward(self, pair: list[torch.Tensor], *, named: dict[str, Any], k: int = 2) -> torch.Tensor:
        return pair[0] * k + named["x"].sum()


def test_symbolic_sizes_of_arguments_in_containers_are_saved(tmp_path: Path) -> None:
    some = {0: Dim.DYNAMIC}
    opt = graphopt.optimize(
        Nested(), ([X, X + 1],), {"named": {"x": X + 3}}, on_guard="error",
        dynamic_shapes={"pair": [some, None], "named": {"x": some}}, measure=False
    )  # fmt: skip
    program = loaded(opt, tmp_path)
    assert len(program.range_constraints) == 2
    pair, named = [torch.randn(5, 6), X], {"x": torch.randn(8, 6)}
    assert torch.equal(program.module()(pair, named=named), opt(pair, named=named))


@pytest.mark.parametrize(
    ("program", "args", "says"),
    [
        (lambda x, y: x + y, (X, X), "passed twice"),
        (lambda x: x.to_dense(), (X.to_sparse(),), "layout"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_writes_nothing(
    program: Callable[..., Any], args: tuple[Any, ...], says: str, tmp_path: Path
) -> None:
    opt = graphopt.optimize(program, args, measure=False)
    with pytest.raises(graphopt.Unsupported, match=says) as raised:
        opt.save(tmp_path / "program.pt2")
    assert raised.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_symbols_are_numbered_in_order_of_appearance() -> None:
    def program(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, y]) * torch.nonzero(x).shape[0]

    def texts() -> str:
        opt = graphopt.optimize(
            program, (X, torch.randn(8, 6)), dynamic_shapes="auto", passes=[], measure=False
        )
        return print_graph(opt.graph, origins=False)

    text = texts()
    assert "%x: f32[<s0>, <s1>] = argument 0\n  %y: f32[<s2>, <s1>] = argument 1" in text
    assert "<s0 + s2>" in text
    assert "<u0>" in text
    assert texts() == text


def test_a_parameter_may_be_named_like_a_symbol() -> None:
    def program(s0: torch.Tensor, s1: torch.Tensor) -> torch.Tensor:
        return torch.cat([s0, s1])

    opt = graphopt.optimize(
        program, (X, torch.randn(8, 6)), dynamic_shapes="auto", on_guard="error", measure=False
    )
    call = (torch.randn(3, 5), torch.randn(2, 5))
    assert torch.equal(opt(*call), program(*call))
