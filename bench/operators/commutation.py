"""Whether an operator's first two tensor operands can be exchanged without changing a bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch._ops import OpOverload

from bench.operators.calls import Call, parameters
from bench.operators.trial import digest, element_bytes

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool)
_SHAPES = (((67,), (67,)), ((3, 67), (67,)), ((5, 1), (1, 7)), ((), (9,)), ((4, 4), (4, 4)))
_SPECIAL = (0.0, -0.0, 1.0, -1.0, 3.5, float("nan"), float("inf"), float("-inf"), 1e-40, 3e38)
_FEWEST = 5  # pairs that must have run


def commutes(op: OpOverload, recorded: Sequence[Call], generator: torch.Generator) -> bool:
    """Whether op(a, b) is op(b, a) for operands of one real dtype, every other argument left at its
    default.

    Two dtypes are left out: mul of a float32 number and bfloat16 elements rounds otherwise than mul of
    the elements and the number. So are complex operands: add(a, b) = a + 1 * b multiplies b alone by
    (1 + 0j), which makes NaN of Inf, and the fused product of mul rounds one of its halves. The elements
    must agree bit for bit, NaN payloads aside, for every pair. Strides must agree where a and b have the
    same shape and strides; where they do not, the result's layout follows the first operand even for add,
    so whoever exchanges operands compares the types of the results.
    """
    names = parameters(op)
    arguments = op._schema.arguments
    if len(names) < 2 or op._schema.is_mutable:
        return False
    if any(str(argument.real_type) != "Tensor" for argument in arguments[:2]):
        return False
    if not all(argument.has_default_value() for argument in arguments[2:]):
        return False
    ran = 0
    for a, b in itertools.chain(_recorded_pairs(recorded), _made_pairs(generator)):
        forward, backward = _run(op, a, b), _run(op, b, a)
        if (forward is None) is not (backward is None):
            return False
        if forward is None or backward is None:
            continue
        ran += 1
        if not _agree(forward, backward, same_layout=_layout(a) == _layout(b)):
            return False
    return ran >= _FEWEST


def _layout(tensor: torch.Tensor) -> tuple[object, ...]:
    return tuple(tensor.shape), tensor.stride()


def _is_real_pair(pair: Sequence[object]) -> bool:
    return (
        len(pair) == 2
        and all(isinstance(operand, torch.Tensor) and not operand.is_complex() for operand in pair)
        and len({operand.dtype for operand in pair if isinstance(operand, torch.Tensor)}) == 1
    )


def _agree(one: object, two: object, *, same_layout: bool) -> bool:
    if same_layout or not isinstance(one, torch.Tensor) or not isinstance(two, torch.Tensor):
        return digest(one) == digest(two)
    metadata = one.dtype == two.dtype and one.shape == two.shape
    return metadata and element_bytes(one) == element_bytes(two)


def _run(op: OpOverload, a: torch.Tensor, b: torch.Tensor) -> object | None:
    torch.default_generator.manual_seed(0)
    try:
        result: object = op(a, b)
    except Exception:
        return None
    return result


def _recorded_pairs(recorded: Sequence[Call]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for call in recorded:
        pair = list(call.operands.values())[:2]
        if _is_real_pair(pair):
            yield pair[0], pair[1]


def _made_pairs(generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for dtype in _DTYPES:
        for left, right in _SHAPES:
            yield _special(left, dtype, generator), _special(right, dtype, generator)
        square = _special((5, 5), dtype, generator)
        yield square, _special((5, 5), dtype, generator).mT
    # isclose(a, b) allows an error relative to b: a pair on the brink tells the two orders apart.
    brink = torch.arange(-50, 50, dtype=torch.float64) * 1e-12
    yield torch.full((100,), 1e10, dtype=torch.float64), 1e10 * (1 + 1e-5 + brink)
    # Every pair of special values, long enough for the vectorised loop and its tail.
    for dtype in _DTYPES[:3]:
        values = torch.tensor(_SPECIAL, dtype=dtype)
        grid = torch.meshgrid(values, values, indexing="ij")
        yield grid[0].reshape(-1).clone(), grid[1].reshape(-1).clone()


def _special(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    if dtype is torch.bool or not (dtype.is_floating_point or dtype.is_complex):
        low = 0 if dtype is torch.bool else -5
        return torch.randint(low, 6, shape, generator=generator).to(dtype)
    made = torch.randn(shape, generator=generator, dtype=torch.float64)
    index = torch.randint(3 * len(_SPECIAL), shape, generator=generator)
    special = torch.tensor(_SPECIAL, dtype=torch.float64)[index % len(_SPECIAL)]
    mixed = torch.where(index < len(_SPECIAL), special, made)
    if dtype.is_complex:
        return torch.complex(mixed, mixed.flip(0) if mixed.dim() else mixed).to(dtype)
    return mixed.to(dtype)
