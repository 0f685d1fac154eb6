"""Guards: what was assumed at capture, checked before each call of the emitted graph.

The facts are plain data. `Guard` compiles them into straight-line Python with one condition a fact, so
that a check costs little and a failure names the argument and the fact.
"""

import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from typing import Any

import sympy
import torch

from graphopt.ir.literal import SCALARS, Lit
from graphopt.ir.structure import Const, Container, Interface, Known, Leaf, Opaque, Structure
from graphopt.ir.types import Dim


@dataclass(frozen=True, slots=True)
class TensorFact:
    """What a tensor argument must look like. `offset` and `requires_grad` are None where the program
    cannot tell the difference."""

    kind: type
    dtype: torch.dtype
    device: torch.device
    layout: torch.layout
    shape: tuple[Dim, ...]
    strides: tuple[Dim, ...] | None
    conjugated: bool
    negated: bool
    offset: int | None
    requires_grad: bool | None


@dataclass(frozen=True, slots=True)
class NumberFact:
    """A Python number argument that is symbolic: its symbol and type."""

    kind: type
    expr: sympy.Expr


@dataclass(frozen=True, slots=True)
class StateFact:
    """What a tensor that the model owns must look like; `paths` are all its qualified names."""

    paths: tuple[str, ...]
    kind: type
    dtype: torch.dtype
    device: torch.device
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    requires_grad: bool | None


@dataclass(frozen=True, slots=True)
class AttributeFact:
    """A Python constant that forward reads: the entry `key` of the object at `holder` (attribute names
    from the model, through sub-modules)."""

    holder: tuple[str, ...]
    key: str
    value: Lit


