"""Executes one operator on many operands."""

from __future__ import annotations

import random
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch._ops import OpOverload

from bench.operators.calls import Call, varied
from bench.operators.commutation import commutes
from bench.operators.evidence import Evidence
from bench.operators.trial import attempt
from bench.operators.values import assignments
from bench.operators.variants import Kind, Variant, layouts, literals


@dataclass(frozen=True, slots=True)
class Budget:
    """How much to execute for one operator."""

    calls: int = 20  # recorded calls, as unlike one another as there are
    each: int = 6  # of these, how many get every pattern of values into each operand by itself
    variants: int = 40  # calls with other layouts and literals
    kinds: frozenset[Kind] = frozenset(Kind)  # which changes to make


def gather(op: OpOverload, calls: Sequence[Call], budget: Budget = Budget()) -> Evidence:
    """Executes an operator on recorded calls, their variants, and many values of each."""
    evidence = Evidence(op)
    rng = random.Random(zlib.crc32(str(op).encode()))
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        running = [call for call in calls if attempt(call, 1).error is None]
        recorded = varied(running, budget.calls)
        for index, call in enumerate(recorded):
            _try_values(evidence, call, generator, each=index < budget.each)
            evidence.add(call, *(attempt(call, seed, grad=True) for seed in (1, 2)))
        seen = {call.signature() for call in recorded}
        tried = 0
        for variant in _in_turns(recorded, rng, budget.kinds):
            if len(seen) >= len(recorded) + budget.variants or tried >= 4 * budget.variants:
                break
            changed = variant.call()
            if changed is None or changed.signature() in seen:
                continue
            tried += 1
            if attempt(changed, 1).error is None:
                seen.add(changed.signature())
                _try_values(evidence, changed, generator, guess=variant.kind is Kind.GUESS)
        evidence.commutes = commutes(op, recorded, generator)
    return evidence


def _in_turns(calls: Sequence[Call], rng: random.Random, kinds: frozenset[Kind]) -> Iterator[Variant]:
    """The variants of all calls: one of each label, then another of each, and so on."""
    by_label: dict[str, list[Variant]] = {}
    for call in calls:
        for variants in (layouts(call), literals(call)):
            for variant in variants:
                if variant.kind in kinds:
                    by_label.setdefault(variant.label, []).append(variant)
    for members in by_label.values():
        rng.shuffle(members)
    for turn in range(max(map(len, by_label.values()), default=0)):
        yield from (members[turn] for members in by_label.values() if turn < len(members))


def _try_values(
    evidence: Evidence,
    call: Call,
    generator: torch.Generator,
    *,
    each: bool = False,
    guess: bool = False,
) -> None:
    """Runs a call on its own and on many other values, twice each.

    The second round goes backwards, so that what is left on the stack and heap differs.
    """
    valued = [call, *assignments(call, generator, each=each)]
    first = [attempt(one, 1) for one in valued]
    second = [attempt(one, 2) for one in reversed(valued)][::-1]
    for one, trials in zip(valued, zip(first, second, strict=True), strict=True):
        evidence.add(one, *trials, guess=guess)
    evidence.add_group(call, first)
