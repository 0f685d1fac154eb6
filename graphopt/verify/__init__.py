"""Checks that a rewritten program is the same program: what a caller observes of a call, and how
two calls differ.
"""

from graphopt.verify.copying import copy_arguments
from graphopt.verify.difference import difference
from graphopt.verify.observation import Observation, observe

__all__ = ["Observation", "copy_arguments", "difference", "observe"]
