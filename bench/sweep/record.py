"""Outcomes on disk, one JSON line each, so that a sweep can stop, die and go on; their summary."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.sweep.trial import Optimizer, Outcome, Passes, Trial, Verdict, graphopt_candidate, judge

REQUIRED_SHARE = 0.97
"""Of what torch.export takes, the share that graphopt must take (issue 2)."""

FINDINGS: tuple[tuple[Verdict, str], ...] = (
    ("mismatch", "silent mismatches"),
    ("crash", "crashes"),
    ("guard", "guards that fail on like arguments"),
    ("trace", "traces left by optimize"),
)
EXCLUSIONS: tuple[tuple[Verdict, str], ...] = (
    ("nondeterministic", "excluded, since eager does not repeat itself"),
    ("unobservable", "excluded, since the harness cannot read what eager gives"),
    ("timeout", "excluded, since it takes too long"),
)
FOUND = {verdict for verdict, _ in FINDINGS}
EXCLUDED = {verdict for verdict, _ in EXCLUSIONS}


class Record:
    """The outcomes so far. With a path each is appended as it comes, and an earlier run's are kept.

    Beside the file lies ``PATH.running`` with the name of the trial under way: where a run finds
    one that it did not write, that trial killed the process, which is its outcome.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._running = path.with_name(path.name + ".running") if path else None
        self.outcomes: list[Outcome] = []
        if path is not None and path.exists():
            lines = path.read_text().splitlines()
            self.outcomes = [Outcome(**json.loads(line)) for line in lines if line.endswith("}")]
        if self._running is not None and self._running.exists():
            name, group, passes = json.loads(self._running.read_text())
            died = "the process died during this trial"
            for which in passes:
                self.add(Outcome(name, group, which, "crash", True, False, False, died, 0.0))
            self._running.unlink()
        self._done = {(outcome.name, outcome.passes) for outcome in self.outcomes}

    def missing(self, trial: Trial, passes: Iterable[Passes]) -> list[Passes]:
        """The sets of passes under which this trial has no outcome yet."""
        return [which for which in passes if (trial.name, which) not in self._done]

    def begin(self, trial: Trial, passes: Iterable[Passes]) -> None:
        """Note that this trial is under way."""
        if self._running is not None:
            self._running.write_text(json.dumps([trial.name, trial.group, list(passes)]))

    def end(self) -> None:
        """Note that no trial is under way."""
        if self._running is not None:
            self._running.unlink(missing_ok=True)

    def add(self, outcome: Outcome) -> None:
        """Keep one outcome."""
        self.outcomes.append(outcome)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(dataclasses.asdict(outcome)) + "\n")


def run_all(
    trials: Iterable[Trial],
    passes: Iterable[Passes],
    record: Record,
    *,
    minutes: float | None,
    seconds_each: float = 60.0,
    verbose: bool = False,
    optimizer: Optimizer = graphopt_candidate,
) -> bool:
    """Judge every trial that has no outcome yet; False where the time ran out before the end."""
    wanted, started = tuple(passes), time.monotonic()
    for trial in trials:
        if minutes is not None and time.monotonic() - started > 60 * minutes:
            return False
        missing = record.missing(trial, wanted)
        if not missing:
            continue
        record.begin(trial, missing)
        for outcome in judge(trial, missing, optimizer, seconds=seconds_each):
            record.add(outcome)
            if verbose and outcome.verdict in FOUND:
                line = f"{outcome.verdict}: {outcome.name} [{outcome.passes}] {outcome.reason}"
                print(line, flush=True)
        record.end()
    return True


def kind_of(reason: str) -> str:
    """A reason with its names, numbers and places blanked, so that like reasons count together."""
    first = (reason.strip().splitlines() or [""])[0]
    first = re.sub(r"expected -?[\d.einf]+j?, got .*?\(largest.*", "…", first)
    first = re.sub(r"0x[0-9a-f]+|-?\d+(\.\d+)?(e-?\d+)?", "N", first)
    first = re.sub(r"\([^()]*[jJ]\)", "Z", first)
    return first[:150]


def _grouped(outcomes: Iterable[Outcome]) -> Iterator[str]:
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_kind[kind_of(outcome.reason)].append(outcome)
    for kind, members in sorted(by_kind.items(), key=lambda item: (-len(item[1]), item[0])):
        groups = list(dict.fromkeys(member.group for member in members))
        named = ", ".join(groups[:6]) + (f" and {len(groups) - 6} more" if len(groups) > 6 else "")
        yield f"  {len(members):5d}  {kind}"
        yield f"         {named}; first: {members[0].name} [{members[0].passes}]"


def summary(outcomes: Iterable[Outcome], *, refusals: bool = True) -> str:
    """The table of a sweep: counts, shares, and every finding grouped by reason."""
    known = list(outcomes)
    lines: list[str] = []
    for passes in dict.fromkeys(outcome.passes for outcome in known):
        mine = [outcome for outcome in known if outcome.passes == passes]
        counts = Counter(outcome.verdict for outcome in mine)
        judged = [o for o in mine if o.verdict not in EXCLUDED]
        exported = [o for o in judged if o.exported and not o.eager_raises]
        taken = [outcome for outcome in exported if outcome.verdict != "refused"]
        accepted = [outcome for outcome in judged if outcome.verdict == "ok"]
        changed = [outcome for outcome in accepted if outcome.changed]
        extra = [o for o in judged if not o.exported and o.verdict == "ok"]
        taken_share = _share(len(taken), len(exported))
        changed_share = _share(len(changed), len(accepted))
        lines += [
            f"passes: {passes}",
            f"  {len(mine)} programs over {len({o.group for o in mine})} operators: "
            + ", ".join(f"{verdict} {count}" for verdict, count in counts.most_common()),
            f"  torch.export takes {len(exported)}, graphopt {len(taken)} of them: {taken_share}",
            f"  required: {REQUIRED_SHARE:.0%}; taken beyond what export takes: {len(extra)}",
            f"  eager raises in {sum(o.eager_raises for o in judged)}",
            f"  the graph changed in {len(changed)} of {len(accepted)}: {changed_share}",
        ]
        for verdict, title in FINDINGS:
            found = [outcome for outcome in mine if outcome.verdict == verdict]
            lines.append(f"  {title}: {len(found)}")
            lines += _grouped(found)
        if refusals:
            found = [o for o in exported if o.verdict == "refused"]
            lines.append(f"  refused though torch.export takes it: {len(found)}")
            lines += _grouped(found)
        for verdict, title in EXCLUSIONS:
            lines.append(f"  {title}: {counts[verdict]}")
            lines += _grouped(outcome for outcome in mine if outcome.verdict == verdict)
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "none"
