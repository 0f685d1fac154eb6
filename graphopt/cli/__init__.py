"""The command line. Exit codes: 0 ok, 1 not equivalent, 2 usage, 3 cannot capture."""

from graphopt.cli.commands import main

__all__ = ["main"]
