"""A smaller program that fails in the same way."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator

from tests.fuzz.programs import Program, Region, Statement


def minimise(program: Program, fails: Callable[[Program], bool], *, attempts: int = 300) -> Program:
    """The smallest program reached by taking parts away while ``fails`` holds, in as many runs."""
    improved = True
    while improved and attempts > 0:
        improved = False
        for candidate in _smaller(program):
            attempts -= 1
            if attempts < 0:
                break
            if fails(candidate):
                program, improved = candidate, True
                break
    return program


def _smaller(program: Program) -> Iterator[Program]:
    """Programs with one part less, the largest parts first."""
    body = program.body
    half = len(body) // 2
    if half > 1:
        yield dataclasses.replace(program, body=body[half:])
        yield dataclasses.replace(program, body=body[:half])
    for index in reversed(range(len(body))):
        yield dataclasses.replace(program, body=body[:index] + body[index + 1 :])
    for index, part in enumerate(body):
        if not isinstance(part, Region):
            continue
        flat: tuple[Statement | Region, ...] = body[:index] + part.body + body[index + 1 :]
        yield dataclasses.replace(program, body=flat)
        for inner in range(len(part.body)):
            shorter = Region(part.header, part.body[:inner] + part.body[inner + 1 :])
            yield dataclasses.replace(program, body=(*body[:index], shorter, *body[index + 1 :]))
    names = list(dict.fromkeys(re.findall(r"\b(?:t\d+|[a-d]|self\.\w+)\b", program.output)))
    if program.output != "None":
        yield dataclasses.replace(program, output="None")
    for name in names:
        if program.output != name:
            yield dataclasses.replace(program, output=name)
    if len(names) > 2:
        for name in names:
            rest = [other for other in names if other != name]
            yield dataclasses.replace(program, output=", ".join(rest))
    if names and program.output != ", ".join(names):
        yield dataclasses.replace(program, output=", ".join(names))
    for index, wanted in enumerate(program.inputs):
        others = program.inputs[:index] + program.inputs[index + 1 :]
        if len(program.inputs) > 1:
            yield dataclasses.replace(program, inputs=others)
        for change in ({"alias": None}, {"requires_grad": False}, {"special": False}):
            simpler = dataclasses.replace(wanted, **change)
            if simpler != wanted:
                inputs = (*program.inputs[:index], simpler, *program.inputs[index + 1 :])
                yield dataclasses.replace(program, inputs=inputs)
    if program.parameters or program.buffers:
        yield dataclasses.replace(program, parameters=(), buffers=())
    for index in range(len(program.parameters)):
        fewer = program.parameters[:index] + program.parameters[index + 1 :]
        yield dataclasses.replace(program, parameters=fewer)
    for index in range(len(program.buffers)):
        fewer = program.buffers[:index] + program.buffers[index + 1 :]
        yield dataclasses.replace(program, buffers=fewer)
