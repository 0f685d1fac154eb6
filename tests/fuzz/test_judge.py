"""The judge itself: it lets right optimisers pass, and sees what broken ones do."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from bench.sweep.compositions import composition
from bench.sweep.operators import cases, operators, trials
from bench.sweep.record import Record, run_all, summary
from bench.sweep.trial import (
    BrokenGuard,
    Candidate,
    Outcome,
    Passes,
    Refusal,
    Trial,
    judge,
)
from tests.fuzz.growth import SeededDraw, grown
from tests.fuzz.minimise import minimise
from tests.fuzz.programs import Input, Program, Statement, arguments, compiled, snippet, source


def unchanged(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
    module = program if isinstance(program, torch.nn.Module) else None
    return Candidate(program, module, changed=False)


class Wrapped(torch.nn.Module):
    def __init__(self, program: Callable[..., Any]) -> None:
        super().__init__()
        self.program = program

    def forward(self, *args: Any) -> Any:
        return self.program(*args)


def exported(program: Callable[..., Any], args: tuple[Any, ...]) -> torch.fx.GraphModule:
    made = torch.export.export(Wrapped(program), args, strict=False).module(check_guards=False)
    assert isinstance(made, torch.fx.GraphModule)
    return made


def merging(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
    """torch's own common subexpression pass, which takes 1 for 1.0 and one draw for two."""
    result = CSEPass()(exported(program, args))
    assert result is not None
    return Candidate(result.graph_module, None, changed=True)


