"""Copies of example arguments in which every relation among them holds again."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from graphopt.internals import negated
from graphopt.verify.facts import markers_in, tensors_in


def copy_arguments(
    args: Sequence[object],
    kwargs: Mapping[str, object] | None = None,
    kept: Mapping[int, object] | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Deep copies of the arguments in which every relation among them holds again.

    Views of one storage become views of one copied storage, one object stays one object, and dtype,
    strides, offset, lazy bits, ``requires_grad`` and ``.grad`` are kept. A tensor inside an
    autograd graph becomes a leaf that requires grad. Parameters stay parameters. What is `kept`, by
    id(), stays itself, and so does a bare object(), which is nothing but its identity.
    """
    memo: dict[int, Any] = dict(kept or {})
    storages: dict[int, torch.UntypedStorage] = {}
    alive: list[object] = []
    values = (tuple(args), dict(kwargs or {}))
    for _, tensor in tensors_in(values):
        if id(tensor) not in memo:
            memo[id(tensor)] = _copy_tensor(tensor, storages, alive)
    memo |= {id(marker): marker for marker in markers_in(values)}
    copied_args, copied_kwargs = copy.deepcopy(values, memo)
    return copied_args, copied_kwargs


def _copy_tensor(
    tensor: torch.Tensor, storages: dict[int, torch.UntypedStorage], alive: list[object]
) -> torch.Tensor:
    strided = tensor.layout == torch.strided and not tensor.is_nested
    if not strided or type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.is_quantized:
        copied = tensor.detach().clone()
    else:
        with torch.no_grad(), torch.inference_mode(tensor.is_inference()):
            storage = tensor.untyped_storage()
            if id(storage) not in storages:
                alive.append(storage)
                octets = torch.empty(0, dtype=torch.uint8, device=tensor.device)
                storages[id(storage)] = octets.set_(storage).clone().untyped_storage()
            copied = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
                storages[id(storage)], tensor.storage_offset(), tensor.size(), tensor.stride()
            )
            if tensor.is_conj():
                copied = copied.conj()
            if tensor.is_neg():
                copied = negated(copied)
    if isinstance(tensor, torch.nn.Parameter):
        copied = torch.nn.Parameter(copied, requires_grad=tensor.requires_grad)
    elif tensor.requires_grad:
        copied.requires_grad_()
    if tensor.is_leaf and tensor.grad is not None:
        copied.grad = _copy_tensor(tensor.grad, storages, alive)
    return copied
