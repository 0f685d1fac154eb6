"""What all executions of one operator showed, and the table entry that follows from it."""

from __future__ import annotations

import random
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch._ops import OpOverload

from bench.operators.calls import Call, parameters
from bench.operators.commutation import commutes
from bench.operators.trial import Trial, attempt
from bench.operators.variants import assignments, layouts, literals
from graphopt.ir.ops import Alias, Effect, Op

_FEWEST = 3  # distinct operand sets that must have run


@dataclass(frozen=True, slots=True)
class Budget:
    """How much to execute for one operator."""

    calls: int = 14  # recorded calls, of as many dtypes as there are
    variants: int = 36  # calls with other layouts and literals
    each: int = 5  # recorded calls whose operands get every pattern one by one


@dataclass(frozen=True, slots=True)
class Excluded:
    """Why an operator is left out of the table, hence OPAQUE."""

    reason: str


@dataclass(slots=True)
class Evidence:
    """What executions showed, gathered trial by trial."""

    op: OpOverload
    ran: int = 0  # distinct operand sets that returned
    drew: str = ""  # the first call that advanced the random stream
    unstable: str = ""  # the first whose results differed between two runs without drawing
    raised: str = ""  # the first that raised where other values of the same shapes did not
    reshaped: str = ""  # the first that changed the shape, strides or storage of an operand
    shared: str = ""  # the first whose result shared storage with an operand
    apart: str = ""  # the first with a result that shared storage with no operand
    entangled: str = ""  # the first with two results that share storage
    written: dict[str, str] = field(default_factory=dict)  # by operand, the first call that wrote it
    commutes: bool = False

    def add(self, call: Call, first: Trial, second: Trial) -> None:
        """Takes in two trials of one call."""
        if first.error or second.error:
            return
        self.ran += 1
        for trial in (first, second):
            if trial.drew:
                self.drew = self.drew or call.signature()
            if trial.reshaped:
                self.reshaped = self.reshaped or f"{set(trial.reshaped)} in {call.signature()}"
            if any(trial.shared):
                self.shared = self.shared or call.signature()
            if not all(trial.shared):
                self.apart = self.apart or call.signature()
            if trial.entangled:
                self.entangled = self.entangled or call.signature()
            for name in trial.written:
                self.written.setdefault(name, call.signature())
        if first.digest != second.digest and not (first.drew or second.drew):
            self.unstable = self.unstable or call.signature()

    def entry(self) -> Op | Excluded:
        """The operator's line of the table, or why it has none."""
        tags, schema = self.op.tags, self.op._schema
        claimed = [a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write]
        random_ = bool(self.drew) or torch.Tag.nondeterministic_seeded in tags
        written = tuple(n for n in parameters(self.op) if n in claimed or n in self.written)
        if self.ran < _FEWEST:
            return Excluded(f"unconfirmed: {self.ran} operand sets ran")
        if self.reshaped:
            return Excluded(f"changes an operand's metadata: {self.reshaped}")
        if self.unstable:
            return Excluded(f"two runs differ: {self.unstable}")
        if random_ and written:
            return Excluded("both draws and writes")
        if unseen := [name for name in claimed if name not in self.written]:
            return Excluded(f"unconfirmed: never wrote {', '.join(unseen)}")
        effect = Effect.NONE
        if random_:
            effect = Effect.RANDOM
        elif written:
            effect = Effect.WRITES
        elif self.raised or reads_values(self.op):
            effect = Effect.RAISES
        return Op(str(self.op), effect, self._alias(), written, parameters(self.op), self.commutes)

    def _alias(self) -> Alias:
        annotated = all(r.alias_info and not r.alias_info.is_write for r in self.op._schema.returns)
        if self.shared and not self.apart and annotated and self.op._schema.returns:
            return Alias.VIEW
        if self.shared or self.entangled or may_alias(self.op, writes=bool(self.written)):
            return Alias.MAY
        return Alias.FRESH

    def contradictions(self, claim: Op) -> Iterator[str]:
        """What the executions show that an entry denies. More executions can only add to it."""
        pure = claim.effect in (Effect.NONE, Effect.RAISES)
        if claim.parameters != parameters(self.op):
            yield f"its parameters are {parameters(self.op)}"
        if self.drew and claim.effect is not Effect.RANDOM:
            yield f"draws random numbers: {self.drew}"
        if self.unstable and pure:
            yield f"two runs differ: {self.unstable}"
        if self.raised and claim.effect is Effect.NONE:
            yield f"raises on values: {self.raised}"
        if self.reshaped:
            yield f"changes metadata: {self.reshaped}"
        for name, call in self.written.items():
            if name not in claim.written or claim.effect is not Effect.WRITES:
                yield f"writes {name}: {call}"
        if (self.shared or self.entangled) and claim.alias is Alias.FRESH:
            yield f"shares storage: {self.shared or self.entangled}"
        if self.apart and claim.alias is Alias.VIEW:
            yield f"returns a result of its own: {self.apart}"
        if claim.commutes and not self.commutes:
            yield "does not commute"


