"""Torch's operator samples as torch.export captures them, run node by node on real tensors.

They show that what the recorder sees of eager code is what exported graphs hold.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo
from torch.utils._pytree import tree_flatten, tree_unflatten

from bench.operators.record import samples_of


class _Sample(torch.nn.Module):
    """A function of the tensors in its arguments, the other arguments fixed."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        super().__init__()
        self._function = function
        self._leaves, self._structure = tree_flatten((args, kwargs))

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(leaf.detach() for leaf in self._leaves if isinstance(leaf, torch.Tensor))

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in self._leaves]
        args, kwargs = tree_unflatten(leaves, self._structure)
        return self._function(*args, **kwargs)


def exported_programs(infos: Iterable[OpInfo] = op_db, samples: int = 1) -> Iterator[Callable[[], object]]:
    """For each of torch's operators its first samples, exported; some cannot be."""
    for info in infos:
        dtype = torch.float32 if info.supports_dtype(torch.float32, "cpu") else torch.int64
        try:
            made = list(itertools.islice(samples_of(info, dtype), samples))
        except Exception:
            continue
        for sample in made:
            model = _Sample(info.op, (sample.input, *sample.args), sample.kwargs)
            with _quiet(), contextlib.suppress(Exception):
                program = torch.export.export(model, model.tensors(), strict=False)
                interpreter = torch.fx.Interpreter(program.graph_module)
                yield functools.partial(interpreter.run, *model.tensors())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
