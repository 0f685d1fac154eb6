"""What is known of how long an evaluation takes, before one is searched."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch

from graphopt.algebra.bounds import least
from graphopt.algebra.fingerprint import Field
from graphopt.algebra.pieces import Pieces
from graphopt.algebra.polynomial import Polynomial, leaf, plus
from graphopt.algebra.pricing import Prices, prices_of
from graphopt.algebra.search import Search
from graphopt.analysis.costs import Costs
from graphopt.ir.graph import Value
from graphopt.ir.types import TensorType, contiguous_strides
from tests.algebra.test_certificate import product

N = 256
PRICES: Prices = prices_of(Costs(), 4)
CPU = torch.device("cpu")
NONE = frozenset[str]()


def matrix(name: str, rows: int = N, columns: int = N) -> Polynomial:
    kind = TensorType(
        torch.float32, (rows, columns), contiguous_strides((rows, columns)), torch.device("cpu")
    )
    return leaf(Value(name, kind), (rows, columns))


def chain(names: str, sizes: Sequence[int] = ()) -> Polynomial:
    """Matrices multiplied, the sizes between them, N where none are given."""
    every = sizes or [N] * (len(names) + 1)
    first, *others = (matrix(name, *pair) for name, pair in zip(names, pairwise(every), strict=True))
    for other in others:
        first = product(first, other)
    return first


def planned(*polynomials: Polynomial) -> list[float]:
    """What the plans that are found take together, after each."""
    search, costs, found = Search(Pieces(Field(3), NONE), PRICES), dict[bytes, float](), list[float]()
    for p in polynomials:
        costs = {**search.plan(p).costs, **costs}
        found.append(sum(costs.values()))
    return found


@pytest.mark.parametrize("sizes", [(N,) * 5, (N, 4 * N, 2, N, N), (1, N, N, N, 2 * N)])
def test_a_chain_takes_what_its_cheapest_order_does(sizes: tuple[int, ...]) -> None:
    p = chain("ABCD", sizes)
    assert least([p], NONE, PRICES) == pytest.approx(planned(p))


def test_what_several_need_is_counted_once() -> None:
    one, other = chain("AB"), chain("ABC")
    found = least([one, other], NONE, PRICES)
    assert found[1] < least([other], NONE, PRICES)[0]
    assert sum(found) == pytest.approx(planned(one, other)[-1])


@pytest.mark.parametrize(
    "polynomials",
    [
        [plus(chain("AB"), chain("AC"))],
        [plus(chain("AB"), chain("ABCD"))],
        [plus(chain("AB"), chain("CB")), plus(chain("ABD"), chain("CBD"))],
        [chain("ABAB")],
        [plus(chain("ABAB"), chain("AB"))],
        [chain("AB"), chain("CAB"), plus(chain("AB"), chain("CAB"))],
        [plus(plus(chain("AC"), chain("AD")), plus(chain("BC"), chain("BD")))],
    ],
)
def test_nothing_is_found_that_takes_less(polynomials: list[Polynomial]) -> None:
    assert sum(least(polynomials, NONE, PRICES)) <= 1.001 * planned(*polynomials)[-1]


def test_a_sum_takes_what_its_longest_term_does_though_a_shorter_one_is_of_its_leaves() -> None:
    (found,) = least([plus(matrix("A"), chain("ABC"))], NONE, PRICES)
    assert found == pytest.approx(least([chain("ABC")], NONE, PRICES)[0])


def test_what_calls_do_not_change_takes_its_memory_alone() -> None:
    (found,) = least([chain("AB")], frozenset("AB"), PRICES)
    assert 0 < found < least([chain("AB")], NONE, PRICES)[0]
