"""Which miscompiles are planted in a file, and which tests are to catch them."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mutation.planting import FILES, ROOT, mutants
from tests.mutation.running import TESTS

TEXT = """
def refusal(x, ys, zs):
    if (
        x == 1
        and any(y in zs for y in ys if y)
    ):
        return f"like {x}"
    return None
"""


def planted() -> list[tuple[str, range]]:
    return [(one.change, one.lines) for one in mutants(Path("file.py"), TEXT)]


def test_each_condition_is_flipped_or_left_out_and_each_refusal_is_removed() -> None:
    condition = "x == 1 and any((y in zs for y in ys if y))"
    assert {change for change, _ in planted()} == {
        f"if not ({condition})",
        f"{condition}  →  any((y in zs for y in ys if y)) and any((y in zs for y in ys if y))",
        f"{condition}  →  x == 1 and x == 1",
        "x == 1  →  x != 1",
        "any((y in zs for y in ys if y))  →  all",
        "y in zs  →  y not in zs",
        "in a comprehension, without: if y",
        "return f'like {x}'  →  return None",
    }


def test_a_mutant_knows_the_lines_that_evaluate_it() -> None:
    lines = dict(planted())
    assert lines["x == 1  →  x != 1"] == range(4, 5)
    assert lines["y in zs  →  y not in zs"] == lines["in a comprehension, without: if y"] == range(5, 6)
    assert lines["if not (x == 1 and any((y in zs for y in ys if y)))"] == range(4, 6)
    assert lines["return f'like {x}'  →  return None"] == range(7, 8)


def test_each_mutant_does_something_else() -> None:
    some = (), (0,), (1,), (0, 1)
    cases = [(x, ys, zs) for x in (1, 2) for ys in some for zs in some]
    expected = [f"like {x}" if x == 1 and {*ys} & {*zs} - {0} else None for x, ys, zs in cases]
    for one in mutants(Path("file.py"), TEXT):
        names: dict[str, Callable[..., str | None]] = {}
        exec(one.code, names)
        assert [names["refusal"](*case) for case in cases] != expected, one.change


def test_a_mutant_has_the_names_of_the_function_that_it_takes_the_place_of() -> None:
    text = """
def made(a, b):
    def inner(xs):
        return [x for x in xs if a] if b and xs else []
    return inner
"""
    names: dict[str, Callable[..., Any]] = {}
    exec(text, names)
    inner = names["made"](1, 1)
    changes = []
    for one in mutants(Path("file.py"), text):
        exec(one.code, names)
        changed = names["made"](1, 1).__code__
        assert changed.co_freevars == inner.__code__.co_freevars
        changes.append(one.change)
    assert {"in a comprehension, without: if a", "b and xs  →  xs and xs"} <= {*changes}


def imported(file: Path) -> set[str]:
    """The modules that a file imports, and the names that it imports from modules."""
    found = set[str]()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{one.name}" for one in node.names)}
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
    return found


def test_what_imports_a_planted_file_is_among_the_tests_that_are_to_catch_mutants() -> None:
    planted = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in FILES}
    speaking = {file for file in (ROOT / "tests").rglob("test_*.py") if planted & imported(file)}
    run = {file for name in TESTS for file in (ROOT / name, *(ROOT / name).rglob("test_*.py"))}
    assert speaking
    assert not speaking - run