def sweeping(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
    """Dead code elimination that takes a write for dead code."""
    module = exported(program, args)
    for node in reversed(module.graph.nodes):
        if node.op == "call_function" and not node.users:
            module.graph.erase_node(node)
    module.recompile()
    return Candidate(module, None, changed=True)


def verdicts(
    program: Callable[..., Any], *args: torch.Tensor, optimizer: Any = unchanged, **options: Any
) -> list[Outcome]:
    return judge(Trial("t", "g", program, args), optimizer=optimizer, **options)


def only(outcomes: list[Outcome]) -> str:
    assert len({outcome.verdict for outcome in outcomes}) == 1
    return outcomes[0].verdict


def test_the_original_is_told_from_itself_in_no_random_program() -> None:
    for number in range(40):
        program = grown(SeededDraw(f"judge {number}"))
        trial = Trial("t", "g", compiled(program), arguments(program, 0), arguments(program, 1))
        assert only(judge(trial, optimizer=unchanged)) in ("ok", "nondeterministic")


@pytest.mark.parametrize(
    "program",
    [
        lambda x: (x + 1, x + 1.0),
        lambda x: (x * 0.0, x * -0.0),
        lambda x: (torch.rand_like(x.float()), torch.rand_like(x.float())),
        lambda x: (x + 1, x + 1),
    ],
    ids=["one and 1.0", "signed zeros", "two draws", "one tensor returned twice"],
)
def test_a_careless_merge_is_seen(program: Callable[..., Any]) -> None:
    assert only(verdicts(program, torch.arange(3), optimizer=merging)) == "mismatch"


def test_a_removed_write_is_seen() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[1:].add_(1)
        return y

    assert only(verdicts(program, torch.ones(3), optimizer=sweeping)) == "mismatch"


def test_a_removed_write_to_an_argument_is_seen() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        x.add_(1)
        return y

    assert only(verdicts(program, torch.ones(3), optimizer=sweeping)) == "mismatch"


def test_values_baked_in_are_seen_in_the_call_with_other_values() -> None:
    def bake(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
        value = program(*(arg.clone() for arg in args))
        return Candidate(lambda *_: value.clone(), None, changed=True)

    trial = Trial("t", "g", lambda x: x + 1, (torch.ones(2),), (torch.zeros(2),))
    outcomes = judge(trial, optimizer=bake)
    assert only(outcomes) == "mismatch"
    assert outcomes[0].reason.startswith("call 3")


def test_state_kept_between_calls_is_seen() -> None:
    def count(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
        calls = itertools.count()
        return Candidate(lambda x: program(x) + next(calls), None, changed=True)

    outcomes = verdicts(lambda x: x + 1, torch.ones(2), optimizer=count)
    assert outcomes[0].reason.startswith("call 2")


def test_a_trace_left_on_the_arguments_is_seen() -> None:
    def write(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
        args[0].add_(1)
        return unchanged(program, args, passes)

    assert only(verdicts(lambda x: x + 1, torch.ones(2), optimizer=write)) == "trace"


def test_a_moved_generator_is_seen() -> None:
    def draw(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
        torch.rand(1)
        return unchanged(program, args, passes)

    assert only(verdicts(lambda x: x + 1, torch.ones(2), optimizer=draw)) == "trace"


def _failing_with(error: Exception) -> Any:
    def fail(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
        raise error

    return fail


def test_a_refusal_is_no_crash() -> None:
    outcomes = verdicts(torch.neg, torch.ones(2), optimizer=_failing_with(Refusal("no")))
    assert only(outcomes) == "refused"
    assert outcomes[0].exported
    outcomes = verdicts(torch.neg, torch.ones(2), optimizer=_failing_with(KeyError("no")))
    assert only(outcomes) == "crash"


def test_a_guard_that_fails_on_like_arguments_is_seen() -> None:
    def guarded(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
        def call(x: torch.Tensor) -> torch.Tensor:
            raise BrokenGuard("no")

        return Candidate(call, None, changed=False)

    assert only(verdicts(torch.neg, torch.ones(2), optimizer=guarded)) == "guard"


def test_what_eager_does_not_repeat_is_set_aside() -> None:
    counter = itertools.count()
    assert only(verdicts(lambda x: x + next(counter), torch.ones(2))) == "nondeterministic"


def test_memory_that_nobody_wrote_is_set_aside() -> None:
    def filled(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
        return Candidate(lambda x: torch.full_like(x, 0.125), None, changed=False)

    outcomes = verdicts(torch.empty_like, torch.ones(200), optimizer=filled)
    assert only(outcomes) == "nondeterministic"


def test_a_program_that_hangs_is_stopped() -> None:
    def slow(x: torch.Tensor) -> torch.Tensor:
        time.sleep(5)
        return x

    started = time.monotonic()
    assert only(verdicts(slow, torch.ones(2), seconds=0.2)) == "timeout"
    assert time.monotonic() - started < 4


def test_a_failing_program_is_minimised_to_its_cause() -> None:
    wanted = Statement("{0} + 1", ("a",), ("t0",)), Statement("{0} + 1.0", ("a",), ("t1",))
    noise = tuple(Statement("{0} * 2", ("b",), (f"t{n}",)) for n in range(2, 8))
    inputs = Input("a", torch.int64, (2,)), Input("b", torch.float32, (2, 3))
    program = Program(inputs, (), (), (*noise[:3], *wanted, *noise[3:]), "t0, t1, t2, {'x': b}")

    def fails(candidate: Program) -> bool:
        trial = Trial("t", "g", compiled(candidate), arguments(candidate, 0))
        return any("dtype differs" in o.reason for o in judge(trial, optimizer=merging))

    small = minimise(program, fails)
    assert small.body == wanted
    assert len(small.output) < len(program.output)


def _replacing_by(other: Callable[..., Any]) -> Any:
    def replace(program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate:
        return unchanged(copy.deepcopy(other), args, passes)

    return replace


def test_a_snippet_is_the_program() -> None:
    for number in range(12):
        program = grown(SeededDraw(f"snippet {number}"))
        scope: dict[str, Any] = {}
        exec(snippet(program), scope)
        made = scope["Program"]() if "Program" in scope else scope["program"]
        again = Trial("t", "g", made, scope["arguments"](), scope["other_arguments"]())

        trial = dataclasses.replace(again, program=compiled(program))
        outcomes = judge(trial, optimizer=_replacing_by(made))
        assert only(outcomes) in ("ok", "nondeterministic")


def test_a_seed_gives_the_same_programs_again() -> None:
    for number in range(20):
        one, other = (grown(SeededDraw(f"same {number}")) for _ in range(2))
        assert source(one) == source(other)
        assert str(composition(0, number)) == str(composition(0, number))


def test_the_chosen_samples_of_an_operator_differ() -> None:
    (op,) = operators("sum")
    made = list(cases(op, torch.float32, 3, requires_grad=False))
    assert len({case.name for case in made}) == 3
    assert made[0].name == "sum float32 #0"
    results = [case.apply(*case.tensors) for case in made]
    assert len({tuple(result.shape) for result in results}) > 1


def test_an_interrupted_sweep_goes_on(tmp_path: Path) -> None:
    def run(limit: int | None) -> Record:
        every = trials(operators("add"), (torch.float32,), ("plain", "in-place"), 2, True)
        record = Record(tmp_path / "sweep.jsonl")
        run_all(itertools.islice(every, limit), ("empty",), record, minutes=None)
        return record

    first, rest = run(2), run(None)
    assert len(first.outcomes) == 2
    assert rest.outcomes[:2] == first.outcomes
    names = [outcome.name for outcome in rest.outcomes]
    assert len(names) == len(set(names)) == 6  # the second sample broadcasts: not in place
    assert run(None).outcomes == rest.outcomes


def test_a_trial_that_killed_the_process_is_a_crash(tmp_path: Path) -> None:
    trial = Trial("fatal", "g", torch.neg, (torch.ones(1),))
    Record(tmp_path / "sweep.jsonl").begin(trial, ["empty"])
    record = Record(tmp_path / "sweep.jsonl")
    assert [outcome.verdict for outcome in record.outcomes] == ["crash"]
    assert record.missing(trial, ["empty", "default"]) == ["default"]
    assert "crashes: 1" in summary(record.outcomes)
