"""The table of laws is what execution bears out, and matches what it says and nothing else."""

from pathlib import Path

import pytest
import torch

from bench.operators.laws import confirmed
from graphopt.ir import laws
from graphopt.ir.laws import Form, holds, is_number, laws_of
from graphopt.ir.literal import Lit


def test_execution_bears_the_table_out() -> None:
    lines = Path(laws.__file__).with_name("laws.tsv").read_text().splitlines()
    assert sorted(confirmed()) == [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize(
    ("op", "form", "literal", "kind"),
    [
        ("aten.add.Tensor", Form.COPY, 0.0, "f"),  # −0 + 0 = +0
        ("aten.sub.Tensor", Form.COPY, -0.0, "f"),
        ("aten.mul.Tensor", Form.COPY, 1.0, "c"),  # (∞ + i)·(1 + 0i)
        ("aten.div.Tensor", Form.COPY, 1.0, "i"),  # makes floats
        ("aten.mul.Tensor", Form.COPY, 0.0, "f"),  # ∞ · 0
    ],
)
def test_what_is_nearly_a_law_is_none(op: str, form: Form, literal: float, kind: str) -> None:
    assert not any(
        kind in law.kinds and is_number(Lit(literal), dict(law.literals)["other"])
        for law in laws_of(op, form)
    )


def test_numbers_are_told_apart_by_the_sign_of_zero() -> None:
    assert is_number(Lit(0), 0.0) and is_number(Lit(1.0), 1) and is_number(Lit(True), 1)
    assert not is_number(Lit(-0.0), 0.0) and not is_number(Lit(0), -0.0)
    assert not is_number(Lit(1 + 0j), 1.0) and not is_number(Lit("1"), 1.0) and not is_number(Lit(None), 0.0)


ALL = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
       torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)  # fmt: skip


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize("target", ALL)
def test_a_type_that_holds_another_gives_every_value_back(source: torch.dtype, target: torch.dtype) -> None:
    from bench.operators.laws import _equal, _values

    if source.is_complex and not target.is_complex:
        assert not holds(source, target)
        return
    values = _values(source)
    survives = _equal(values.to(target).to(source), values)
    assert survives or not holds(source, target)
    if source.itemsize <= 2 and not target.is_complex:  # every value was tried
        assert holds(source, target) == survives
