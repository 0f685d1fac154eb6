"""Which checks a rewritten program must pass, within a budget; and what they leave unchecked."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from graphopt.capture.sources import as_module
from graphopt.errors import ExampleRaises
from graphopt.guards.owned import objects_of
from graphopt.ir.graph import Graph
from graphopt.steps import Claim
from graphopt.verify.comparison import Served, Verdict, compare_programs, exception_of
from graphopt.verify.facts import tensors_in
from graphopt.verify.inputs import non_finite, other_sizes, other_values, unvaried

EXAMPLE = "example inputs"


_FRAGILE = ("aten.linalg_eig", "aten._linalg_eig", "aten.linalg_svd", "aten._linalg_svd", "aten.linalg_lstsq")
"""What may crash the process on a NaN: libraries for these do not look for one."""


@dataclass(frozen=True)
class Check:
    """One call that both programs must answer alike. Where it has other integers, `own_integers` makes the
    same call with those of the example (None: nothing else is left to vary)."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    grad: bool
    backward: bool = False
    own_integers: "Callable[[], Check | None] | None" = None


@dataclass(frozen=True)
class Verification:
    """What was checked, with which result; `equivalent` is None where nothing could be."""

    equivalent: bool | None
    evidence: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    failed: Check | None = None
    difference: str = ""


@dataclass
class Budget:
    """Seconds (None: no limit) from its making, and bytes of memory."""

    seconds: float | None = None
    bytes: int | None = None
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.bytes is None:
            self.bytes = _available_memory()

    def is_spent(self) -> bool:
        """Whether the time is up."""
        return self.seconds is not None and time.monotonic() - self.started >= self.seconds

    def shortage(self, needed: int) -> str:
        """Why the memory does not suffice for as many bytes; "" where it does."""
        if self.bytes is None or needed <= self.bytes:
            return ""
        return f"it takes about {needed / 1e9:.1f} GB, and {self.bytes / 1e9:.1f} GB are free"


