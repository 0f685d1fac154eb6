"""Records the operators that Python code calls, whole as torch.export keeps them, with operands."""

from __future__ import annotations

import contextlib
import functools
import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._ops import OpOverload
from torch._subclasses.schema_check_mode import SchemaCheckMode
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import OpInfo

from bench.operators.calls import Call, is_plain, parameters, tensors_in, varied

DTYPES = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.int64,
    torch.bool,
    torch.complex64,
    torch.float16,
    torch.int32,
    torch.uint8,
)
_LARGEST = 8_000  # elements of one operand
_CALLS_OF_ONE_DTYPE = 40
_CALLS = 240


class Recorder(SchemaCheckMode):  # type: ignore[no-untyped-call]
    """While active, notes each ATen call before it runs, at the level torch.export traces at.

    torch admits three kinds of mode at that level; this one poses as the schema checker.
    """

    def __init__(self) -> None:
        super().__init__()
        self._dispatch_key = torch._C.DispatchKey.PreDispatch
        self.calls: dict[OpOverload, list[Call]] = defaultdict(list)
        self._signatures: set[str] = set()
        self._dtypes: dict[tuple[OpOverload, tuple[torch.dtype, ...]], int] = defaultdict(int)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        copied = self._copy_if_new(Call.bind(func, args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if copied is not None:
            self._keep(copied)
        return result

    def note(self, call: Call) -> None:
        """Keeps a copy of a call, unless one like it is kept or there are enough."""
        copied = self._copy_if_new(call)
        if copied is not None:
            self._keep(copied)

    def _copy_if_new(self, call: Call) -> Call | None:
        if call.op.namespace != "aten" or not is_plain(list(call.operands.values())):
            return None
        if any(tensor.numel() > _LARGEST for _, tensor in call.tensors()):
            return None
        full = self._dtypes[call.op, call.dtypes()] >= _CALLS_OF_ONE_DTYPE
        if full or len(self.calls[call.op]) >= _CALLS or call.signature() in self._signatures:
            return None
        return call.mapped(torch.Tensor.detach).copied()

    def _keep(self, call: Call) -> None:
        self.calls[call.op].append(call)
        self._signatures.add(call.signature())
        self._dtypes[call.op, call.dtypes()] += 1

    def run(self, program: Callable[[], object]) -> None:
        """Runs code under the recorder; what it raises is not of interest."""
        with warnings.catch_warnings(), enable_python_dispatcher(), self:
            warnings.simplefilter("ignore")
            try:
                program()
            except Exception:
                return


def samples_of(info: OpInfo, dtype: torch.dtype) -> Iterator[Any]:
    """torch's sample inputs of an operator, the same on every call."""
    torch.manual_seed(0)
    yield from info.sample_inputs("cpu", dtype)  # type: ignore[no-untyped-call]


def opinfo_programs(infos: Iterable[OpInfo] = op_db, samples: int = 40) -> Iterator[Callable[[], object]]:
    """The samples that torch tests its operators on: `samples` of float32, fewer of the others."""
    for info in infos:
        for dtype in DTYPES:
            if not info.supports_dtype(dtype, "cpu"):
                continue
            wanted = samples if dtype is torch.float32 else max(samples // 3, 2)
            try:
                made = list(itertools.islice(samples_of(info, dtype), wanted))
            except Exception:
                continue
            for sample in made:
                yield functools.partial(info.op, sample.input, *sample.args, **sample.kwargs)


def add_relatives(recorder: Recorder) -> None:
    """Adds calls of other overloads, in-place and out= among them, on the same operands.

    They are not tried: some cannot run, and some kill the process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for op, calls in [(op, list(calls)) for op, calls in recorder.calls.items()]:
            for relative in _relatives(op):
                for call in varied(calls, 16):
                    with contextlib.suppress(Exception):
                        made = _relative_call(relative, call)
                        if made is not None:
                            recorder.note(made)


def _relatives(op: OpOverload) -> Iterator[OpOverload]:
    """The overloads, in-place ones too, whose arguments are among this one's, by name and order."""
    name = op._schema.name.removeprefix("aten::")
    names = parameters(op)
    for packet_name in (name, f"{name}_", name.removesuffix("_")):
        packet = getattr(torch.ops.aten, packet_name, None)
        for overload in packet.overloads() if packet is not None else ():
            relative = getattr(packet, overload)
            inputs = [a.name for a in relative._schema.arguments if not a.is_out]
            if relative is not op and [n for n in names if n in inputs] == inputs:
                yield relative


def _relative_call(relative: OpOverload, call: Call) -> Call | None:
    """The call of a relative on the same operands; None where it has no place for some of them."""
    kinds = {argument.name: str(argument.real_type) for argument in relative._schema.arguments}
    for name, operand in call.operands.items():
        if name not in kinds or (list(tensors_in(operand)) and "Tensor" not in kinds[name]):
            return None
    operands = dict(call.operands)
    outs = [argument.name for argument in relative._schema.arguments if argument.is_out]
    if outs:
        results = list(tensors_in(call.copied().run()))
        if len(results) != len(outs):
            return None
        operands |= {n: torch.zeros_like(r) for n, r in zip(outs, results, strict=True)}
    return Call(relative, operands)
