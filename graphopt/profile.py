"""How fast one machine is: tables of measured seconds, by kind of work and size.

A `Profile` is data: the cost model (graphopt.analysis.seconds) reads it, `graphopt.calibrate` measures it.
The one that comes with graphopt was measured on one thread of an AMD EPYC; it serves until
`graphopt calibrate` was run. It is kept under the machine (CPU, torch, threads) that it holds for.
"""

import hashlib
import importlib.resources
import itertools
import json
import math
import os
import platform
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from graphopt.errors import Error

SCHEMA = 1
FRESH = 2**25
"""Bytes of a tensor from which on its memory comes from the system each time: it is cleared, page by page,
when it is first written (mallopt(3): M_MMAP_THRESHOLD grows to 32 MiB and no further)."""


class ProfileError(Error):
    """A profile was named that is none."""


@dataclass(frozen=True)
class Table:
    """Seconds measured at the crossings of a grid: `axes` are ascending sizes, `seconds` row-major.

    Between the crossings the logarithm of the seconds is linear in those of the sizes; above the grid the
    seconds grow in proportion, below they stay.
    """

    axes: tuple[tuple[float, ...], ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.seconds) != math.prod(map(len, self.axes)) or not self.seconds:
            raise ValueError("a table needs one number of seconds for each crossing")
        if not all(0 < second < math.inf for second in self.seconds):
            raise ValueError("seconds must be positive")
        if any(axis[0] <= 0 or list(axis) != sorted(set(axis)) for axis in self.axes):
            raise ValueError("the sizes of an axis must be positive and ascend")

    def at(self, *sizes: float) -> float:
        """Seconds for some sizes, one for each axis."""
        beyond, parts = 1.0, []
        for axis, size in zip(self.axes, sizes, strict=True):
            inside = min(max(size, axis[0]), axis[-1])
            beyond *= max(size, inside) / inside
            parts.append(_between(axis, inside))
        total = 0.0
        for corner in itertools.product(*parts):
            position, weight = 0, 1.0
            for axis, (place, share) in zip(self.axes, corner, strict=True):
                position, weight = position * len(axis) + place, weight * share
            total += weight * self._logs[position]
        return math.exp(total) * beyond

    def by_rows(self, rows: float, columns: float) -> float:
        """Seconds for rows, of a table by rows and columns. Longer rows than the longest that were measured
        count as more of these: what a call takes by itself is not what grows with them."""
        longest = self.axes[1][-1]
        return self.at(rows, columns) if columns <= longest else self.at(rows * columns / longest, longest)

    @cached_property
    def least(self) -> float:
        """Seconds of the smallest work: what a call takes by itself."""
        return min(self.seconds)

    @cached_property
    def _logs(self) -> tuple[float, ...]:
        return tuple(map(math.log, self.seconds))


def _between(axis: tuple[float, ...], size: float) -> tuple[tuple[int, float], ...]:
    """The neighbours of a size on an axis, and the share of each."""
    after = next((place for place, at in enumerate(axis) if at >= size))
    if axis[after] == size:
        return ((after, 1.0),)
    low, high = axis[after - 1], axis[after]
    share = math.log(size / low) / math.log(high / low)
    return ((after - 1, 1 - share), (after, share))


@dataclass(frozen=True)
class Profile:
    """The speed of one machine with one version of torch and one number of threads.

    `tables` go by kind of work (see graphopt.workloads); `ratios`, by dtype and kind of work, are how many
    times as long as float32 another dtype takes; `read` is the seconds that a byte takes longer out of
    memory, `fresh` those to get a byte of it, and `cache` the bytes that need not come from there. `switch`
    is how many times the seconds of the smallest work an operator takes on top: what was measured is one
    that is called again and again, and in a graph others come between. `origin` says where it is from.
    """

    machine: str
    torch: str
    threads: int
    tables: Mapping[str, Table]
    ratios: Mapping[str, Mapping[str, float]]
    read: float
    fresh: float
    cache: int
    switch: float
    origin: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """A file name for the machine: the same where the same speed can be expected."""
        return _key(self.machine, self.torch, self.threads)

    def to_json(self) -> str:
        """The profile as JSON, with its schema version under "schema"."""
        numbers = ("machine", "torch", "threads", "read", "fresh", "cache", "switch")
        facts = {"schema": SCHEMA} | {name: getattr(self, name) for name in numbers}
        tables = {
            name: {"axes": one.axes, "seconds": [float(f"{second:.4g}") for second in one.seconds]}
            for name, one in sorted(self.tables.items())
        }
        ratios = {name: dict(sorted(one.items())) for name, one in sorted(self.ratios.items())}
        facts |= {"ratios": ratios, "tables": tables}
        # One table a line, so that two profiles can be compared.
        return re.sub(r"\n {3,}", " ", json.dumps(facts, indent=1)) + "\n"

    def summary(self) -> Iterator[str]:
        """Lines of text: the machine, and for each kind of work its smallest and largest measurement."""
        yield f"{self.machine}; torch {self.torch}, {self.threads} thread{'s' if self.threads != 1 else ''}"
        for kind, table in self.tables.items():
            line = f"{kind:24}{table.least * 1e6:8.2f} µs at least"
            if table.axes:
                sizes = " × ".join(f"{axis[-1]:.0f}" for axis in table.axes)
                line += f"{table.seconds[-1] * 1e6:12.1f} µs at {sizes}"
            yield line

    @classmethod
    def from_json(cls, text: str, origin: str = "") -> "Profile":
        """The profile of a text that `to_json` wrote. Raises ProfileError for any other."""
        try:
            facts = json.loads(text)
            if facts["schema"] != SCHEMA:
                raise ValueError(f"its schema is {facts['schema']!r}, and not {SCHEMA}")
            tables = {
                name: Table(tuple(tuple(map(float, axis)) for axis in one["axes"]),
                            tuple(map(float, one["seconds"])))
                for name, one in facts["tables"].items()
            }  # fmt: skip
            missing = sorted(set(KINDS) - set(tables)) + [
                name for name, axes in KINDS.items() if name in tables and len(tables[name].axes) != axes
            ]
            if missing:
                raise ValueError(f"it has no table for {', '.join(missing)}")
            ratios = {
                str(dtype): {str(kind): _positive(ratio) for kind, ratio in one.items()}
                for dtype, one in facts["ratios"].items()
            }
            read, fresh, switch = (_positive(facts[name]) for name in ("read", "fresh", "switch"))
            machine, version, threads = str(facts["machine"]), str(facts["torch"]), int(facts["threads"])
            cache = int(facts["cache"])
            return cls(machine, version, threads, tables, ratios, read, fresh, cache, switch, origin)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            said = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise ProfileError(
                f"{origin or 'the text'} is no profile: {said}",
                remedy="make one with `graphopt calibrate`",
            ) from error


