"""Running passes over a graph in order, until a round changes nothing."""

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphopt.analysis.costs import Costs
from graphopt.authoring import Pass
from graphopt.draft import Draft
from graphopt.errors import Error, PassError
from graphopt.ir.graph import Graph
from graphopt.steps import Missed, Site, Step

MAX_ROUNDS = 8  # a backstop: each round removes nodes, so a fix-point comes long before


@dataclass(frozen=True)
class Outcome:
    """The graph after the passes, the steps that led to it, the near misses of the last round, and which
    passes did not come to an end."""

    graph: Graph
    steps: tuple[Step, ...]
    missed: tuple[Missed, ...]
    notes: tuple[str, ...] = ()


def run_passes(
    graph: Graph,
    passes: Sequence[Pass],
    gradients: bool = False,
    *,
    denied: Mapping[Site, str] | None = None,
    stop_after: int | None = None,
    progress: Callable[[str], None] | None = None,
    costs: Costs | None = None,
) -> Outcome:
    """Runs the passes in order, round after round, to the fix-point, or for MAX_ROUNDS.

    gradients: for a graph that gives the same gradients bit for bit.
    denied: sites to leave as they are, each with the reason that `missed` gives.
    stop_after: the number of steps after which nothing more is edited.
    progress: told what is running.
    costs: of nodes and values on the machine at hand; None: on the one that the package knows.

    Raises PassError, naming the pass, where one raises, leaves an invalid graph or makes it grow without
    end.
    """
    with _uncollected():
        draft = Draft(graph, gradients, denied=denied, limit=stop_after, costs=costs)
        restless = _rounds(passes, draft, stop_after, progress)
        notes = tuple(f"the pass {name} did not settle in {MAX_ROUNDS} rounds" for name in restless)
        found = Outcome(draft.graph, tuple(draft.steps), tuple(draft.missed), notes)
        del draft  # with all that was only known for the sake of the passes
    return found


def _rounds(
    passes: Sequence[Pass], draft: Draft, stop_after: int | None, progress: Callable[[str], None] | None
) -> list[str]:
    """Runs the passes to the fix-point; gives back the names of those that edited in the last round."""
    restless: list[str] = []
    for number in range(1, MAX_ROUNDS + 1 if passes else 1):
        before = len(draft.steps)
        draft.missed.clear()
        restless.clear()
        for one in passes:
            if progress is not None:
                progress(f"round {number}: {one.name}")
            taken = len(draft.steps)
            _run(one, draft)
            if len(draft.steps) > taken and one.name not in restless:
                restless.append(one.name)
        if len(draft.steps) == before or len(draft.steps) == stop_after:
            return []
    return restless


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for reference cycles: graphs have none, and it takes half of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _run(one: Pass, draft: Draft) -> None:
    draft.begin(one.name, one.claim, getattr(one, "finding", one.name))
    try:
        one.run(draft)
        draft.finish()
    except Exception as error:
        said, where = (error.what, error.where) if isinstance(error, Error) else (error, "")
        raise PassError(
            f"the pass {one.name} failed: {type(error).__name__}: {said}",
            remedy="leave it out of `passes`, or report it to its author",
            where=where,
        ) from error