@dataclass(frozen=True)
class Verifier:
    """Compares programs with the original on the example call and on variations of it."""

    original: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    seed: int
    budget: Budget
    graph: Graph | None = None  # as captured; its symbolic sizes are varied
    owner: torch.nn.Module | None = None  # whose state the programs have; None: they share the original's

    @classmethod
    def of(
        cls, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int, budget: Budget
    ) -> "Verifier":
        """For any kind of model. Raises Unsupported where it is none."""
        return cls(as_module(model), args, kwargs, seed, budget)

    def verify(
        self,
        program: Served,
        claim: Claim,
        known: Mapping[str, Verdict],
        errors: Callable[[Check], Verdict] | None = None,
    ) -> Verification:
        """Runs every check, until one fails or the budget is spent; but takes `known` verdicts, by the
        name of the check. `errors` judges the numbers of a program that may round otherwise."""
        evidence: list[str] = []
        unchecked: list[str] = []
        shortage = self._shortage()
        equivalent: bool | None = None
        for check in self.checks():
            reason = shortage or ("the time budget is spent" if self.budget.is_spent() else "")
            if reason:
                unchecked.append(f"{check.name}: {reason}")
                continue
            verdict = known.get(check.name) or self.judged(check, program, claim, errors)
            untold = _untold(verdict)
            if untold and check.own_integers is not None and (calmer := check.own_integers()) is not None:
                unchecked.append(f"{check.name} of integers and booleans: {untold}")
                check = calmer
                verdict = self.judged(check, program, claim, errors)
            if verdict.equivalent is False:
                return Verification(False, tuple(evidence), tuple(unchecked), check, verdict.evidence)
            if verdict.equivalent is None:
                unchecked.append(f"{check.name}: {verdict.evidence}")
            else:
                equivalent = True
                evidence.append(f"{check.name}: {verdict.evidence}")
        return Verification(equivalent, tuple(evidence), (*unchecked, *self._never_checked()))

    def example_error(self) -> ExampleRaises | None:
        """Where eager itself raises on the example call: an error that says so."""
        raised = exception_of(self.original, self.args, self.kwargs, self.seed)
        if not raised:
            return None
        return ExampleRaises(
            f"the example call raises without graphopt: {raised}",
            remedy="pass args and kwargs that the model accepts",
        )

    def judged(
        self, check: Check, program: Served, claim: Claim, errors: Callable[[Check], Verdict] | None = None
    ) -> Verdict:
        """One check; of a program that may round otherwise, `errors` has the last word."""
        verdict = self.run(check, program, claim)
        if claim is Claim.BITWISE or errors is None or not verdict.equivalent or verdict.raises:
            return verdict
        numbers = errors(check)
        if not numbers.equivalent:
            return numbers
        return replace(numbers, evidence=f"{verdict.evidence}; {numbers.evidence}")

    def run(self, check: Check, program: Served, claim: Claim) -> Verdict:
        """One check, of everything but the size of rounding errors."""
        with torch.set_grad_enabled(check.grad):
            verdict = compare_programs(
                self.original,
                program,
                check.args,
                check.kwargs,
                self.seed,
                backward=check.backward,
                tolerance=0.0 if claim is Claim.BITWISE else math.inf,
                owner=self.owner,
            )
        ended = f", which ends in {verdict.raises}" if verdict.raises else ""
        return replace(verdict, evidence=verdict.evidence + ended) if verdict.equivalent else verdict

    def checks(self) -> Iterator[Check]:
        """The calls to compare, the most telling first."""
        grad = torch.is_grad_enabled()
        differentiable = grad and self._wants_gradients()
        yield Check(EXAMPLE, self.args, self.kwargs, grad)
        if differentiable:
            yield Check("gradients", self.args, self.kwargs, True, backward=True)
        if grad:
            yield Check("example inputs without gradients", self.args, self.kwargs, False)
        for name, signs in (("other values", False), ("other signs", True)):
            check = self._with_other_values(name, signs, grad, integers=True)
            if check is not None:
                yield check
        if self.graph is not None:
            for size, args, kwargs in other_sizes(self.graph, self.original, self.args, self.kwargs):
                yield Check(f"inputs {size}", args, kwargs, grad)
        varied = (
            None
            if self._is_fragile()
            else non_finite(self.args, self.kwargs, objects_of(self.original), self.seed)
        )
        if varied is not None:
            yield Check("infinities and NaNs", *varied, False)

    def _with_other_values(self, name: str, signs: bool, grad: bool, *, integers: bool) -> Check | None:
        kept = objects_of(self.original)
        varied = other_values(self.args, self.kwargs, kept, self.seed, signs, integers)
        if varied is None:
            return None
        calmer = partial(self._with_other_values, name, signs, grad, integers=False)
        return Check(name, varied.args, varied.kwargs, grad, own_integers=calmer if varied.integers else None)

    def _is_fragile(self) -> bool:
        return self.graph is not None and any(node.op.startswith(_FRAGILE) for node in self.graph.nodes)

    def _wants_gradients(self) -> bool:
        tensors = [tensor for _, tensor in tensors_in((self.args, self.kwargs))]
        return any(tensor.requires_grad for tensor in (*tensors, *self.original.parameters()))

    def _never_checked(self) -> Iterator[str]:
        if self.graph is not None and not self.graph.symbols:
            yield "other sizes: all are fixed, and calls of other sizes run the original"
        if self._is_fragile():
            yield "infinities and NaNs: what decomposes matrices may crash on them"
        for tensors in unvaried(self.args, self.kwargs):
            yield f"other values of {tensors}"

    def _shortage(self) -> str:
        """Why the memory does not suffice: a run keeps a copy of the state, and two of the arguments."""
        state = [*self.original.parameters(), *self.original.buffers()]
        given = [tensor for _, tensor in tensors_in((self.args, self.kwargs))]
        return self.budget.shortage(sum(map(_bytes, state)) + 3 * sum(map(_bytes, given)))


def _untold(verdict: Verdict) -> str:
    """Why a call tells nothing of the values that it would give."""
    if verdict.equivalent is None:
        return verdict.evidence
    return f"the original raises {verdict.raises}" if verdict.raises else ""


def first_bad(count: int, is_bad: Callable[[int], bool]) -> int | None:
    """The smallest number of steps, from 0 to `count`, after which a program is bad, by bisection; None
    where it is not even then. It takes that a program once bad stays bad."""
    if not is_bad(count):
        return None
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_bad(middle) else (middle + 1, high)
    return low


def weakest(claims: Sequence[Claim]) -> Claim:
    """The weakest of some claims; BITWISE of none."""
    order = list(Claim)
    return max(claims, key=order.index, default=Claim.BITWISE)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not tell."""
    known = Path("/proc/meminfo")
    if not known.exists():
        return None
    lines = (line.split() for line in known.read_text().splitlines())
    return next((1024 * int(line[1]) for line in lines if line[0] == "MemAvailable:"), None)
