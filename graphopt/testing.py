"""Golden tests of passes, in the IR's own text."""

import difflib
from textwrap import dedent
from typing import Any

import torch

from graphopt.authoring import Claim, Pass
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse_graph, print_graph
from graphopt.ir.types import TensorType
from graphopt.pipeline import Outcome, run_passes
from graphopt.steps import applied
from graphopt.verify.interpreter import Interpreter
from graphopt.verify.rounding import excess_error


def check_pass(one: Pass, before: str, after: str | None = None, *, gradients: bool = False) -> Outcome:
    """Runs a pass to its fix-point on a graph in the IR's text and compares with what is expected;
    `after=None` says that it must not fire.

    Besides: a second run must change nothing, the steps applied as deltas must give the same graph, and
    graphs of static shapes run, on random inputs: for BITWISE to the same bits, for ROUNDING with errors
    against float64 that are not much larger.

    gradients: run it as for a graph that gives gradients.
    Raises AssertionError with a diff, and what the pass and the parser raise.
    """
    graph = parse_graph(dedent(before))
    expected = graph if after is None else parse_graph(dedent(after))
    outcome = run_passes(graph, [one], gradients)
    found = print_graph(outcome.graph)
    if found != print_graph(expected):
        lines = difflib.unified_diff(
            print_graph(expected).splitlines(), found.splitlines(), "expected", "found", lineterm="", n=99
        )
        raise AssertionError(f"{one.name} gave another graph than expected:\n" + "\n".join(lines))
    if applied(graph, outcome.steps) != outcome.graph:
        raise AssertionError(f"the steps of {one.name} do not lead to its graph")
    again = run_passes(outcome.graph, [one], gradients)
    if again.steps:
        raise AssertionError(f"{one.name} is not idempotent: {again.steps[0].why}")
    kinds = [entry.value.type for entry in graph.inputs]
    if outcome.steps and all(isinstance(kind, TensorType) and kind.is_static for kind in kinds):
        if one.claim is Claim.BITWISE:
            _compare(one, graph, outcome.graph)
        elif one.claim is Claim.ROUNDING:
            torch.manual_seed(0)
            excess = excess_error(graph, outcome.graph, [*map(_random, kinds)], seed=0)
            if excess is not None:
                raise AssertionError(f"{one.name}: {excess}")
    return outcome


def _compare(one: Pass, before: Graph, after: Graph) -> None:
    """Runs both graphs on the same random inputs."""
    results = []
    for graph in (before, after):
        torch.manual_seed(0)
        inputs = [_random(entry.value.type) for entry in graph.inputs]
        try:
            results.append(Interpreter().run(graph, inputs) + inputs)
        except (RuntimeError, IndexError) as error:
            results.append([type(error)])
    for i, (expected, found) in enumerate(zip(*results, strict=True)):
        if not _same(expected, found):
            raise AssertionError(f"{one.name}: result {i} is {found}, was {expected}")


def _random(kind: Any) -> torch.Tensor:
    made = torch.empty_strided(kind.shape, kind.strides or (), dtype=kind.dtype, device=kind.device)
    if kind.dtype.is_floating_point or kind.dtype.is_complex:
        return made.normal_()
    return made.random_(0, 2)


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return type(a) is type(b) and bool(a == b)
    return (
        (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
        and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        and torch.equal(torch.signbit(torch.view_as_real(a) if a.is_complex() else a),
                        torch.signbit(torch.view_as_real(b) if b.is_complex() else b))
    )  # fmt: skip
