"""`Guard`: the compiled check of one set of facts against one model."""

from typing import Any

import torch

from graphopt.errors import Unsupported
from graphopt.guards.arguments import ArgumentCheck
from graphopt.guards.facts import Facts, TensorFact
from graphopt.guards.owned import objects_of, own_tensors
from graphopt.guards.state import Looks
from graphopt.guards.surroundings import Surroundings
from graphopt.guards.traced import TracedCheck


class Guard:
    """Checks each call before the emitted graph runs, and names the fact that a call breaks."""

    def __init__(self, facts: Facts, model: torch.nn.Module, looks: Looks) -> None:
        self.facts = facts
        kinds = {(f.kind, f.dtype, len(f.shape)) for f in facts.arguments if isinstance(f, TensorFact)}
        tensors = own_tensors(model, lambda t: (type(t), t.dtype, t.dim()) in kinds)
        self._arguments = ArgumentCheck(facts, objects_of(model), tensors).compile()
        self._traceable = ArgumentCheck(facts).compile()
        self._surroundings = Surroundings(facts, model, looks)
        self._model = model
        try:
            self._state = TracedCheck(facts, model).compile()
        except KeyError:  # what the first call makes is not there yet
            self._state = _never

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """None where the call satisfies every fact, else a sentence that names the first it breaks."""
        try:
            found = self._arguments(*args, **kwargs)
        except TypeError as error:  # the arguments do not bind
            return f"the call does not fit the signature: {error}"
        except KeyError as error:
            return f"{error} is gone, which a function among the arguments reads"
        except Unsupported as error:
            return error.what
        if callable(found):
            return found()
        return None if self._surroundings.hold() else self._surroundings.violation()

    def requires_grad(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool | None:
        """None where the call breaks a fact; else whether an argument or state tensor requires grad."""
        try:
            found = self._arguments(*args, **kwargs)
            if callable(found) or not self._surroundings.hold():
                return None
        except (TypeError, KeyError, Unsupported):  # they do not bind, or hold what none held at capture
            return None
        return found or self._surroundings.state.requires_grad

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The state tensors that the last call was found to hold on, one for each state fact."""
        return self._surroundings.state.tensors

    def may_be_copied(self) -> bool:
        """Whether the facts can be bound to a copy of the model as it is now."""
        return self._surroundings.objects_hold()

    def holds_traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """The same in a form that a tracing compiler follows, but for hooks and global modes."""
        return self._traceable(*args, **kwargs) is False and self._state(self._model)


def _never(model: torch.nn.Module) -> bool:
    return False
