"""The command line. Exit codes: 0 ok, 1 not equivalent, 2 usage, 3 cannot capture."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from graphopt.api import Optimized, optimize
from graphopt.catalog import LOSSLESS, names
from graphopt.errors import Error, PassError, Unsupported

NOT_EQUIVALENT, USAGE, CANNOT_CAPTURE = 1, 2, 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="graphopt")
def main() -> None:
    """Finds the work a PyTorch model does twice or for nothing, and removes it."""


@main.command("optimize")
@click.argument("model")
@click.option("-p", "--pass", "passes", multiple=True, help="Run this pass; repeat for several, in order.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the result as a .pt2 file.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--diff", "show_diff", is_flag=True, help="Print the difference of the two graphs.")
@click.option("--no-verify", is_flag=True, help="Do not compare with the original.")
def optimize_command(
    model: str,
    passes: tuple[str, ...],
    output: Path | None,
    as_json: bool,
    show_diff: bool,
    no_verify: bool,
) -> None:
    """Optimises MODEL and prints what was found.

    MODEL is "package.module:build", where build() returns a model, or (model, args), or
    (model, args, kwargs).
    """
    with _reporting():
        if output is not None:
            _check_place(output)
        built, args, kwargs = _build(model)
        optimized = optimize(built, args, kwargs, passes=passes or None, verify=not no_verify)
        if output is not None:
            optimized.save(output)
        _print(optimized, as_json, show_diff)
        if optimized.report.equivalent is False:
            sys.exit(NOT_EQUIVALENT)


@main.command("passes")
def passes_command() -> None:
    """Lists the installed passes; those run by default are marked."""
    with _reporting():
        for name in names():
            click.echo(f"{name} (default)" if name in LOSSLESS else name)


def _print(optimized: Optimized, as_json: bool, show_diff: bool) -> None:
    click.echo(optimized.report.to_json() if as_json else str(optimized.report))
    if show_diff:
        click.echo(optimized.diff, err=as_json)


class _reporting:
    """Turns graphopt's errors into one message on stderr and an exit code."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Error):
            return
        click.echo(f"graphopt: {error}", err=True)
        code = USAGE if isinstance(error, PassError | Usage) else NOT_EQUIVALENT
        sys.exit(CANNOT_CAPTURE if isinstance(error, Unsupported) else code)


class Usage(Error):
    """The command line names something that is not there."""


def _build(spec: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The model and the example call that "package.module:build" makes. Raises Usage."""
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise Usage(f"{spec!r} names no model", remedy='give "package.module:build"')
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
    model, args, kwargs = parts[0], parts[1] if len(parts) > 1 else (), parts[2] if len(parts) > 2 else {}
    if not isinstance(args, tuple | list) or not isinstance(kwargs, dict):
        raise Usage(f"{spec} returned args or kwargs of another kind", remedy=_RETURN)
    return model, tuple(args), kwargs


_RETURN = "return a model, a tuple of its arguments, and a dictionary of those by name"


def _said(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _check_place(output: Path) -> None:
    """Raises Usage where no file can be written, before any work is done."""
    if output.is_dir() or not os.access(output.absolute().parent, os.W_OK | os.X_OK):
        raise Usage(
            f"{str(output)!r} cannot be written",
            remedy="name a file in a folder that exists and can be written",
        )
