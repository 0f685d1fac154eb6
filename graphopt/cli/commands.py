"""The commands: what each prints, and the exit code it ends with."""

import inspect
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from graphopt.api import Optimized, optimize
from graphopt.calibrate import calibrate
from graphopt.catalog import LOSSLESS, load, names
from graphopt.cli.models import Example, Other, Usage, check_place
from graphopt.cli.models import load as load_model
from graphopt.diff import diff_text
from graphopt.errors import Error, PassError, Unsupported
from graphopt.judging import compare_models, compare_saved
from graphopt.profile import ProfileError, store
from graphopt.report import SCHEMA
from graphopt.verify.verifier import Budget, Verifier

NOT_EQUIVALENT, USAGE, CANNOT_CAPTURE = 1, 2, 3


class _Seconds(click.FloatRange):
    """Seconds from 0; a nan, which no range turns down, is none."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Raises BadParameter, which is a usage error."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="graphopt")
def main() -> None:
    """Finds the work a PyTorch model does twice or for nothing, and removes it.

    MODEL is "package.module:build", where build() returns a model, (model, args) or (model, args,
    kwargs); or a .pt2 file with example inputs. Reports go to stdout, progress to stderr.
    """


def _model_options(command: _Command) -> _Command:
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
        click.option(
            "--profile", type=click.Path(path_type=Path), help="How fast the machine is: see calibrate."
        ),
        click.option("--trust", is_flag=True, help="Load a .pt2 unchecked: it may execute code."),
        click.option("--time-budget", type=_Seconds(min=0), help="Seconds that verification may take."),
        click.option(
            "--seed",
            type=click.IntRange(-(2**63), 2**64 - 1),
            default=0,
            help="Of the random stream while verifying.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, with a schema version."),
        click.option("-p", "--pass", "passes", multiple=True, help="Run this pass; repeat for several."),
    ):
        command = option(command)
    return command


@main.command("optimize")
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the result as a .pt2 file.")
@click.option("--diff", "show_diff", is_flag=True, help="Print the difference of the two graphs, too.")
@click.option("--no-verify", is_flag=True, help="Do not compare with the original, nor time it.")
@click.option("--no-measure", is_flag=True, help="Do not time the result against the original.")
@_model_options
def optimize_command(
    model: str, output: Path | None, show_diff: bool, no_verify: bool, no_measure: bool, **options: Any
) -> None:
    """Optimises MODEL and prints what was found."""
    with _reporting():
        if output is not None:
            check_place(output)
        example = load_model(model, options["trust"])
        optimized = _optimized(example, not no_verify, measure=not no_measure, **options)
        if output is not None:
            optimized.save(output)
        _print(optimized.report.to_json() if options["as_json"] else str(optimized.report))
        if show_diff:
            click.echo(optimized.diff, err=options["as_json"])
        _exit_unless(optimized.report.equivalent is not False)


@main.command("diff")
@click.argument("model")
@click.argument("other", required=False)
@_model_options
def diff_command(model: str, other: str | None, **options: Any) -> None:
    """Prints the graphs of MODEL before and after as a unified diff; or those of MODEL and OTHER, both as
    they are."""
    with _reporting():
        example = load_model(model, options["trust"])
        if other is None:
            optimized = _optimized(example, False, **options)
            before, after = optimized.graph_before, optimized.graph
        else:
            plain = {**options, "passes": ()}
            before = _optimized(example, False, captured=True, **plain).graph
            after = _optimized(load_model(other, options["trust"]), False, captured=True, **plain).graph
        text = diff_text(before, after)
        _print(json.dumps({"schema": SCHEMA, "diff": text}) if options["as_json"] else text)


@main.command("explain")
@click.argument("model")
@_model_options
def explain_command(model: str, **options: Any) -> None:
    """Prints what is redundant in MODEL by source line, and near misses with their reasons."""
    with _reporting():
        report = _optimized(load_model(model, options["trust"]), False, **options).report
        _print(report.to_json() if options["as_json"] else "\n".join(report.findings()))


@main.command("verify")
@click.argument("model")
@click.argument("other", required=False)
@_model_options
def verify_command(model: str, other: str | None, **options: Any) -> None:
    """Compares MODEL with its optimised form, or with OTHER (a model or a .pt2 file), on MODEL's example
    inputs and variations of them: whether the two do the same, to the bit or with errors against float64
    that are not much larger than MODEL's own. A .pt2 file that holds derived values gives other gradients:
    it is compared without, and that is said."""
    with _reporting():
        example = load_model(model, options["trust"])
        if other is None:
            report = _optimized(example, True, **options).report
            _print(report.to_json() if options["as_json"] else "\n".join(report.proof()))
            _exit_unless(report.equivalent is not False and not report.rolled_back)
            return
        verifier = Verifier.of(example.model, example.args, example.kwargs, options["seed"], _budget(options))
        another = Other(load_model(other, options["trust"]).model)
        compare = compare_saved if other.endswith(".pt2") else compare_models
        found = compare(verifier, another, another.module)
        facts = {"equivalent": found.equivalent, "difference": found.difference,
                 "evidence": found.evidence, "unchecked": found.unchecked}  # fmt: skip
        if options["as_json"]:
            _print(json.dumps({"schema": SCHEMA, **facts}, indent=2))
        else:
            where = f"{found.failed.name}: " if found.failed else ""
            lines = [f"differs: {where}{found.difference}"] if found.difference else []
            _print(
                "\n".join([*lines, *found.evidence, *(f"not checked: {line}" for line in found.unchecked)])
            )
        _exit_unless(found.equivalent is not False)


@main.command("bisect")
@click.argument("model")
@_model_options
def bisect_command(model: str, **options: Any) -> None:
    """Finds the steps of the optimisation of MODEL that change its result; exits with 1 where there is
    one."""
    with _reporting():
        report = _optimized(load_model(model, options["trust"]), True, **options).report
        if options["as_json"]:
            _print(report.to_json())
        else:
            guilty = [
                f"step of {one.step.pass_name} at {one.step.site.node}: {one.step.why}\n    {one.reason}"
                for one in report.rolled_back
            ]
            _print("\n".join(guilty) or f"none of {len(report.steps)} steps changes the result")
        _exit_unless(not report.rolled_back and report.accepted)


@main.command("passes")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with a schema version.")
def passes_command(as_json: bool) -> None:
    """Lists the installed passes, what they promise and do; those run by default are marked."""
    with _reporting():
        rows = [
            {"name": one.name, "claim": one.claim.value, "default": one.name in LOSSLESS,
             "summary": inspect.cleandoc(type(one).__doc__ or "").split("\n\n")[0]}
            for one in map(load, names())
        ]  # fmt: skip
        if as_json:
            _print(json.dumps({"schema": SCHEMA, "passes": rows}, indent=2))
            return
        for row in rows:
            _print(f"{row['name']} ({row['claim']}{', default' if row['default'] else ''})")
            _print("\n".join(f"    {line}" for line in str(row["summary"]).splitlines()))


@main.command("calibrate")
@click.option("--threads", type=click.IntRange(1), help="That torch computes with; its own by default.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with a schema version.")
def calibrate_command(threads: int | None, quiet: bool, as_json: bool) -> None:
    """Measures this machine for the cost model, in some seconds, and keeps the profile for later runs."""
    with _reporting():
        profile = calibrate(
            threads, lambda text: None if quiet else click.echo(f"graphopt: {text}", err=True)
        )
        try:
            path = str(store(profile))
        except OSError as error:
            raise Usage(
                f"the profile cannot be kept: {error}", remedy="set XDG_CACHE_HOME to a folder to write to"
            ) from error
        if as_json:
            _print(json.dumps({"schema": SCHEMA, "path": path, "profile": json.loads(profile.to_json())}))
        else:
            _print("\n".join([*profile.summary(), path]))


def _optimized(
    example: Example,
    verify: bool,
    *,
    passes: tuple[str, ...],
    seed: int,
    time_budget: float | None,
    quiet: bool,
    profile: Path | None,
    measure: bool = False,
    captured: bool = False,
    **_: Any,
) -> Optimized:
    return optimize(
        example.model,
        example.args,
        example.kwargs,
        passes=[] if captured else passes or None,
        verify=verify,
        measure=measure,
        profile=profile,
        seed=seed,
        time_budget_s=time_budget,
        progress=_progress(quiet),
    )


def _progress(quiet: bool) -> Callable[[str], None]:
    return lambda text: None if quiet else click.echo(f"graphopt: {text}", err=True)


def _budget(options: dict[str, Any]) -> Budget:
    return Budget(options["time_budget"])


def _print(text: str) -> None:
    click.echo(text)


def _exit_unless(equivalent: bool) -> None:
    if not equivalent:
        sys.exit(NOT_EQUIVALENT)


class _reporting:
    """Turns graphopt's errors into one message on stderr and an exit code."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Error):
            return
        click.echo(f"graphopt: {error}", err=True)
        code = USAGE if isinstance(error, PassError | ProfileError | Usage) else NOT_EQUIVALENT
        sys.exit(CANNOT_CAPTURE if isinstance(error, Unsupported) else code)
