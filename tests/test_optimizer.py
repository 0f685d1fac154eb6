"""Verification: guilty steps are found by bisection and rolled back, and what was not checked is said."""

import json
import time

import pytest
import torch
from torch import nn

import graphopt
from graphopt.authoring import Claim, Draft, Lit, Node, Value
from graphopt.capture import as_module, capture
from graphopt.optimizer import rewrite
from graphopt.verify.verifier import Budget, Verifier, first_bad

X = torch.randn(4, 4)


class Exchange:
    """Exchanges operators for others, each in a step of its own."""

    name, claim = "exchange", Claim.BITWISE

    def __init__(self, exchanges: dict[str, str]) -> None:
        self._exchanges = exchanges

    def run(self, draft: Draft) -> None:
        """Visits the nodes in order."""
        for node in draft.graph.nodes:
            if node.op in self._exchanges:
                made = draft.node(self._exchanges[node.op], node.args, node.results[0].type, like=node)
                draft.replace(node, made.results, f"{made.op} for {node.op}", added=[made])


def program(x: torch.Tensor) -> torch.Tensor:
    return x.sin().absolute() + 2 * x.cos().absolute() + x.tan().absolute()


HARMLESS = {"aten.absolute.default": "aten.abs.default"}
WRONG = {"aten.cos.default": "aten.sin.default"}


def test_the_guilty_step_alone_is_rolled_back() -> None:
    opt = graphopt.optimize(program, (X,), passes=[Exchange(HARMLESS | WRONG)], measure=False)
    report = opt.report
    assert report.equivalent and report.accepted
    assert [one.step.why for one in report.rolled_back] == ["aten.sin.default for aten.cos.default"]
    assert (
        "rolled back, for it changed the result: output: 16 of 16 elements differ"
        in report.rolled_back[0].reason
    )
    assert [step.why for step in report.steps] == ["aten.abs.default for aten.absolute.default"] * 3
    assert torch.equal(opt(X), program(X))
    missed = [m.why_not for m in report.missed]
    assert missed == [report.rolled_back[0].reason]
    assert "rolled back" in str(report) and '"rolled_back": [' in report.to_json()


def test_several_guilty_steps_are_rolled_back_one_by_one() -> None:
    wrong = WRONG | {"aten.tan.default": "aten.neg.default", "aten.sin.default": "aten.exp.default"}
    report = graphopt.optimize(program, (X,), passes=[Exchange(HARMLESS | wrong)], measure=False).report
    assert report.accepted and len(report.rolled_back) == 3 and len(report.steps) == 3


def test_unverified_nothing_is_rolled_back() -> None:
    opt = graphopt.optimize(program, (X,), passes=[Exchange(WRONG)], verify=False)
    assert opt.report.equivalent is None and not opt.report.rolled_back
    assert not torch.equal(opt(X), program(X))


def test_a_pass_that_never_settles_is_named() -> None:
    restless = Exchange(HARMLESS | {new: old for old, new in HARMLESS.items()})
    opt = graphopt.optimize(program, (X,), passes=[restless, "dead-code"], measure=False)
    note = "the pass exchange did not settle in 8 rounds"
    assert opt.report.notes == (note,) and opt.report.accepted
    assert f"note: {note}" in str(opt.report) and f"note: {note}" in opt.report.findings()
    assert json.loads(opt.report.to_json())["notes"] == [note]
    assert torch.equal(opt(X), program(X))


class Slips(Exchange):
    """Comes back under another name each time: denied sites do not stop it."""

    def run(self, draft: Draft) -> None:
        """Visits the nodes in order."""
        draft.begin(f"slips-{time.monotonic_ns()}", self.claim, "slips")
        super().run(draft)


def test_a_program_that_cannot_be_mended_runs_the_original() -> None:
    opt = graphopt.optimize(program, (X,), passes=[Slips(WRONG)], measure=False)
    assert opt.report.equivalent is False and not opt.report.accepted
    assert "elements differ" in opt.report.difference and "NO" in str(opt.report)
    assert torch.equal(opt(X), program(X))


