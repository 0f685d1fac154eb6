"""Profiles: tables of seconds, their JSON, and where they are kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from graphopt import profile as profiles
from graphopt.profile import KINDS, Profile, ProfileError, Table, default, load, place, resolve, store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def calibrated(threads: int = 1) -> Profile:
    """The default profile as if it were this machine's."""
    import torch

    return replace(
        default(), machine=profiles.this_machine(), torch=torch.__version__, threads=threads, read=1e-9
    )


def test_a_table_goes_through_its_points_and_is_smooth_between() -> None:
    table = Table(((1.0, 100.0), (1.0, 4.0, 16.0)), (1e-6, 2e-6, 4e-6, 1e-4, 2e-4, 4e-4))
    assert table.at(1, 4) == pytest.approx(2e-6) and table.at(100, 16) == pytest.approx(4e-4)
    assert table.at(10, 1) == pytest.approx(1e-5)  # halfway, in logarithms
    assert table.at(10, 8) == pytest.approx(1e-5 * 2**1.5)


def test_a_table_grows_in_proportion_above_its_grid_and_stays_below() -> None:
    table = Table(((10.0, 100.0),), (1e-6, 1e-5))
    assert table.at(1000) == pytest.approx(1e-4)
    assert table.at(1) == table.at(10) == pytest.approx(1e-6)
    assert Table((), (3.0,)).at() == pytest.approx(3.0)


def test_longer_rows_than_were_measured_count_as_more_rows() -> None:
    table = Table(((1.0, 16.0, 256.0), (4.0, 64.0)), (2e-6, 2e-6, 3e-6, 4e-6, 9e-6, 3e-5))
    assert table.by_rows(16, 64) == table.at(16, 64)
    assert table.by_rows(2, 512) == table.at(16, 64)
    assert table.by_rows(1, 1 << 20) == pytest.approx(3e-5 * (1 << 20) / (256 * 64))


@pytest.mark.parametrize(
    ("axes", "seconds"),
    [(((1.0, 2.0),), (1.0,)), (((2.0, 1.0),), (1.0, 1.0)), (((0.0, 1.0),), (1.0, 1.0)), (((1.0,),), (0.0,)),
     (((1.0,),), (float("nan"),)), (((1.0, 1.0),), (1.0, 1.0))],
)  # fmt: skip
def test_a_table_that_is_none_is_refused(
    axes: tuple[tuple[float, ...], ...], seconds: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match=r"table|positive|ascend"):
        Table(axes, seconds)


def test_json_goes_both_ways() -> None:
    profile = default()
    assert Profile.from_json(profile.to_json()) == profile
    assert json.loads(profile.to_json())["schema"] == 1


def test_the_default_has_every_kind_and_says_what_it_is() -> None:
    profile = default()
    assert {kind: len(table.axes) for kind, table in profile.tables.items()} == dict(KINDS)
    assert profile.threads == 1 and profile.origin.startswith("the default, measured on AMD EPYC")
    assert 1e-8 < profile.tables["view"].at() < 1e-4


def test_what_was_stored_is_loaded_on_the_same_machine_with_as_many_threads() -> None:
    path = store(calibrated())
    assert path == place(calibrated().key) and path.parent.name == "profiles"
    assert load(1) == calibrated() and load(1).origin == str(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert load(2).origin.endswith("for this machine was not calibrated")


def test_another_machine_and_another_torch_have_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    one = calibrated()
    others = [replace(one, machine="other"), replace(one, torch="3.0"), replace(one, threads=2)]
    assert len({one.key, *(other.key for other in others)}) == 4
    store(one)
    monkeypatch.setattr(profiles, "this_machine", lambda: "other")
    assert load(1).origin.startswith("the default")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no profile"),
        ("[]", "is no profile"),
        (json.dumps({"schema": 0}), "its schema is 0"),
        (json.dumps({"schema": 1}), "there is no 'tables'"),
        (default().to_json().replace('"gelu"', '"other"'), "it has no table for gelu"),
        (default().to_json().replace('"switch": ', '"switch": -'), "is not positive"),
        ("\x00\xff", "is no profile"),
    ],
)
def test_a_file_that_is_no_profile_is_ignored_and_said_and_refused_where_it_was_named(
    text: str, said: str
) -> None:
    path = store(calibrated())
    path.write_text(text)
    found = load(1)
    assert found == default()
    assert said in found.origin and str(path) in found.origin
    with pytest.raises(ProfileError, match=r"graphopt calibrate") as refused:
        resolve(path, 1)
    assert said in str(refused.value)


def test_a_file_that_is_no_text_is_ignored_too() -> None:
    path = store(calibrated())
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in load(1).origin
    path.unlink()
    path.mkdir()
    assert "cannot be read" in load(1).origin


def test_a_profile_is_resolved_from_all_that_names_one(tmp_path: Path) -> None:
    profile = calibrated()
    assert resolve(profile, 1) is profile
    assert resolve(None, 1) == default()
    (tmp_path / "mine.json").write_text(profile.to_json())
    for name in (tmp_path / "mine.json", str(tmp_path / "mine.json")):
        assert resolve(name, 1) == profile
    store(profile)
    assert resolve(None, 1) == profile


def test_a_missing_file_and_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="No such file"):
        resolve(tmp_path / "none.json", 1)
    with pytest.raises(TypeError, match="a Profile, a path or None"):
        resolve(3, 1)  # type: ignore[arg-type]


def test_a_write_that_fails_leaves_the_old_profile_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(calibrated())
    before = path.read_text()

    def fail(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(profiles.os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        store(replace(calibrated(), read=5.0))
    assert path.read_text() == before and len(list(path.parent.iterdir())) == 1


def test_the_machine_is_named_by_its_cpu_and_not_by_its_host() -> None:
    import platform

    name = profiles.this_machine()
    assert name == profiles.this_machine() and platform.node() not in name
