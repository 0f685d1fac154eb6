"""Other arguments of the shapes, types and layouts of the example call."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # others can't be compared


@dataclass(frozen=True)
class Varied:
    """Arguments with other values; whether integers or booleans are among what changed."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    integers: bool


def other_values(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    kept: Mapping[int, object],
    seed: int,
    signs: bool,
    integers: bool = True,
) -> Varied | None:
    """The arguments with the elements of every floating tensor in another order and scale, and half of
    their `signs` changed; and, with `integers`, those of the others drawn anew (see `_drawn`). None where
    nothing changes. Objects that are `kept`, by id(), stay themselves."""
    generator = torch.Generator().manual_seed(seed)
    copies = copy_arguments(args, kwargs, kept)
    floating = others = False
    for _, tensor in tensors_in(copies):
        if _why_unchanged(tensor):
            continue
        if tensor.is_floating_point():
            values = _reordered(tensor, generator, signs)
            floating = True
        elif integers:
            values = _drawn(tensor, generator)
            others = True
        else:
            continue
        tensor.detach().copy_(values.reshape(tensor.shape))
    return Varied(*copies, others) if floating or (others and not signs) else None


def unvaried(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[str]:
    """The tensors that `other_values` leaves as they are, and why."""
    found: dict[str, list[str]] = {}
    given = [*(("args" + path, tensor) for path, tensor in tensors_in(args)),
             *(("kwargs" + path, tensor) for path, tensor in tensors_in(kwargs))]  # fmt: skip
    for path, tensor in given:
        why = _why_unchanged(tensor)
        if why:
            found.setdefault(why, []).append(path)
    yield from (f"{', '.join(paths)}: {why}" for why, paths in found.items())


def _why_unchanged(tensor: torch.Tensor) -> str:
    """Why a tensor keeps its values; "" where it need not."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_inference():
        return "not a plain tensor on the CPU"
    if 0 in tensor.stride():  # an expanded tensor is one element, many times
        return "expanded"
    if tensor.is_floating_point() or tensor.dtype is torch.bool:
        return "" if tensor.numel() else "empty"
    if tensor.dtype not in _INTEGERS:
        return f"of {tensor.dtype}"
    if tensor.numel() == 0 or bool((tensor == tensor.reshape(-1)[0]).all()):
        return "all elements are alike"
    return "both ends of what is sorted stay" if _is_sorted(tensor) and tensor.numel() == 2 else ""


def _reordered(tensor: torch.Tensor, generator: torch.Generator, signs: bool) -> torch.Tensor:
    order = torch.randperm(tensor.numel(), generator=generator)
    values = tensor.detach().reshape(-1)[order] * (float(torch.rand((), generator=generator)) + 0.5)
    if signs:
        values *= 1 - 2 * torch.randint(2, values.shape, generator=generator)
    return values


def _drawn(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Booleans at random; integers from the range of those that are there, so that indices and lengths stay
    legal. One sorted row stays sorted, with the same ends: it may hold offsets, by which kernels read
    memory unchecked."""
    if tensor.dtype is torch.bool:
        return torch.randint(2, tensor.shape, generator=generator).bool()
    low, high = int(tensor.min()), int(tensor.max())
    drawn = torch.randint(low, min(high, 2**63 - 2) + 1, tensor.shape, generator=generator)
    if not _is_sorted(tensor):
        return drawn
    drawn[0], drawn[-1] = low, high
    return drawn.sort().values


def _is_sorted(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 1 and bool((tensor[1:] >= tensor[:-1]).all())


def non_finite(
    args: tuple[Any, ...], kwargs: dict[str, Any], kept: Mapping[int, object], seed: int
) -> tuple[Any, Any] | None:
    """The arguments with infinities and NaNs strewn in; None where no argument can hold them. Objects
    that are `kept`, by id(), stay themselves."""
    generator = torch.Generator().manual_seed(seed)
    copies = copy_arguments(args, kwargs, kept)
    found = False
    for _, tensor in tensors_in(copies):
        if not tensor.is_floating_point() or _why_unchanged(tensor):
            continue
        for value in _SPECIAL:
            hit = torch.rand(tensor.shape, generator=generator) < _SHARE
            tensor.detach().masked_fill_(hit, value)
        found = True
    return copies if found else None


def other_sizes(
    graph: Graph, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """The arguments with every symbolic size 0, 1, and larger than in the example. Nothing where all sizes
    are known."""
    sizes: dict[sympy.Symbol, int] = {}
    leaves = Call.of(model, args, kwargs).leaves
    for index, kind in _given(graph).items():
        leaf = leaves[index]
        for dim, size in zip(_dims(kind), leaf.shape if torch.is_tensor(leaf) else (leaf,), strict=True):
            if isinstance(dim, sympy.Symbol):
                sizes.setdefault(dim, int(size))
    choices = (("empty", lambda size: 0), ("of size 1", lambda size: 1), ("larger", lambda size: size + 3))
    for name, choice in choices if sizes else ():
        yield name, *of_sizes(graph, model, args, kwargs, {s: choice(size) for s, size in sizes.items()})


def of_sizes(
    graph: Graph,
    model: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    sizes: Mapping[sympy.Symbol, int],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with symbolic sizes as given; elements are repeated or left out."""
    call, given = Call.of(model, args, kwargs), _given(graph)
    leaves = [
        _resized(leaf, [_evaluated(dim, sizes) for dim in _dims(given[i])]) if i in given else leaf
        for i, leaf in enumerate(call.leaves)
    ]
    resized_args, resized_kwargs, _ = call.replay(tuple(leaves))
    return resized_args, resized_kwargs


def _given(graph: Graph) -> dict[int, Type]:
    """The types of the arguments, by index."""
    return {e.source.index: e.value.type for e in graph.inputs if isinstance(e.source, Argument)}


def _dims(kind: Type) -> tuple[Any, ...]:
    if isinstance(kind, TensorType):
        return kind.shape
    return (kind.expr,) if isinstance(kind, SymType) else (None,)


def _evaluated(dim: Any, sizes: Mapping[sympy.Symbol, int]) -> int | None:
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
