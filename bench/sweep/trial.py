"""One program, run by eager and by an optimiser, and the verdict on what a caller could tell apart.

A trial never judges more than the contract says: where eager differs from itself under one seed,
or reads memory that nobody wrote, there is nothing to compare with, and the trial is set aside.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import torch

from graphopt.ir.types import TensorType
from graphopt.profile import Profile
from graphopt.verify import Observation, copy_arguments, difference, observe
from graphopt.verify.facts import TensorFact

ULPS = 64.0
"""How far elements may move where a step says that it rounds otherwise, in units in the last place of the
largest."""

Passes = Literal["empty", "default"]
Verdict = Literal[
    "ok",
    "refused",
    "mismatch",
    "crash",
    "guard",
    "trace",
    "timeout",
    "nondeterministic",
    "unobservable",
]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A program with its arguments. ``program`` is a function or a module; a module is deep-copied
    for each run. ``other_args`` are values of the same shapes for a second call, where given."""

    name: str
    group: str
    program: Callable[..., Any]
    args: tuple[Any, ...]
    other_args: tuple[Any, ...] | None = None
    backward: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The verdict on one trial under one set of passes.

    ``exported`` says whether ``torch.export`` alone takes the program, ``changed`` whether the
    optimiser changed its graph, ``reason`` why the verdict is not ok. ``seconds`` is wall time.
    """

    name: str
    group: str
    passes: Passes
    verdict: Verdict
    exported: bool
    eager_raises: bool
    changed: bool
    reason: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What an optimiser made: a callable, the module that owns its state, if the graph changed; how far
    elements may move without gradients, as a share of the largest."""

    call: Callable[..., Any]
    module: torch.nn.Module | None
    changed: bool
    tolerance: float = 0.0


class Refusal(Exception):
    """The optimiser says that it cannot keep this program exactly."""


class BrokenGuard(Exception):
    """The optimised program does not accept arguments like those that it was made for."""


class Optimizer(Protocol):
    """Anything that makes a candidate of a program: graphopt, or a broken one to test the judge."""

    def __call__(self, program: Callable[..., Any], args: tuple[Any, ...], passes: Passes) -> Candidate: ...


class RolledBack(Exception):
    """graphopt's own checks found a step of its own passes guilty, or the whole not equivalent."""


def graphopt_candidate(
    program: Callable[..., Any],
    args: tuple[Any, ...],
    passes: Passes,
    *,
    verify: bool = False,
    profile: Profile | None = None,
) -> Candidate:
    """``graphopt.optimize`` with guards that raise instead of stepping aside: a guard that always fails would
    make every comparison a comparison of eager with eager.

    verify: with its own checks, too; it counts as a crash where they find anything.
    profile: of the machine to decide for.
    """
    import graphopt

    try:
        optimized = graphopt.optimize(
            program,
            args,
            passes=[] if passes == "empty" else None,
            verify=verify,
            measure=False,
            profile=profile,
            on_guard="error",
        )
    except graphopt.Unsupported as refused:
        raise Refusal(str(refused)) from refused
    report = optimized.report
    if report.rolled_back or report.equivalent is False:
        raise RolledBack(report.difference or report.rolled_back[0].reason)

    def call(*values: Any) -> Any:
        try:
            return optimized.module(*values)
        except graphopt.GuardError as broken:
            raise BrokenGuard(str(broken)) from broken

    return Candidate(call, optimized.module, bool(report.steps), _tolerance(optimized))


def _tolerance(optimized: Any) -> float:
    """0 where every step keeps the bits, else some units in the last place of the narrowest type."""
    if all(step.claim.value == "bitwise" for step in optimized.report.steps):
        return 0.0
    kinds = [value.type for value in optimized.graph.values if isinstance(value.type, TensorType)]
    return ULPS * max(torch.finfo(kind.dtype).eps for kind in kinds if kind.dtype.is_floating_point)


class _OutOfTime(BaseException):
    """Not an ``Exception``, so that no program under test swallows it."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def expire(number: int, frame: object) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _silence() -> Iterator[None]:
    """No warnings and no log: torch logs each failure of a fake tensor with its whole traceback."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _own(program: Callable[..., Any]) -> tuple[Callable[..., Any], torch.nn.Module | None]:
    """The program for one run, apart from all others, and the module whose state to watch."""
    if isinstance(program, torch.nn.Module):
        module = copy.deepcopy(program)
        return module, module
    return program, None


def _calls(trial: Trial) -> list[tuple[Any, ...]]:
    """The arguments of each call: the same twice, since state may change, then the other ones."""
    others = [] if trial.other_args is None else [trial.other_args]
    return [trial.args, trial.args, *others]


def _eager(trial: Trial) -> list[Observation]:
    program, module = _own(trial.program)
    return [
        observe(program, copy_arguments(args)[0], module=module, backward=trial.backward)
        for args in _calls(trial)
    ]


class _Wrapped(torch.nn.Module):
    def __init__(self, program: Callable[..., Any]) -> None:
        super().__init__()
        self.program = program

    def forward(self, *args: Any) -> Any:
        return self.program(*args)


def exports(trial: Trial) -> bool:
    """Whether ``torch.export`` alone takes the program."""
    program, module = _own(trial.program)
    try:
        wrapped = module if module is not None else _Wrapped(program)
        torch.export.export(wrapped, copy_arguments(trial.args)[0], strict=False)
    except Exception:
        return False
    return True


