"""Running torch.export over a model whose arguments and results may be any Python objects.

The model is wrapped in a module that takes and returns flat tensors. It rebuilds the arguments, calls the
model, takes the result apart, and finds what forward changed besides: attributes it assigned, arguments
it filled. So torch.export meets neither unknown classes nor side effects.
"""

import contextlib
import enum
import io
import logging
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.export import ExportedProgram

from graphopt.capture.call import Call
from graphopt.capture.callers import HERE, TORCH
from graphopt.capture.decisions import Decision, Decisions, Undecided
from graphopt.capture.flat_regions import kept_flat
from graphopt.capture.footprint import (
    MISSING,
    Bounded,
    Change,
    Preserved,
    PythonState,
    roots_of,
)
from graphopt.capture.foreign import Draws
from graphopt.capture.meta_kernels import mended
from graphopt.capture.unreadable import UNREADABLE_REMEDY, unreadable
from graphopt.capture.watch import Watch
from graphopt.capture.world import GlobalState
from graphopt.errors import Unsupported
from graphopt.guards import backward_hook
from graphopt.guards.owned import objects_of
from graphopt.guards.places import reachable
from graphopt.ir.structure import (
    Container,
    Flattening,
    Interface,
    Known,
    ObjectWrite,
    StateWrite,
    Structure,
    by_place,
    identity,
    leaf_order,
    renumber,
)


@dataclass
class Trace:
    """What one run of torch.export found."""

    program: ExportedProgram
    interface: Interface
    watch: Watch

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The branches on values that forward took; the program's last outputs are what it asked."""
        return tuple(self.watch.decisions.made) if self.watch.as_eager else ()

    @property
    def draws(self) -> Draws:
        """What forward draws from outside torch."""
        return self.watch.numbers.found

    @property
    def path(self) -> str:
        """Which way forward went: "eager" or "exported"."""
        return "eager" if self.watch.as_eager else "exported"


class _Flat(torch.nn.Module):
    """The wrapped model: flat tensors in, flat tensors out. Reports the interface when it runs."""

    def __init__(
        self, model: torch.nn.Module, call: Call, watch: Watch, report: Callable[[Interface], None]
    ) -> None:
        super().__init__()
        self.model = model
        self._call = call
        self._watch = watch
        self._report = report
        self._names = _tensor_names(model)
        self._places = _places(model)

    def forward(self, *leaves: Any) -> tuple[Any, ...]:
        args, kwargs, flattening = self._call.replay(leaves)
        before = {ident: thing for ident, thing in flattening.objects.items()}
        contents = {ident: flattening.retake(thing) for ident, thing in before.items()}
        names = self._names | _tensor_names(self.model)
        state = PythonState(roots_of(self.model, self._call.functions), names)
        with self._watch.patches(self.model), self._watch:
            result = self.model(*args, **kwargs)
        state_writes = tuple(self._state_writes(state, flattening))
        state.restore()
        structure = flattening.take(result)
        kept = next((t for i, t in flattening.objects.items() if i not in before and state.knows(t)), None)
        if kept is not None:
            self._watch.refuse(
                f"forward returns a {type(kept).__name__} that the model keeps, and a graph would copy it",
                "return a copy",
            )
        object_writes = tuple(self._object_writes(before, contents, flattening))
        returned = (structure, *(w.contents for w in object_writes), *(w.leaf for w in state_writes))
        places = self._places
        order = leaf_order(returned)
        index_of = {index: i for i, index in enumerate(order)}
        self._report(
            Interface(
                self._call.parameters,
                self._call.arguments,
                by_place(renumber(structure, index_of), places),
                tuple(ObjectWrite(by_place(renumber(w.contents, index_of), places)) for w in object_writes),
                tuple(replace(w, leaf=renumber(w.leaf, index_of)) for w in state_writes),
            )
        )
        return (*(flattening.leaves[index] for index in order), *self._watch.decisions.asked)

    def _state_writes(self, state: PythonState, flattening: Flattening) -> Iterator[StateWrite]:
        slots: dict[int, tuple[str, str]] = {}
        for path, module in self.model.named_modules():
            slots[id(vars(module))] = (path, "__dict__")
            slots[id(module._buffers)] = (path, "_buffers")
        for change in state.changes():
            slot = slots.get(id(change.holder))
            if slot is None or not isinstance(change.after, torch.Tensor) or change.before is MISSING:
                self._watch.refuse(_side_effect(change), _SIDE_EFFECT_REMEDY, SideEffect)
                return
            path, kind = slot
            yield StateWrite(path, str(change.key), kind, flattening.take(change.after))

    def _object_writes(
        self, before: dict[int, Any], contents: dict[int, Structure], flattening: Flattening
    ) -> Iterator[ObjectWrite]:
        for ident, thing in before.items():
            after = flattening.retake(thing)
            then = contents[ident]
            assert isinstance(after, Container) and isinstance(then, Container)
            if _shallow(after) == _shallow(then):
                continue
            if after.form not in ("list", "dict", "object"):
                self._watch.refuse(
                    f"forward changes an argument of class {type(thing).__qualname__} in a way that "
                    "cannot be repeated",
                    "return the new value instead",
                )
            yield ObjectWrite(after)


