"""Makers of inputs: tokens, images, sound. Each returns (seed, batch, length) -> arguments."""

from __future__ import annotations

from typing import Any

import torch

from bench.architectures.architecture import Inputs, MakeInputs

VOCABULARY = 96
FIRST_WORD = 4
"""Token ids below this are special (padding, start, end, mask) and are not drawn."""


def _generator(seed: int, salt: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1009 + sum(salt.encode()))


def padding_mask(batch: int, length: int) -> torch.Tensor:
    """[batch, length] of ones where row r > 0 ends in r zeros (at most half of the row)."""
    kept = length - torch.arange(batch).clamp(max=length // 2)
    return (torch.arange(length)[None, :] < kept[:, None]).long()


def tokens(
    name: str = "input_ids",
    mask: str | None = "attention_mask",
    *,
    fixed_length: int | None = None,
    low: int = FIRST_WORD,
    high: int = VOCABULARY,
) -> MakeInputs:
    """Token ids [batch, length] and a padding mask; `mask=None` leaves the mask away."""

    def make(seed: int, batch: int, length: int) -> Inputs:
        length = fixed_length or length
        ids = torch.randint(low, high, (batch, length), generator=_generator(seed, name))
        return (), {name: ids} | ({mask: padding_mask(batch, length)} if mask else {})

    return make


def sometimes_padded(padded: MakeInputs, *masks: str) -> MakeInputs:
    """Padded inputs for even seeds; for odd seeds the same with masks of ones alone.

    transformers drops a mask of ones when it runs eagerly (a branch on values) and keeps it while
    exporting: one captured program has to be right for both.
    """

    def make(seed: int, batch: int, length: int) -> Inputs:
        args, kwargs = padded(seed, batch, length)
        if seed % 2:
            kwargs |= {mask: torch.ones_like(kwargs[mask]) for mask in masks}
        return args, kwargs

    return make


def noise(name: str, *shape: int | str, scale: float = 1.0) -> MakeInputs:
    """Normal noise; in `shape`, "batch" and "length" stand for the sizes of the call."""

    def make(seed: int, batch: int, length: int) -> Inputs:
        sizes: dict[str, Any] = {"batch": batch, "length": length}
        concrete = [sizes[size] if isinstance(size, str) else size for size in shape]
        return (), {name: scale * torch.randn(concrete, generator=_generator(seed, name))}

    return make


def images(name: str = "pixel_values", *, channels: int = 3, size: int | None = None) -> MakeInputs:
    """Images [batch, channels, side, side]; the side is the length unless `size` fixes it."""
    side: int | str = size or "length"
    return noise(name, "batch", channels, side, side)


def sound(name: str = "input_values") -> MakeInputs:
    """Raw sound [batch, length]."""
    return noise(name, "batch", "length")


def padding(name: str = "attention_mask") -> MakeInputs:
    """A padding mask alone, for models of sound."""
    return lambda seed, batch, length: ((), {name: padding_mask(batch, length)})


def constant(name: str, value: object) -> MakeInputs:
    """One keyword argument that is the same in every call."""
    return lambda seed, batch, length: ((), {name: value})


def together(*makers: MakeInputs) -> MakeInputs:
    """The arguments of several makers in one call."""

    def make(seed: int, batch: int, length: int) -> Inputs:
        arguments: dict[str, object] = {}
        for maker in makers:
            arguments |= maker(seed, batch, length)[1]
        return (), arguments

    return make
