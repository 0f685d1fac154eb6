"""`optimize()` and `Optimized`: the one front door."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from graphopt.alternatives import Alternative, alternatives
from graphopt.authoring import Pass
from graphopt.cache.derived import NotDerived
from graphopt.capture import as_module, capture
from graphopt.capture.archive import save_program
from graphopt.capture.tracing import ExportRefused
from graphopt.catalog import choose
from graphopt.diff import diff_text
from graphopt.errors import Error
from graphopt.export import export_program
from graphopt.ir.graph import Graph
from graphopt.latency import Measured
from graphopt.measuring import measure as time_program
from graphopt.module import OptimizedModule, serving_of
from graphopt.optimizer import confirm, rewrite
from graphopt.profile import Profile, resolve
from graphopt.report import Report, Size
from graphopt.serving import Offer, Policy
from graphopt.verify.verifier import EXAMPLE, Budget, Verifier

_ON_GUARD = ("original", "error", "recapture")
_NONFINITE = ("finite", "exact")


class Optimized:
    """What `optimize()` returns: the drop-in module, the emitted graph, and what was done."""

    def __init__(self, module: OptimizedModule, record: "_Record") -> None:
        self.module = module
        self._record = record

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls `module`."""
        return self.module(*args, **kwargs)

    @property
    def graph_module(self) -> torch.fx.GraphModule:
        """The emitted torch.fx.GraphModule. It checks no guards. Raises Error before the first call
        where no example inputs were given."""
        self._needs_capture()
        return serving_of(self.module).newest.graph_module

    @property
    def graph(self) -> Graph:
        """The optimised graph."""
        self._needs_capture()
        return serving_of(self.module).newest.program.graph

    @property
    def graph_before(self) -> Graph:
        """The graph as captured."""
        self._needs_capture()
        assert self._record.before is not None
        return self._record.before

    @property
    def report(self) -> Report:
        """Steps, near misses, sizes, evidence, and whether the result is equivalent and accepted."""
        self._needs_capture()
        assert self._record.report is not None
        return self._record.report

    @property
    def diff(self) -> str:
        """A unified diff of the graphs before and after."""
        self._needs_capture()
        assert self._record.before is not None and self._record.after is not None
        return diff_text(self._record.before, self._record.after)

    def invalidate(self) -> None:
        """Forgets all values that are kept from call to call: for writes into the model's tensors that
        nothing counts (through `.data` or numpy) and that miss a sample of their elements."""
        serving_of(self.module).invalidate()

    def save(self, path: str | Path) -> None:
        """Writes the optimised program as a `.pt2` file that plain torch loads.

        Raises Unsupported where torch.export cannot express it; then no file is written.
        """
        self._needs_capture()
        save_program(export_program(self.module), path)

    def _needs_capture(self) -> None:
        if self._record.report is None:
            raise Error("nothing has been captured yet", remedy="call it once, or pass example inputs")


class _Record:
    """What the newest capture found."""

    def __init__(self) -> None:
        self.before: Graph | None = None
        self.after: Graph | None = None
        self.report: Report | None = None


