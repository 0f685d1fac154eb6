"""The errors of two results against float64, side by side, gathered over several draws of the inputs."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

RMS, LARGEST = 2.0, 4.0  # how much larger the error may be than the original's own
FLOOR = 4.0  # ULP of the output's scale: below it an error is no news

_FLOATING = frozenset(
    (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
)


_SINGLE = {torch.float64: torch.float32, torch.complex128: torch.complex64}


@dataclass(frozen=True)
class Errors:
    """Of the original's result and of the rewritten one's, in this order."""

    truth: torch.Tensor
    squares: tuple[float, float]  # the means of the errors' squares
    largest: tuple[float, float]
    local: tuple[float, float]  # the largest, as shares of the largest value in the row or column
    ulp: float


def excess(draws: Sequence[Errors], noise: float) -> str | None:
    """Why the rewritten result's errors are larger than they may be, in all draws together. `noise`: how much
    the inputs of the others differ from those of the first, as a share of each element (the standard
    deviation).

    The output's scale is its largest value; or what a change of the inputs as large as they are does to it,
    where its terms cancel: what an ULP of the inputs does is no news. The largest error is measured by that
    scale, or by that of its row or column: the errors of an outer product are large together."""
    scale = max(float(one.truth.abs().max()) for one in draws)
    if len(draws) > 1:
        truths = torch.stack([one.truth for one in draws])
        scale = max(scale, float(truths.std(0, correction=0).max()) / noise)
    floor = FLOOR * draws[0].ulp
    rms = _ratio([one.squares for one in draws], _root_mean, floor * scale)
    if rms > RMS:
        return f"has {rms:.3g} times the original's error against float64 (RMS)"
    largest = min(
        _ratio([one.largest for one in draws], max, floor * scale),
        _ratio([one.local for one in draws], max, floor),
    )
    if largest > LARGEST:
        return f"has {largest:.3g} times the original's largest error against float64"
    return None


def _ratio(
    pairs: Iterable[tuple[float, float]], of: Callable[[Sequence[float]], float], floor: float
) -> float:
    before, after = (max(of(errors), floor) for errors in zip(*pairs, strict=True))
    return after / before if before else 1.0


def _root_mean(squares: Sequence[float]) -> float:
    return math.sqrt(sum(squares) / len(squares))


def errors_of(exact: Any, old: Any, new: Any, finite_inputs: bool) -> Errors | str | None:
    """The errors of two results; a string where something else is wrong with the new one, None where there is
    nothing to measure. Where an input is not finite, what comes of it may be one or another thing that is
    not finite, and after a comparison, anything; what is finite stays so."""
    if isinstance(old, float | complex) and type(old) is type(new):
        exact, old, new = _read(exact), *_read_alike(old, new)
    if not isinstance(old, torch.Tensor) or old.dtype not in _FLOATING:
        same = torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new
        return None if same else "is no floating number, and differs"
    exact, old, new = (_real(tensor) for tensor in (exact, old, new))
    finite = old.isfinite()
    if bool((finite & ~new.isfinite()).any()):
        return "is not finite where the original is"
    if finite_inputs and bool((~finite & new.isfinite()).any()):
        return "is finite where the original is not"
    finite &= exact.isfinite() & new.isfinite()
    if not bool(finite.any()):
        return None
    truth = torch.where(finite, exact, 0.0)
    errors = [torch.where(finite, value.double() - exact, 0.0).abs() for value in (old, new)]
    nearby = _nearby(truth.abs())
    shares = [
        torch.where(nearby > 0, error / nearby, torch.where(error > 0, torch.inf, 0.0)) for error in errors
    ]
    count = int(finite.sum())
    return Errors(
        truth,
        (float(errors[0].square().sum()) / count, float(errors[1].square().sum()) / count),
        (float(errors[0].max()), float(errors[1].max())),
        (float(shares[0].max()), float(shares[1].max())),
        torch.finfo(old.dtype).eps,
    )


def _read(number: float | complex) -> torch.Tensor:
    """A tensor that a number may have been read from."""
    return torch.tensor(number, dtype=torch.float64 if isinstance(number, float) else torch.complex128)


def _read_alike(*numbers: float | complex) -> list[torch.Tensor]:
    """The same of several: of single precision, where it has them all."""
    wide = [*map(_read, numbers)]
    single = [one.to(_SINGLE[one.dtype]) for one in wide]
    told = all(one.equal(other.to(one.dtype)) or one != one for one, other in zip(wide, single, strict=True))
    return single if told else wide


def _nearby(values: torch.Tensor) -> torch.Tensor:
    """The largest value in the row or the column of each element, along the last two dimensions."""
    nearby = values
    for dim in range(max(values.dim() - 2, 0), values.dim()):
        nearby = torch.maximum(nearby, values.amax(dim, keepdim=True))
    return nearby


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
