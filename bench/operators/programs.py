"""One-line programs that call the operators common in models, run under the recorder.

torch's own operator samples do not reach all of these, or only with few or empty operands. A line is
run once for every choice of the names in it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bench.operators import layer_lines, tensor_lines

_FLOATS = (torch.float32, torch.float64, torch.bfloat16)
_DTYPES = (*_FLOATS, torch.int64, torch.bool, torch.complex64)
_SHAPES = ((2, 3, 4), (4, 6), (5,), (1, 1), (2, 3, 4, 4))
_MODULES = {"torch": torch, "F": F, "nn": nn, "aten": torch.ops.aten}

_CHOICES: dict[str, tuple[object, ...]] = {
    "activation": (F.relu, F.silu, F.hardswish, F.leaky_relu, F.elu, F.relu6, F.mish, F.selu, F.celu),
    "affine": (True, False),
    "both": (True, False),
    "cell": (nn.LSTMCell, nn.GRUCell, nn.RNNCell),
    "drop": (F.dropout, F.alpha_dropout, F.dropout1d, F.feature_alpha_dropout),
    "interpolation": ("bilinear", "nearest", "bicubic"),
    "layers": (1, 2),
    "loss": (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.kl_div, F.soft_margin_loss),
    "n": (1, 4),
    "number": (2, 0.5, True),
    "operation": ("add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge", "pow", "bitwise_and"),
    "order": (2, -2, 1, -1, float("inf"), "fro", "nuc"),
    "outside": ("zeros", "border", "reflection"),
    "p": (0.0, 0.5, 1.0),
    "padding": ("constant", "reflect", "replicate", "circular"),
    "reduction": ("none", "mean", "sum"),
    "rnn": (nn.LSTM, nn.GRU, nn.RNN),
    "target": _DTYPES,
    "track": (True, False),
    "train": (True, False),
}


def programs() -> Iterator[Callable[[], object]]:
    """Every line with every choice; some raise."""
    torch.manual_seed(0)
    for dtype, size in itertools.product(_FLOATS, (2, 5)):
        yield from _programs(layer_lines.LAYERS, _layer_operands(dtype, size))
    for dtype, shape in itertools.product(_DTYPES, _SHAPES):
        yield from _programs(tensor_lines.TENSORS, _tensor_operands(dtype, shape))
    for dtype, shape in itertools.product(_DTYPES, ((2, 3), (4,), ())):
        yield from _programs(tensor_lines.CONVERSIONS, {"x": torch.ones(shape, dtype=dtype)})
    for made in (*_DTYPES, None):
        yield from _programs(tensor_lines.CONSTRUCTORS, {"dtype": made})
    for dtype, value in itertools.product(_DTYPES, (0, 1, 3)):
        scalar = torch.tensor(value, dtype=dtype)
        yield from _programs(tensor_lines.SCALARS, {"x": scalar, "number": value})
    for dtype, batch in itertools.product((torch.float32, torch.float64, torch.complex64), ((), (2,))):
        yield from _programs(tensor_lines.MATRICES, _matrix_operands(dtype, batch))
    for dtype in (torch.float32, torch.float64):
        yield from _programs(tensor_lines.DISTRIBUTIONS, {"rate": torch.rand(2, 3, dtype=dtype)})
        window = torch.hann_window(8, dtype=dtype) + 0.1
        signal = torch.rand(2, 32, dtype=dtype)
        spectrum = torch.stft(signal, 8, window=window, return_complex=True)
        named = {"window": window, "signal": signal, "spectrum": spectrum}
        yield from _programs(tensor_lines.SIGNALS, named)


def _programs(lines: str, given: Mapping[str, object]) -> Iterator[Callable[[], object]]:
    for line in lines.strip().splitlines():
        code = compile(line, f"<{line}>", "eval")
        open_names = [name for name in _names(code) if name in _CHOICES and name not in given]
        for chosen in itertools.product(*(_CHOICES[name] for name in open_names)):
            names = {**_MODULES, **given, **dict(zip(open_names, chosen, strict=True))}
            yield functools.partial(eval, code, names)


def _names(code: CodeType) -> list[str]:
    inner = [name for c in code.co_consts if isinstance(c, CodeType) for name in _names(c)]
    return sorted({*code.co_names, *inner})


def _layer_operands(dtype: torch.dtype, size: int) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "size": size,
        "image": torch.rand(size, 4, 6, 6, dtype=dtype),
        "rows": torch.rand(size, 3, 8, dtype=dtype),
        "ones": torch.ones(size, 3, 8, dtype=dtype),
        "volume": torch.rand(size, 2, 4, 4, 4, dtype=dtype),
        "index": torch.randint(0, 7, (size, 4)),
        "table": torch.rand(7, 8, dtype=dtype),
        "grid": torch.rand(size, 3, 3, 2, dtype=dtype) * 2 - 1,
        "query": torch.rand(2, 4, size, 8, dtype=dtype),
        "key": torch.rand(2, 4, 7, 8, dtype=dtype),
        "mask": torch.rand(size, 7) > 0.5,
    }


def _tensor_operands(dtype: torch.dtype, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "x": torch.ones(shape, dtype=dtype),
        "zeros": torch.zeros(shape, dtype=torch.int64),
        "mask": torch.ones(shape[-1], dtype=torch.bool),
        "shape": shape,
        "last": shape[-1],
        "first": torch.tensor([0]),
    }


def _matrix_operands(dtype: torch.dtype, batch: tuple[int, ...]) -> dict[str, Any]:
    noise = torch.rand(*batch, 4, 4, dtype=dtype) / 8
    a = noise + noise.mH + torch.eye(4, dtype=dtype)
    lu, pivots = torch.linalg.lu_factor(a)
    return {
        "a": a,
        "b": torch.rand(*batch, 4, 2, dtype=dtype),
        "lu": lu,
        "pivots": pivots,
        "lower": torch.linalg.cholesky(a),
    }
