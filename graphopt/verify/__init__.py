"""Checks that a rewritten program is the same program: what a caller observes of a call, and how
two calls differ.
"""

from graphopt.verify.observation import Observation, copy_arguments, difference, observe

__all__ = ["Observation", "copy_arguments", "difference", "observe"]
