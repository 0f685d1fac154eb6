"""The check of a call's arguments, compiled to straight-line Python with one condition a fact."""

import inspect
import math
import operator
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import sympy
import torch
from sympy.core.function import AppliedUndef

from graphopt.errors import Unsupported
from graphopt.guards.facts import Facts, NumberFact
from graphopt.guards.owned import OwnTensors
from graphopt.guards.places import locate
from graphopt.guards.variables import variable_reader, variables_of
from graphopt.internals import FakeTensor
from graphopt.ir.literal import SCALARS, Lit
from graphopt.ir.structure import Const, Container, Known, Leaf, Opaque, Structure, reduce_object
from graphopt.ir.types import Dim

# torch's own functions of sizes, in Python.
_SIZE_FUNCTIONS: dict[str, Any] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "math": math,
    "ToFloat": float,
    "TruncToInt": math.trunc,
    "FloorToInt": math.floor,
    "CeilToInt": math.ceil,
    "RoundToInt": round,
    "IntTrueDiv": operator.truediv,
    "FloatTrueDiv": operator.truediv,
    "PowByNatural": operator.pow,
    "FloatPow": operator.pow,
}

PLAIN = (torch.Tensor, torch.nn.Parameter)  # interchangeable in a graph


def shown(value: object) -> str:
    """A value in at most 80 characters, for a sentence."""
    text = repr(tuple(value)) if isinstance(value, torch.Size) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _look(tensor: torch.Tensor) -> tuple[object, ...]:
    strides = tensor.stride() if tensor.layout is torch.strided else None
    return type(tensor), tensor.dtype, tuple(tensor.shape), strides, tensor.device, tensor.requires_grad


def _sentence(name: str, what: str, expected: object, actual: object) -> str:
    return f"argument {name}: {what} is {shown(actual)}, captured with {shown(expected)}"