def _positive(number: Any) -> float:
    if not 0 < float(number) < math.inf:
        raise ValueError(f"{number!r} is not positive")
    return float(number)


KINDS: Mapping[str, int] = {
    "number": 0, "view": 0,
    "linear": 3, "narrow": 3, "bmm": 4, "attention": 3, "convolution": 3, "pointwise_convolution": 3,
    "depthwise": 1, "onednn_linear": 3,
    "lstm": 3, "pointwise": 1, "broadcast": 1, "strided": 1, "copy": 1, "transpose": 1, "fill": 1, "rows": 1,
    "pad": 1, "batch_norm": 1,
    "compare": 1, "exp": 1, "tanh": 1, "gelu": 1, "erf": 1, "log": 1, "pow": 1, "sin": 1, "scan": 1,
    "pool": 1, "gather": 1, "sort": 1, "random": 1, "softmax": 2, "norm": 2, "reduce": 2,
}  # fmt: skip
"""The kinds of work, and how many sizes the seconds of each depend on (see graphopt.workloads)."""


def _key(machine: str, version: str, threads: int) -> str:
    digest = hashlib.sha256(f"{machine}\n{version}\n{threads}".encode()).hexdigest()[:12]
    name = re.sub(r"[^a-z0-9]+", "-", machine.partition(";")[0].lower()).strip("-")
    return f"{name[:40]}-{threads}-{digest}"


def this_machine() -> str:
    """The CPU, in words: its model, and what it can do. Two machines of one kind have one name."""
    facts = [platform.processor() or platform.machine()]
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "model name" in found:
        facts = [found["model name"]]
        facts += [f"{name} {found[name]}" for name in ("cpu family", "model", "cache size") if name in found]
    flags = " ".join(sorted(found.get("flags", "").split()))
    facts.append(f"flags {hashlib.sha256(flags.encode()).hexdigest()[:8]}" if flags else platform.machine())
    return "; ".join([*facts, torch.backends.cpu.get_cpu_capability()])


def _make(machine: str) -> tuple[str, str]:
    """The maker of a machine's CPU, and which instructions torch uses."""
    return machine.split()[0], machine.split("; ")[-1]


def place(key: str) -> Path:
    """Where the profile of a key is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "graphopt" / "profiles" / f"{key}.json"


def store(profile: Profile) -> Path:
    """Writes a profile where `load` finds it; all of it or nothing. Returns the path. Raises OSError."""
    path = place(profile.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{profile.key}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(profile.to_json())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path


def load(threads: int) -> Profile:
    """The profile that was calibrated on this machine for a number of threads, else the default. What
    became of it is in `origin`."""
    path = place(_key(this_machine(), torch.__version__, threads))
    try:
        return Profile.from_json(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return default("this machine was not calibrated")
    except (OSError, UnicodeDecodeError) as error:
        return default(f"{path} cannot be read: {error}")
    except ProfileError as error:
        return default(error.what)


def default(reason: str = "") -> Profile:
    """The profile that comes with graphopt."""
    text = importlib.resources.files("graphopt").joinpath("default_profile.json").read_text("utf-8")
    found = Profile.from_json(text, "default_profile.json")
    if _make(this_machine()) != _make(found.machine):  # which of two libraries is faster is another question
        found = replace(found, tables={**found.tables, "onednn_linear": found.tables["linear"]})
    because = f", for {reason}" if reason else ""
    where = f"{found.machine.partition(';')[0]} with {found.threads} thread"
    return replace(found, origin=f"the default, measured on {where}{because}")


def resolve(profile: Profile | str | Path | None, threads: int) -> Profile:
    """A profile, the one in a file, or (None) the one for this machine. Raises ProfileError for a file that
    is not there or holds none, and TypeError for anything else."""
    match profile:
        case None:
            return load(threads)
        case Profile():
            return profile
        case str() | Path():
            try:
                text = Path(profile).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "no text"
                raise ProfileError(
                    f"the profile {str(profile)!r} cannot be read: {reason}",
                    remedy="check the path, or make one with `graphopt calibrate`",
                ) from error
            return Profile.from_json(text, str(profile))
    raise TypeError(f"profile is {profile!r}; it may be a Profile, a path or None")
