"""Short names of dtypes: "f32"."""

import re

import torch

_SHORT = {"float": "f", "bfloat": "bf", "int": "i", "uint": "u", "complex": "c", "float8": "f8"}


def short_name(dtype: torch.dtype) -> str:
    """A dtype's name in the text form."""
    name = str(dtype).removeprefix("torch.")
    if name == "bool":
        return "b8"
    plain = re.fullmatch(r"(float|bfloat|int|uint|complex)(\d+)", name)
    return f"{_SHORT[plain[1]]}{plain[2]}" if plain else name


DTYPES = {short_name(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