def reads_values(op: OpOverload) -> bool:
    """Whether a tag says that Python numbers or shapes of the results come from elements."""
    data_dependent = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return bool(data_dependent & set(op.tags))


def may_alias(op: OpOverload, *, writes: bool) -> bool:
    """Whether the schema or a tag says that a result may share storage with an operand.

    The tag says "aliasing or mutating"; seen writes explain it.
    """
    tagged = torch.Tag.maybe_aliasing_or_mutating in op.tags and not writes
    return tagged or any(result.alias_info for result in op._schema.returns)


def gather(op: OpOverload, calls: Sequence[Call], budget: Budget = Budget()) -> Evidence:
    """Executes an operator on recorded calls, their variants, and many values of each."""
    evidence = Evidence(op)
    rng = random.Random(zlib.crc32(str(op).encode()))
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    recorded = _spread(calls, budget.calls)
    variants = [
        variant for call in recorded for make in (layouts, literals) for variant in _made(make(call))
    ]
    rng.shuffle(variants)
    seen = {call.signature() for call in recorded}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index, call in enumerate(recorded):
            _try_values(evidence, call, generator, each=index < budget.each)
            _observe(evidence, call, grad=True)
        for variant in variants:
            if len(seen) >= len(recorded) + budget.variants:
                break
            if variant.signature() not in seen and _observe(evidence, variant) is None:
                seen.add(variant.signature())
                _try_values(evidence, variant, generator, each=False)
        evidence.commutes = commutes(op, recorded, generator)
    return evidence


def _made(variants: Iterator[Call]) -> Iterator[Call]:
    try:
        yield from variants
    except RuntimeError:
        return


def _spread(calls: Sequence[Call], count: int) -> list[Call]:
    """Up to `count` calls, taken in turns from those of each dtype."""
    by_dtypes: dict[tuple[torch.dtype, ...], list[Call]] = {}
    for call in calls:
        by_dtypes.setdefault(call.dtypes(), []).append(call)
    turns = [
        (turn, group) for group, members in enumerate(by_dtypes.values()) for turn in range(len(members))
    ]
    groups = list(by_dtypes.values())
    return [groups[group][turn] for turn, group in sorted(turns)[:count]]


def _observe(evidence: Evidence, call: Call, *, grad: bool = False) -> str | None:
    """Runs a call twice; returns the exception's type if it raised."""
    first, second = (attempt(call, seed, grad=grad) for seed in (1, 2))
    evidence.add(call, first, second)
    return first.error or second.error


def _try_values(
    evidence: Evidence, call: Call, generator: torch.Generator, *, each: bool
) -> None:
    """Runs a call on many values; notes whether some raise where others do not."""
    raised, returned = "", False
    errors = _observe(evidence, call)
    returned = errors is None
    raised = errors or ""
    for assignment in assignments(call, generator, each=each):
        error = _observe(evidence, assignment)
        returned = returned or error is None
        raised = raised or (error or "")
    if raised and returned:
        evidence.raised = evidence.raised or f"{raised} in {call.signature()}"