def test_a_program_captured_at_the_first_call_that_cannot_be_mended_runs_the_original() -> None:
    opt = graphopt.optimize(program, passes=[Slips(WRONG)], measure=False)
    assert torch.equal(opt(X), program(X))
    assert not opt.report.accepted
    steps = opt.report.steps
    assert torch.equal(opt(X + 1), program(X + 1)) and opt.report.steps is steps  # not captured again


def test_a_variant_that_cannot_be_mended_is_not_used() -> None:
    class OnlyLarge(Slips):
        def run(self, draft: Draft) -> None:
            if draft.graph.inputs[0].value.type == large:
                super().run(draft)

    y = torch.randn(8, 4)
    large = graphopt.optimize(program, (y,), passes=[], measure=False).graph.inputs[0].value.type
    opt = graphopt.optimize(program, (X,), passes=[OnlyLarge(WRONG)], on_guard="recapture", measure=False)
    assert opt.report.accepted
    for x in (y, X, y):
        assert torch.equal(opt(x), program(x))
    assert not opt.report.accepted


def test_a_step_that_changes_gradients_alone_is_rolled_back() -> None:
    """relu(x) = max(x, 0); at 0 the gradients are 0 and 1."""

    class Clamps(Exchange):
        def run(self, draft: Draft) -> None:
            for node in draft.graph.nodes:
                if node.op == "aten.relu.default":
                    args = (node.args[0], Lit(0))
                    made = draft.node("aten.clamp_min.default", args, node.results[0].type, like=node)
                    draft.replace(node, made.results, "max(x, 0) for relu(x)", added=[made])

    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    report = graphopt.optimize(lambda x: x.relu() * 2, (x,), passes=[Clamps({})], measure=False).report
    assert [one.reason.split(":")[0] for one in report.rolled_back] == [
        "rolled back, for it changed the gradients"
    ]
    assert report.equivalent and not report.steps


@pytest.mark.parametrize("gradients", [False, True])
def test_a_wrong_step_of_one_of_the_two_graphs_is_rolled_back(gradients: bool) -> None:
    """Gradients are on, and only an argument can require one: which graph serves depends on the call."""

    class InOne(Exchange):
        def run(self, draft: Draft) -> None:
            if draft.gradients == gradients:
                super().run(draft)

    for x in (X, X.clone().requires_grad_(gradients)):
        model = as_module(lambda x: x.sin() + 2 * x.cos())
        report = graphopt.optimize(model, (x,), passes=[InOne(WRONG)], measure=False).report
        assert report.equivalent
    assert len(report.rolled_back) == 1


def test_what_only_other_values_show_is_found() -> None:
    positive = torch.rand(4, 4) + 1

    class OnlyPositive(Exchange):
        """|x| is x on the example inputs, and x - 1.25 > 0 is not on others."""

    opt = graphopt.optimize(
        lambda x: (x - 1).absolute(),
        (positive,),
        passes=[OnlyPositive({"aten.absolute.default": "aten.positive.default"})],
        measure=False,
    )
    assert len(opt.report.rolled_back) == 1 and opt.report.equivalent


def test_what_only_infinities_show_is_found() -> None:
    class Subtracts(Exchange):
        def run(self, draft: Draft) -> None:
            for node in draft.graph.nodes:
                if node.op == "aten.zeros_like.default":
                    made = draft.node(
                        "aten.sub.Tensor", (node.args[0], node.args[0]), node.results[0].type, like=node
                    )
                    draft.replace(node, made.results, "x - x for 0", added=[made])

    report = graphopt.optimize(
        lambda x: torch.zeros_like(x) * 2, (X,), passes=[Subtracts({})], measure=False
    ).report
    assert len(report.rolled_back) == 1
    assert "NaN" in report.rolled_back[0].reason or "nan" in report.rolled_back[0].reason


