"""graphopt: finds the work a PyTorch model does twice or for nothing, and removes it."""

from graphopt.api import Optimized, optimize
from graphopt.errors import Error, GuardError, NotEquivalent, PassError, Unsupported

__all__ = ["Error", "GuardError", "NotEquivalent", "Optimized", "PassError", "Unsupported", "optimize"]
