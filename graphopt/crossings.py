"""From which sizes on another graph takes less time: a graph is rewritten for sizes far from the example's,
too, and where that gives another one, both are kept.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from typing import TypeAlias

import sympy

from graphopt.analysis.costs import Costs
from graphopt.analysis.sizes import Sizes
from graphopt.analysis.stages import stages
from graphopt.ir.graph import Graph
from graphopt.ir.types import TensorType
from graphopt.profile import Profile

Numbers: TypeAlias = Mapping[sympy.Symbol, int]
FACTORS = 4, 16, 64
"""How many times as large, and as small, sizes are looked at."""
GAIN = 1.1
"""How many times as fast another graph is there at least."""
REGRET = 1.05
"""How many times as long as the other a graph may take where a condition chooses it."""
_STEPS = 24


@dataclass(frozen=True)
class Crossing:
    """Another graph takes less time where `condition` holds, as at `sizes`, next to where it begins to.
    `gain` is how many times as fast it is at `far` sizes, by the cost model."""

    condition: sympy.Basic
    sizes: Numbers
    far: Numbers
    gain: float


@dataclass(frozen=True)
class Range:
    """Which sizes a program takes: those for which all `constraints` hold."""

    constraints: Sequence[sympy.Basic]

    def has(self, sizes: Numbers) -> bool:
        """Whether it takes these."""
        return all(one.subs(sizes) == sympy.true for one in self.constraints)

    def beyond(self, sizes: Numbers, power: int) -> Iterator[dict[sympy.Symbol, int]]:
        """Sizes that are larger and larger than these (1); or smaller and smaller (-1)."""
        for factor in FACTORS:
            found = {symbol: max(2, round(size * factor**power)) for symbol, size in sizes.items()}
            if self.has(found):
                yield found


def numbers(sizes: Numbers) -> Sizes:
    """The same, for the cost model."""
    return Sizes({str(symbol): size for symbol, size in sizes.items()})


def call_seconds(graph: Graph, profile: Profile, sizes: Numbers) -> float:
    """What a call takes by the cost model; what is kept from call to call takes nothing."""
    costs = Costs(profile, numbers(sizes))
    return sum(map(costs.seconds, stages(graph).call.nodes))


def crossing(
    graph: Graph, other: Graph, near: Numbers, far: Numbers, taken: Range, profile: Profile
) -> Crossing | None:
    """Where `other`, which is for `far` sizes, takes less time than the graph for the `near` ones; None where
    it gains little, or no condition tells."""

    def gain(sizes: Numbers) -> float:
        before, after = (call_seconds(one, profile, sizes) for one in (graph, other))
        return before / after if after else 1.0

    gained = gain(far)
    if gained < GAIN or gain(near) > 1:
        return None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if gain(_between(near, far, middle)) > 1 else (middle, high)
    turn = _between(near, far, high)
    differing = sorted(_differing(graph, other) & {one for one in near if near[one] != far[one]}, key=str)
    gains = [(sizes, gain(sizes)) for sizes in _grid(near, far, differing, taken)]
    conditions = (_condition(group, turn, near) for group in _groups(differing))
    condition = min(conditions, key=lambda one: _regret(one, gains), default=None)
    if condition is None or _regret(condition, gains) > REGRET:
        return None
    way = (_between(near, far, high + (1 - high) * step / _STEPS) for step in range(_STEPS + 1))
    sizes = next((one for one in way if taken.has(one) and condition.subs(one) == sympy.true), far)
    return Crossing(condition, sizes, far, gained)


def _between(near: Numbers, far: Numbers, share: float) -> dict[sympy.Symbol, int]:
    """Sizes on the way, in equal steps of their logarithms."""
    return {symbol: round(size * (far[symbol] / size) ** share) for symbol, size in near.items()}


def _differing(graph: Graph, other: Graph) -> frozenset[sympy.Symbol]:
    """The symbols in the sizes of what the graphs do not have in common."""
    nodes = {*stages(graph).call.nodes} ^ {*stages(other).call.nodes}
    kinds = (value.type for node in nodes for value in (*node.operands, *node.results))
    dims = (dim for kind in kinds if isinstance(kind, TensorType) for dim in kind.shape)
    return frozenset(symbol for dim in dims if not isinstance(dim, int) for symbol in dim.free_symbols)


def _groups(symbols: Sequence[sympy.Symbol]) -> Iterator[tuple[sympy.Symbol, ...]]:
    return chain.from_iterable(combinations(symbols, count) for count in range(1, len(symbols) + 1))


def _condition(symbols: Sequence[sympy.Symbol], turn: Numbers, near: Numbers) -> sympy.Basic:
    """That a product of sizes is beyond what it is at the turn."""
    there, here = (math.prod(sizes[symbol] for symbol in symbols) for sizes in (turn, near))
    return sympy.Ge(sympy.Mul(*symbols), there) if there > here else sympy.Le(sympy.Mul(*symbols), there)


def _grid(near: Numbers, far: Numbers, symbols: Sequence[sympy.Symbol], taken: Range) -> list[Numbers]:
    """Sizes around and between the two."""
    by_share = [_between(near, far, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    every = (
        {**near, **{symbol: sizes[symbol] for symbol, sizes in zip(symbols, choice, strict=True)}}
        for choice in product(by_share, repeat=len(symbols))
    )
    return [sizes for sizes in every if taken.has(sizes)]


def _regret(condition: sympy.Basic, gains: Sequence[tuple[Numbers, float]]) -> float:
    """How many times as long as the other the graph takes that a condition chooses, at worst."""
    chosen = ((condition.subs(sizes) == sympy.true, gain) for sizes, gain in gains)
    return max((1 / gain if other else gain for other, gain in chosen), default=1.0)