@dataclass(frozen=True, slots=True)
class ModeFact:
    """A global mode and its value at capture."""

    mode: str  # a name in MODES
    value: object


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was assumed at capture. `facts.arguments` goes by leaf index."""

    interface: Interface
    arguments: tuple[TensorFact | NumberFact, ...]
    constraints: tuple[sympy.Basic, ...]
    state: tuple[StateFact, ...]
    attributes: tuple[AttributeFact, ...]
    modules: tuple[tuple[str, str], ...]  # (qualified name of the parent, name of the child)
    modes: tuple[ModeFact, ...]


def _autocast(device: str) -> object:
    enabled = torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if enabled else None


def _function_modes() -> int:
    return torch._C._len_torch_function_stack()  # type: ignore[attr-defined, no-any-return]


def _functorch_level() -> object:
    return torch._C._functorch.maybe_current_level()


MODES: dict[str, Callable[[], object]] = {
    "autocast on cpu": partial(_autocast, "cpu"),
    "autocast on cuda": partial(_autocast, "cuda"),
    "default dtype": torch.get_default_dtype,
    "deterministic algorithms": torch.are_deterministic_algorithms_enabled,
    "torch function modes": _function_modes,
    "functorch level": _functorch_level,
    "grad mode": torch.is_grad_enabled,
    "inference mode": torch.is_inference_mode_enabled,
}


def submodule(model: torch.nn.Module, path: str) -> torch.nn.Module:
    """The sub-module of a qualified name; the empty name is the model."""
    for name in path.split(".") if path else ():
        model = model._modules[name]  # type: ignore[assignment]
    return model


def held(model: torch.nn.Module, holder: tuple[str, ...]) -> Any:
    """The object reached from the model by sub-module and attribute names."""
    thing: Any = model
    for name in holder:
        children = vars(thing).get("_modules") if isinstance(thing, torch.nn.Module) else None
        thing = children[name] if children and name in children else vars(thing)[name]
    return thing


_SLOT = {"param": "_parameters", "buffer": "_buffers"}


def state_slot(model: torch.nn.Module, kind: str, path: str) -> tuple[dict[str, Any], str]:
    """The dictionary that owns a state tensor and its key there: kind "param", "buffer" or
    "attribute"."""
    parent, _, name = path.rpartition(".")
    owner = vars(submodule(model, parent))
    return (owner[_SLOT[kind]] if kind in _SLOT else owner), name


def find_state(model: torch.nn.Module, path: str) -> tuple[dict[str, Any], str]:
    """The dictionary that owns the state tensor at a qualified name, whatever its kind, and its key."""
    parent, _, name = path.rpartition(".")
    owner = vars(submodule(model, parent))
    for slot in ("_parameters", "_buffers"):
        if name in owner[slot]:
            return owner[slot], name
    return owner, name


class Guard:
    """The compiled check of one set of facts against one model."""

    def __init__(self, facts: Facts, model: torch.nn.Module) -> None:
        self.facts = facts
        self._arguments = _ArgumentCheck(facts).compile()
        self._traceable = _ArgumentCheck(facts, traceable=True).compile()
        self._surroundings = _Surroundings(facts, model)

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """None where the call satisfies every fact, else a sentence that names the first it breaks."""
        try:
            found = self._arguments(*args, **kwargs)
        except TypeError as error:  # the arguments do not bind
            return f"the call does not fit the signature: {error}"
        if found is not None:
            return found()
        return None if self._surroundings.hold() else self._surroundings.violation()

    def holds(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the call satisfies every fact."""
        try:
            return self._arguments(*args, **kwargs) is None and self._surroundings.hold()
        except TypeError:
            return False

    def arguments_hold(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the arguments satisfy their facts (the part that a tracing compiler can follow)."""
        return self._traceable(*args, **kwargs) is None


def _shown(value: object) -> str:
    text = repr(tuple(value)) if isinstance(value, torch.Size) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _sentence(name: str, what: str, expected: object, actual: object) -> str:
    return f"argument {name}: {what} is {_shown(actual)}, captured with {_shown(expected)}"


class _ArgumentCheck:
    """Writes the function that checks the arguments: same parameters as forward, returns None or a
    callable that makes the sentence."""

    def __init__(self, facts: Facts, traceable: bool = False) -> None:
        self.facts = facts
        self.traceable = traceable  # leave out what torch.compile cannot follow and guards itself
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"_sentence": _sentence, "_partial": partial}
        self.leaf_names: dict[int, str] = {}
        self.object_names: dict[int, str] = {}
        self.bound_symbols: set[str] = set()
        self.distinct: list[str] = []
        self._taken: set[str] = {p.name for p in facts.interface.parameters}

    def compile(self) -> Callable[..., Callable[[], str] | None]:
        """The checking function."""
        for parameter, structure in zip(
            self.facts.interface.parameters, self.facts.interface.arguments, strict=True
        ):
            self._walk(structure, parameter.name, parameter.name)
        self._relations()
        for constraint in self.facts.constraints:
            if {str(s) for s in constraint.free_symbols} <= self.bound_symbols:
                condition = _python(constraint)
                self._test(f"not ({condition})", "the sizes", condition, "False")
        source = "\n".join(
            [f"def check({self._signature()}):", *self.lines, "    return None"],
        )
        exec(compile(source, "<graphopt guard>", "exec"), self.names)
        check: Callable[..., Callable[[], str] | None] = self.names["check"]
        return check

    def _signature(self) -> str:
        parts: list[str] = []
        named = False
        for parameter in self.facts.interface.parameters:
            if parameter.kind == "variadic":
                parts.append(f"*{parameter.name}")
                named = True
                continue
            if parameter.kind == "keywords":
                parts.append(f"**{parameter.name}")
                continue
            if parameter.kind == "named" and not named:
                parts.append("*")
                named = True
            if parameter.default is inspect.Parameter.empty:
                parts.append(parameter.name)
            else:
                parts.append(f"{parameter.name}={self._constant(parameter.default)}")
        return ", ".join(parts)

    def _fresh(self, stem: str) -> str:
        name = f"_{stem}{len(self._taken)}"
        self._taken.add(name)
        return name

    def _constant(self, value: object) -> str:
        name = self._fresh("c")
        self.names[name] = value
        return name

    def _test(self, broken: str, where: str, expected: object, actual: str, what: str = "it") -> None:
        self.lines.append(
            f"    if {broken}: return _partial(_sentence, {where!r}, {what!r}, "
            f"{self._constant(expected)}, {actual})"
        )

    def _walk(self, structure: Structure, path: str, name: str) -> None:
        match structure:
            case Leaf(index):
                self._leaf(index, path, name)
            case Const(lit):
                self._const(lit, path, name)
            case Opaque(value):
                self._test(f"{path} is not {self._constant(value)}", name, value, path, "the object")
            case Known(ident):
                known = self.object_names[ident]
                self._test(f"{path} is not {known}", name, f"the same object as {known}", path)
            case Container():
                self._container(structure, path, name)

    def _const(self, lit: Lit, path: str, name: str) -> None:
        value = lit.value
        if value is None or isinstance(value, bool):
            self._test(f"{path} is not {value}", name, value, path, "the value")
        elif isinstance(value, float | complex):
            expected = self._constant(lit)
            kind = self._constant(Lit)
            scalar = type(value).__name__
            self._test(
                f"type({path}) is not {scalar} or {kind}({path}) != {expected}", name, value, path, "the value"
            )
        else:
            kind = self._constant(type(value))
            expected = self._constant(value)
            self._test(f"type({path}) is not {kind} or {path} != {expected}", name, value, path, "the value")

    def _leaf(self, index: int, path: str, name: str) -> None:
        first = self.leaf_names.get(index)
        if first is not None:
            self._test(f"{path} is not {first}", name, f"the same object as {first}", "'another one'")
            return
        variable = self._fresh("t")
        self.leaf_names[index] = variable
        self.lines.append(f"    {variable} = {path}")
        self.distinct.append(variable)
        fact = self.facts.arguments[index]
        kind = self._constant(fact.kind)
        self._test(f"type({variable}) is not {kind}", name, fact.kind, f"type({variable})", "the type")
        if isinstance(fact, NumberFact):
            self._size(fact.expr, variable, name, "the value")
            return
        t = variable
        self._test(
            f"{t}.dtype is not {self._constant(fact.dtype)}", name, fact.dtype, f"{t}.dtype", "the dtype"
        )
        if fact.device.type == "cpu":
            self._test(f"not {t}.is_cpu", name, fact.device, f"{t}.device", "the device")
        else:
            device = self._constant(fact.device)
            self._test(f"{t}.device != {device}", name, fact.device, f"{t}.device", "the device")
        layout = self._constant(fact.layout)
        self._test(f"{t}.layout is not {layout}", name, fact.layout, f"{t}.layout", "the layout")
        self._sizes(fact.shape, f"{t}.shape", name, "the shape")
        if fact.strides is not None:
            self._sizes(fact.strides, f"{t}.stride()", name, "the stride")
        if fact.requires_grad is not None:
            wrong = f"{t}.requires_grad is not {fact.requires_grad}"
            self._test(wrong, name, fact.requires_grad, f"{t}.requires_grad", "requires_grad")
        if self.traceable:
            return
        if fact.dtype.is_complex:
            wrong = f"{t}.is_conj()" if not fact.conjugated else f"not {t}.is_conj()"
            self._test(wrong, name, fact.conjugated, f"{t}.is_conj()", "the conjugate bit")
        wrong = f"{t}.is_neg()" if not fact.negated else f"not {t}.is_neg()"
        self._test(wrong, name, fact.negated, f"{t}.is_neg()", "the negative bit")
        if fact.offset is not None:
            self._test(
                f"{t}.storage_offset() != {fact.offset}", name, fact.offset, f"{t}.storage_offset()",
                "the storage offset",
            )  # fmt: skip

    def _sizes(self, sizes: tuple[Dim, ...], actual: str, name: str, what: str) -> None:
        if all(isinstance(size, int) for size in sizes):
            expected = self._constant(tuple(sizes))
            self._test(f"{actual} != {expected}", name, tuple(sizes), actual, what)
            return
        variable = self._fresh("s")
        self.lines.append(f"    {variable} = {actual}")
        self._test(
            f"len({variable}) != {len(sizes)}", name, f"{len(sizes)} dimensions", f"len({variable})", what
        )
        for i, size in enumerate(sizes):
            self._size(size, f"{variable}[{i}]", name, f"{what} at {i}")

    def _size(self, size: Dim, actual: str, name: str, what: str) -> None:
        if isinstance(size, sympy.Symbol) and str(size) not in self.bound_symbols:
            self.bound_symbols.add(str(size))
            self.lines.append(f"    {size} = {actual}")
            return
        if isinstance(size, int):
            self._test(f"{actual} != {size}", name, size, actual, what)
            return
        if {str(s) for s in size.free_symbols} <= self.bound_symbols:
            self._test(f"{actual} != {_python(size)}", name, str(size), actual, what)

    def _container(self, structure: Container, path: str, name: str) -> None:
        form, kind, items = structure.form, structure.kind, structure.items
        variable = self._fresh("o")
        self.object_names[structure.ident] = variable
        self.lines.append(f"    {variable} = {path}")
        path = variable
        kind_name = self._constant(kind)
        self._test(f"type({path}) is not {kind_name}", name, kind, f"type({path})", "the type")
        if form == "reduced":
            from graphopt.ir.structure import _reduce

            parts = self._fresh("r")
            self.lines.append(f"    {parts} = {self._constant(_reduce)}({path})")
            for i, item in enumerate(items):
                self._walk(item, f"{parts}[{i}]", name)
            return
        if structure.keys:
            contents = f"{path}.__dict__" if form == "object" else path
            opened = self._fresh("d")
            self.lines.append(f"    {opened} = {contents}")
            keys = tuple(_constant_key(key) for key in structure.keys)
            expected = self._constant(keys)
            self._test(f"tuple({opened}) != {expected}", name, keys, f"tuple({opened})", "the keys")
            for key, item in zip(keys, items, strict=True):
                shown = f"{name}.{key}" if form == "object" else f"{name}[{key!r}]"
                self._walk(item, f"{opened}[{self._constant(key)}]", shown)
            return
        sized = f"{path}.__dict__" if form == "object" else path
        self._test(f"len({sized}) != {len(items)}", name, len(items), f"len({sized})", "the length")
        for i, item in enumerate(items):
            self._walk(item, f"{path}[{i}]", f"{name}[{i}]")

    def _relations(self) -> None:
        """Different leaves at capture must be different objects now."""
        if len(self.distinct) > 1 and not self.traceable:
            ids = ", ".join(f"id({t})" for t in self.distinct)
            self._test(
                f"len({{{ids}}}) != {len(self.distinct)}", "tensors", "all different", "'one of them twice'",
                "their identity",
            )  # fmt: skip


def _constant_key(key: Structure) -> object:
    match key:
        case Const(lit):
            return lit.value
        case Opaque(value):
            return value
        case Container(items=items):
            return tuple(_constant_key(item) for item in items)
        case _:
            return None


def _python(expr: sympy.Basic) -> str:
    return sympy.pycode(expr, fully_qualified_modules=False, strict=False)


def _same_constant(actual: object, expected: object) -> bool:
    if actual is expected:
        return True
    if type(actual) in SCALARS and type(expected) in SCALARS:
        return Lit(actual) == Lit(expected)  # type: ignore[arg-type]
    return False


class _Surroundings:
    """Checks what is not in the arguments: modes, modules, attributes that forward reads, state, hooks.

    The common case runs as a few C loops (`map` over parallel lists, compared by identity).
    """

    def __init__(self, facts: Facts, model: torch.nn.Module) -> None:
        self._modes = [(MODES[fact.mode], fact) for fact in facts.modes]
        self._holders: list[dict[str, Any]] = []
        self._keys: list[str] = []
        self._expected: list[object] = []
        self._subjects: list[str] = []
        for parent, name in facts.modules:
            children = submodule(model, parent)._modules
            self._entry(children, name, children[name], f"sub-module {_joined(parent, name)}")
        for fact in facts.attributes:
            self._entry(vars(held(model, fact.holder)), fact.key, fact.value.value,
                        f"attribute {'.'.join((*fact.holder, fact.key))}")  # fmt: skip
        self._state = facts.state
        slots = [[find_state(model, path) for path in fact.paths] for fact in facts.state]
        self._owners = [first[0][0] for first in slots]
        self._names = [first[0][1] for first in slots]
        self._ties = [
            (owner, name, i)
            for i, group in enumerate(slots)
            for owner, name in group[1:]
        ]
        self._kinds = [fact.kind for fact in facts.state]
        self._dtypes = [fact.dtype for fact in facts.state]
        self._shapes = [fact.shape for fact in facts.state]
        self._strides = [fact.strides for fact in facts.state]
        self._grads = [fact.requires_grad for fact in facts.state if fact.requires_grad is not None]
        self._devices = [fact.device for fact in facts.state]
        self._model = model
        self._seen_hooks = -1

    def _entry(self, holder: dict[str, Any], key: str, value: object, subject: str) -> None:
        self._holders.append(holder)
        self._keys.append(key)
        self._expected.append(value)
        self._subjects.append(subject)

    def hold(self) -> bool:
        """Whether every fact holds."""
        if torch.utils.hooks.RemovableHandle.next_id != self._seen_hooks and not self._hooks_unchanged():
            return False
        for read, fact in self._modes:
            if read() != fact.value:
                return False
        try:
            actual = map(operator.getitem, self._holders, self._keys)
            if not all(map(operator.is_, actual, self._expected)) and not all(
                starmap(
                    _same_constant,
                    zip(map(operator.getitem, self._holders, self._keys), self._expected, strict=True),
                )
            ):
                return False
            return self._state_holds(list(map(operator.getitem, self._owners, self._names)))
        except KeyError:
            return False

    def _state_holds(self, tensors: list[Any]) -> bool:
        return (
            list(map(type, tensors)) == self._kinds
            and list(map(_dtype_of, tensors)) == self._dtypes
            and list(map(_shape_of, tensors)) == self._shapes
            and list(map(_device_of, tensors)) == self._devices
            and all(owner[name] is tensors[i] for owner, name, i in self._ties)
            and (not self._grads or list(map(_requires_grad_of, tensors)) == self._grads)
            and all(
                strides is None or tensor.stride() == strides
                for tensor, strides in zip(tensors, self._strides, strict=True)
                if strides is not None
            )
        )

    def _hooks_unchanged(self) -> bool:
        """Hooks take ids from one global counter: the modules are searched only when it has moved."""
        if find_hook(self._model) is not None:
            return False
        self._seen_hooks = torch.utils.hooks.RemovableHandle.next_id
        return True

    def violation(self) -> str:
        """A sentence that names the first fact that does not hold."""
        hook = find_hook(self._model)
        if hook is not None:
            return f"{hook} was registered after capture"
        for read, fact in self._modes:
            if read() != fact.value:
                return f"{fact.mode} is {read()!r}, captured with {fact.value!r}"
        for holder, key, expected, subject in zip(
            self._holders, self._keys, self._expected, self._subjects, strict=True
        ):
            actual = holder.get(key, "missing")
            if not _same_constant(actual, expected):
                return f"{subject} is {_shown(actual)}, captured with {_shown(expected)}"
        for fact, owner, name in zip(self._state, self._owners, self._names, strict=True):
            actual = owner.get(name)
            if not isinstance(actual, torch.Tensor):
                return f"state tensor {fact.paths[0]} is {_shown(actual)}"
            now = (type(actual).__name__, actual.dtype, tuple(actual.shape), str(actual.device),
                   actual.requires_grad)  # fmt: skip
            then = (fact.kind.__name__, fact.dtype, fact.shape, str(fact.device), fact.requires_grad)
            if now[:4] != then[:4] or fact.requires_grad not in (None, now[4]):
                return f"state tensor {fact.paths[0]} is {now}, captured with {then}"
        return "state tensors that were one object at capture are so no more, or have other strides"


def _joined(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


_dtype_of = operator.attrgetter("dtype")
_shape_of = operator.attrgetter("shape")
_device_of = operator.attrgetter("device")
_requires_grad_of = operator.attrgetter("requires_grad")

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def find_hook(model: torch.nn.Module) -> str | None:
    """The first forward or backward hook on the model, its sub-modules, or all modules."""
    for name in _GLOBAL_HOOKS:
        if getattr(torch.nn.modules.module, name):
            return f"the global hook {name.removeprefix('_global_')}"
    for path, module in model.named_modules():
        for name in _HOOKS:
            if vars(module).get(name):
                return f"a hook ({name.removeprefix('_').removesuffix('s')}) on {path or 'the model'}"
    return None
