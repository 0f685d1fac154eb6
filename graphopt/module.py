"""`OptimizedModule`: the drop-in for a model. It owns the original and runs emitted graphs behind guards."""

import copy
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from graphopt.capture.conditions import Conditions
from graphopt.capture.program import Program
from graphopt.emit import emit, restoring_modes
from graphopt.errors import GuardError, Unsupported
from graphopt.guards import Guard
from graphopt.ir.structure import Container, Interface, Leaf, leaf_order

MAX_VARIANTS = 8


class Variant:
    """One program bound to one model: its guard and its emitted graph."""

    def __init__(self, program: Program, model: torch.nn.Module) -> None:
        self.program = program
        self.training = [(module, module.training) for module in model.modules()]
        self.guard = Guard(program.facts, model)
        self.graph_module = emit(program.graph, program.interface, program.constants, model)
        self.run: Callable[..., Any] = self.graph_module.forward
        if program.training is not None:
            with_gradients = emit(program.training, program.interface, program.constants, model)
            self.run = _by_grad_mode(self.run, with_gradients.forward)
        defaults = _tensor_defaults(program.interface)
        if defaults:
            self.run = _with_defaults(self.run, defaults)
        if any(node.op.startswith("functorch.") or any(node.regions) for node in program.graph.nodes):
            self.run = restoring_modes(self.run)
        self.branches = None if program.conditions is None else _Branches(program, program.conditions, model)

    def holds(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the program serves the call."""
        return self.guard.holds(args, kwargs) and (self.branches is None or self.branches.hold(args, kwargs))

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Why it does not, in one sentence; "" where it does."""
        found = self.guard.violation(args, kwargs)
        if found is None and self.branches is not None:
            found = self.branches.violation(args, kwargs)
        return found or ""

    def modes_hold(self) -> bool:
        """Whether every sub-module is in the mode of capture, asked so that torch.compile guards it."""
        return all([module.training == mode for module, mode in self.training])


class _Branches:
    """Runs the graph of a program's conditions on a call, and compares the answers with those of capture."""

    def __init__(self, program: Program, conditions: Conditions, model: torch.nn.Module) -> None:
        self._decisions = conditions.decisions
        answers = tuple(Leaf(i) for i in range(len(conditions.decisions)))
        interface = replace(
            program.interface,
            result=Container(-1, "tuple", tuple, (), answers),
            object_writes=(),
            state_writes=(),
        )
        self._graph_module = emit(conditions.graph, interface, program.constants, model)
        self._run = _with_defaults(self._graph_module.forward, _tensor_defaults(program.interface))
        self._expected = [decision.answer for decision in conditions.decisions]

    def hold(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether forward would take the branches of capture."""
        try:
            with torch.no_grad():
                return list(map(bool, self._run(*args, **kwargs))) == self._expected
        except Exception:  # the original is the one to raise it
            return False

    def insist(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises where forward would take another branch, in a way that torch.export records."""
        with torch.no_grad():
            asked = self._run(*args, **kwargs)
        for tensor, decision in zip(asked, self._decisions, strict=True):
            as_captured = tensor != 0 if decision.answer else tensor == 0
            torch._assert_async(
                as_captured, f"the branch at {decision.where} was {decision.answer} at capture"
            )

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """A sentence that names the first branch that would go another way."""
        try:
            with torch.no_grad():
                answers = list(map(bool, self._run(*args, **kwargs)))
        except Exception as error:
            return f"what forward branches on raises {type(error).__name__}: {error}"
        for answer, decision in zip(answers, self._decisions, strict=True):
            if answer != decision.answer:
                return f"the branch at {decision.where} was {decision.answer} at capture"
        return None


def _tensor_defaults(interface: Interface) -> list[tuple[int, str, Any]]:
    """Parameters whose defaults hold tensors, which a torch.fx signature cannot: place, name, default."""
    return [
        (i, parameter.name, parameter.default)
        for i, (parameter, structure) in enumerate(
            zip(interface.parameters, interface.arguments, strict=True)
        )
        if parameter.default is not inspect.Parameter.empty and leaf_order((structure,))
    ]


def _with_defaults(run: Callable[..., Any], defaults: list[tuple[int, str, Any]]) -> Callable[..., Any]:
    def filled(*args: Any, **kwargs: Any) -> Any:
        missing = {name: value for i, name, value in defaults if i >= len(args) and name not in kwargs}
        return run(*args, **kwargs, **missing)

    return filled


def _by_grad_mode(without: Callable[..., Any], with_gradients: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return (with_gradients if torch.is_grad_enabled() else without)(*args, **kwargs)

    return run


@dataclass
class Policy:
    """What to do when no variant fits a call: run the "original", raise an "error", or "recapture".

    `capture` makes the program for a call; it serves the first call of a module made without example
    inputs too. It is dropped by pickling, and then the original runs.
    """

    on_guard: str
    capture: Callable[[tuple[Any, ...], dict[str, Any]], Program] | None


class OptimizedModule(torch.nn.Module):
    """Runs a model's optimised graph where its guards hold, and the original where they do not.

    The original module owns all state: `state_dict`, `parameters`, `to`, `train` and every other
    attribute are the original's, under its own names. Hooks registered here run around either.
    """

    def __init__(self, original: torch.nn.Module, programs: tuple[Program, ...], policy: Policy) -> None:
        own = vars(self)
        own.update(vars(torch.nn.Module()))  # __init__ would set the original's mode
        for name in _SHARED:
            own[name] = vars(original)[name]
        del own["training"]
        own["_original"] = original
        own["_policy"] = policy
        own["_warned"] = False
        own["_variants"] = [Variant(program, original) for program in programs]
        own["_retired"] = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The original's forward."""
        if torch.compiler.is_compiling():
            return self._forward_in_compiler(args, kwargs)
        for variant in self._variants:
            if variant.holds(args, kwargs):
                return variant.run(*args, **kwargs)
        return self._without_variant(args, kwargs)

    def _forward_in_compiler(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for variant in self._variants:
            if variant.modes_hold() and variant.guard.arguments_hold(args, kwargs):
                if variant.branches is not None:
                    if not torch.compiler.is_exporting():
                        continue  # a compiler cannot choose by values
                    variant.branches.insist(args, kwargs)
                return variant.run(*args, **kwargs)
        return self._original(*args, **kwargs)

    def _without_variant(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        policy, variants = self._policy, self._variants
        if not variants and policy.capture is not None:
            return self._new_variant(args, kwargs).run(*args, **kwargs)
        if self._retired is not None:
            return self._original(*args, **kwargs)
        reason = self.violation(args, kwargs)
        if policy.on_guard == "error":
            raise GuardError(reason, remedy='call as captured, or use on_guard="original" or "recapture"')
        if policy.on_guard == "recapture" and policy.capture is not None:
            if len(variants) < MAX_VARIANTS:
                try:
                    return self._new_variant(args, kwargs).run(*args, **kwargs)
                except Unsupported as error:
                    reason = f"{reason}; capturing this call fails: {error.what}"
            else:
                reason = f"{reason}; there are {MAX_VARIANTS} variants already"
        if not self._warned:
            vars(self)["_warned"] = True
            warnings.warn(f"graphopt runs the original model: {reason} (said once)", stacklevel=5)
        return self._original(*args, **kwargs)

    def _new_variant(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Variant:
        variant = Variant(self._policy.capture(args, kwargs), self._original)
        self._variants.append(variant)
        return variant

    @property
    def original(self) -> torch.nn.Module:
        """The model, the only owner of state."""
        model: torch.nn.Module = self._original
        return model

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants in use, oldest first."""
        return tuple(self._variants)

    @property
    def newest(self) -> Variant:
        """The variant made last, be it in use or retired."""
        variant: Variant = self._retired or self._variants[-1]
        return variant

    def retire(self) -> None:
        """Takes the variants out of use: the original runs from now on."""
        own = vars(self)
        own["_retired"] = self.newest
        own["_variants"] = []
        own["_policy"] = Policy("original", None)

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Why the newest variant does not serve a call, in one sentence; "" where it does."""
        if not self._variants:
            return "no call has been captured"
        violation: str = self._variants[-1].violation(args, kwargs)
        return violation

    @property
    def training(self) -> bool:
        """The original's mode."""
        mode: bool = self._original.training
        return mode

    @training.setter
    def training(self, mode: bool) -> None:
        self._original.training = mode

    def __getattr__(self, name: str) -> Any:
        original = vars(self).get("_original")
        if original is None:
            raise AttributeError(name)
        return getattr(original, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training":
            self._original.training = value
        elif name in vars(self) or "_original" not in vars(self):
            object.__setattr__(self, name, value)
        else:
            setattr(self._original, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._original, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self._original)})

    def __len__(self) -> int:
        return len(self._original)

    def __bool__(self) -> bool:
        return bool(self._original)

    def __iter__(self) -> Any:
        return iter(self._original)

    def __getitem__(self, key: Any) -> Any:
        return self._original[key]

    def __contains__(self, key: object) -> bool:
        return key in self._original

    def extra_repr(self) -> str:
        """Shown by repr(): what runs."""
        return f"graphopt: {len(self._variants)} variant(s) of {type(self._original).__name__}"

    def __deepcopy__(self, memo: dict[int, Any]) -> "OptimizedModule":
        made = OptimizedModule(copy.deepcopy(self._original, memo), self._programs(), copy.copy(self._policy))
        memo[id(self)] = made
        return made

    def _programs(self) -> tuple[Program, ...]:
        return tuple(variant.program for variant in self._variants)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._original, self._programs(), self._policy.on_guard)


def _restored(original: torch.nn.Module, programs: tuple[Program, ...], on_guard: str) -> OptimizedModule:
    return OptimizedModule(original, programs, Policy(on_guard, None))


_SHARED = ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set")
_OWN = {
    "forward",
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_backward_hook",
    "extra_repr",
    "compile",
}


def _delegate(name: str) -> Callable[..., Any]:
    def delegated(self: OptimizedModule, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self._original, name)(*args, **kwargs)
        return self if result is self._original else result

    delegated.__name__ = name
    delegated.__doc__ = f"The original's `{name}`."
    return delegated


for _name, _method in vars(torch.nn.Module).items():
    _is_public_method = callable(_method) and not _name.startswith("_") and not isinstance(_method, type)
    if (_is_public_method and _name not in _OWN) or _name in (
        "_apply",
        "_load_from_state_dict",
        "_save_to_state_dict",
        "_named_members",
    ):
        setattr(OptimizedModule, _name, _delegate(_name))
