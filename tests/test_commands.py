"""The commands on real files: what they print, and the exit codes."""

import json
from importlib.metadata import EntryPoints
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import graphopt
from graphopt.authoring import Pass
from graphopt.cli import main

HERE = "tests.test_commands"


class Redundant(nn.Module):
    """Computes a sine twice and draws twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns [n, 4]."""
        y = self.linear(x).sin() + self.linear(x).sin() * 1
        return y + torch.rand_like(y) + torch.rand_like(y)


def build() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The model and its example call."""
    with torch.random.fork_rng():
        return Redundant().eval().requires_grad_(False), (torch.ones(2, 4),)


def build_scaled() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The same with another weight."""
    model, args = build()
    model.linear.weight.mul_(1.5)
    return model, args


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def test_optimize_reports_on_stdout_and_progress_on_stderr(tmp_path: Path) -> None:
    result = run("optimize", f"{HERE}:build", "-o", str(tmp_path / "out.pt2"))
    assert result.exit_code == 0
    assert "10 → 7 nodes" in result.stdout and "computed again" in result.stdout
    assert "graphopt: capture" in result.stderr and "graphopt: verify" in result.stderr
    loaded = torch.export.load(tmp_path / "out.pt2").module()
    model, args = build()
    torch.manual_seed(0)
    expected = model(*args)
    torch.manual_seed(0)
    assert torch.equal(loaded(*args), expected)
    assert run("optimize", "-q", str(tmp_path / "out.pt2"), "--no-verify").exit_code == 0


def test_json_is_all_that_stdout_holds() -> None:
    result = run("optimize", f"{HERE}:build", "--json", "--diff")
    report = json.loads(result.stdout)
    assert report["schema"] == 1 and report["equivalent"] and len(report["steps"]) == 3
    assert {step["pass"] for step in report["steps"]} == {"identity-operation", "common-subexpression"}
    assert "-  %" in result.stderr  # the diff


def test_quiet_says_nothing_on_stderr() -> None:
    assert run("optimize", "-q", f"{HERE}:build").stderr == ""


def test_explain_changes_nothing_and_names_lines_and_near_misses() -> None:
    result = run("explain", "-q", f"{HERE}:build")
    assert result.exit_code == 0
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "y = self" in text)
    assert f"test_commands.py:{line}  y = self.linear(x).sin()" in result.stdout
    assert "near miss:" in result.stdout and "draws random numbers (common-subexpression)" in result.stdout
    report = json.loads(run("explain", "-q", f"{HERE}:build", "--json").stdout)
    assert report["equivalent"] is None and report["missed"]


def test_diff_shows_before_and_after_or_two_models() -> None:
    text = run("diff", "-q", f"{HERE}:build").stdout
    assert text.startswith("--- before") and "-  %sin_1" in text
    assert run("diff", "-q", f"{HERE}:build", f"{HERE}:build_scaled").stdout == "\n"
    assert json.loads(run("diff", "-q", f"{HERE}:build", "--json").stdout)["diff"] == text.rstrip("\n")


def test_verify_says_what_was_checked() -> None:
    result = run("verify", "-q", f"{HERE}:build")
    assert result.exit_code == 0 and "equivalent: yes" in result.stdout


def test_verify_of_two_models_tells_by_the_exit_code(tmp_path: Path) -> None:
    path = str(tmp_path / "out.pt2")
    graphopt.optimize(*build(), measure=False).save(path)
    assert run("verify", "-q", f"{HERE}:build", path).exit_code == 0
    result = run("verify", "-q", f"{HERE}:build", f"{HERE}:build_scaled")
    assert result.exit_code == 1 and "differs: example inputs: output" in result.stdout
    report = json.loads(run("verify", "-q", f"{HERE}:build", f"{HERE}:build_scaled", "--json").stdout)
    assert report["schema"] == 1 and report["equivalent"] is False


class Wrong:
    """Takes a cosine for a sine."""

    name, claim = "wrong", graphopt.authoring.Claim.BITWISE

    def run(self, draft: graphopt.authoring.Draft) -> None:
        """Replaces every sine."""
        for node in draft.graph.nodes:
            if node.op == "aten.sin.default":
                made = draft.node("aten.cos.default", node.args, node.results[0].type, like=node)
                draft.replace(node, made.results, "a cosine is a sine", added=[made])


@pytest.fixture
def wrong_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    known = graphopt.catalog._loaded

    def loaded(name: str, installed: EntryPoints) -> Pass:
        return Wrong() if name == "wrong" else known(name, installed)

    monkeypatch.setattr("graphopt.catalog._loaded", loaded)


