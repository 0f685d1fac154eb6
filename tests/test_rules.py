"""Rules: what a pattern fits, what is made, and what is refused with a reason."""

import pytest

from graphopt.authoring import Claim, Match, Rule, Rules
from graphopt.pipeline import Outcome
from graphopt.testing import check_pass

TEXT = """
graph {{
  %x: f32[4] = argument 0
  %y: f32[4] = argument 1
  {}
}}"""


def check(rule: Rule, before: str, after: str | None = None, gradients: bool = False) -> Outcome:
    rules = Rules("rules", [rule], Claim.BITWISE)
    made = None if after is None else TEXT.format(after)
    return check_pass(rules, TEXT.format(before), made, gradients=gradients)


NEGATED = Rule("aten.neg.default(aten.sub.Tensor(a, b))", "aten.sub.Tensor(b, a)")
SUB = "%s: f32[4] = aten.sub.Tensor(%x, %y)\n"
NEG = "%n: f32[4] = aten.neg.default(%s)\n"


def test_an_operator_on_variables_takes_the_place() -> None:
    """Of the sign of a zero difference nothing is said here: the inputs are random."""
    outcome = check(
        NEGATED, SUB + NEG + "return %n", SUB + "%n_1: f32[4] = aten.sub.Tensor(%y, %x)\nreturn %n_1"
    )
    assert outcome.steps[0].why == str(NEGATED)


def test_a_variable_is_one_operand_wherever_it_occurs() -> None:
    rule = Rule("aten.mul.Tensor(a, a)", "aten.square.default(a)")
    check(rule, "%m: f32[4] = aten.mul.Tensor(%x, %x)\nreturn %m",
          "%m_1: f32[4] = aten.square.default(%x)\nreturn %m_1")  # fmt: skip
    check(rule, "%m: f32[4] = aten.mul.Tensor(%x, %y)\nreturn %m")


@pytest.mark.parametrize("literal", ["1.0", "True", "2", "-1", "%y"])
def test_literals_fit_by_type_and_bits(literal: str) -> None:
    rule = Rule("aten.mul.Tensor(a, 1)", "aten.clone.default(a)")
    check(rule, f"%m: f32[4] = aten.mul.Tensor(%x, {literal})\nreturn %m")


def test_negative_literals_and_named_operands_fit() -> None:
    rule = Rule("aten.add.Tensor(a, b, alpha=-1)", "aten.sub.Tensor(a, b)")
    check(rule, "%m: f32[4] = aten.add.Tensor(%x, %y, alpha=-1)\nreturn %m",
          "%m_1: f32[4] = aten.sub.Tensor(%x, %y)\nreturn %m_1")  # fmt: skip
    check(rule, "%m: f32[4] = aten.add.Tensor(%x, %y, alpha=1)\nreturn %m")
    check(rule, "%m: f32[4] = aten.add.Tensor(%x, %y)\nreturn %m")


def refusal(outcome: Outcome) -> list[str]:
    return [missed.why_not for missed in outcome.missed]


def test_an_operand_written_in_between_is_refused() -> None:
    write = "%w: f32[4] = aten.add_.Tensor(%x, 1)\n"
    outcome = check(NEGATED, SUB + write + NEG + "return %n")
    assert refusal(outcome) == ["an operand may be written in between"]


def test_random_numbers_are_refused() -> None:
    rule = Rule("aten.neg.default(aten.rand_like.default(a))", "aten.rand_like.default(a)")
    outcome = check(rule, "%s: f32[4] = aten.rand_like.default(%x)\n" + NEG + "return %n")
    assert refusal(outcome) == ["has an effect"]


def test_what_may_share_memory_is_refused() -> None:
    rule = Rule("aten.neg.default(aten.sub.Tensor(a, b))", "aten.view.default(a, b)")
    assert refusal(check(rule, SUB + NEG + "return %n")) == ["may share memory with an operand"]


def test_another_type_is_refused() -> None:
    rule = Rule("aten.sum.default(a)", "a")
    outcome = check(rule, "%s: f32[] = aten.sum.default(%x)\nreturn %s")
    assert refusal(outcome) == ["a is of another type"]


def test_where_gradients_flow_it_stays() -> None:
    outcome = check(NEGATED, SUB + NEG + "return %n", gradients=True)
    assert refusal(outcome) == ["like %n, but gradients may flow through both"]


def test_the_callers_memory_stays_apart() -> None:
    rule = Rule("aten.clone.default(a)", "a")
    outcome = check(rule, "%c: f32[4] = aten.clone.default(%x)\nreturn %c")
    assert refusal(outcome) == ["like %x, but the caller gets both"]


def test_a_check_refuses_with_its_reason() -> None:
    def short(match: Match) -> str | None:
        return "too short" if match.type("a").shape == (4,) else None

    rule = Rule(NEGATED.pattern, NEGATED.rewrite, short)
    assert refusal(check(rule, SUB + NEG + "return %n")) == ["too short"]
