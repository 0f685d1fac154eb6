"""The table of what operators look at is what execution bears out."""

from pathlib import Path

import torch

from bench.operators.locality import confirmed, each, rows
from graphopt.ir import locality
from graphopt.ir.locality import Reach, locality_of
from graphopt.ir.resolve import resolve


def test_the_table_is_what_execution_bears_out() -> None:
    lines = Path(locality.__file__).with_name("locality.tsv").read_text().splitlines(keepends=True)
    known = {line.split("\t")[0]: line for line in lines if not line.startswith("#")}
    found = {line.split("\t")[0]: line for line in confirmed()}
    assert known == found


def test_functions_are_known_by_their_reach() -> None:
    for name in ("gelu.default", "tanh.default", "where.self", "masked_fill.Scalar"):
        assert (found := locality_of(f"aten.{name}")) is not None and found.reach is Reach.EACH
    for name in ("softmax.int", "log_softmax.int", "layer_norm.default", "rms_norm.default", "amax.default"):
        assert (found := locality_of(f"aten.{name}")) is not None and found.reach is Reach.ROWS


def test_what_looks_elsewhere_is_not_taken_for_element_by_element() -> None:
    generator = torch.Generator().manual_seed(0)
    for name in ("aten.cumsum.default", "aten.softmax.int", "aten.flip.default", "aten.roll.default"):
        assert each(resolve(name), generator) is None, name


def test_what_looks_across_rows_is_not_taken_for_row_by_row() -> None:
    generator = torch.Generator().manual_seed(0)
    for name in ("aten.renorm.default", "aten.index_fill.int_Scalar", "aten.roll.default"):
        assert rows(resolve(name), "dim", generator) is None, name
