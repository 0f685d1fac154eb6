"""graphopt: finds the work a PyTorch model does twice or for nothing, and removes it."""

from graphopt.api import Optimized, optimize
from graphopt.catalog import BITWISE, LOSSLESS
from graphopt.errors import Error, GuardError, NotEquivalent, PassError, Unsupported

__all__ = [
    "BITWISE",
    "LOSSLESS",
    "Error",
    "GuardError",
    "NotEquivalent",
    "Optimized",
    "PassError",
    "Unsupported",
    "optimize",
]
