"""Constants in a graph, compared by type and IEEE bits."""

import struct
from dataclasses import dataclass
from typing import TypeAlias

import torch

Scalar: TypeAlias = (
    bool
    | int
    | float
    | complex
    | str
    | torch.dtype
    | torch.device
    | torch.layout
    | torch.memory_format
    | None
)

SCALARS = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)


def _bits(value: Scalar) -> object:
    """A key that is equal exactly when two constants are the same bits of the same type."""
    if isinstance(value, float):
        return b"nan" if value != value else struct.pack("<d", value)
    if isinstance(value, complex):
        return _bits(value.real), _bits(value.imag)
    # hash(-1) == hash(-2) in CPython; this keeps even the hashes of the two apart.
    return "-1" if type(value) is int and value == -1 else value


@dataclass(frozen=True, slots=True, eq=False)
class Lit:
    """One constant operand.

    1, 1.0 and True are three constants; so are 0.0 and -0.0; nan equals nan.
    """

    value: Scalar

    def __post_init__(self) -> None:
        if type(self.value) not in SCALARS:
            raise TypeError(f"{self.value!r} of type {type(self.value).__name__} is no literal")

    def _key(self) -> tuple[type, object]:
        return type(self.value), _bits(self.value)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not Lit or type(self.value) is not type(other.value):
            return False
        if isinstance(self.value, float | complex):
            return _bits(self.value) == _bits(other.value)
        return self.value == other.value

    def __hash__(self) -> int:
        return hash(self._key())
