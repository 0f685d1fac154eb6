"""Short names for golden tests: a pass under test, fires and refuses."""

from collections.abc import Callable

from graphopt.authoring import Pass
from graphopt.pipeline import Outcome
from graphopt.testing import check_pass


def fires_and_refuses(one: Pass) -> tuple[Callable[..., Outcome], Callable[..., Outcome]]:
    """`fires(inputs, before, after)` and `refuses(inputs, body)`: the bodies of graphs in the IR's text,
    the lines of `inputs` apart."""

    def graph(inputs: str, body: str) -> str:
        lines = [line.strip() for line in (*inputs.split(";"), *body.strip().splitlines())]
        return "graph {\n" + "\n".join(f"  {line}" for line in lines if line) + "\n}"

    def fires(inputs: str, before: str, after: str, gradients: bool = False) -> Outcome:
        return check_pass(one, graph(inputs, before), graph(inputs, after), gradients=gradients)

    def refuses(inputs: str, body: str, why: str | None = None, gradients: bool = False) -> Outcome:
        outcome = check_pass(one, graph(inputs, body), gradients=gradients)
        if why is not None:
            assert [missed.why_not for missed in outcome.missed] == [why]
        return outcome

    return fires, refuses
