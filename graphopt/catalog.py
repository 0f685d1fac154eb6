"""Finding passes: by name through the entry point group `graphopt.passes`, or as objects."""

from collections.abc import Iterable
from importlib.metadata import EntryPoints, entry_points

from graphopt.authoring import Pass
from graphopt.errors import PassError

GROUP = "graphopt.passes"
LOSSLESS = (  # what `passes=None` runs, in this order
    "grad-mode-region",
    "redundant-view",
    "identity-operation",
    "known-result",
    "common-subexpression",
    "sum-product",
    "affine-fold",
    "dead-code",
    "derived-parameter",
    "faster-kernel",
)
BITWISE = tuple(name for name in LOSSLESS if name not in ("sum-product", "affine-fold", "faster-kernel"))
"""Those of them that change no bit of a result."""


def names() -> tuple[str, ...]:
    """The names of all installed passes."""
    return tuple(sorted(entry.name for entry in entry_points(group=GROUP)))


def load(name: str) -> Pass:
    """The pass of a name. Raises PassError where none is installed or it cannot be made."""
    return _loaded(name, entry_points(group=GROUP))


def _loaded(name: str, installed: EntryPoints) -> Pass:
    for entry in installed.select(name=name):
        try:
            made = entry.load()()
        except Exception as error:
            raise PassError(
                f"the pass {name} cannot be loaded: {type(error).__name__}: {error}", where=entry.value
            ) from error
        return _checked(made)
    raise PassError(f"no pass is named {name!r}", remedy=f"installed passes: {', '.join(names())}")


def choose(passes: Iterable[str | Pass] | None) -> tuple[Pass, ...]:
    """The passes to run: the lossless default for None, else as listed, by name or as objects."""
    if isinstance(passes, str):
        raise PassError("passes is a string", remedy=f"pass a list: passes=[{passes!r}]")
    chosen = LOSSLESS if passes is None else tuple(passes)
    installed = entry_points(group=GROUP)  # reads files
    return tuple(_loaded(one, installed) if isinstance(one, str) else _checked(one) for one in chosen)


def _checked(made: object) -> Pass:
    if not isinstance(made, Pass):
        raise PassError(f"{made!r} is no pass", remedy="a pass has `name`, `claim` and `run(draft)`")
    return made
