"""The front door: kinds of model, options, errors, report, diff."""

import functools
import json
from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from graphopt.authoring import Claim, Draft
from graphopt.catalog import choose

X = torch.randn(2, 4)


def twice(x: torch.Tensor) -> torch.Tensor:
    unused = x.tanh()  # noqa: F841
    return (x.sin() + 1) * (x.sin() + 1)


def test_every_kind_of_model_is_taken() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    program = torch.export.export(model, (X,))
    for kind in (
        model, lambda x: model(x), torch.fx.symbolic_trace(model), program, program.run_decompositions(),
        program.module(),
    ):  # fmt: skip
        opt = graphopt.optimize(kind, (X,), on_guard="error", measure=False)
        assert torch.allclose(opt(X), model(X), rtol=0, atol=1e-6)
        assert opt.report.equivalent


@pytest.mark.parametrize("function", [torch.softmax, functools.partial(torch.softmax, dim=-1), X.matmul])
def test_a_function_that_names_no_parameters_is_taken(function: Any) -> None:
    args, kwargs = ((X.t(),), {}) if function == X.matmul else ((X,), {"dim": -1})
    opt = graphopt.optimize(function, args, kwargs, on_guard="error", measure=False)
    assert opt.report.equivalent and torch.equal(opt(*args, **kwargs), function(*args, **kwargs))


def test_an_optimised_module_can_be_optimised_again_to_the_same_text() -> None:
    from graphopt.ir.text import print_graph

    once = graphopt.optimize(twice, (X,), measure=False)
    again = graphopt.optimize(once.module, (X,), measure=False)
    assert print_graph(again.graph) == print_graph(once.graph)


def test_without_example_inputs_the_first_call_captures() -> None:
    opt = graphopt.optimize(twice, measure=False)
    with pytest.raises(graphopt.Error, match="nothing has been captured"):
        _ = opt.report
    assert torch.equal(opt(X), twice(X))
    assert opt.report.equivalent
    assert graphopt.optimize(lambda: torch.ones(2), (), measure=False)().sum() == 2


def test_the_report_counts_and_explains() -> None:
    opt = graphopt.optimize(twice, (X,), measure=False)
    report = opt.report
    assert (report.before.nodes, report.after.nodes) == (6, 3)
    assert report.equivalent is True
    assert report.accepted
    assert [step.number for step in report.steps] == [1, 2, 3]
    assert report.after.bytes < report.before.bytes
    text = str(report)
    assert f"{__file__}:" in text
    assert "x.sin() + 1" in text
    data = json.loads(report.to_json())
    assert data["schema"] == 1
    assert data["before"]["nodes"] == 6
    assert {step["pass"] for step in data["steps"]} == {"common-subexpression", "dead-code"}
    assert data["steps"][0]["removed"][0]["origins"][0]["file"] == __file__


def test_the_diff_shows_what_went() -> None:
    diff = graphopt.optimize(twice, (X,), measure=False).diff
    gone = [line for line in diff.splitlines() if line.startswith("-  ")]
    assert len(gone) == 4  # sin, add, tanh, and the multiplication that now reads other operands
    assert graphopt.optimize(twice, (X,), passes=[], measure=False).diff == ""


def test_passes_run_as_listed() -> None:
    assert graphopt.optimize(twice, (X,), passes=[], measure=False).report.after.nodes == 6
    assert graphopt.optimize(twice, (X,), passes=["dead-code"], measure=False).report.after.nodes == 5
    assert (
        graphopt.optimize(twice, (X,), passes=["common-subexpression"], measure=False).report.after.nodes == 4
    )


class Raises:
    name = "raises"
    claim = Claim.BITWISE

    def run(self, draft: Draft) -> None:
        raise ValueError("boom")


class Invalid(Raises):
    name = "invalid"

    def run(self, draft: Draft) -> None:
        draft.remove(draft.graph.nodes[-1], "it is in the way")