@pytest.mark.usefixtures("wrong_pass")
def test_bisect_names_the_guilty_step() -> None:
    result = run("bisect", "-q", f"{HERE}:build", "-p", "dead-code", "-p", "wrong")
    assert result.exit_code == 1
    assert result.stdout.startswith("step of wrong at sin: a cosine is a sine\n    rolled back")
    assert json.loads(run("bisect", "-q", f"{HERE}:build", "-p", "wrong", "--json").stdout)["rolled_back"]
    fine = run("bisect", "-q", f"{HERE}:build")
    assert fine.exit_code == 0 and fine.stdout == "none of 3 steps changes the result\n"


@pytest.mark.usefixtures("wrong_pass")
def test_verify_fails_where_a_step_had_to_be_rolled_back() -> None:
    assert run("verify", "-q", f"{HERE}:build", "-p", "wrong").exit_code == 1


def test_passes_are_described() -> None:
    rows = json.loads(run("passes", "--json").stdout)["passes"]
    assert {"name": "dead-code", "claim": "bitwise", "default": True,
            "summary": "y = f(a), y unread  →  nothing"} in rows  # fmt: skip
    assert "dead-code (bitwise, default)\n    y = f(a)" in run("passes").stdout


@pytest.mark.parametrize("command", ["optimize", "diff", "explain", "verify", "bisect"])
def test_wrong_input_is_one_message_and_an_exit_code(command: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt2"
    broken.write_bytes(b"no zip")
    for model, code, says in (
        ("nope", 2, "names no model"),
        ("nope.pt2", 2, "there is no such file"),
        (f"{HERE}:absent", 2, "cannot be imported"),
        (str(broken), 3, "no zip file"),
    ):
        result = run(command, "-q", model)
        assert result.exit_code == code, result.output
        assert says in result.stderr and result.stdout == ""
    assert run(command).exit_code == 2


class Counting(nn.Module):
    """Counts its calls; its parameters are to be trained."""

    def __init__(self, detached: bool) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.linear = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(1))
        self.detached = detached

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns [n, 4]."""
        self.calls.add_(1)
        weight = self.linear.weight.detach() if self.detached else self.linear.weight
        return nn.functional.linear(x, weight, self.linear.bias) + self.calls


def build_counting() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The model and its example call."""
    return Counting(False), (torch.ones(2, 4),)


def build_detached() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The same, with no gradient of its weight."""
    return Counting(True), (torch.ones(2, 4),)


def test_models_with_a_state_each_are_compared_by_their_own(tmp_path: Path) -> None:
    saved = str(tmp_path / "model.pt2")
    model = f"{HERE}:build_counting"
    assert CliRunner().invoke(main, ["optimize", model, "-o", saved, "-q"]).exit_code == 0
    for other in (model, saved):
        result = CliRunner().invoke(main, ["verify", model, other])
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, ["verify", model, f"{HERE}:build_detached"])
    assert result.exit_code == 1 and "gradient of parameter 'linear.weight'" in result.output


def test_another_model_that_is_none_is_refused() -> None:
    assert CliRunner().invoke(main, ["verify", f"{HERE}:build", "builtins:int"]).exit_code == 3


def test_a_seed_that_torch_does_not_take_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["optimize", f"{HERE}:build", "--seed", "9" * 30]).exit_code == 2


def build_folded() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A convolution and a norm, which become one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.Sigmoid()).eval()
    nn.init.uniform_(model[1].running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return model, (torch.randn(4, 16, 24, 24),)


def build_slightly_off() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The same, off by much more than rounding."""
    model, args = build_folded()
    with torch.no_grad():
        model[0].weight.mul_(1 + 1e-4)  # type: ignore[operator]
    return model, args


def test_a_saved_program_that_rounds_otherwise_is_judged_by_its_errors_and_without_gradients(
    tmp_path: Path,
) -> None:
    path, model = str(tmp_path / "out.pt2"), f"{HERE}:build_folded"
    assert run("optimize", "-q", "--no-measure", model, "-o", path).exit_code == 0
    result = run("verify", "-q", model, path)
    assert result.exit_code == 0, result.stdout
    assert "errors against float64 within" in result.stdout
    assert "not checked: gradients: output: requires_grad differs" in result.stdout
    assert run("verify", "-q", f"{HERE}:build_slightly_off", path).exit_code == 1
    assert run("verify", "-q", model, f"{HERE}:build_slightly_off").exit_code == 1


def build_frozen() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The same, without gradients."""
    model, args = build_folded()
    return model.requires_grad_(False), args


def build_frozen_off() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The same, off by much more than rounding."""
    model, args = build_slightly_off()
    return model.requires_grad_(False), args


def test_what_differs_and_cannot_be_judged_is_not_equivalent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise NotImplementedError("no kernel")

    monkeypatch.setattr("graphopt.judging.excess_error", fails)
    assert run("verify", "-q", f"{HERE}:build_frozen", f"{HERE}:build_frozen_off").exit_code == 1
