"""Serving calls: the variants of one model, and what runs where none of them fits."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.autograd import forward_ad

from graphopt.analysis.stages import Derivation
from graphopt.analysis.standing_in import stands_in
from graphopt.attempt import Attempts, GivenUp
from graphopt.branches import Branches, tensor_defaults, with_defaults
from graphopt.cache.derived import Derived
from graphopt.capture.program import Program
from graphopt.direct import direct
from graphopt.emit import emit, restoring_modes
from graphopt.errors import BranchError, ExampleRaises, GuardError, Unsupported
from graphopt.guards import Guard
from graphopt.guards.places import Path, held, split_path
from graphopt.internals import look_of
from graphopt.ir.graph import Constant, Graph, Source, State
from graphopt.kernels import as_torch_has_it, for_compilers, has_kernels

MAX_VARIANTS = 8


class Variant:
    """One program bound to one model: its guard and its emitted graph."""

    def __init__(self, program: Program, model: torch.nn.Module, derived: dict[Derivation, Derived]) -> None:
        """`derived`: what is kept for this program, and for others with the same constants."""
        self.program = program
        self.training = [(module, module.training) for module in model.modules()]
        self.guard = Guard(program.facts, model, look_of)
        self._model = model
        self._derived = derived
        self.graph_module = self._emitted(as_torch_has_it(program.graph))
        self._emitted_all = [self.graph_module]  # without gradients; and with, where it is another graph
        if program.training is not None:
            self._emitted_all.append(self._emitted(program.training))
        self.run = self._runner(*(module.forward for module in self._emitted_all))
        self.in_compilers = self.run
        if has_kernels(program.graph):
            known = self._emitted(for_compilers(program.graph))
            self.in_compilers = self._runner(known.forward, *(m.forward for m in self._emitted_all[1:]))
        self.attempts = Attempts(program)
        graphs = (program.graph, *filter(None, (program.training,)))
        self._sets_requires_grad = any(map(_sets_requires_grad, graphs))
        self.branches = None if program.conditions is None else Branches(program, program.conditions, model)

    def _emitted(self, graph: Graph, state: dict[Path, int] | None = None) -> torch.fx.GraphModule:
        program = self.program
        return emit(graph, program.interface, program.constants, self._model, state, self._derived)

    def _runner(
        self, without: Callable[..., Any], with_gradients: Callable[..., Any] | None = None
    ) -> Callable[..., Any]:
        run = without if with_gradients is None else _by_grad_mode(without, with_gradients)
        run = with_defaults(run, tensor_defaults(self.program.interface))
        graphs = filter(None, (self.program.graph, self.program.training))
        if any(n.op.startswith("functorch.") or any(n.regions) for graph in graphs for n in graph.nodes):
            run = restoring_modes(run)
        return run

    @cached_property
    def attempt(self) -> Callable[..., Any]:
        """`run`, which raises GivenUp where the original has to make the call."""
        return self.attempts.over(self.run)

    @cached_property
    def serve(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """`attempt`, without gradients and with, on the very state tensors that were found to hold, and by
        kernels that no compiler knows."""
        places = {path: i for i, fact in enumerate(self.program.facts.state) for path in fact.paths}

        def served(graph: Graph) -> Callable[..., Any]:
            forward, tensors = direct(self._emitted(graph, places)), self.guard.tensors
            if not places:
                return forward

            def run(*args: Any, **kwargs: Any) -> Any:
                return forward(tensors(), *args, **kwargs)

            return run

        graphs = filter(None, (self.program.graph, self.program.training))
        runs = [self.attempts.over(self._runner(served(graph))) for graph in graphs]
        if has_kernels(self.program.graph):
            runs[0] = _without_tangents(runs[0], self.attempt)
        return runs[0], runs[-1]

    def prepare(self) -> None:
        """Computes kept values ahead of a call, for compilers, which take what they find. Raises NotDerived
        where one cannot be computed."""
        for derivation, derived in self._derived.items():
            if not derivation.sizes:
                derived.prepare([self._owned(entry.source) for entry in derivation.graph.inputs])

    def _owned(self, source: Source) -> torch.Tensor:
        if isinstance(source, Constant):
            return self.program.constants[source.name]
        assert isinstance(source, State)
        tensor: torch.Tensor = held(self._model, split_path(source.path))
        return tensor

    def invalidate(self) -> None:
        """Forgets all kept values."""
        for derived in self._derived.values():
            derived.invalidate()

    def gradients(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool | None:
        """Which graph serves the call: the one that gives gradients, or the other; None: neither does."""
        wanted = self.guard.requires_grad(args, kwargs)
        if wanted is None or not (self.branches is None or self.branches.hold(args, kwargs)):
            return None
        return torch.is_grad_enabled() and (wanted or not self._stands_in())

    def _stands_in(self) -> bool:
        """Whether the graph without gradients serves calls with gradients on that read nothing that
        requires grad. Tangents (forward-mode) need no requires_grad."""
        return (
            self._may_stand_in
            and forward_ad._current_level < 0
            and not any(tensor.requires_grad for tensor in self.program.constants.values())
        )

    @cached_property
    def _may_stand_in(self) -> bool:
        program = self.program
        return program.training is not None and stands_in(program.graph, program.training)

    def holds_traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """The same in a form that a tracing compiler follows. No compiler can choose by values, but
        torch.export may insist on them."""
        if self._sets_requires_grad and not torch.compiler.is_exporting():  # compilers lose it
            return False
        if not self.modes_hold() or not self.guard.holds_traced(args, kwargs):
            return False
        if self.program.draws or (self.attempts.asks_within and not torch.compiler.is_exporting()):
            return False
        if self.branches is not None:
            if not torch.compiler.is_exporting():
                return False
            self.branches.insist(args, kwargs)
        return True

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Why it does not, in one sentence; "" where it does."""
        found = self.guard.violation(args, kwargs)
        if found is None and self.branches is not None:
            found = self.branches.violation(args, kwargs)
        return found or ""

    def modes_hold(self) -> bool:
        """Whether every sub-module is in the mode of capture, asked so that torch.compile guards it."""
        return all([module.training == mode for module, mode in self.training])