@pytest.mark.parametrize(
    ("passes", "says"),
    [
        (["nope"], "no pass is named 'nope'"),
        ("dead-code", r"passes=\['dead-code'\]"),
        ([3], "3 is no pass"),
        ([Raises()], "raises failed: ValueError: boom"),
        ([Invalid()], "invalid failed: InvalidGraph"),
    ],
)
def test_a_pass_that_is_unknown_raises_or_breaks_the_graph_is_one_clear_error(passes: Any, says: str) -> None:
    model = nn.Linear(4, 4)
    before = model.weight.clone()
    with pytest.raises(graphopt.PassError, match=says) as raised:
        graphopt.optimize(model, (X,), passes=passes, measure=False)
    assert raised.value.remedy
    assert str(raised.value).count("  at: ") <= 1
    assert torch.equal(model.weight, before)


def test_a_model_on_the_meta_device_is_optimised_unchecked() -> None:
    opt = graphopt.optimize(nn.Linear(4, 4, device="meta"), (X.to("meta"),), measure=False)
    assert opt.report.equivalent is None
    assert opt(X.to("meta")).shape == (2, 4)


@pytest.mark.parametrize("option", [{"on_guard": "maybe"}, {"nonfinite": "never"}])
def test_a_wrong_option_is_named(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"it may be '"):
        graphopt.optimize(twice, (X,), **option)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_time_budget_that_is_none_is_named_before_any_work(seconds: float) -> None:
    with pytest.raises(ValueError, match="time_budget_s"):
        graphopt.optimize(twice, time_budget_s=seconds, measure=False)


@pytest.mark.parametrize("shapes", ["some", {"y": {0: "n"}}])
def test_wrong_dynamic_shapes_are_named(shapes: Any) -> None:
    with pytest.raises(graphopt.Unsupported, match="dynamic_shapes"):
        graphopt.optimize(twice, (X,), dynamic_shapes=shapes, measure=False)


def test_dynamic_shapes_by_parameter_reach_into_containers() -> None:
    def program(pair: list[torch.Tensor], named: dict[str, torch.Tensor]) -> torch.Tensor:
        return pair[0] * 2 + named["x"].sum()

    dim = torch.export.Dim.DYNAMIC
    opt = graphopt.optimize(
        program, ([X, X + 1], {"x": X + 2}), on_guard="error",
        dynamic_shapes={"pair": [{0: dim}, None], "named": {"x": {1: dim}}}, measure=False
    )  # fmt: skip
    call = ([torch.randn(5, 4), X], {"x": torch.randn(2, 9)})
    assert torch.equal(opt(*call), program(*call))


WRONG_CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "missing": ((), {}, "missing a required argument"),
    "too many": ((X, X), {}, "too many positional"),
    "unexpected keyword": ((X,), {"y": 1}, "unexpected keyword"),
    "another shape": ((torch.randn(2, 5),), {}, "raises without graphopt: RuntimeError: mat1 and mat2"),
    "no tensor": (("x",), {}, "raises without graphopt: TypeError"),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_example_inputs_are_one_clear_error(name: str) -> None:
    args, kwargs, says = WRONG_CALLS[name]
    with pytest.raises(graphopt.Unsupported, match=says) as raised:
        graphopt.optimize(nn.Linear(4, 4), args, kwargs, measure=False)
    assert "pass args and kwargs" in raised.value.remedy


@pytest.mark.parametrize("name", [*WRONG_CALLS, "another dtype"])
def test_a_wrong_first_call_raises_what_eager_raises_and_the_next_one_captures(name: str) -> None:
    args, kwargs, _ = WRONG_CALLS.get(name, ((X.double(),), {}, ""))
    model = nn.Linear(4, 4)
    opt = graphopt.optimize(model, measure=False)
    with pytest.raises((TypeError, RuntimeError)) as expected:
        model(*args, **kwargs)
    with pytest.raises(expected.type) as raised:
        opt(*args, **kwargs)
    assert str(raised.value) == str(expected.value)
    if name != "another dtype":  # its capture succeeds: the graph raises as eager does
        assert torch.equal(opt(X), model(X))
        assert opt.report.equivalent


def test_the_bitwise_passes_are_those_that_promise_it() -> None:
    promised = [one.name for one in choose(None) if one.claim is Claim.BITWISE]
    assert tuple(promised) == graphopt.BITWISE