def _eager_differs_there(trial: Trial, expected: Sequence[Observation], sentence: str) -> bool:
    """Whether eager differs from itself at the place that ``sentence`` names.

    Fresh memory is filled with NaN once, for operators that return memory nobody wrote. Then eager
    runs again in heaps laid out otherwise: how BLAS and LAPACK round depends on alignment.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        filled = _eager(trial)
    finally:
        torch.use_deterministic_algorithms(False)
    runs = [[dataclasses.replace(o, modes=expected[0].modes) for o in filled]]
    kept: list[torch.Tensor] = []
    for size in range(1, 25):
        kept.append(torch.empty(size * 13, dtype=torch.uint8))
        runs.append(_eager(trial))
    place = sentence.partition(": ")[0]
    found = [difference(a, b) for run in runs for a, b in zip(expected, run, strict=True)]
    return any(f is not None and f.partition(": ")[0] == place for f in found)


def _last_frames(raised: BaseException, count: int = 4) -> str:
    frames = traceback.extract_tb(raised.__traceback__)[-count:]
    places = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.name}" for f in frames[::-1])
    first = (str(raised).strip().splitlines() or [""])[0]
    return f"{type(raised).__name__}: {first[:300]} [{places}]"


def _layouts(observation: Observation) -> list[object]:
    """All of the observed state but its values."""
    return [
        dataclasses.replace(fact, content=None) if isinstance(fact, TensorFact) else fact
        for fact in observation.state
    ]


def _attempt(
    trial: Trial, passes: Passes, optimizer: Optimizer, expected: Sequence[Observation]
) -> tuple[Verdict, bool, str]:
    """The verdict, whether the graph changed, and the reason."""
    program, module = _own(trial.program)
    args = copy_arguments(trial.args)[0]
    before = observe(lambda *_: None, args, module=module), torch.get_rng_state()
    try:
        candidate = optimizer(program, args, passes)
    except Refusal as refused:
        return "refused", False, str(refused)
    except Exception as raised:
        return "crash", False, _last_frames(raised)
    left = difference(before[0], observe(lambda *_: None, args, module=module))
    if left is not None or not torch.equal(before[1], torch.get_rng_state()):
        return "trace", candidate.changed, left or "the random state moved"

    watched = candidate.module if module is not None else None
    for number, (values, wanted) in enumerate(zip(_calls(trial), expected, strict=True), start=1):
        got = observe(candidate.call, copy_arguments(values)[0], module=watched, backward=trial.backward)
        if got.exception is not None and got.exception.endswith("BrokenGuard"):
            if number > 1 and _layouts(before[0]) != _layouts(expected[number - 2]):
                break  # the first call left its state in another shape: stepping aside is right
            return "guard", candidate.changed, f"call {number}: {got.message}"
        found = difference(wanted, got, tolerance=0.0 if trial.backward else candidate.tolerance)
        if found is not None:
            return "mismatch", candidate.changed, f"call {number}: {found}"
    return "ok", candidate.changed, ""


def judge(
    trial: Trial,
    passes: Sequence[Passes] = ("empty", "default"),
    optimizer: Optimizer = graphopt_candidate,
    *,
    seconds: float = 60.0,
    ask_export: bool = True,
) -> list[Outcome]:
    """One outcome for each set of passes. ``seconds`` is the time limit of the whole trial.

    Trials that are not differentiated run without gradients: another graph serves them.

    Without ``ask_export`` only a refused program is tried with ``torch.export`` alone, and one that
    is taken counts as exported, which saves a third of the time.
    """
    outcomes: list[Outcome] = []
    exported, eager_raises, started = False, False, time.monotonic()

    def outcome(which: Passes, verdict: Verdict, changed: bool, reason: str) -> Outcome:
        spent = round(time.monotonic() - started, 3)
        facts = (verdict, exported, eager_raises, changed, reason, spent)
        return Outcome(trial.name, trial.group, which, *facts)

    with _silence(), torch.set_grad_enabled(trial.backward):
        try:
            with _time_limit(seconds):
                try:
                    expected, again = _eager(trial), _eager(trial)
                except Exception as raised:
                    return [outcome(p, "unobservable", False, _last_frames(raised)) for p in passes]
                eager_raises = expected[0].exception is not None
                for one, other in zip(expected, again, strict=True):
                    unstable = difference(one, other)
                    if unstable is not None:
                        return [outcome(p, "nondeterministic", False, unstable) for p in passes]
                exported = exports(trial) if ask_export else True
                for which in passes:
                    verdict, changed, reason = _attempt(trial, which, optimizer, expected)
                    if verdict == "refused" and not ask_export:
                        exported = exports(trial)
                    if verdict == "mismatch":
                        sentence = reason.partition(": ")[2]
                        if _eager_differs_there(trial, expected, sentence):
                            verdict, reason = "nondeterministic", sentence
                    outcomes.append(outcome(which, verdict, changed, reason))
        except _OutOfTime:
            done = {o.passes for o in outcomes}
            late = f"longer than {seconds:.0f} seconds"
            outcomes += [outcome(p, "timeout", False, late) for p in passes if p not in done]
    return outcomes
