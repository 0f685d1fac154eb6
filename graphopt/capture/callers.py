"""Who calls a watched function: the model, torch's machinery or graphopt, by the frames of the stack."""

import sys
import traceback
from pathlib import Path

import torch

from graphopt.guards.members import is_standard

TORCH = str(Path(torch.__file__).parent)
HERE = str(Path(__file__).parent.parent)


def user_line() -> str:
    """The innermost frame on the stack that is neither torch's nor ours, as "file:line, in name"."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((TORCH, HERE, "<")):
            return f"{file}:{frame.f_lineno}, in {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def called_by_model() -> bool:
    """Whether the function that asks was called by the model or torch.nn, not by torch's machinery."""
    file = sys._getframe(2).f_code.co_filename
    return not file.startswith((TORCH, HERE)) or file.startswith(f"{TORCH}/nn/")


def asked_by_model() -> bool:
    """The same for a question that the standard library passes on (os.getenv)."""
    frame = sys._getframe(2)
    while is_standard(frame.f_code.co_filename) and frame.f_back:
        frame = frame.f_back
    return not frame.f_code.co_filename.startswith((TORCH, HERE))


def called_by_transform() -> bool:
    """Whether torch.func (grad, jvp) asks, which traces the gradients that it computes."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename.endswith(("torch/_tensor.py", "torch/overrides.py")) and frame.f_back:
        frame = frame.f_back
    return frame.f_code.co_filename.startswith(f"{TORCH}/_functorch/")


def model_frames(tracer: object, summary: traceback.StackSummary) -> traceback.StackSummary:
    """The model's own frames of a stack; torch.export by itself keeps those named forward alone."""
    start = next(
        (i for i, frame in enumerate(summary) if frame.name == "forward" and frame.filename.startswith(HERE)),
        -1,
    )
    return traceback.StackSummary.from_list(
        [f for f in summary[start + 1 :] if not f.filename.startswith((TORCH, HERE, "<"))]
    )