def _scaled(draft: Draft, node: Node, factor: float) -> None:
    """x·(factor·w) for x·w, as (x·w)·factor would be."""
    value = node.args[0]
    assert isinstance(value, Value)
    made = draft.node("aten.mul.Tensor", (value, Lit(factor)), node.results[0].type, like=node)
    draft.replace(node, made.results, f"times {factor}", added=[made])


class Reciprocal:
    """x / 3 → x · (1/3), right up to rounding; or x · 0.3333, which is wrong."""

    name, claim = "reciprocal", Claim.ROUNDING

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def run(self, draft: Draft) -> None:
        """Visits the divisions."""
        for node in draft.graph.nodes:
            if node.op == "aten.div.Tensor" and node.args[1] == Lit(3):
                _scaled(draft, node, self._factor)


def test_a_step_that_rounds_otherwise_is_judged_by_its_error() -> None:
    x = torch.randn(300)
    report = graphopt.optimize(lambda x: x / 3, (x,), passes=[Reciprocal(1 / 3)], measure=False).report
    assert report.equivalent and len(report.steps) == 1
    assert sum("; errors against float64 within 2 ×" in line for line in report.evidence) == len(
        report.evidence
    )
    wrong = graphopt.optimize(lambda x: x / 3, (x,), passes=[Reciprocal(0.33333)], measure=False).report
    assert len(wrong.rolled_back) == 1 and "error against float64" in wrong.rolled_back[0].reason


def test_gradients_that_round_otherwise_are_judged_by_their_error() -> None:
    x = torch.randn(300, requires_grad=True)
    report = graphopt.optimize(lambda x: x / 3, (x,), passes=[Reciprocal(1 / 3)], measure=False).report
    assert report.equivalent and len(report.steps) == 1
    (line,) = [line for line in report.evidence if line.startswith("gradients: ")]
    assert "gradients' errors against float64 within 2 ×" in line


class Detaches:
    """x·x → x·detach(x): the same bits, and half of the gradient."""

    name, claim = "detaches", Claim.ROUNDING

    def run(self, draft: Draft) -> None:
        """Visits the squares."""
        for node in draft.graph.nodes:
            if node.op == "aten.mul.Tensor" and node.args[0] == node.args[1]:
                kind = node.results[0].type
                half = draft.node("aten.detach.default", node.args[:1], kind, like=node)
                made = draft.node(node.op, (node.args[0], half.results[0]), kind, like=node)
                draft.replace(node, made.results, "half is enough", added=[half, made])


def test_a_step_that_rounds_otherwise_and_gives_another_gradient_is_rolled_back() -> None:
    def squared(x: torch.Tensor) -> torch.Tensor:
        return x * x / 3

    x = torch.randn(300, requires_grad=True)
    opt = graphopt.optimize(squared, (x,), passes=[Reciprocal(1 / 3), Detaches()], measure=False)
    (guilty,) = opt.report.rolled_back
    assert guilty.step.pass_name == "detaches"
    assert "changed the gradients: the gradient of %x has" in guilty.reason
    assert opt.report.equivalent and [step.pass_name for step in opt.report.steps] == ["reciprocal"]
    opt(x).sum().backward()
    assert x.grad is not None and torch.allclose(x.grad, 2 * x / 3)


def test_errors_that_there_is_no_memory_to_judge_are_named() -> None:
    """A graph of 40 results of 240 kB each, all kept for the gradients in float64."""

    def long(x: torch.Tensor) -> torch.Tensor:
        for _ in range(20):
            x = (x / 3).sin()
        return x

    x = torch.randn(30_000, requires_grad=True)
    program = capture(as_module(long), (x,), {})
    verifier = Verifier(as_module(long), (x,), {}, 0, Budget(bytes=2_000_000), program.graph)
    made = rewrite(program, [Reciprocal(1 / 3)], verifier, {})
    left_out = "gradients: gradients' errors against float64: it takes about 0.0 GB, and 0.0 GB are free"
    assert left_out in made.verification.unchecked
    assert made.verification.equivalent and len(made.steps) == 20