def _places(model: torch.nn.Module) -> dict[int, tuple[str, ...]]:
    """Where the objects are that a copy of the model has copies of, by identity."""
    plain = (type, types.FunctionType, types.BuiltinFunctionType, enum.Enum)
    owned = objects_of(model)
    return {
        identity(thing): path
        for path, thing in reversed(list(reachable(model)))
        if id(thing) in owned and not isinstance(thing, plain)
    }


def _tensor_names(model: torch.nn.Module) -> dict[int, str]:
    """The model's tensors, or what torch.export put in their place, by id."""
    tensors = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    names: dict[int, str] = {}
    for name, tensor in tensors:
        names.setdefault(id(tensor), name)
    return names


def _shallow(container: Container) -> tuple[Any, ...]:
    """The contents with inner objects by number alone: each object answers for its own contents. The
    parts of an object that is made by its reducer are new at each look, and go in whole."""
    inner = _deep if container.form == "reduced" else _by_number
    return container.keys, tuple(map(inner, container.items))


def _by_number(structure: Structure) -> Structure:
    return Known(structure.ident) if isinstance(structure, Container) else structure


def _deep(structure: Structure) -> Any:
    if not isinstance(structure, Container):
        return structure
    return structure.form, structure.kind, structure.keys, tuple(map(_deep, structure.items))


_SIDE_EFFECT_REMEDY = "return the value, register a buffer, or move the effect out of forward"


def _side_effect(change: Change) -> str:
    if change.before is MISSING:
        return f"forward adds {change.owner} (a Python side effect)"
    return f"forward changes {change.owner} (a Python side effect)"


def trace(
    model: torch.nn.Module,
    call: Call,
    dynamic_shapes: Any = None,
    seed: int = 0,
) -> Trace:
    """Exports one example call. Leaves no trace, whether it succeeds or not. Where forward goes by random
    numbers, it goes as they fall after seeding with `seed`.

    The model is first traced as if it ran eagerly; where it branches on values, a real call says which
    way. Where torch.export refuses that path, or values are lacking (on the meta device), it goes the one
    that it takes when it is being exported.

    Raises Unsupported, with the source line, where the call cannot be kept exactly.
    """
    try:
        try:
            return _trace(model, call, dynamic_shapes, Watch(seed=seed))
        except Undecided:
            if _lacks_values(model, call):
                return _trace(model, call, dynamic_shapes, Watch(as_eager=False, seed=seed))
            rehearsed = Decisions(_rehearse(model, call, seed))
            return _trace(model, call, dynamic_shapes, Watch(decisions=rehearsed, seed=seed))
    except ExportRefused as refused:
        try:
            return _trace(model, call, dynamic_shapes, Watch(as_eager=False, seed=seed))
        except Unsupported:
            raise refused from refused.__cause__


class ExportRefused(Unsupported):
    """torch.export itself refused."""


class SideEffect(Unsupported):
    """Forward changes Python state."""


@contextlib.contextmanager
def warmed_up(model: torch.nn.Module, call: Call) -> Iterator[list[Change] | None]:
    """The model as its first call leaves it, put back when the block ends: what that call changed; None
    where it cannot run, or changes more than Python objects."""
    world, python = GlobalState(), PythonState(roots_of(model, call.functions))
    changes: list[Change] | None = None
    with Preserved(model):
        try:
            with torch.no_grad(), _quiet(), _printing_to(io.StringIO()):
                leaves = [leaf.detach().clone() if torch.is_tensor(leaf) else leaf for leaf in call.leaves]
                args, kwargs, _ = call.replay(tuple(leaves))
                model(*args, **kwargs)
            if all("random state" in effect for effect in world.changes()):
                changes = list(python.changes())
        except Exception:
            changes = None
        finally:
            world.restore()
        yield changes


