"""What a block becomes, where that takes less time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from graphopt.algebra.blocks import Block, Change, Spelled, change
from graphopt.algebra.generality import general
from graphopt.algebra.layout import AS_WRITTEN, laid_freely
from graphopt.algebra.polynomial import NoPolynomial
from graphopt.algebra.regions import Region
from graphopt.algebra.rewriting import Evaluation, Rewritten, Work, evaluation, rewritten, seconds_of
from graphopt.algebra.showing import NotEmitted
from graphopt.analysis.instances import Instances, NotGeneral
from graphopt.draft import Draft
from graphopt.ir.graph import Node, Value

WORTH = 0.8
"""What another evaluation may take of the time at most."""
LEAST = 5e-6
EVEN = 0.98
"""What one of several regions that are judged together may take of its own."""
TIE = 2.0
"""How far apart the prices of two ways may be that are timed, where ties are settled so."""


@dataclass(frozen=True)
class Better:
    """A block, what takes the place of its nodes, and seconds before and after."""

    block: Block
    made: tuple[Rewritten, ...]
    change: Change
    before: float
    after: float

    @property
    def gain(self) -> float:
        """Seconds."""
        return self.before - self.after

    @property
    def names(self) -> frozenset[str]:
        """Those of the nodes that it is about."""
        return frozenset(node.name for node in (*self.block.nodes, *self.change.again))

    def general(self, other: "Better", apart: Instances, draft: Draft) -> "Better":
        """For all sizes, of what this is in one instance, and another in the other. Raises NotGeneral."""
        if len(self.made) != len(other.made):
            raise NotGeneral
        made = zip(self.made, other.made, strict=True)
        return replace(
            self,
            change=general(self.change, other.change, apart, draft),
            made=tuple(replace(a, statement=apart.said(a.statement, b.statement)) for a, b in made),
        )

    def gone(self, whole: Spelled) -> list[Node]:
        """The nodes that need not run any more as they do, in order, and what only shows them something."""
        shown = {node.name for region in self.block.regions for node in region.shown}
        shown |= {node.name for node in (*self.change.removed, *self.change.again)}
        return [node for node in whole.given.graph.nodes if node.name in shown]

    @property
    def added(self) -> list[Node]:
        """The new nodes, in order."""
        return [node for place in self.change.places for node in place.added]


def better_way(
    block: Block, whole: Spelled, fixed: Callable[[Value], bool], work: Work, least: float = 0.0
) -> Better | None:
    """A better way for a block, by more than `least` seconds; None where none is found."""
    ways = [*filter(None, (_evaluated(one, block, whole, fixed, work, least) for one in block.regions))]
    made = tuple(one for _, roots in ways for one in roots)
    if not made:
        return None
    found = change(block, whole, made)
    if not found.places:
        return None
    before = seconds_of(found.removed, whole.draft, fixed)
    after = seconds_of([node for place in found.places for node in place.added], whole.draft, fixed)
    after -= seconds_of(found.again, whole.draft, fixed)
    better = Better(block, made, found, before, after)
    close = before / TIE < after <= TIE * before and after != before
    # What is run again is in no form.
    if close and not found.again:
        place = tuple(one.place for one, _ in ways), tuple(node.op for node in found.removed)
        better = _timed(better, place, whole, fixed)
    return better if better.after <= _most(before, least) else None


def _most(before: float, least: float) -> float:
    return min(WORTH * before, before - LEAST, before - 1.01 * least)


def _timed(better: Better, place: object, whole: Spelled, fixed: Callable[[Value], bool]) -> Better:
    """With the seconds after as timing says, once for all blocks of one `place`: or else as priced."""
    race, known = whole.draft.costs.race, whole.draft.costs.known
    place = "raced", place
    if race is not None and place not in known:
        known[place] = race(run_by_calls(better.gone(whole), fixed), run_by_calls(better.added, fixed))
    timed: float | None = known.get(place)
    return better if timed is None else replace(better, after=better.before / timed)


def _evaluated(
    region: Region,
    block: Block,
    whole: Spelled,
    fixed: Callable[[Value], bool],
    work: Work,
    least: float,
) -> tuple[Evaluation, tuple[Rewritten, ...]] | None:
    """A region's roots in another way; None where none is found that takes less of its time. Where operators
    are spelled out, whatever a region gains may count: it is the block that has to gain enough."""
    draft = whole.draft
    before = seconds_of((*region.shown, *region.nodes), draft, fixed)
    if before < LEAST:
        return None
    most = max(WORTH, EVEN) * before if block.sites else _most(before, least)
    if draft.costs.race is not None:
        most = TIE * before
    if most <= 0:
        return None
    free = AS_WRITTEN if block.sites else laid_freely(region, draft)
    found = evaluation(region, draft, fixed, work, most, free)
    if found is None or draft.costs.known.get(found.place, 0.0) > most:
        return None  # or none as one of this form, seen before
    last = whole.standing(region.needed[-1])
    try:
        made = rewritten(found, draft)
    except (NotEmitted, NoPolynomial):
        whole.given.miss(last, "no operators are known that say it otherwise")
        return None
    after = seconds_of([node for one in made if not one.is_again for node in one.nodes], draft, fixed)
    draft.costs.known[found.place] = after
    if after > most:
        return None
    if not all(one.certificate.holds for one in made):
        whole.given.miss(last, "the rewritten form is not the same polynomial")
        return None
    return found, made


def run_by_calls(nodes: Sequence[Node], fixed: Callable[[Value], bool]) -> list[Node]:
    """The nodes that calls run: the others depend on what calls do not change."""
    made: set[str] = set()
    for node in nodes:
        if node.operands and all(value.name in made or fixed(value) for value in node.operands):
            made.update(value.name for value in node.results)
    return [node for node in nodes if not {value.name for value in node.results} <= made]