def test_what_claims_to_be_bitwise_and_rounds_otherwise_is_rolled_back() -> None:
    honest = Reciprocal(1 / 3)
    honest.claim = Claim.BITWISE
    report = graphopt.optimize(lambda x: x / 3, (torch.randn(300),), passes=[honest], measure=False).report
    assert len(report.rolled_back) == 1


def test_the_evidence_names_every_check_and_what_was_not_checked() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    report = graphopt.optimize(model, (X,), measure=False).report
    assert [line.split(":")[0] for line in report.evidence] == [
        "example inputs", "gradients", "example inputs without gradients",
        "other values", "other signs", "infinities and NaNs",
    ]  # fmt: skip
    embedding = graphopt.optimize(nn.Embedding(5, 3), (torch.tensor([1, 2]),), measure=False).report
    assert embedding.unchecked == (
        "other sizes: all are fixed, and calls of other sizes run the original",
        "other values of args[0]: both ends of what is sorted stay",
    )


def test_symbolic_sizes_are_varied() -> None:
    def summed(x: torch.Tensor) -> torch.Tensor:
        return (x.sin() + x.sin()).sum(0)

    report = graphopt.optimize(
        summed, (torch.randn(4, 3),), dynamic_shapes={"x": {0: torch.export.Dim("n")}}, measure=False
    ).report
    assert any(line.startswith("inputs larger: outputs") for line in report.evidence)
    assert [line.split(":")[0] for line in report.unchecked] == ["inputs empty", "inputs of size 1"]


def test_what_only_another_size_shows_is_found() -> None:
    """The mean of four rows is their sum by four."""

    class Quarters(Exchange):
        def run(self, draft: Draft) -> None:
            for node in draft.graph.nodes:
                if node.op == "aten.mean.dim":
                    made = draft.node("aten.sum.dim_IntList", node.args, node.results[0].type, like=node)
                    args = (made.results[0], Lit(0.25))
                    quarter = draft.node("aten.mul.Tensor", args, node.results[0].type, like=node)
                    draft.replace(node, quarter.results, "sum / 4 for the mean", added=[made, quarter])

    rows = {"x": {0: torch.export.Dim("n")}}
    x = torch.arange(12.0).view(4, 3)
    report = graphopt.optimize(
        lambda x: x.mean(0), (x,), passes=[Quarters({})], dynamic_shapes=rows, measure=False
    ).report
    assert len(report.rolled_back) == 1
    fixed = graphopt.optimize(lambda x: x.mean(0), (x,), passes=[Quarters({})], measure=False).report
    assert not fixed.rolled_back and fixed.equivalent


def test_checks_beyond_the_time_budget_are_named() -> None:
    report = graphopt.optimize(program, (X,), time_budget_s=0.0, measure=False).report
    assert report.equivalent is None and report.accepted
    assert report.unchecked[0] == "example inputs: the time budget is spent"
    assert len(report.unchecked) >= 4


def test_checks_beyond_the_memory_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.verify.verifier._available_memory", lambda: 100)
    report = graphopt.optimize(nn.Linear(4, 4), (X,), measure=False).report
    assert report.equivalent is None and "GB are free" in report.unchecked[0]


def test_a_small_program_is_optimised_with_all_checks_in_a_second() -> None:
    def small(x: torch.Tensor) -> torch.Tensor:
        for _ in range(6):
            x = (x @ x).softmax(-1) + x.t().t() * 1
        return x

    graphopt.optimize(small, (X,), measure=False)  # torch.export imports on first use
    started = time.perf_counter()
    report = graphopt.optimize(small, (X,), measure=False).report
    assert report.before.nodes >= 18 and report.equivalent
    assert time.perf_counter() - started < 1.0


def test_verification_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model(X).sum().backward()
    before = {name: (p, p.grad, p.grad.clone()) for name, p in model.named_parameters() if p.grad is not None}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    state = torch.get_rng_state()
    graphopt.optimize(model, (X,), measure=False)
    for name, (parameter, gradient, contents) in before.items():
        now = dict(model.named_parameters())[name]
        assert now is parameter and now.grad is gradient and torch.equal(gradient, contents)
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("bad", range(9))
def test_bisection_finds_the_first_bad_step(bad: int) -> None:
    asked: list[int] = []

    def is_bad(count: int) -> bool:
        asked.append(count)
        return count >= bad

    assert first_bad(8, is_bad) == bad
    assert len(asked) <= 5
    assert first_bad(8, lambda count: False) is None


