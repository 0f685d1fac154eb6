"""One expression tried: eager, graphopt and the expert, interleaved in one process."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import graphopt
from bench.algebra.expression import Expression, Written
from bench.algebra.negatives import Negative, Program
from bench.comparison import forward_code, observe
from graphopt.latency import THREAD, Timing, compare

SLOWER = 1.05


@dataclass
class Row:
    """One expression. Seconds are of one call; `gain` is eager ÷ expert, `behind` graphopt ÷ expert, each the
    median of ratios within pairs. Errors are the largest, as shares of the largest value in float64."""

    idea: str
    name: str
    source: str = ""
    eager: float = 0.0
    expert: float = 0.0
    gain: float = 0.0
    behind: float = 0.0
    found: bool = False
    error_eager: float = 0.0
    error: float = 0.0
    error_expert: float = 0.0
    right: bool = False
    compiled: float | None = None
    optimize_seconds: float = 0.0
    operators: tuple[str, ...] = ()
    note: str = ""


@dataclass
class NegativeRow:
    """One program that has to stay right and as fast: `ratio` is graphopt ÷ eager."""

    name: str
    difference: str = ""
    eager: float = 0.0
    ratio: float = 0.0
    low: float = 0.0
    high: float = 0.0
    slower: bool = False
    rewritten: bool = False
    note: str = ""


def is_found(gain: float, behind: float) -> bool:
    """Whether most of an expert's gain is there."""
    return behind <= min(1.25, max(gain, 1.0) ** 0.5)


def tried(idea: str, expression: Expression, budget_s: float, with_compile: bool) -> Row:
    """All that is known of one expression."""
    row = Row(idea, expression.name, expression.source)
    inputs, parameters = expression.tensors()
    naive = Written(expression, parameters)
    with torch.no_grad():
        prepared = parameters if expression.prepare is None else expression.prepare(*parameters)
        began = time.perf_counter()
        try:
            opt = graphopt.optimize(naive, inputs, measure=False)
        except graphopt.Unsupported as refused:
            row.note = f"refused: {refused}".splitlines()[0]
            return row
        row.optimize_seconds = time.perf_counter() - began
        row.operators = tuple(node.op.split(".")[1] for node in opt.graph.nodes)
        row.note = _why_not(opt)
        exact = Written(expression, expression.tensors(torch.float64)[1])
        truth = _in_float64(exact, expression)
        row.error_eager = _error(naive(*inputs), truth)
        row.error = _error(opt(*inputs), truth)
        row.error_expert = _error(expression.expert(*inputs, *prepared), truth)
        row.right = row.error <= max(10 * row.error_eager, 2e-5)

        def by_expert() -> Any:
            return expression.expert(*inputs, *prepared)

        eager = _timed(lambda: naive(*inputs), by_expert, budget_s)
        ours = _timed(lambda: opt.module(*inputs), by_expert, budget_s)
        row.eager, row.expert, row.gain = eager.seconds_before, eager.seconds_after, eager.ratio
        row.behind = ours.ratio
        row.found = row.right and is_found(row.gain, row.behind)
        if with_compile:
            torch.compiler.reset()
            compiled = torch.compile(naive)
            compiled(*inputs)
            row.compiled = _timed(lambda: compiled(*inputs), by_expert, budget_s).ratio
    return row


def tried_negative(negative: Negative, budget_s: float) -> NegativeRow:
    """Whether a program that must stay right does, and stays as fast, with what is done by default: where the
    rewritten graph is found to be slower, the original runs."""
    row = NegativeRow(negative.name)
    program = Program(negative.program)
    code = forward_code(program)
    with torch.no_grad():
        expected = observe(program, (negative.tensors(), {}), code)
        try:
            opt = graphopt.optimize(program, negative.tensors())
        except graphopt.Unsupported as refused:
            row.note = f"refused: {refused}".splitlines()[0]
            return row
        row.note = _why_not(opt)
        row.rewritten = any(one.pass_name == "sum-product" for one in opt.report.steps)
        observed = observe(opt.module, (negative.tensors(), {}), code)
        tolerance = {torch.float16: 4e-3, torch.bfloat16: 3e-2}.get(negative.dtype, 2e-5)
        row.difference = expected.difference(observed, tolerance)
        if row.difference.startswith("outputs") and _is_nearer(negative, expected.outputs, observed.outputs):
            row.note, row.difference = f"nearer to the float64 result: {row.difference}", ""
        if expected.raised:
            return row
        ours = theirs = negative.tensors()
        program(*ours)
        if not all(map(torch.equal, ours, negative.tensors())):  # each writes its own
            ours, theirs = negative.tensors(), negative.tensors()
        timing = _timed(lambda: opt.module(*ours), lambda: program(*theirs), budget_s)
        row.eager, row.ratio = timing.seconds_after, timing.ratio
        row.low, row.high = timing.low, timing.high
        row.slower = timing.low > SLOWER
    return row


def _is_nearer(negative: Negative, eager: Any, ours: Any) -> bool:
    """Whether a result is no farther from the one in float64 than eager's, and of the same kind."""
    if not isinstance(eager, Tensor) or not isinstance(ours, Tensor) or eager.dtype != ours.dtype:
        return False
    with _float64():
        truth = negative.program(*(one.double() for one in negative.tensors()))
    return _error(ours, truth) <= _error(eager, truth)


def _timed(one: Callable[[], Any], other: Callable[[], Any], budget_s: float) -> Timing:
    return compare(one, other, budget_s=budget_s, pairs=7, clock=THREAD, threads=1)


def _in_float64(exact: Written, expression: Expression) -> Any:
    with _float64():
        return exact(*expression.tensors(torch.float64)[0])


@contextmanager
def _float64() -> Iterator[None]:
    """What makes tensors of no dtype in particular makes them in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _error(found: Any, truth: Any) -> float:
    pairs = zip(_tensors(found), _tensors(truth), strict=True)
    worst = 0.0
    for one, other in pairs:
        if one.shape != other.shape:
            return float("inf")
        worst = max(worst, float((one.double() - other).abs().max() / other.abs().max().clamp_min(1e-300)))
    return worst


def _tensors(value: Any) -> tuple[Tensor, ...]:
    return (value,) if isinstance(value, Tensor) else tuple(value)


def _why_not(opt: Any) -> str:
    report = opt.report
    said = [f"rolled back: {one.reason}" for one in report.rolled_back]
    said += [one.why_not for one in report.missed if one.pass_name == "sum-product"]
    return "; ".join(dict.fromkeys(said))
