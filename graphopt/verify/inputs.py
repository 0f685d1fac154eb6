"""Other arguments of the shapes, types and layouts of the example call."""

from collections.abc import Iterator, Mapping
from typing import Any

import sympy
import torch

from graphopt.capture.call import Call
from graphopt.ir.graph import Argument, Graph
from graphopt.ir.types import SymType, TensorType, Type
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


def other_sizes(
    graph: Graph, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """The arguments with every symbolic size 0, 1, and larger than in the example; elements are repeated
    or left out. Nothing where all sizes are known."""
    call = Call.of(model, args, kwargs)
    given = {e.source.index: e.value.type for e in graph.inputs if isinstance(e.source, Argument)}
    sizes: dict[sympy.Symbol, int] = {}
    for index, kind in given.items():
        leaf = call.leaves[index]
        for dim, size in zip(_dims(kind), leaf.shape if torch.is_tensor(leaf) else (leaf,), strict=True):
            if isinstance(dim, sympy.Symbol):
                sizes.setdefault(dim, int(size))
    choices = (("empty", lambda size: 0), ("of size 1", lambda size: 1), ("larger", lambda size: size + 3))
    for name, choice in choices if sizes else ():
        chosen = {symbol: choice(size) for symbol, size in sizes.items()}
        leaves = [
            _resized(leaf, [_evaluated(dim, chosen) for dim in _dims(given[i])]) if i in given else leaf
            for i, leaf in enumerate(call.leaves)
        ]
        resized_args, resized_kwargs, _ = call.replay(tuple(leaves))
        yield name, resized_args, resized_kwargs


def _dims(kind: Type) -> tuple[Any, ...]:
    if isinstance(kind, TensorType):
        return kind.shape
    return (kind.expr,) if isinstance(kind, SymType) else (None,)


def _evaluated(dim: Any, sizes: dict[sympy.Symbol, int]) -> int | None:
    if isinstance(dim, sympy.Expr):
        value = dim.subs(sizes)
        return int(value) if value.is_Integer else None
    return dim if isinstance(dim, int) else None


def _resized(leaf: Any, sizes: list[int | None]) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf if sizes[0] is None else type(leaf)(sizes[0])
    made = leaf.detach()
    for dim, size in enumerate(sizes):
        if size is not None and size != made.shape[dim] and made.shape[dim]:
            made = made.index_select(dim, torch.arange(size) % made.shape[dim])
    return made.clone().requires_grad_(leaf.requires_grad)


def _floating(copies: tuple[Any, Any]) -> Iterator[torch.Tensor]:
    """The floating tensors among copied arguments that can be written, without recording gradients."""
    for _, tensor in tensors_in(copies):
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
        spread = 0 not in tensor.stride() if plain else False  # an expanded tensor is one element, many times
        if spread and tensor.is_floating_point() and tensor.numel() and not tensor.is_inference():
            yield tensor.detach()
