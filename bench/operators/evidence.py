"""What all executions of one operator showed, and the table entry that follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch._ops import OpOverload

from bench.operators.calls import Call, parameters
from bench.operators.trial import Trial
from graphopt.ir.ops import Alias, Effect, Op

_FEWEST = 3  # distinct operand sets that must have run


@dataclass(frozen=True, slots=True)
class Excluded:
    """Why an operator is left out of the table, hence OPAQUE."""

    reason: str


@dataclass(slots=True)
class Evidence:
    """What executions showed, gathered trial by trial; texts name the first call that showed it."""

    op: OpOverload
    ran: int = 0  # distinct operand sets that returned, none of their tensors empty
    drew: str = ""  # advanced the random stream
    unstable: str = ""  # results differed between two runs, without drawing
    raised: str = ""  # raised where other values of the same shapes did not
    shaped: str = ""  # values decided a result's shape or a Python number
    reshaped: str = ""  # changed the shape, strides or storage of an operand
    shared: str = ""  # a result shared storage with an operand
    apart: str = ""  # a result shared storage with no operand
    entangled: str = ""  # two results shared storage
    written: dict[str, str] = field(default_factory=dict)  # by operand
    commutes: bool = False

    def add(self, call: Call, first: Trial, second: Trial, *, guess: bool = False) -> None:
        """Takes in two trials of one call; a guess shows nothing about determinism."""
        if first.error or second.error:
            return
        self.ran += all(tensor.numel() for _, tensor in call.tensors())
        text = call.signature()
        for trial in (first, second):
            if trial.drew:
                self.drew = self.drew or text
            if trial.reshaped:
                self.reshaped = self.reshaped or f"{sorted(trial.reshaped)} in {text}"
            if any(trial.shared):
                self.shared = self.shared or text
            if not all(trial.shared):
                self.apart = self.apart or text
            if trial.entangled:
                self.entangled = self.entangled or text
            for name in sorted(trial.written):
                self.written.setdefault(name, text)
        if first.digest != second.digest and not (guess or first.drew or second.drew):
            self.unstable = self.unstable or text

    def add_group(self, call: Call, trials: list[Trial]) -> None:
        """Takes in trials that differ in the values of their operands only."""
        errors = [trial.error for trial in trials if trial.error]
        if errors and len(errors) < len(trials):
            self.raised = self.raised or f"{errors[0]} in {call.signature()}"
        if len({trial.form for trial in trials if not trial.error}) > 1:
            self.shaped = self.shaped or call.signature()

    def entry(self) -> Op | Excluded:
        """The operator's line of the table, or why it has none."""
        claimed = [a.name for a in self.op._schema.arguments if a.alias_info and a.alias_info.is_write]
        random = bool(self.drew) or torch.Tag.nondeterministic_seeded in self.op.tags
        written = tuple(n for n in parameters(self.op) if n in claimed or n in self.written)
        if self.ran < _FEWEST:
            return Excluded(f"unconfirmed: ran on {self.ran} operand sets")
        if self.reshaped:
            return Excluded(f"changes an operand's metadata: {self.reshaped}")
        if self.unstable:
            return Excluded(f"two runs differ: {self.unstable}")
        if random and written:
            return Excluded("both draws and writes")
        if unseen := [name for name in claimed if name not in self.written]:
            return Excluded(f"unconfirmed: never wrote {', '.join(unseen)}")
        effect = Effect.NONE
        if random:
            effect = Effect.RANDOM
        elif written:
            effect = Effect.WRITES
        elif self.raised or self.shaped or self._reads_values() or not self.op._schema.returns:
            effect = Effect.RAISES  # without a result and without a write it is there to raise
        return Op(str(self.op), effect, self._alias(), written, parameters(self.op), self.commutes)

    def contradictions(self, claim: Op) -> Iterator[str]:
        """What the executions show that an entry denies. More executions can only add to it."""
        if claim.parameters != parameters(self.op):
            yield f"its parameters are {parameters(self.op)}"
        if self.drew and claim.effect is not Effect.RANDOM:
            yield f"draws random numbers: {self.drew}"
        if self.unstable:
            yield f"two runs differ: {self.unstable}"
        if self.raised and claim.effect is Effect.NONE:
            yield f"raises on values: {self.raised}"
        if self.shaped and claim.effect is Effect.NONE:
            yield f"values decide the form of a result: {self.shaped}"
        if self.reshaped:
            yield f"changes metadata: {self.reshaped}"
        for name, text in self.written.items():
            if name not in claim.written or claim.effect is not Effect.WRITES:
                yield f"writes {name}: {text}"
        if (self.shared or self.entangled) and claim.alias is Alias.FRESH:
            yield f"shares storage: {self.shared or self.entangled}"
        if self.apart and claim.alias is Alias.VIEW:
            yield f"returns a result of its own: {self.apart}"
        if claim.commutes and not self.commutes:
            yield "does not commute"

    def _alias(self) -> Alias:
        returns = self.op._schema.returns
        views = all(r.alias_info and not r.alias_info.is_write for r in returns)
        if self.shared and not self.apart and returns and views:
            return Alias.VIEW
        # The tag says "aliasing or mutating"; writes that were seen explain it.
        tagged = torch.Tag.maybe_aliasing_or_mutating in self.op.tags and not self.written
        if self.shared or self.entangled or tagged or any(r.alias_info for r in returns):
            return Alias.MAY
        return Alias.FRESH

    def _reads_values(self) -> bool:
        """Whether a tag says that Python numbers or shapes of the results come from elements."""
        tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        return bool(tags & set(self.op.tags))
