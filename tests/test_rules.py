"""Rules: what a pattern fits, what is made, and what is refused with a reason."""

import pytest

from graphopt.authoring import Claim, Lit, Match, Rule, Rules
from graphopt.errors import InvalidGraph
from graphopt.ir.text import parse_graph
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


ANYTHING = "%a: f32[4] = {}\nreturn %a"


@pytest.mark.parametrize(
    ("pattern", "body"),
    [
        (NEGATED.pattern, "%s: f32[4] = aten.mul.Tensor(%x, %y)\n" + NEG + "return %n"),
        (NEGATED.pattern, ANYTHING.format("aten.neg.default(%x)")),
        (NEGATED.pattern, ANYTHING.format("aten.neg.default(2)")),
        ("(a := aten.neg.default(b))", "n: () = aten._assert_async.default(%x)\nreturn %x"),
        ("aten.cumsum.default(a, 0)", ANYTHING.format("aten.cumsum.default(%x, 0, dtype=torch.float32)")),
        ("aten.clamp.default(a, 0.0)", ANYTHING.format("aten.clamp.default(%x, 0.0, 1.0)")),
        ("aten.clamp.default(a, 0.0, 1.0)", ANYTHING.format("aten.clamp.default(%x, 0.0)")),
        ("aten.clamp.default(a, **b)", ANYTHING.format("aten.clamp.default(%x)")),
        ("aten.neg.default(aten.chunk.default(a, 2))",
         "s: (%s: f32[2], %t: f32[2]) = aten.chunk.default(%x, 2)\n"
         "%n: f32[2] = aten.neg.default(%s)\nreturn %n"),
        ("aten.chunk.default(a, 2)",
         "s: (%s: f32[2], %t: f32[2]) = aten.chunk.default(%x, 2)\nreturn %s"),
    ],
)  # fmt: skip
def test_what_a_pattern_does_not_say_does_not_fit(pattern: str, body: str) -> None:
    assert refusal(check(Rule(pattern, "aten.cos.default(a)"), body)) == []


def test_keywords_are_written_as_they_are_read() -> None:
    rule = Rule("aten.sub.Tensor(a, b)", "aten.add.Tensor(a, b, alpha=-1)")
    check(rule, "%m: f32[4] = aten.sub.Tensor(%x, %y)\nreturn %m",
          "%m_1: f32[4] = aten.add.Tensor(%x, %y, alpha=-1)\nreturn %m_1")  # fmt: skip


def test_a_literal_takes_no_place() -> None:
    outcome = check(Rule("aten.mul.Tensor(a, b)", "b"), "%m: f32[4] = aten.mul.Tensor(%x, 2)\nreturn %m")
    assert refusal(outcome) == ["b is of another type"]


def test_only_a_tensor_has_its_type() -> None:
    graph = parse_graph(
        "graph { %x: f32[4] = argument 0 %n: int = argument 1 %s: f32[4] = mine.op.a(%x) return }"
    )
    tensor, number = (entry.value for entry in graph.inputs)
    match = Match(graph.nodes[0], bound={"x": tensor, "n": number, "one": Lit(1)})
    assert match.type("x") == tensor.type
    for other in ("n", "one", "unbound"):
        with pytest.raises(InvalidGraph, match=f"{other} stands for no tensor"):
            match.type(other)


def test_a_part_with_a_name_is_as_the_pattern_says() -> None:
    rule = Rule("aten.relu.default((a := aten.abs.default(x)))", "a")
    relu = "%r: f32[4] = aten.relu.default(%a)\n%c: f32[4] = aten.cos.default({})\nreturn %c"
    positive = "%a: f32[4] = aten.abs.default(%x)\n"
    check(rule, positive + relu.format("%r"), positive + "%c: f32[4] = aten.cos.default(%a)\nreturn %c")
    assert refusal(check(rule, "%a: f32[4] = aten.sin.default(%x)\n" + relu.format("%r"))) == []


CLONED = Rule("aten.clone.default(a)", "a")
COS = "%v: f32[4] = aten.cos.default(%x)\n"


def test_the_caller_does_not_get_one_memory_for_two_copies() -> None:
    outcome = check(
        CLONED,
        COS + "%c: f32[4] = aten.clone.default(%v)\n%d: f32[4] = aten.clone.default(%v)\nreturn %c, %d",
        COS + "%d: f32[4] = aten.clone.default(%v)\nreturn %v, %d",
    )
    assert refusal(outcome) == ["like %v, but the caller gets both"]


def test_the_caller_does_not_get_one_memory_for_a_copy_of_a_copy() -> None:
    outcome = check(
        CLONED,
        COS + "%c: f32[4] = aten.clone.default(%v)\n%d: f32[4] = aten.clone.default(%c)\nreturn %v, %d",
        COS + "%d: f32[4] = aten.clone.default(%v)\nreturn %v, %d",
    )
    assert refusal(outcome) == ["like %v, but the caller gets both"]


def test_of_what_was_just_made_nothing_is_known_before_the_next_round() -> None:
    rules = Rules("rules", [NEGATED, CLONED], Claim.BITWISE)
    body = SUB + NEG + "%c: f32[4] = aten.clone.default(%n)\nreturn %n, %c"
    after = (
        SUB + "%n_1: f32[4] = aten.sub.Tensor(%y, %x)\n%c: f32[4] = aten.clone.default(%n_1)\nreturn %n_1, %c"
    )
    outcome = check_pass(rules, TEXT.format(body), TEXT.format(after))
    assert refusal(outcome) == ["like %n_1, but the caller gets both"]
