"""Guards: what was assumed at capture, checked before each call of the emitted graph."""

from graphopt.guards.facts import (
    AttributeFact,
    Facts,
    ModeFact,
    NumberFact,
    SettledFact,
    StateFact,
    TensorFact,
)
from graphopt.guards.guard import Guard
from graphopt.guards.hooks import backward_hook, forward_hooks
from graphopt.guards.modes import MODES

__all__ = [
    "MODES",
    "AttributeFact",
    "Facts",
    "Guard",
    "ModeFact",
    "NumberFact",
    "SettledFact",
    "StateFact",
    "TensorFact",
    "backward_hook",
    "forward_hooks",
]
