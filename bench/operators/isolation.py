"""Executes operators in a child process, for some crash, hang or take all memory on some values."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch._ops import OpOverload

from bench.operators.calls import Call
from bench.operators.evidence import Evidence, Excluded
from bench.operators.execution import Budget, gather
from bench.operators.variants import Kind

_SECONDS = 240.0  # for one operator, on a machine that does other work too
_SAFE = frozenset({Kind.LAYOUT})
_MEMORY = 1 * 2**30  # bytes on top of what is in use


def gather_all(
    calls: Mapping[OpOverload, Sequence[Call]], budget: Budget
) -> Iterator[tuple[OpOverload, Evidence | Excluded]]:
    """Evidence for each operator, in order of name.

    One that kills its process is tried again on recorded sizes and literals only, for other sizes and
    literals may be such as no program means.
    """
    pending = [(op, budget) for op in sorted(calls, key=str)]
    context = multiprocessing.get_context("fork")
    while pending:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_gather_in_child, args=(pending, calls, theirs))
        child.start()
        theirs.close()
        while pending:
            (op, used), *pending = pending
            found = _received(op, ours)
            if isinstance(found, Evidence):
                yield op, found
                continue
            child.kill()
            if used.kinds != _SAFE:
                pending = [(op, dataclasses.replace(used, kinds=_SAFE)), *pending]
            else:
                yield op, found
            break
        child.join()


def _received(op: OpOverload, channel: Connection) -> Evidence | Excluded:
    try:
        if not channel.poll(_SECONDS):
            return Excluded("takes too long")
        found = channel.recv()
    except EOFError:
        return Excluded("kills the process")
    if isinstance(found, str):
        raise RuntimeError(found)
    return Evidence(op, **found)


def _gather_in_child(
    pending: Sequence[tuple[OpOverload, Budget]],
    calls: Mapping[OpOverload, Sequence[Call]],
    channel: Connection,
) -> None:
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)  # MKL reports NaN here
    os.dup2(silent, 2)  # and C++ code warns by the thousand
    for op, budget in pending:
        try:
            evidence = gather(op, calls[op], budget)
        except BaseException as error:
            error.add_note(f"while executing {op}")
            channel.send("".join(traceback.format_exception(error)))
            return
        names = [field.name for field in dataclasses.fields(evidence) if field.name != "op"]
        channel.send({name: getattr(evidence, name) for name in names})
