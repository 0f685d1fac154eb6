"""When are tensors unchanged? Whether anything wrote into some tensors since they were looked at last.

torch counts the writes that it sees (`_version`), but fused optimisers, writes through `.data` and numpy
views do not count, and addresses and ids of what was freed come back. So tensors are *unchanged* where
they are the same objects, held until then, on the same memory, with the same strides, `_version` and
`requires_grad` (by which torch chooses how to multiply, gradients on or off), AND a sample of their
elements has the same bits. Besides, every optimiser that steps says which memory it wrote. (References are
plain ones: `torch.utils.swap_tensors` refuses tensors that have weak ones.)

A write that nothing counts and that misses the sample goes unnoticed: then `invalidate()` it is.
"""

import operator
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

SAMPLE = 64
"""Elements of each tensor that are compared; a smaller tensor is compared whole."""

_PLAIN = {torch.Tensor, torch.nn.Parameter}
_SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}

_watches: "weakref.WeakSet[Watch]" = weakref.WeakSet()


def is_watchable(tensor: Any) -> bool:
    """Whether changes of a tensor can be noticed: not of one made in inference mode, which counts no
    writes, nor of subclasses, layouts and devices whose memory cannot be looked at."""
    return (
        type(tensor) in _PLAIN
        and tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and tensor.itemsize in _SAME_SIZE
        and not tensor.is_inference()
        and not tensor.is_conj()
        and not tensor.is_neg()
        and _has_memory(tensor)
    )


def _has_memory(tensor: torch.Tensor) -> bool:
    try:
        tensor.data_ptr()
    except RuntimeError:  # what torch.func passes stands for a tensor
        return False
    return True


class Watch:
    """Some tensors as they are now. It holds them until it is let go."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.stale = False
        self._tensors = tuple(tensors)
        self._versions = list(map(_version, tensors))
        self._places = list(map(_place, tensors))
        self._strides = list(map(_stride, tensors))
        self._graded = list(map(_requires_grad, tensors))
        self._samples = [_sample(tensor) for tensor in tensors if tensor.numel()]
        self._on_cpu = [sample.numpy() for sample in self._samples if sample.device.type == "cpu"]
        self._elsewhere = [sample for sample in self._samples if sample.device.type != "cpu"]
        self._bits = self._read()
        self.memory = frozenset(tensor.untyped_storage().data_ptr() for tensor in tensors)
        _watches.add(self)

    def unchanged(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether these are the tensors of then, and nothing is known to have written into them."""
        return (
            not self.stale
            and all(map(operator.is_, tensors, self._tensors))
            and list(map(_version, tensors)) == self._versions
            and list(map(_place, tensors)) == self._places
            and list(map(_stride, tensors)) == self._strides
            and list(map(_requires_grad, tensors)) == self._graded
            and self._read() == self._bits
        )

    def _read(self) -> list[bytes]:
        bits = [array.tobytes() for array in self._on_cpu]
        if self._elsewhere:
            together = torch.cat([sample.contiguous().view(torch.uint8) for sample in self._elsewhere])
            bits.append(together.cpu().numpy().tobytes())
        return bits


_version = operator.attrgetter("_version")
_place = torch.Tensor.data_ptr
_stride = torch.Tensor.stride
_requires_grad = operator.attrgetter("requires_grad")


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    """A view of elements that lie evenly in the tensor's memory, the last among them, as integers."""
    span = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    count = min(span, SAMPLE)
    step = (span - 1) // (count - 1) if count > 1 else 1
    start = int(tensor.storage_offset()) + (span - 1) - step * (count - 1)
    return tensor.data.as_strided((count,), (step,), start).view(_SAME_SIZE[tensor.itemsize])


def _note_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """An optimiser has written its parameters: those who watch their memory look again."""
    if not _watches:
        return
    written = {
        parameter.untyped_storage().data_ptr()
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.layout is torch.strided
    }
    for watch in list(_watches):
        if not watch.memory.isdisjoint(written):
            watch.stale = True


register_optimizer_step_post_hook(_note_step)
