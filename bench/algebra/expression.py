"""One expression of the catalogue, and tensors to evaluate it for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]
Tensors = tuple[Tensor, ...]

SANKARAN = "Sankaran et al., Benchmarking the Linear Algebra Awareness of TensorFlow and PyTorch, 2022"
LAMP = "Psarras, Barthels, Bientinesi, The Linear Algebra Mapping Problem, 2022"
LINNEA = "Barthels, Psarras, Bientinesi, Linnea, 2021, example application"


@dataclass(frozen=True)
class Expression:
    """`naive(*inputs, *parameters)` as a user writes it; `expert(*inputs, *prepared)` with the same value.
    Inputs change with every call, parameters do not: an expert may `prepare` something of them once."""

    name: str
    naive: Callable[..., Any]
    expert: Callable[..., Any]
    inputs: tuple[Shape, ...]
    parameters: tuple[Shape, ...] = ()
    prepare: Callable[..., Tensors] | None = None
    source: str = ""
    einsum: str = ""
    """Where it is one product: what it is, to check the expert's order against all others."""

    def tensors(self, dtype: torch.dtype = torch.float32) -> tuple[Tensors, Tensors]:
        """Random inputs and parameters, the same in every dtype; a matrix has singular values near one."""
        generator = torch.Generator().manual_seed(0)

        def drawn(shape: Shape) -> Tensor:
            scale = shape[-1] ** -0.5 if len(shape) > 1 else 1.0
            return (torch.randn(shape, generator=generator) * scale).to(dtype)

        return tuple(map(drawn, self.inputs)), tuple(map(drawn, self.parameters))


class Written(nn.Module):
    """An expression as a module that holds its parameters."""

    def __init__(self, expression: Expression, parameters: Tensors) -> None:
        super().__init__()
        self._naive = expression.naive
        self.held = nn.ParameterList(nn.Parameter(one, requires_grad=False) for one in parameters)

    def forward(self, *inputs: Tensor) -> Any:
        """The naive value."""
        return self._naive(*inputs, *self.held)
