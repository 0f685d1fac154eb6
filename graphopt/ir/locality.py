"""Which elements of its operands an element of an operator's result depends on.

The table `locality.tsv` holds what was confirmed by execution, for all operators of one fresh tensor
(`python -m bench.operators.locality`). What is not in it may depend on everything.
"""

import enum
import importlib.resources
from dataclasses import dataclass
from functools import cache


class Reach(enum.Enum):
    """How far an element of the result looks."""

    EACH = "each"  # at the elements in its own place, operands broadcast
    ROWS = "rows"  # along some dimensions of its first operand, at its own place in the others


@dataclass(frozen=True, slots=True)
class Locality:
    """One operator's reach. `operands` name the tensors that are cut where the result is, `whole` those that
    are not. `along` names the parameter that says which dimensions ROWS run along: their numbers, or, as
    `normalized_shape`, the sizes of the last ones."""

    op: str
    reach: Reach
    operands: tuple[str, ...]
    whole: tuple[str, ...] = ()
    along: str = ""


@cache
def _table() -> dict[str, Locality]:
    text = importlib.resources.files("graphopt.ir").joinpath("locality.tsv").read_text()
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            op, reach, operands, whole, along = line.split("\t")
            names = tuple(filter(None, whole.split(",")))
            found[op] = Locality(op, Reach(reach), tuple(operands.split(",")), names, along)
    return found


def locality_of(op: str) -> Locality | None:
    """What is known of an operator; None where nothing is."""
    return _table().get(op)
