"""The example in docs/writing-a-pass.md runs as it stands."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

import graphopt

TEXT = (Path(__file__).parent.parent / "docs" / "writing-a-pass.md").read_text()


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the page, importable."""
    for name, source in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, re.DOTALL):
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("relu_of_abs", "test_relu_of_abs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_the_example_passes_its_own_tests(written: Path) -> None:
    tests = importlib.import_module("test_relu_of_abs")
    ran = [run() for name, run in vars(tests).items() if name.startswith("test_")]
    assert len(ran) == 2
    assert len((written / "relu_of_abs.py").read_text().splitlines()) <= 80


def test_the_example_optimises_a_program(written: Path) -> None:
    one = importlib.import_module("relu_of_abs").ReluOfAbs()
    x = torch.randn(8)
    with torch.no_grad():
        opt = graphopt.optimize(lambda x: torch.relu(torch.abs(x)) + 1, (x,), passes=[one], measure=False)
    assert opt.report.equivalent and opt.report.after.nodes == 2
    assert "relu-of-abs" in str(opt.report)