class ArgumentCheck:
    """Writes the function that checks the arguments: same parameters as forward. It returns whether an
    argument requires grad (a traceable one: False), or a callable that makes the sentence.

    `objects` and `tensors` are the model's own, which forward may know by identity. Without them, what
    torch.compile cannot follow is left out: most of that it guards itself.
    """

    def __init__(
        self, facts: Facts, objects: dict[int, Any] | None = None, tensors: OwnTensors | None = None
    ) -> None:
        self.facts = facts
        self.traceable = objects is None
        self.objects = objects or {}
        self.tensors = tensors
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"_sentence": _sentence, "_partial": partial}
        self.names |= _SIZE_FUNCTIONS
        self.leaf_names: dict[int, str] = {}
        self.object_names: dict[int, str] = {}
        self.shown_names: dict[str, str] = {}  # of variables, for sentences
        self.symbols: dict[sympy.Symbol, sympy.Symbol] = {}  # to variables: a parameter may be named s0
        self.distinct: list[str] = []
        self.mutable: list[str] = []
        self.graded: list[str] = []  # expressions, one of which is true where an argument requires grad
        self._taken: set[str] = {p.name for p in facts.interface.parameters}

    def compile(self) -> Callable[..., bool | Callable[[], str]]:
        """The checking function."""
        for parameter, structure in zip(
            self.facts.interface.parameters, self.facts.interface.arguments, strict=True
        ):
            self._walk(structure, parameter.name, parameter.name)
        self._relations()
        for constraint in self.facts.constraints:
            if constraint.free_symbols <= self.symbols.keys():
                condition = self._python(constraint)
                self._test(f"not ({condition})", "sizes", str(constraint), "'otherwise'", "the relation")
        source = "\n".join(
            [
                f"def check({self._signature()}):",
                *self.lines,
                f"    return {' or '.join(self.graded) or False}",
            ],
        )
        exec(compile(source, "<graphopt guard>", "exec"), self.names)
        check: Callable[..., bool | Callable[[], str]] = self.names["check"]
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
                expected, broken = self._constant(value), ""
                if structure.by_value:
                    broken = f"type({path}) is not {self._constant(type(value))} or {path} != {expected}"
                else:
                    broken = f"{path} is not {expected}"
                self._test(broken, name, value, path, "the object")
                if isinstance(value, types.FunctionType) and id(value) not in self.objects:
                    self._function(value, name)
            case Known(ident):
                known = self.object_names[ident]
                expected = f"the same object as {self.shown_names[known]}"
                self._test(f"{path} is not {known}", name, expected, "'another one'")
            case Container():
                self._container(structure, path, name)

    def _function(self, function: types.FunctionType, name: str) -> None:
        """The same function may read other variables than at capture."""
        for reading, step, value in variables_of(function):
            where = f"{name}, {step}"
            if self.traceable:
                now = f"{self._constant(variable_reader(reading, step))}()"
            else:
                container, key = locate(reading, (step,))
                now = f"{self._constant(container)}[{key!r}]"
            if type(value) in SCALARS:
                self._const(Lit(value), now, where)
            else:
                self._test(f"{now} is not {self._constant(value)}", where, value, now)
            if isinstance(value, torch.Tensor) and not self.traceable:  # Dynamo guards what the graph reads
                look = f"{self._constant(_look)}({now})"
                self._test(f"{look} != {self._constant(_look(value))}", where, _look(value), look)
                self.graded.extend(["True"] * value.requires_grad)

    def _const(self, lit: Lit, path: str, name: str) -> None:
        value = lit.value
        if value is None or isinstance(value, bool):
            self._test(f"{path} is not {value}", name, value, path, "the value")
        elif isinstance(value, float | complex):
            expected = self._constant(lit)
            kind = self._constant(Lit)
            scalar = type(value).__name__
            self._test(
                f"type({path}) is not {scalar} or {kind}({path}) != {expected}",
                name,
                value,
                path,
                "the value",
            )
        else:
            kind = self._constant(type(value))
            expected = self._constant(value)
            self._test(f"type({path}) is not {kind} or {path} != {expected}", name, value, path, "the value")

    def _leaf(self, index: int, path: str, name: str) -> None:
        first = self.leaf_names.get(index)
        if first is not None:
            expected = f"the same object as {self.shown_names[first]}"
            self._test(f"{path} is not {first}", name, expected, "'another one'")
            return
        variable = self._fresh("t")
        self.shown_names[variable] = name
        self.leaf_names[index] = variable
        self.lines.append(f"    {variable} = {path}")
        self.distinct.append(variable)
        fact = self.facts.arguments[index]
        # Tracing passes a stand-in for a plain tensor.
        kinds = (fact.kind, FakeTensor) if self.traceable and fact.kind is torch.Tensor else (fact.kind,)
        other = " and ".join(f"type({variable}) is not {self._constant(kind)}" for kind in kinds)
        self._test(other, name, fact.kind, f"type({variable})", "the type")
        if isinstance(fact, NumberFact):
            self._size(fact.expr, variable, name, "the value")
            return
        t = variable
        self._test(
            f"{t}.dtype is not {self._constant(fact.dtype)}", name, fact.dtype, f"{t}.dtype", "the dtype"
        )
        if fact.device.type == "cpu" and not self.traceable:
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
        if fact.dtype.is_floating_point or fact.dtype.is_complex:
            self.graded.append(f"{t}.requires_grad")
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
            if self.traceable and what == "the shape":  # exporting with sizes that this graph does not have
                symbolic = f"{self._constant(torch.SymInt)} in [type(size) for size in {actual}]"
                self._test(symbolic, name, tuple(sizes), "'symbolic'", what)
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
        if isinstance(size, sympy.Symbol) and size not in self.symbols:
            variable = self._fresh("n")
            self.symbols[size] = sympy.Symbol(variable, integer=True)
            self.lines.append(f"    {variable} = {actual}")
            return
        if isinstance(size, int):
            self._test(f"{actual} != {size}", name, size, actual, what)
            return
        if size.free_symbols <= self.symbols.keys():
            self._test(f"{actual} != {self._python(size)}", name, str(size), actual, what)

    def _python(self, expr: sympy.Basic) -> str:
        for call in expr.atoms(AppliedUndef):
            if str(call.func) not in _SIZE_FUNCTIONS:
                raise Unsupported(
                    f"sizes are related by {call.func}: {expr}",
                    remedy="leave the sizes that it is of out of dynamic_shapes",
                )
        return str(sympy.pycode(expr.xreplace(self.symbols), fully_qualified_modules=False, strict=False))

    def _container(self, structure: Container, path: str, name: str) -> None:
        form, kind, items = structure.form, structure.kind, structure.items
        variable = self._fresh("o")
        self.object_names[structure.ident] = variable
        self.shown_names[variable] = name
        self.lines.append(f"    {variable} = {path}")
        if form not in ("tuple", "namedtuple"):
            self.mutable.append(variable)
        path = variable
        kind_name = self._constant(kind)
        self._test(f"type({path}) is not {kind_name}", name, kind, f"type({path})", "the type")
        for attribute, constant in structure.shared:
            self._const(constant.value, f"{kind_name}.{attribute}", f"{name}.{attribute}")
        if form == "reduced":
            parts = self._fresh("r")
            self.lines.append(f"    {parts} = {self._constant(reduce_object)}({path})")
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
            if not all(type(key) is str for key in keys):  # 1 == True == 1.0
                kinds = self._constant(tuple(map(type, keys)))
                broken = f"tuple(map(type, {opened})) != {kinds}"
                self._test(broken, name, keys, f"tuple({opened})", "the keys")
            for key, item in zip(keys, items, strict=True):
                shown = f"{name}.{key}" if form == "object" else f"{name}[{key!r}]"
                self._walk(item, f"{opened}[{self._constant(key)}]", shown)
            return
        sized = f"{path}.__dict__" if form == "object" else path
        self._test(f"len({sized}) != {len(items)}", name, len(items), f"len({sized})", "the length")
        for i, item in enumerate(items):
            self._walk(item, f"{path}[{i}]", f"{name}[{i}]")

    def _relations(self) -> None:
        """Different leaves at capture must be different objects now, and none of the model's own."""
        if self.traceable:
            return
        ids = ", ".join(f"id({t})" for t in self.distinct)
        if self.tensors and self.distinct:
            own = f"{self._constant(self.tensors.ids)}()"
            self._own(f"not {own}.isdisjoint(({ids},))", "tensors")
        if self.mutable:
            objects = self._constant(frozenset(self.objects))
            those = ", ".join(f"id({o})" for o in self.mutable)
            self._own(f"not {objects}.isdisjoint(({those},))", "objects")
        if len(self.distinct) > 1:
            self._test(
                f"len({{{ids}}}) != {len(self.distinct)}", "tensors", "all different", "'one of them twice'",
                "their identity",
            )  # fmt: skip

    def _own(self, broken: str, which: str) -> None:
        self._test(broken, which, "objects of the caller's", "'one of the model'", "one of them")


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
