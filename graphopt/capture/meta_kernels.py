"""Meta kernels of torch that do not say what the kernels do."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
import torch._meta_registrations as registrations


@contextlib.contextmanager
def mended() -> Iterator[None]:
    """Inside, `_grouped_mm` traces in every dtype that its kernels take, and not in bfloat16 alone, and
    gives the strides that they give: rows padded to 16 bytes."""
    narrow: Any = registrations._meta_grouped_mm_common
    unpadded: Any = registrations._create_grouped_mm_output_tensor

    def padded(mat_a: torch.Tensor, mat_b: torch.Tensor, offs: Any, out_dtype: Any) -> torch.Tensor:
        out: torch.Tensor = unpadded(mat_a, mat_b, offs, out_dtype)
        if torch.version.hip:
            return out
        each = 16 // out.element_size()
        row = (out.shape[-1] + each - 1) // each * each
        strides = (out.shape[-2] * row, row, 1)[-out.dim() :]
        return torch.empty_strided(out.shape, strides, dtype=out.dtype, device=out.device)

    def grouped(mat_a: torch.Tensor, mat_b: torch.Tensor, **kwargs: Any) -> Any:
        plain = mat_a.dtype == mat_b.dtype and mat_a.dtype in (torch.float32, torch.float16)
        if kwargs.get("scale_a") is not None or not plain:
            return narrow(mat_a, mat_b, **kwargs)
        return padded(mat_a, mat_b, kwargs.get("offs"), kwargs.get("out_dtype") or mat_a.dtype)

    with (
        patch.object(registrations, "_create_grouped_mm_output_tensor", padded),
        patch.object(registrations, "_meta_grouped_mm_common", grouped),
    ):
        yield
