"""What holds for all sizes: the places that are told whatever a size is, and where sizes are read from."""

import pytest
import sympy
import torch

from graphopt.algebra.blocks import spelled
from graphopt.algebra.equality import Equal
from graphopt.algebra.forms import Readings
from graphopt.algebra.generality import _is_even, _place_of, particular
from graphopt.algebra.polynomial import Access, Factor, Index
from graphopt.analysis.instances import Instance, NotGeneral
from graphopt.draft import Draft
from graphopt.ir.graph import Value
from graphopt.ir.text import parse_graph
from graphopt.ir.types import TensorType

GRAPH = parse_graph("""graph {
  %k: int<s1> = argument 0
  %x: f32[2, 3, <s0>, 8] = argument 1
  %w: f32[4, 3, 3, 3] = argument 2
  %p: f32[8, <s1>] = argument 3
  %swept: f32[2, 4, <s0>, 8] = aten.conv2d.default(%x, %w, None, [1, 1], [1, 1])
  %sum: f32[2, 3, <s0>, 8] = aten.add.Tensor(%x, %x)
  %longer: int<s1 + 1> = operator.add(%k, 1)
  %ones: f32[<s1 + 1>] = aten.full.default([%longer], 1.0)
  %wide: f32[8, 3, <s1>] = aten.expand.default(%p, [8, 3, %k])
  %turned: f32[<s1>, 8]{1, <s1>} = aten.t.default(%p)
  %flipped: f32[8, <s1>] = aten.flip.default(%p, [1])
  return %swept, %sum, %ones, %turned, %flipped }""")
SYMBOLS = {str(symbol): symbol for symbol in GRAPH.symbols}
INSTANCE = Instance(GRAPH, {SYMBOLS["s0"]: 7, SYMBOLS["s1"]: 5})


def _factor(size: int, access: Access) -> Factor:
    kind = TensorType(torch.float32, (size,), (1,), torch.device("cpu"))
    return Factor(Value("a", kind), (access,))


I5, I6, I7, I4, I2, I3 = (Index(number, size) for number, size in enumerate((5, 6, 7, 4, 2, 3)))


@pytest.mark.parametrize(
    "size, access, even",
    [
        (7, Access(0, ((I7, 1),)), True),
        (7, Access(3), True),
        (14, Access(0, ((I7, 2), (I2, 1))), True),
        (14, Access(0, ((I7, 1), (I2, 1))), False),
        (7, Access(1, ((I6, 1),)), False),
        (7, Access(0, ((I6, 1),)), False),
        (7, Access(6, ((I7, -1),)), False),
        (7, Access(1, ((I7, 1),)), False),
        (7, Access(0, ((I4, 2),)), False),
        (8, Access(0, ((I7, 1),)), False),
        (8, Access(0, ((I6, 1),)), True),
        (8, Access(2, ((I3, 1),)), True),
    ],
)
def test_a_dimension_of_any_size_is_read_whole_or_at_one_place(size: int, access: Access, even: bool) -> None:
    assert _is_even(_factor(size, access), INSTANCE) == even


@pytest.mark.parametrize(
    "one, other, even", [(I4, I6, True), (I4, I5, False), (I7, I4, False), (I7, I5, False)]
)
def test_where_two_places_are_the_same_depends_on_their_sizes(one: Index, other: Index, even: bool) -> None:
    factor = _factor(1, Access(0))
    equal = Equal(factor.leaf, (Access(0, ((one, 1),)), Access(0, ((other, 1),))))
    assert _is_even(equal, INSTANCE) == even


def test_what_depends_on_how_large_a_size_is_is_particular() -> None:
    draft = Draft(INSTANCE.graph)
    found = particular(spelled(draft), INSTANCE, Readings())
    assert found == {"swept", "ones", "flipped"}


def test_a_size_is_read_from_the_first_input_that_has_it() -> None:
    assert _place_of(SYMBOLS["s0"], GRAPH) == (GRAPH.inputs[1].value, 2)
    assert _place_of(SYMBOLS["s1"], GRAPH) == GRAPH.inputs[0].value
    with pytest.raises(NotGeneral):
        _place_of(sympy.Symbol("s2"), GRAPH)