def test_a_language_model_on_the_meta_device_is_optimised_unchecked() -> None:
    """Its attention mask branches on values, which it has none of."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=100, use_cache=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config).eval()
        ids = torch.zeros((1, 8), dtype=torch.int64)
    report = graphopt.optimize(model, (), {"input_ids": ids, "use_cache": False}, measure=False).report
    assert report.equivalent is None and report.after.nodes < report.before.nodes
    assert any("meta device" in line for line in report.unchecked)


def test_what_only_other_integers_show_is_found() -> None:
    """i + i is i · i for 0 and 2."""
    squares = Exchange({"aten.add.Tensor": "aten.mul.Tensor"})
    i = torch.tensor([[0, 2, 2], [2, 0, 2]])
    report = graphopt.optimize(lambda i: (i + i).neg(), (i,), passes=[squares], measure=False).report
    assert len(report.rolled_back) == 1 and report.equivalent
    alike = graphopt.optimize(
        lambda i: (i + i).neg(), (torch.full((2, 3), 2),), passes=[squares], measure=False
    ).report
    assert not alike.rolled_back and "other values of args[0]: all elements are alike" in alike.unchecked


def test_what_only_other_masks_show_is_found() -> None:
    """a & b is a where a is nowhere without b."""

    class First(Exchange):
        def run(self, draft: Draft) -> None:
            for node in draft.graph.nodes:
                if node.op == "aten.logical_and.default" and isinstance(node.args[0], Value):
                    draft.replace(node, [node.args[0]], "a is in b")

    a, b = torch.tensor([True, False, False, True] * 4), torch.tensor([True, True, False, True] * 4)
    report = graphopt.optimize(
        lambda a, b: a.logical_and(b).logical_not(), (a, b), passes=[First({})], measure=False
    ).report
    assert len(report.rolled_back) == 1 and report.equivalent


def test_where_the_original_raises_on_other_integers_those_of_the_example_are_taken() -> None:
    def program(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return torch.stack(torch.nn.utils.rnn.pack_padded_sequence(x, lengths)[:1]).absolute()

    lengths = torch.tensor([5, 4, 4, 3, 3, 2, 1])  # sorted downwards, or it raises
    args = torch.rand(5, 7, 2) + 1, lengths
    report = graphopt.optimize(program, args, measure=False).report
    said = [line for line in report.unchecked if "of integers and booleans: the original raises" in line]
    assert [line.split(" of ")[0] for line in said] == ["other values", "other signs"]
    assert report.equivalent and any(line.startswith("other values: outputs") for line in report.evidence)
    wrong = Exchange({"aten.absolute.default": "aten.positive.default"})  # for the signs of the example
    report = graphopt.optimize(program, args, passes=[wrong], measure=False).report
    assert len(report.rolled_back) == 1


def test_where_other_integers_take_another_branch_those_of_the_example_are_taken() -> None:
    def program(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x * 2 if mask.sum() == 6 else x.sin()

    args = torch.randn(4), torch.tensor([[3, 0], [1, 2]])
    report = graphopt.optimize(program, args, measure=False).report
    assert any(line.startswith("other values of integers and booleans:") for line in report.unchecked)
    assert any(line.startswith("other values: outputs") for line in report.evidence)


def test_decompositions_are_not_fed_what_crashes_them_and_that_is_said() -> None:
    opt = graphopt.optimize(lambda x: torch.linalg.eigvals(x * 1).abs(), (torch.randn(4, 4),), measure=False)
    assert opt.report.equivalent
    assert not any(line.startswith("infinities and NaNs") for line in opt.report.evidence)
    assert "infinities and NaNs: what decomposes matrices may crash on them" in opt.report.unchecked
