"""Calibration of the machine that the tests run on, once."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from graphopt import calibrate as calibration
from graphopt.calibrate import calibrate
from graphopt.cli import main
from graphopt.profile import KINDS, Profile, load, store
from graphopt.workloads import COMPARED, WORK, Call


@pytest.fixture(scope="module")
def measured() -> Profile:
    return calibrate(1)


def test_each_kind_of_work_is_measured_at_as_many_sizes_as_it_depends_on() -> None:
    assert {kind: len(work.axes) for kind, work in WORK.items()} == dict(KINDS)
    assert all(set(kinds) <= set(KINDS) for kinds in COMPARED.values())


def test_what_is_measured_is_plausible(measured: Profile) -> None:
    tables = measured.tables
    assert tables["view"].at() < tables["norm"].least < 1e-3
    for small, large in ((64, 256), (256, 1024)):  # 64 times the work
        assert 8 < tables["linear"].at(large, large, large) / tables["linear"].at(small, small, small) < 300
    assert tables["transpose"].at(2**22) > tables["copy"].at(2**22) / 2
    assert tables["exp"].at(2**20) > 4 * tables["exp"].at(2**16)
    assert 1.2 < measured.ratios["float64"]["linear"] < 5
    assert 1e-13 < measured.read < 1e-8 and 1e-13 < measured.fresh < 1e-7
    assert measured.threads == 1 and Profile.from_json(measured.to_json()).machine == measured.machine


def test_what_was_measured_is_found_again(
    measured: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = store(measured)
    assert load(1).origin == str(path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Calls instead of measuring, and notes torch's threads."""
    threads: list[int] = []

    def seconds(call: Call, clock: object) -> float:
        threads.append(torch.get_num_threads())
        return 1e-6

    monkeypatch.setattr(calibration, "_seconds", seconds)
    return threads


def test_it_leaves_no_trace(quick: list[int]) -> None:
    before = torch.get_rng_state()
    with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        profile = calibrate(2)
        assert torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
    assert set(quick) == {2} and profile.threads == 2
    assert torch.get_num_threads() == 1 and torch.equal(torch.get_rng_state(), before)


def test_a_default_device_and_dtype_do_not_matter(quick: list[int]) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            _, call = next(p for p in calibration._points() if p[0][1] == "linear")
            assert call().dtype == torch.float32 and call().device.type == "cpu"
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_command_keeps_the_profile_and_prints_it(
    quick: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["calibrate", "--threads", "1"])
    assert result.exit_code == 0
    path = Path(result.stdout.splitlines()[-1])
    assert path.is_file() and load(1).origin == str(path)
    assert "linear" in result.stdout and "1 thread" in result.stdout
    assert "graphopt: round 1 of 2" in result.stderr

    result = CliRunner().invoke(main, ["calibrate", "--threads", "2", "--json", "-q"])
    found = json.loads(result.stdout)
    assert result.stderr == "" and found["schema"] == 1
    assert Path(found["path"]).is_file() and found["profile"]["threads"] == 2


def test_the_command_says_where_it_cannot_write(
    quick: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result = CliRunner().invoke(main, ["calibrate"])
    assert result.exit_code == 2 and "XDG_CACHE_HOME" in result.stderr
    assert CliRunner().invoke(main, ["calibrate", "--threads", "0"]).exit_code == 2
