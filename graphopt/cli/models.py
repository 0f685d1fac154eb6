"""What the command line calls MODEL: "package.module:build", or a `.pt2` file."""

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.capture.archive import load_program
from graphopt.capture.sources import as_module
from graphopt.errors import Error

_RETURN = "return a model, a tuple of its arguments, and a dictionary of those by name"


class Usage(Error):
    """The command line names something that is not there."""


@dataclass(frozen=True)
class Example:
    """A model and one example call."""

    model: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def load(spec: str, trust: bool = False) -> Example:
    """The model of a name, with its example call. Raises Usage, and Unsupported for a file that is no
    sound `.pt2`."""
    if spec.endswith(".pt2"):
        if not Path(spec).is_file():
            raise Usage(f"{spec!r}: there is no such file", remedy="check the path")
        program = load_program(spec, trust=trust)
        if program.example_inputs is None:
            raise Usage(f"{spec} holds no example inputs", remedy="export it with them")
        args, kwargs = program.example_inputs
        return Example(program, tuple(args), dict(kwargs))
    return _built(spec)


def _built(spec: str) -> Example:
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise Usage(f"{spec!r} names no model", remedy='give "package.module:build" or a .pt2 file')
    sys.path.insert(0, "")
    try:
        build = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # a module may raise anything while it is imported
        raise Usage(
            f"{spec} cannot be imported: {_said(error)}", remedy="check the name and PYTHONPATH"
        ) from error
    try:
        built = build()
    except Error:
        raise
    except Exception as error:
        raise Usage(f"{spec} raises {_said(error)}", remedy="make it run without arguments") from error
    parts = built if isinstance(built, tuple) else (built,)
    if not 1 <= len(parts) <= 3:
        raise Usage(f"{spec} returned {len(parts)} things", remedy=_RETURN)
    model = parts[0]
    args = parts[1] if len(parts) > 1 else ()
    kwargs = parts[2] if len(parts) > 2 else {}
    if not isinstance(args, tuple | list) or not isinstance(kwargs, dict):
        raise Usage(f"{spec} returned args or kwargs of another kind", remedy=_RETURN)
    return Example(model, tuple(args), kwargs)


def _said(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_place(output: Path) -> None:
    """Raises Usage where no file can be written, before any work is done."""
    if output.is_dir() or not os.access(output.absolute().parent, os.W_OK | os.X_OK):
        raise Usage(
            f"{str(output)!r} cannot be written",
            remedy="name a file in a folder that exists and can be written",
        )


class Other:
    """Another model in the place of an optimised one, for comparison: it serves every call."""

    def __init__(self, model: Any) -> None:
        """Raises Unsupported where it is no model."""
        self.module = as_module(model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs it."""
        return self.module(*args, **kwargs)

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Never any."""
        return ""
