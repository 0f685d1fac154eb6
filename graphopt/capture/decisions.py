"""Branches on values: which way eager goes in them, rehearsed by one real call and followed by the trace.

`if mask.all():` asks a tensor for a Python bool, which a trace does not know. The model's own forward is
run once and its answers noted; the trace gets them in the same order, and hands out each tensor that was
asked, so that the branch becomes a condition on the values of a call.
"""

from dataclasses import dataclass, field

import torch

from graphopt.errors import Unsupported

REMEDY = "use torch.where or torch.cond, or move the branch out of forward"


class Undecided(Unsupported):
    """Forward branches on a value, and no rehearsal has said which way it goes."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer of `bool(tensor)` and the line that asked for it."""

    where: str
    answer: bool


@dataclass
class Decisions:
    """The branches of one run of forward: noted where `rehearsing`, else followed as `planned`.

    `planned` is None for a trace that has not been rehearsed.
    """

    planned: tuple[Decision, ...] | None = None
    rehearsing: bool = False
    made: list[Decision] = field(default_factory=list)
    asked: list[torch.Tensor] = field(default_factory=list)  # one for each that was made

    def decide(self, tensor: torch.Tensor, where: str) -> bool:
        """The answer that eager gets. Raises Undecided where it is not known."""
        if self.rehearsing:
            decision = Decision(where, tensor.item() != 0)
        else:
            turn = len(self.made)
            known = self.planned is not None and turn < len(self.planned)
            if not known or tensor.numel() != 1:
                raise Undecided("data-dependent control flow: forward branches on the values of a tensor",
                                remedy=REMEDY, where=where)  # fmt: skip
            assert self.planned is not None
            decision = self.planned[turn]
            if decision.where != where:
                raise Undecided(
                    f"forward branches on values in another order when it is traced (at {decision.where})",
                    remedy=REMEDY, where=where,
                )  # fmt: skip
            self.asked.append(tensor.detach().clone())
        self.made.append(decision)
        return decision.answer
