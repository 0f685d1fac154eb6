"""Other arguments of the shapes, types and layouts of the example call."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from graphopt.verify.copying import copy_arguments
from graphopt.verify.facts import tensors_in

_SPECIAL = (float("inf"), -float("inf"), float("nan"))
_SHARE = 0.1  # of the elements


def other_values(
    args: tuple[Any, ...], kwargs: dict[str, Any], kept: Mapping[int, object], seed: int, signs: bool
) -> tuple[Any, Any] | None:
    """The arguments with the elements of every floating tensor in another order and scale, and half of
    their `signs` changed; None where there is none. Integers and booleans stay, for they may be indices,
    lengths and masks. Objects that are `kept`, by id(), stay themselves."""
    generator = torch.Generator().manual_seed(seed)
    copies = copy_arguments(args, kwargs, kept)
    found = False
    for tensor in _floating(copies):
        order = torch.randperm(tensor.numel(), generator=generator)
        values = tensor.reshape(-1)[order] * (float(torch.rand((), generator=generator)) + 0.5)
        if signs:
            values *= 1 - 2 * torch.randint(2, values.shape, generator=generator)
        tensor.copy_(values.reshape(tensor.shape))
        found = True
    return copies if found else None


def non_finite(
    args: tuple[Any, ...], kwargs: dict[str, Any], kept: Mapping[int, object], seed: int
) -> tuple[Any, Any] | None:
    """The arguments with infinities and NaNs strewn in; None where no argument can hold them. Objects
    that are `kept`, by id(), stay themselves."""
    generator = torch.Generator().manual_seed(seed)
    copies = copy_arguments(args, kwargs, kept)
    found = False
    for tensor in _floating(copies):
        for value in _SPECIAL:
            hit = torch.rand(tensor.shape, generator=generator) < _SHARE
            tensor.masked_fill_(hit, value)
        found = True
    return copies if found else None


def _floating(copies: tuple[Any, Any]) -> Iterator[torch.Tensor]:
    """The floating tensors among copied arguments that can be written, without recording gradients."""
    for _, tensor in tensors_in(copies):
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
        spread = 0 not in tensor.stride() if plain else False  # an expanded tensor is one element, many times
        if spread and tensor.is_floating_point() and tensor.numel() and not tensor.is_inference():
            yield tensor.detach()
