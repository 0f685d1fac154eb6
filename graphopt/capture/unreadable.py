"""What forward may not read while it is traced, since nothing would show that it did, or undo it."""

from array import array
from typing import Any

import numpy as np
import torch

UNREADABLE_REMEDY = "make it a tensor, number, list or dictionary of the model, or move it out of forward"


def unreadable(thing: Any) -> str | None:
    """What kind of thing it is that neither a guard can compare nor a trace leave as it was; None where
    it may be read."""
    if isinstance(thing, np.ndarray):
        return "a numpy array, which a graph would take as constant"
    if isinstance(thing, array | bytearray | memoryview):
        return "an array of numbers, which a graph would take as constant"
    if hasattr(type(thing), "__next__"):
        return "an iterator or open file, which a graph would not move on"
    if isinstance(thing, set | frozenset) and any(isinstance(item, torch.Tensor) for item in thing):
        return "a set of tensors, which a graph would take as constant"
    return None
