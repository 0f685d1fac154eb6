"""The command line. Exit codes: 0 ok, 1 not equivalent, 2 usage, 3 cannot capture."""

import importlib
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
    except (ImportError, AttributeError) as error:
        raise Usage(f"{spec} cannot be imported: {error}", remedy="check the name and PYTHONPATH") from error
    built = build()
    parts = built if isinstance(built, tuple) else (built,)
    if not 1 <= len(parts) <= 3:
        raise Usage(f"{spec} returned {len(parts)} things", remedy="return model, args and kwargs")
    model, args, kwargs = (*parts, (), {})[:3] if len(parts) < 3 else parts
    return model, tuple(args), dict(kwargs)
