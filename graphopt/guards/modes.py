"""The global modes that change what a program computes, by name."""

from collections.abc import Callable
from functools import partial

import torch


def _autocast(device: str) -> object:
    enabled = torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if enabled else None


def _function_modes() -> int:
    return torch._C._len_torch_function_stack()


def _functorch_level() -> object:
    return torch._C._functorch.maybe_current_level()


MODES: dict[str, Callable[[], object]] = {
    "autocast on cpu": partial(_autocast, "cpu"),
    "autocast on cuda": partial(_autocast, "cuda"),
    "default dtype": torch.get_default_dtype,
    "deterministic algorithms": torch.are_deterministic_algorithms_enabled,
    "torch function modes": _function_modes,
    "functorch level": _functorch_level,
    "grad mode": torch.is_grad_enabled,
    "inference mode": torch.is_inference_mode_enabled,
}
