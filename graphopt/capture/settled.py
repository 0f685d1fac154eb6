"""What a model's first call leaves behind for good: caches it fills, flags it sets."""

import torch

from graphopt.capture.footprint import MISSING, Change
from graphopt.guards import SettledFact
from graphopt.guards.places import FORWARD_HOOKS, Path, modules_of, reachable
from graphopt.ir.literal import SCALARS, Lit


def settled_facts(model: torch.nn.Module, changes: list[Change]) -> tuple[SettledFact, ...] | None:
    """A fact for each change, without which an optimised call would leave the change out; None where one
    is at no path from the model."""
    places = _places(model)
    modules = [module for _, module in modules_of(model)]
    hooks = {
        id(vars(module).get(table)) for module in modules for table in FORWARD_HOOKS
    }  # facts of their own
    facts: list[SettledFact] = []
    for change in changes:
        if change.after is MISSING or id(change.holder) in hooks:  # comes with what takes its place
            continue
        prefix = places.get(id(change.holder))
        if prefix is None or change.key is None:
            return None
        name = prefix[-1].format(change.key)
        value = change.after
        lit = Lit(value) if type(value) in SCALARS else None  # type: ignore[arg-type]
        facts.append(SettledFact((*prefix[:-1], name), type(value), lit))
    return tuple(facts) or None


def _places(model: torch.nn.Module) -> dict[int, Path]:
    """By id of a container: the path of its entries, whose last step is to be formatted with the key."""
    found: dict[int, Path] = {}
    for path, thing in reachable(model):
        if isinstance(thing, dict | list):
            found[id(thing)] = (*path, "[{}]")
        elif type(attributes := getattr(thing, "__dict__", None)) is dict and not isinstance(thing, type):
            found[id(attributes)] = (*path, "{}")
        if isinstance(thing, torch.nn.Module):
            for slot in (thing._modules, thing._parameters, thing._buffers):
                found[id(slot)] = (*path, "{}")
    return found
