"""Which recorded operators are candidates for the table."""

from __future__ import annotations

import re

import torch
from torch._ops import OpOverload

_OUTSIDE = re.compile(
    r"_?foreach|_fused_|.*quantize|q_|_?fake_quant|.*sparse|_?to_(sparse|mkldnn|dense)|mkldnn|_?nested"
    r"|.*(mps|cudnn|cuda|miopen|xnnpack|vulkan|fbgemm|nnpack)|_coalesce|indices$|values$|.*scaled_mm"
    r"|_efficient_attention|_flash_attention|_cslt|_wrapped|_test_|_validate|_unsafe_masked|__(?!i?(and|or|xor|lshift|rshift)__)"
    r"|int_repr|_make_per|_use_|record_stream|from_file|pin_memory|is_pinned"
)
_UNINITIALISED = re.compile(r"_?(new_)?empty(_|$)|resize|_resize|set_?$|_efficientzerotensor")

_POLYNOMIAL = re.compile(r"special_(shifted_)?(chebyshev|hermite|laguerre|legendre)_polynomial")


def why_not(op: OpOverload) -> str | None:
    """Why an overload is left out whatever executing it would show; None for a candidate."""
    name = op._schema.name.removeprefix("aten::")
    if _OUTSIDE.match(name):
        return "quantised, sparse, foreach, backend or book-keeping operator"
    if not torch._C._dispatch_has_kernel(str(op._schema).partition("(")[0]):
        return "an operator of TorchScript alone"
    if _UNINITIALISED.match(name):
        return "uninitialised memory"
    if _POLYNOMIAL.match(name):
        return "returns a variable that it never set where x is NaN and n > 1"
    if torch.Tag.inplace_view in op.tags:
        return "changes an operand's metadata (tag inplace_view)"
    if "nondeterministic_bitwise" in {tag.name for tag in op.tags}:
        return "bits may differ between runs (tag nondeterministic_bitwise)"
    return None
