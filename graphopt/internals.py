"""What is used of torch's internals outside of capture and emission: no public name says it.

The one place to look at when torch changes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor

__all__ = [
    "FakeTensor",
    "any_autocast",
    "conjugated",
    "deterministic_algorithms",
    "entry_of",
    "functorch_level",
    "has_onednn",
    "is_composite",
    "look_of",
    "negated",
    "torch_function_modes",
]

torch_function_modes: Callable[[], int] = torch._C._len_torch_function_stack
"""How many modes stand between a call and torch."""
any_autocast: Callable[[], bool] = torch._C._is_any_autocast_enabled
"""Whether autocast is on, on whatever device."""
deterministic_algorithms: Callable[[], bool] = torch._C._get_deterministic_algorithms
"""What torch.are_deterministic_algorithms_enabled tells."""
functorch_level: Callable[[], int | None] = torch._C._functorch.maybe_current_level
"""How many transforms of torch.func a call runs in."""


def look_of(tensors: Sequence[torch.Tensor]) -> Callable[..., bool] | None:
    """torch's own check of how many tensors look, which takes one call for all of them: whether as many look
    as these do now (class, dtype, device, layout, sizes, strides, requires_grad) and are all different
    objects. None where torch cannot tell.

    "Yes" is certain. "No" is not: inference mode, autocast and a conjugate bit count too.
    """
    guards = getattr(torch._C._dynamo.guards, "TensorGuards", None)
    if guards is None or not all(tensor.layout is torch.strided for tensor in tensors):
        return None
    check: Callable[..., bool] = guards(
        *tensors,
        dynamic_dims_sizes=[list(tensor.shape) for tensor in tensors],
        dynamic_dims_strides=[list(tensor.stride()) for tensor in tensors],
    ).check
    return check if check(*tensors) else None


def entry_of(operator: Any) -> Any:
    """What an operator's Python object hands its arguments to, where that does nothing else."""
    return operator._op if type(operator) is OpOverload else operator


def is_composite(operator: Any) -> bool:
    """Whether an operator is written in others, alike for all devices."""
    has_kernel = getattr(operator, "has_kernel_for_dispatch_key", None)
    return has_kernel is not None and bool(has_kernel(torch._C.DispatchKey.CompositeImplicitAutograd))


def conjugated(tensor: torch.Tensor) -> torch.Tensor:
    """A lazily conjugated view of a complex tensor, on whatever device."""
    return torch._conj(tensor)


def negated(tensor: torch.Tensor) -> torch.Tensor:
    """A lazily negated view of a tensor."""
    return torch._neg_view(tensor)


def has_onednn() -> bool:
    """Whether this build of torch has oneDNN's product of plain matrices."""
    return torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