def _sets_requires_grad(graph: Graph) -> bool:
    return any(
        node.op == "aten.requires_grad_.default" or any(map(_sets_requires_grad, node.regions))
        for node in graph.nodes
    )


def _by_grad_mode(without: Callable[..., Any], with_gradients: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return (with_gradients if torch.is_grad_enabled() else without)(*args, **kwargs)

    return run


def _without_tangents(run: Callable[..., Any], with_tangents: Callable[..., Any]) -> Callable[..., Any]:
    """A run whose kernels carry no tangents (forward-mode), for no_grad does not stop those."""

    def chosen(*args: Any, **kwargs: Any) -> Any:
        return (run if forward_ad._current_level < 0 else with_tangents)(*args, **kwargs)

    return chosen


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Offer:
    """A program for a call, and whether it may serve: it was not found to do something else, nor to be
    slower, but for calls that are `left` to the original: without gradients (False), or with (True). Those
    `beside` it serve before it where they fit."""

    program: Program
    accepted: bool
    left: frozenset[bool] = frozenset()
    beside: tuple[Program, ...] = ()

    @property
    def programs(self) -> tuple[Program, ...]:
        """All, in the order in which they serve."""
        return (*self.beside, self.program)


@dataclass
class Policy:
    """What to do when no variant fits a call: run the "original", raise an "error", or "recapture".

    `capture` makes the program for a call; it serves the first call of a module made without example
    inputs too. It is dropped by copying and pickling, and then the original runs. Calls that are `left` to
    it, without gradients or with, it makes always.
    """

    on_guard: str
    capture: Callable[[tuple[Any, ...], dict[str, Any]], Offer] | None
    left: frozenset[bool] = frozenset()


class Serving:
    """The original, its variants in use, oldest first, and the policy."""

    def __init__(self, original: torch.nn.Module, programs: tuple[Program, ...], policy: Policy) -> None:
        self.original = original
        self.policy = policy
        self._kept: list[tuple[dict[str, torch.Tensor], dict[Derivation, Derived]]] = []
        self.variants = [self._variant(program) for program in programs]
        self.when_retired: Callable[[], None] = _nothing
        self._retired: Variant | None = None
        self._warned = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the first variant that fits the call."""
        if torch.compiler.is_compiling():
            return self._in_compiler(args, kwargs)
        left = self.policy.left
        if left and torch.is_grad_enabled() in left:
            return self.original(*args, **kwargs)
        for variant in self.variants:
            gradients = variant.gradients(args, kwargs)
            if gradients is not None:
                if left and gradients in left:
                    return self.original(*args, **kwargs)
                try:
                    return variant.serve[gradients](*args, **kwargs)
                except GivenUp as given_up:
                    found = given_up
                return self._after(found, variant, args, kwargs)
        self.invalidate()
        return self._without_variant(args, kwargs)

    def invalidate(self) -> None:
        """Forgets all kept values: the next call computes them again."""
        for variant in (*self.variants, *filter(None, (self._retired,))):
            variant.invalidate()

    def _after(
        self, given_up: GivenUp, variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Makes a call whose run was given up."""
        if variant.attempts.are_in_vain and variant in self.variants and self.policy.on_guard != "error":
            if len(self.variants) == 1:
                self.retire()
            else:
                self.variants.remove(variant)
        if self.policy.on_guard == "error" and not given_up.raised:
            raise BranchError(given_up.reason, remedy='use on_guard="original"')
        result = self.original(*args, **kwargs)
        if self.policy.on_guard == "error":
            raise GuardError(given_up.reason, remedy="report it: the original does not raise")
        self._warn(given_up.reason)
        return result

    def _without_variant(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        policy, variants = self.policy, self.variants
        if not variants and policy.capture is not None:
            try:
                variant = self._new_variant(args, kwargs)
            except ExampleRaises:
                return self.original(*args, **kwargs)
            return self._first(variant, args, kwargs)
        if self._retired is not None:
            return self.original(*args, **kwargs)
        reason = self.violation(args, kwargs)
        if policy.on_guard == "error":
            raise GuardError(reason, remedy='call as captured, or use on_guard="original" or "recapture"')
        if policy.on_guard == "recapture" and policy.capture is not None:
            if len(variants) < MAX_VARIANTS:
                try:
                    variant = self._new_variant(args, kwargs)
                except Unsupported as error:
                    reason = f"{reason}; capturing this call fails: {error.what}"
                else:
                    return self._first(variant, args, kwargs)
            else:
                reason = f"{reason}; there are {MAX_VARIANTS} variants already"
        self._warn(reason)
        return self.original(*args, **kwargs)

    def _first(self, variant: Variant | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Makes the call that a variant was captured from."""
        if variant is None:
            return self.original(*args, **kwargs)
        try:
            return variant.attempt(*args, **kwargs)
        except GivenUp as given_up:
            found = given_up
        return self._after(found, variant, args, kwargs)

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"graphopt runs the original model: {reason} (said once)", stacklevel=7)

    def _in_compiler(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for variant in self.variants:
            if variant.holds_traced(args, kwargs):
                run = variant.run if torch.compiler.is_exporting() else variant.in_compilers
                return run(*args, **kwargs)
        return self.original(*args, **kwargs)

    def _new_variant(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Variant | None:
        """A variant for a call; None, and none ever after, where it is not accepted."""
        assert self.policy.capture is not None
        offer = self.policy.capture(args, kwargs)
        *beside, variant = map(self._variant, offer.programs)
        if not offer.accepted:
            self._retire(variant)
            return None
        self.policy.left |= offer.left
        self.variants += (*beside, variant)
        return variant

    def _variant(self, program: Program) -> Variant:
        """A program bound to the model; those with the same constants keep derived values in one place."""
        kept = next((one for constants, one in self._kept if constants is program.constants), None)
        if kept is None:
            kept = {}
            self._kept.append((program.constants, kept))
        return Variant(program, self.original, kept)

    @property
    def newest(self) -> Variant:
        """The variant made last, be it in use or retired."""
        return self._retired or self.variants[-1]

    def retire(self) -> None:
        """Takes the variants out of use: the original runs from now on."""
        self._retire(self.newest)

    def _retire(self, variant: Variant) -> None:
        self._retired, self.variants, self.policy = variant, [], Policy("original", None)
        self.invalidate()
        self.when_retired()

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Why the newest variant does not serve a call, in one sentence; "" where it does."""
        if not self.variants:
            return "no call has been captured"
        return self.variants[-1].violation(args, kwargs)

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs of the variants in use that fit a copy of the model as it is now."""
        return tuple(variant.program for variant in self.variants if variant.guard.may_be_copied())