def optimize(
    model: Any,
    args: Iterable[Any] | None = None,
    kwargs: dict[str, Any] | None = None,
    *,
    passes: Iterable[str | Pass] | None = None,
    dynamic_shapes: Any = None,
    verify: bool = True,
    measure: bool = True,
    on_guard: str = "original",
    nonfinite: str = "finite",
    seed: int = 0,
    time_budget_s: float | None = None,
    profile: Profile | str | Path | None = None,
    tune: bool = False,
    trust: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Optimized:
    """Captures a model, removes redundant work, and returns a drop-in that is proven to do the same.

    model: nn.Module, function, torch.fx.GraphModule, ExportedProgram, or the path of a `.pt2` file.
    args, kwargs: one example call; `()` means no arguments, None captures at the first call.
    passes: None for the lossless default (`graphopt.LOSSLESS`), [] for capture and emit
        alone, or names and pass objects.
    dynamic_shapes: as in torch.export, by parameter; "auto" makes every size symbolic that can be.
    verify: run both on the example inputs and compare all a caller can observe; where they differ the
        original runs and the report says so. Without it, only the capture itself is confirmed by a run.
    measure: time both, interleaved, on the example call; where the rewritten graph is slower beyond the
        interval of confidence, the original runs and the report says so. Without it, or without `verify`,
        the rewritten graph is always returned.
    on_guard: what a call does that breaks a guard: run the "original" (and warn once), raise
        GuardError ("error"), or make another variant ("recapture").
    nonfinite: "finite" or "exact": whether a pass may make something finite of what is not, as terms that
        cancel are; of the default ones sum-product does, and "exact" leaves it out. One that rounds otherwise
        may put a NaN in the place of an infinity.
    seed: of the random stream while verifying.
    time_budget_s: seconds that verification may take.
    profile: how fast the machine is, for decisions by cost: a Profile, or the path of one; None for what
        `graphopt calibrate` has found here, or else what the package brings along.
    tune: settle near ties between two ways by timing both on this machine. Without it, decisions are the
        same for one profile, always.
    progress: told in a few words what is being done.
    trust: load a `.pt2` without checking it first (it may then execute code).

    Raises Unsupported where the program cannot be kept exactly, PassError for an unknown or failing
    pass, and ValueError for a wrong option. The model is left as it was, whatever happens.
    """
    _check_option("on_guard", on_guard, _ON_GUARD)
    _check_option("nonfinite", nonfinite, _NONFINITE)
    if time_budget_s is not None and not time_budget_s >= 0:  # a nan is never spent
        raise ValueError(f"time_budget_s is {time_budget_s!r}; it may be None, or seconds from 0")
    chosen = choose(passes)
    left_out = [one for one in chosen if nonfinite == "exact" and getattr(one, "makes_finite", False)]
    chosen = tuple(one for one in chosen if one not in left_out)
    original = (
        serving_of(model).original if isinstance(model, OptimizedModule) else as_module(model, trust=trust)
    )
    pinned = resolve(profile, torch.get_num_threads())
    record = _Record()

    def capture_and_rewrite(call_args: tuple[Any, ...], call_kwargs: dict[str, Any]) -> Offer:
        progress("capture")
        verifier = Verifier(original, call_args, call_kwargs, seed, Budget(time_budget_s))
        try:
            program = capture(original, call_args, call_kwargs, dynamic_shapes, seed)
        except ExportRefused as refused:
            raise verifier.example_error() or refused from refused.__cause__
        # A call that raises shows nothing of what comes after: a dead operator may be the one that raises.
        verifier = replace(verifier, graph=program.graph)
        confirmed = confirm(program, verifier)
        to_run = () if confirmed[EXAMPLE].raises else chosen
        made = rewrite(program, to_run, verifier if verify else None, confirmed, progress, pinned, tune=tune)
        verification = made.verification
        timings: dict[bool, Measured] = {}
        if verify and measure and verification.equivalent is not False and not confirmed[EXAMPLE].raises:
            progress("measure")
            timings = time_program(verifier, made.program)
        others: list[Alternative] = []
        if verification.equivalent is not False:
            denied = {one.step.site: one.reason for one in made.rolled_back}
            timed = verify and measure
            others = alternatives(
                program,
                made.program,
                made.steps,
                to_run,
                denied,
                pinned,
                verifier if verify else None,
                timed=timed,
            )
        slower = frozenset(grad for grad, one in timings.items() if one.timing and one.timing.slower)
        record.before, record.after = program.graph, made.program.graph
        record.report = Report(
            before=Size.of(program.graph),
            after=Size.of(made.program.graph),
            steps=made.steps,
            missed=made.missed,
            rolled_back=made.rolled_back,
            evidence=verification.evidence,
            unchecked=verification.unchecked,
            difference=verification.difference,
            equivalent=verification.equivalent,
            accepted=verification.equivalent is not False and (not slower or slower != timings.keys()),
            timings=tuple(timings.values()),
            profile=pinned.origin,
            passes=tuple(one.name for one in chosen),
            alternatives=tuple(str(one) for one in others if not one.refusal),
            notes=(
                *made.notes,
                *(f"not used {one}: {one.refusal}" for one in others if one.refusal),
                *(f"{one.name} may make finite what is not: left out" for one in left_out),
            ),
        )
        beside = tuple(one.program for one in others if not one.refusal)
        return Offer(made.program, record.report.accepted, slower, beside)

    if args is None and kwargs is None:
        return Optimized(OptimizedModule(original, (), Policy(on_guard, capture_and_rewrite)), record)
    example = tuple(args) if args is not None else ()
    offer = capture_and_rewrite(example, kwargs or {})
    policy = Policy(on_guard, capture_and_rewrite, offer.left)
    module = OptimizedModule(original, offer.programs, policy)
    if not offer.accepted:
        serving_of(module).retire()
    else:
        with contextlib.suppress(NotDerived):  # then the original runs
            serving_of(module).newest.prepare()
    return Optimized(module, record)


def _check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; it may be {', '.join(map(repr, known))}")
