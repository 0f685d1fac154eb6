"""Entries of containers that must be what they were, checked by straight-line Python: it takes a third of
the time of loops over lists."""

import functools
import keyword
import operator
import types
from collections.abc import Callable
from typing import Any

from graphopt.guards.arguments import shown
from graphopt.guards.places import Attributes, ClassMembers, Path
from graphopt.ir.literal import SCALARS, Lit


class Entries:
    """Entries of containers and what must be in them, as parallel lists."""

    def __init__(self) -> None:
        self._containers: list[Any] = []
        self._keys: list[Any] = []
        self._expected: list[object] = []
        self._paths: list[Path] = []
        self._identical: Callable[[], bool] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, container: Any, key: Any, expected: object, path: Path) -> None:
        """Adds one entry. A member of a class is read as Python reads it: a class that comes to shadow an
        inherited member is noticed."""
        if isinstance(container, ClassMembers) and not isinstance(container[key], classmethod):
            read = Attributes(container.kind)
            expected = read[key] if container[key] is expected else expected
            container = read
        self._containers.append(container)
        self._keys.append(key)
        self._expected.append(expected)
        self._paths.append(path)
        self._identical = None

    def hold(self) -> bool:
        """Whether each entry is the expected object, or the same constant."""
        if self._identical is None:
            self._identical = _identity_check(self._containers, self._keys, self._expected)
        return self._identical() or all(
            map(same_constant, map(operator.getitem, self._containers, self._keys), self._expected)
        )

    def violation(self) -> str | None:
        """A sentence that names the first entry that does not hold."""
        for path, container, key, expected in zip(
            self._paths, self._containers, self._keys, self._expected, strict=True
        ):
            try:
                actual = container[key]
            except (KeyError, IndexError):
                return f"{'.'.join(path)} is gone"
            if not same_constant(actual, expected):
                return f"{'.'.join(path)} is {shown(actual)}, captured with {shown(expected)}"
        return None


def same_constant(actual: object, expected: object) -> bool:
    """Whether two things are one object, or constants of one type and the same bits."""
    if actual is expected:
        return True
    if type(actual) in SCALARS and type(expected) in SCALARS:
        return Lit(actual) == Lit(expected)  # type: ignore[arg-type]
    return False


def _identity_check(containers: list[Any], keys: list[Any], expected: list[object]) -> Callable[[], bool]:
    """A function that says whether every entry is the very object that is expected."""
    names: dict[str, Any] = {}
    groups: dict[int, list[int]] = {}
    for i, container in enumerate(containers):
        groups.setdefault(id(container), []).append(i)

    def named(thing: object) -> str:
        name = f"_{len(names)}"
        names[name] = thing
        return name

    def differs(i: int) -> str:
        key, value = keys[i], expected[i]
        now = f"c[{key!r}]" if type(key) in (str, int) else f"c[{named(key)}]"
        if isinstance(containers[i], Attributes):
            plain = key.isascii() and key.isidentifier() and not keyword.iskeyword(key)
            now = f"c.{key}" if plain else f"getattr(c, {key!r})"
        return f"{now} is not {value if value is None or value is True or value is False else named(value)}"

    lines = ["def identical():"]
    for group in groups.values():
        container = containers[group[0]]
        lines.append(f"    c = {named(container.thing if isinstance(container, Attributes) else container)}")
        lines.append(f"    if {' or '.join(map(differs, group))}: return False")
    exec(_compiled("\n".join([*lines, "    return True"])), names)
    made: Callable[[], bool] = names["identical"]
    return made


@functools.lru_cache(maxsize=64)  # containers are found again where they are exchanged
def _compiled(source: str) -> types.CodeType:
    return compile(source, "<graphopt guard>", "exec")
