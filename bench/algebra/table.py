"""What was measured, as Markdown."""

import math
from collections.abc import Iterable, Sequence

from bench.algebra.measuring import SLOWER, NegativeRow, Row


def geometric_mean(values: Iterable[float]) -> float:
    """Of positive numbers; nan of none."""
    logs = [math.log(value) for value in values if value > 0]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def markdown(rows: Sequence[Row], negatives: Sequence[NegativeRow], machine: str) -> str:
    """The summary, what is not found, every expression, and the negative cases."""
    return "\n".join((*_summary(rows, machine), *_missed(rows), *_all(rows), *_negatives(negatives), ""))


def _summary(rows: Sequence[Row], machine: str) -> list[str]:
    lines = [
        "# Expressions against an expert", "", machine, "",
        "Found: graphopt takes at most min(1.25, √(eager ÷ expert)) times the expert's time.", "",
        "| idea | expressions | found | eager ÷ expert | graphopt ÷ expert | wrong |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    ideas = list(dict.fromkeys(row.idea for row in rows))
    for idea in [*ideas, "all"] if rows else []:
        mine = [row for row in rows if idea in (row.idea, "all")]
        lines.append(_share(idea, mine))
    cited = [row for row in rows if row.source]
    if cited:
        lines.append(_share("cited", cited))
    compiled = [row for row in rows if row.compiled]
    if compiled:
        mean = geometric_mean(row.compiled or 0.0 for row in compiled)
        lines += ["", f"torch.compile ÷ expert on {len(compiled)} of them: {mean:.2f}"]
    return [*lines, ""]


def _share(idea: str, rows: Sequence[Row]) -> str:
    found = sum(row.found for row in rows)
    return (
        f"| {idea} | {len(rows)} | {found} ({found / len(rows):.0%}) "
        f"| {geometric_mean(row.gain for row in rows):.2f} "
        f"| {geometric_mean(row.behind for row in rows):.2f} | {sum(not row.right for row in rows)} |"
    )


def _missed(rows: Sequence[Row]) -> list[str]:
    lines = [
        "## Not found",
        "",
        "| idea | expression | eager ÷ expert | graphopt ÷ expert | why |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if not row.found:
            why = row.note or f"runs {', '.join(row.operators)}"[:160]
            lines.append(f"| {row.idea} | {row.name} | {row.gain:.2f} | {row.behind:.2f} | {_cell(why)} |")
    return [*lines, ""]


def _all(rows: Sequence[Row]) -> list[str]:
    lines = [
        "## All", "",
        "| idea | expression | eager µs | expert µs | eager ÷ expert | graphopt ÷ expert "
        "| torch.compile ÷ expert | found | error: eager, graphopt, expert | source |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        compiled = f"{row.compiled:.2f}" if row.compiled else ""
        lines.append(
            f"| {row.idea} | {row.name} | {row.eager * 1e6:.0f} | {row.expert * 1e6:.0f} | {row.gain:.2f} "
            f"| {row.behind:.2f} | {compiled} | {'yes' if row.found else 'no' if row.right else 'WRONG'} "
            f"| {row.error_eager:.1g}, {row.error:.1g}, {row.error_expert:.1g} | {_cell(row.source)} |"
        )
    return [*lines, ""]


def _negatives(rows: Sequence[NegativeRow]) -> list[str]:
    if not rows:
        return []
    wrong, slower = sum(bool(row.difference) for row in rows), sum(row.slower for row in rows)
    lines = [
        "## Negative cases", "",
        f"{len(rows)} programs: {wrong} wrong, {slower} slower than {SLOWER} ×.", "",
        "| program | eager µs | graphopt ÷ eager | 95 % interval | rewritten | difference | note |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        lines.append(
            f"| {row.name} | {row.eager * 1e6:.0f} | {row.ratio:.2f} | {row.low:.2f} to {row.high:.2f} "
            f"| {'yes' if row.rewritten else 'no'} | {_cell(row.difference)} | {_cell(row.note)} |"
        )
    return lines


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
