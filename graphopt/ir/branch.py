"""A branch on a value, asked inside a graph: a run is given up where it falls otherwise than at capture."""

import torch

TOOK = "graphopt.took"


class OtherBranch(Exception):
    """Forward would go another way than at capture, in a call whose graph is already running."""


def took(asked: torch.Tensor, answer: bool, where: str) -> None:
    """Raises OtherBranch where a tensor that forward branches on does not answer as at capture."""
    what = f"the branch at {where} was {answer} at capture"
    if torch.compiler.is_exporting():  # recorded, to raise in the loaded program
        torch._assert_async(asked != 0 if answer else asked == 0, what)
    elif bool(asked) != answer:
        raise OtherBranch(what)
