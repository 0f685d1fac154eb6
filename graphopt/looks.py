"""torch's own check of how many tensors look, which takes one call for all of them."""

from collections.abc import Callable, Sequence

import torch


def look_of(tensors: Sequence[torch.Tensor]) -> Callable[..., bool] | None:
    """A check whether as many tensors look as these do now (class, dtype, device, layout, sizes, strides,
    requires_grad) and are all different objects. None where torch cannot tell.

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
