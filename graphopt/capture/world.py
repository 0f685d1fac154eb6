"""The state of the whole process that a model may change: random states, modes, environment variables."""

import os
import random

import numpy as np
import torch


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


class GlobalState:
    """Random states, modes, thread counts and environment of the process, to be put back as they were."""

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if _cuda_in_use() else []
        self._random = random.getstate()
        self._numpy = np.random.get_state()
        self._grad = torch.is_grad_enabled()
        self._dtype = torch.get_default_dtype()
        self._threads = torch.get_num_threads()
        self._environment = dict(os.environ)
        self._deterministic = torch.are_deterministic_algorithms_enabled()

    def changes(self) -> list[str]:
        """The names of what is no more as it was."""
        found: list[str] = []
        if not torch.equal(self._torch, torch.get_rng_state()):
            found.append("torch's random state")
        if self._cuda and not all(map(torch.equal, self._cuda, torch.cuda.get_rng_state_all())):
            found.append("the GPU's random state")
        if self._random != random.getstate():
            found.append("the random state of Python's random module")
        if repr(self._numpy) != repr(np.random.get_state()):
            found.append("numpy's random state")
        if self._grad != torch.is_grad_enabled():
            found.append("the grad mode")
        if self._dtype != torch.get_default_dtype():
            found.append("the default dtype")
        if self._threads != torch.get_num_threads():
            found.append("the thread count")
        if self._deterministic != torch.are_deterministic_algorithms_enabled():
            found.append("the determinism flag")
        names = {*self._environment, *os.environ}
        found.extend(
            f"the environment variable {name}"
            for name in sorted(names)
            if self._environment.get(name) != os.environ.get(name)
        )
        return found

    def restore(self) -> None:
        """Puts everything back."""
        changed = self.changes()
        if not changed:
            return
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        random.setstate(self._random)
        np.random.set_state(self._numpy)
        torch.set_grad_enabled(self._grad)
        torch.set_default_dtype(self._dtype)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        torch.use_deterministic_algorithms(self._deterministic)
        for name in os.environ.keys() - self._environment.keys():
            del os.environ[name]
        os.environ.update(self._environment)
