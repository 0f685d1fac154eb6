"""Work on one architecture in a forked process of its own, and where and how a run was made."""

from __future__ import annotations

import logging
import multiprocessing
import os
import platform
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from bench.exportability import first_lines

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What came of the work; or why nothing did: its signal, its exception, or the time limit."""

    value: T | None = None
    failure: str = ""


def _work(work: Callable[[], T], answer: Connection, log: Path) -> None:
    """Sends an Answer; what the process prints goes to `log`, since export's own warnings are long."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 1)
    os.dup2(target, 2)
    warnings.simplefilter("ignore")
    try:
        made = Answer(work())
    except BaseException as error:
        traceback.print_exc()
        made = Answer(failure=first_lines(error))
    answer.send(made)
    answer.close()


def run_apart(work: Callable[[], T], limit: float, log: Path = Path(os.devnull)) -> Answer[T]:
    """The work done in a forked process that is ended after `limit` seconds."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(work, send, log))
    worker.start()
    send.close()
    failure = f"no answer within {limit:.0f} s"
    try:
        if receive.poll(limit):
            made: Answer[T] = receive.recv()
            return made
    except EOFError:
        worker.join()
        failure = f"process ended with code {worker.exitcode}"
    finally:
        worker.kill()
        worker.join()
    return Answer(failure=failure)


def prepare() -> None:
    """One thread, and the slow imports made once before forking."""
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity(logging.ERROR)
    torch.export.export(nn.Linear(2, 2), (torch.ones(2, 2),), strict=False)


@dataclass(frozen=True)
class Environment:
    """Where and how a run was made."""

    command: str
    date: str
    commit: str
    """Of the checkout, with a plus where files were changed; empty outside git."""
    python: str
    torch: str
    transformers: str
    torch_geometric: str
    peft: str
    machine: str
    cores: int
    threads: int


def environment(module: str) -> Environment:
    """Of this process, whose command is `python -m <module>`."""
    return Environment(
        command="python -m " + " ".join([module, *sys.argv[1:]]),
        date=time.strftime("%Y-%m-%d"),
        commit=_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=version("transformers"),
        torch_geometric=version("torch_geometric"),
        peft=version("peft"),
        machine=_machine(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
    )


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def _machine() -> str:
    """The processor's name, where the system tells it."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
