"""Running passes over a graph in order, until a round changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.authoring import Pass
from graphopt.draft import Draft, Missed, Step
from graphopt.errors import PassError
from graphopt.ir.graph import Graph

MAX_ROUNDS = 8  # a backstop: each round removes nodes, so a fix-point comes long before


@dataclass(frozen=True)
class Outcome:
    """The graph after the passes, the steps that led to it, and the near misses of the last round."""

    graph: Graph
    steps: tuple[Step, ...]
    missed: tuple[Missed, ...]


def run_passes(graph: Graph, passes: Sequence[Pass], gradients: bool = False) -> Outcome:
    """Runs the passes in order, round after round, to the fix-point; with `gradients`, for a graph that
    gives the same gradients bit for bit.

    Raises PassError, naming the pass, where one raises or leaves an invalid graph.
    """
    draft = Draft(graph, gradients)
    for _ in range(MAX_ROUNDS if passes else 0):
        before = len(draft.steps)
        draft.missed.clear()
        for one in passes:
            _run(one, draft)
        if len(draft.steps) == before:
            break
    return Outcome(draft.graph, tuple(draft.steps), tuple(draft.missed))


def _run(one: Pass, draft: Draft) -> None:
    draft.begin(one.name, one.claim)
    try:
        one.run(draft)
        draft.finish()
    except Exception as error:
        raise PassError(
            f"the pass {one.name} failed: {type(error).__name__}: {error}",
            remedy="leave it out of `passes`, or report it to its author",
        ) from error
