"""The global modes that change what a program computes, by name."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from graphopt.internals import any_autocast, deterministic_algorithms, functorch_level, torch_function_modes


def _autocast(device: str) -> object:
    enabled = torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if enabled else None


MODES: dict[str, Callable[[], object]] = {
    "autocast on cpu": partial(_autocast, "cpu"),
    "autocast on cuda": partial(_autocast, "cuda"),
    "default dtype": torch.get_default_dtype,
    "deterministic algorithms": deterministic_algorithms,
    "torch function modes": torch_function_modes,
    "functorch level": functorch_level,
    "grad mode": torch.is_grad_enabled,
    "inference mode": torch.is_inference_mode_enabled,
}

# Settings that Python code asks for, and no operator: guarded where forward was seen to ask. Each is a name
# with the module and function that tell.
SETTINGS: dict[str, tuple[Any, str]] = {
    f"{owner.__name__}.{name}": (owner, name)
    for owner, names in (
        (torch.backends.mha, ("get_fastpath_enabled",)),
        (
            torch.backends.cuda,
            ("flash_sdp_enabled", "mem_efficient_sdp_enabled", "math_sdp_enabled", "cudnn_sdp_enabled"),
        ),
        (torch, ("get_float32_matmul_precision", "get_num_threads", "get_num_interop_threads")),
        (torch, ("is_deterministic_algorithms_warn_only_enabled", "is_autocast_cache_enabled")),
    )
    for name in names
}
_ENVIRONMENT = "environment variable "
_AUTOCAST = "autocast on "


_AUTOCAST_DTYPE = "autocast dtype on "


def autocast_dtype(device: str) -> str:
    """The mode that stands for the dtype that torch.autocast takes where it is told none."""
    return _AUTOCAST_DTYPE + device


def environment(variable: str) -> str:
    """The mode that stands for an environment variable."""
    return _ENVIRONMENT + variable


def reader(mode: str) -> Callable[[], object]:
    """What reads a mode: one of MODES or SETTINGS, an environment variable, or a dtype of autocast."""
    if mode.startswith(_ENVIRONMENT):
        return partial(os.environ.get, mode.removeprefix(_ENVIRONMENT))
    if mode.startswith(_AUTOCAST_DTYPE):
        return partial(torch.get_autocast_dtype, mode.removeprefix(_AUTOCAST_DTYPE))
    if mode in SETTINGS:
        owner, name = SETTINGS[mode]
        read: Callable[[], object] = getattr(owner, name)
        return read
    return MODES[mode]


def modes_check(modes: Sequence[tuple[str, object]]) -> Callable[[], bool]:
    """A function that says whether modes, by name, have the values that are given with them, as
    straight-line Python. Where autocast is off on all devices it is asked for all at once."""
    names: dict[str, object] = {"any_autocast": any_autocast}
    off, lines = list[str](), ["def hold():"]
    for number, (mode, value) in enumerate(modes):
        names[f"read_{number}"], names[f"value_{number}"] = reader(mode), value
        differs = f"read_{number}() != value_{number}"
        if mode.startswith(_AUTOCAST) and value is None:
            off.append(differs)
        else:
            lines.append(f"    if {differs}: return False")
    if off:
        lines.append(f"    if any_autocast() and ({' or '.join(off)}): return False")
    exec(compile("\n".join([*lines, "    return True"]), "<graphopt guard>", "exec"), names)
    made: Callable[[], bool] = names["hold"]  # type: ignore[assignment]
    return made
