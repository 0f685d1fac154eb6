"""Arguments that are not opened, and what forward could read in them without our seeing it."""

import enum
import sys
import types
from collections.abc import Container as Collection
from typing import Any

import torch

from graphopt.errors import Unsupported
from graphopt.guards.places import DEFAULTS
from graphopt.guards.variables import variables_of
from graphopt.ir.literal import SCALARS
from graphopt.ir.structure import Container, Opaque, Structure


def refuse_unwatched(
    structure: Structure, name: str, owned: Collection[int], kinds: tuple[type, ...] = ()
) -> None:
    """Raises Unsupported where an argument holds a module, function, class or Python module that the
    model does not own and that has contents which may change: nothing would watch them. Of a function,
    the guard watches the variables, not what is inside them."""
    if isinstance(structure, Container):
        for item in (*structure.keys, *structure.items):
            refuse_unwatched(item, name, owned, (*kinds, structure.kind))
    if not isinstance(structure, Opaque) or id(structure.value) in owned:
        return
    if any(
        structure.value is kind for kind in kinds
    ):  # the class of an object that is made anew: its constants are guarded
        return
    held = _changeable(structure.value)
    if held:
        raise Unsupported(
            f"argument {name} is or holds {held}, whose changes would go unnoticed",
            remedy="make it an attribute of the model, or pass the tensors and numbers that forward needs",
            where=_where(structure.value),
        )


def _changeable(thing: Any) -> str:
    """What a thing is that forward may find changed in a later call; "" where there is nothing."""
    if isinstance(thing, torch.nn.Module):
        return f"the module {type(thing).__qualname__}"
    if isinstance(thing, types.MethodType):
        return f"a method of a {type(thing.__self__).__qualname__}"
    if isinstance(thing, types.BuiltinFunctionType):
        of_module = thing.__self__ is None or isinstance(thing.__self__, types.ModuleType | type)
        return "" if of_module else f"a method of a {type(thing.__self__).__qualname__}"
    if isinstance(thing, types.FunctionType):
        for _, name, value in variables_of(thing):
            if name in DEFAULTS:
                if not all(map(_is_value, value.values() if isinstance(value, dict) else value)):
                    return f"the function {thing.__qualname__}, which has changeable defaults"
            elif not _is_watched(value):
                what = f"{name.split()[-1]}, a {type(value).__name__}"
                return f"the function {thing.__qualname__}, which reads {what}"
        return ""
    if isinstance(thing, enum.Enum):
        return "" if _is_value(thing.value) else f"the enum member {thing} of changeable value"
    if isinstance(thing, type) and _is_users_own(thing.__module__) and not issubclass(thing, enum.Enum):
        kinds = [kind for kind in thing.__mro__ if _is_users_own(kind.__module__)]
        held = (name for kind in kinds for name, child in vars(kind).items() if not _is_code(child))
        read = next((name for name in held if not name.startswith("__")), "")
        return f"the class {thing.__qualname__}, which holds {read}" if read else ""
    if isinstance(thing, types.ModuleType) and _is_users_own(thing.__name__):
        return f"the Python module {thing.__name__}"
    return ""


def _is_users_own(module: str) -> bool:
    root = module.partition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return (root not in sys.stdlib_module_names and "site-packages" not in file) or module == "__main__"


def _is_watched(value: object) -> bool:
    """Whether the guard of a function would notice that a variable of it changed."""
    if isinstance(value, torch.Tensor | types.FunctionType) or _is_value(value):  # their variables are asked
        return True
    kinds = (
        types.BuiltinFunctionType,
        types.ModuleType,
        type,
        torch._ops.OpOverload,
        torch._ops.OpOverloadPacket,
    )
    return isinstance(value, kinds) and not _changeable(value)


def _where(thing: object) -> str:
    code = getattr(thing, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if isinstance(code, types.CodeType) else ""


def _is_code(thing: object) -> bool:
    callables = (types.FunctionType, types.BuiltinFunctionType, type, staticmethod, classmethod, property)
    return isinstance(thing, (*callables, types.MemberDescriptorType, types.GetSetDescriptorType))


def _is_value(thing: object) -> bool:
    if type(thing) is tuple:
        return all(map(_is_value, thing))
    return type(thing) in SCALARS or isinstance(thing, bytes | range | enum.Enum)
