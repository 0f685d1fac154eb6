"""The command line: what it prints and the exit codes 0, 1, 2, 3."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from graphopt.cli import main


def build_model() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    return torch.nn.Linear(4, 4), (torch.ones(2, 4),)


def build_alone() -> object:
    return lambda: torch.ones(2) + torch.ones(2)


def build_uncapturable() -> object:
    return (lambda x: x.new_zeros(len(range(int(x.sum()))))), (torch.ones(2),)


def build_raising() -> object:
    raise ValueError("boom")


def build_with_wrong_args() -> object:
    return torch.nn.Linear(4, 4), torch.ones(2, 4)


def build_with_wrong_inputs() -> object:
    return torch.nn.Linear(4, 4), (torch.ones(2, 5),)


def build_nothing() -> object:
    return None


def build_too_much() -> object:
    return 1, 2, 3, 4


def build_corrupt() -> object:
    return __file__, (torch.ones(2, 4),)


no_function = 3


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def test_optimize_prints_the_report() -> None:
    result = run("optimize", "tests.test_cli:build_model")
    assert result.exit_code == 0
    assert "equivalent: yes" in result.output
    assert "1 → 1 nodes" in result.output


def test_a_report_is_json_on_request_and_nothing_else() -> None:
    result = run("optimize", "tests.test_cli:build_alone", "--json")
    assert json.loads(result.stdout)["schema"] == 1


def test_the_result_is_written_as_pt2(tmp_path: Path) -> None:
    result = run("optimize", "tests.test_cli:build_model", "-o", str(tmp_path / "out.pt2"))
    assert result.exit_code == 0
    torch.export.load(tmp_path / "out.pt2")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("optimize",), 2, "Missing argument"),
        (("optimize", "nothing"), 2, "package.module:build"),
        (("optimize", "no.such.module:build"), 2, "cannot be imported"),
        (("optimize", "tests.test_cli:missing"), 2, "cannot be imported"),
        (("optimize", "tests.test_cli:build_model", "-p", "nope"), 2, "no pass is named"),
        (("optimize", "tests.test_cli:build_model", "--time-budget", "nan"), 2, "no number of seconds"),
        (("optimize", "tests.test_cli:build_model", "--time-budget", "-1"), 2, "not in the range"),
        (("verify", "a.pt2", "b.pt2", "--time-budget", "nan"), 2, "no number of seconds"),
        (("optimize", "tests.test_cli:no_function"), 2, "raises TypeError"),
        (("optimize", "tests.test_cli:build_raising"), 2, "raises ValueError: boom"),
        (("optimize", "tests.test_cli:build_with_wrong_args"), 2, "args or kwargs"),
        (("optimize", "tests.test_cli:build_too_much"), 2, "returned 4 things"),
        (("optimize", ".relative:build"), 2, "cannot be imported"),
        (("optimize", "tests.test_cli:build_model", "-o", "/no/such/folder/a.pt2"), 2, "cannot be written"),
        (("optimize", "tests.test_cli:build_model", "-o", "/"), 2, "cannot be written"),
        (("optimize", "tests.test_cli:build_uncapturable"), 3, "data-dependent"),
        (("optimize", "tests.test_cli:build_nothing"), 3, "is no model"),
        (("optimize", "tests.test_cli:build_corrupt"), 3, "no zip file"),
        (("optimize", "tests.test_cli:build_with_wrong_inputs"), 3, "raises without graphopt"),
    ],
)
def test_wrong_input_is_one_message_and_an_exit_code(args: tuple[str, ...], code: int, says: str) -> None:
    result = run(*args)
    assert result.exit_code == code
    assert says in result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("text", ["def build(:", "1 / 0"])
def test_a_module_that_cannot_be_imported_is_named(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_model.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    result = run("optimize", "broken_model:build")
    assert result.exit_code == 2
    assert "broken_model:build cannot be imported" in result.output


def test_a_refused_model_leaves_no_file(tmp_path: Path) -> None:
    result = run("optimize", "tests.test_cli:build_uncapturable", "-o", str(tmp_path / "out.pt2"))
    assert result.exit_code == 3
    assert list(tmp_path.iterdir()) == []
