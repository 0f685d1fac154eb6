"""Literals by type and bits."""

from graphopt.ir.literal import Lit


def test_literals_are_told_apart_by_type_and_bits() -> None:
    different = [Lit(v) for v in (1, 1.0, True, 0, 0.0, -0.0, False, -1, -2, 1 + 0j, "1", None)]
    assert len(set(different)) == len(different)
    assert all(a != b for i, a in enumerate(different) for b in different[:i])
    assert Lit(float("nan")) == Lit(-float("nan"))
    assert hash(Lit(-1)) != hash(Lit(-2))