def _lacks_values(model: torch.nn.Module, call: Call) -> bool:
    """Whether something lies on the meta device, so that no branch on values can be decided."""
    leaves = [leaf for leaf in call.leaves if torch.is_tensor(leaf)]
    return any(tensor.is_meta for tensor in (*leaves, *model.parameters(), *model.buffers()))


def _rehearse(model: torch.nn.Module, call: Call, seed: int) -> tuple[Decision, ...]:
    """How a real call decides the branches on values, as far as it comes. Leaves no trace."""
    watch, world = Watch(decisions=Decisions(rehearsing=True), seed=seed), GlobalState()
    python = PythonState(roots_of(model, call.functions))
    with Preserved(model), _quiet(), _printing_to(io.StringIO()):
        try:
            leaves = tuple(_copy(leaf) if torch.is_tensor(leaf) else leaf for leaf in call.leaves)
            args, kwargs, _ = call.replay(leaves)
            torch.manual_seed(seed)
            with watch.patches(model), watch:
                model(*args, **kwargs)
        except Exception:
            pass  # the trace goes as far, and raises the same
        finally:
            python.restore()
            world.restore()
    return tuple(watch.decisions.made)


def _copy(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.detach().clone().requires_grad_(leaf.requires_grad)


def _trace(model: torch.nn.Module, call: Call, dynamic_shapes: Any, watch: Watch) -> Trace:
    hook = backward_hook(model)
    if hook is not None:
        raise Unsupported(
            f"{hook} would not run in the graph", remedy="remove it, or register it on opt.module afterwards"
        )
    shapes = call.dynamic(dynamic_shapes)
    interfaces: list[Interface] = []
    flat = _Flat(model, call, watch, interfaces.append)
    roots = roots_of(model, call.functions)
    for name, root in roots.items():
        kind = unreadable(root.thing if isinstance(root, Bounded) else root)
        if kind is not None:
            raise Unsupported(f"forward reads {name}, {kind}", remedy=UNREADABLE_REMEDY, where=_where(model))
    python, world = PythonState(roots), GlobalState()
    output = io.StringIO()
    error: Exception | None = None
    program: ExportedProgram | None = None
    try:
        with _quiet(), _printing_to(output), kept_flat(), mended():
            program = torch.export.export(flat, call.leaves, strict=False, dynamic_shapes=shapes)
    except Exception as raised:
        error = raised
    finally:
        changes, effects = list(python.changes()), world.changes()
        python.restore()
        world.restore()
        watch.restore_tensors()
    if watch.refusal is not None:
        raise watch.refusal
    if error is not None:
        raise _refusal(error) from error
    if changes:
        raise SideEffect(_side_effect(changes[0]), remedy=_SIDE_EFFECT_REMEDY, where=_where(model))
    if effects:
        raise Unsupported(
            f"forward changes {effects[0]}", remedy="move it out of forward", where=_where(model)
        )
    if output.getvalue():
        raise Unsupported(
            "forward prints, and a graph would not", remedy="remove the print", where=_where(model)
        )
    assert program is not None
    return Trace(program, interfaces[-1], watch)


def _where(model: torch.nn.Module) -> str:
    code = getattr(vars(model).get("function", type(model).forward), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}, in {code.co_name}" if code else type(model).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what torch.export logs and warns before it raises."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _printing_to(output: io.StringIO) -> Iterator[None]:
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield


def _refusal(error: Exception) -> Unsupported:
    """torch.export's own refusal, with the user's line."""
    if isinstance(error, Unsupported):
        return error
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    what = lines[0].strip() if lines else type(error).__name__
    return ExportRefused(
        f"torch.export refuses: {type(error).__name__}: {what}",
        remedy="see the exception it was raised from; data-dependent control flow needs torch.cond",
        where=_line_of(error),
    )


def _line_of(error: BaseException) -> str:
    """The innermost line of the traceback that is neither torch's nor ours."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith((TORCH, HERE, "<")):
            found = f"{code.co_filename}:{trace.tb_lineno}, in {code.co_name}"
        trace = trace.tb_next
    return found
