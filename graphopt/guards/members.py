"""What classes and functions are made of: the members that forward may use, and the names in bytecode.

Functions of the user's own are looked into; those of torch, Python and installed packages are not.
"""

import dis
import enum
import functools
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_HERE = str(Path(__file__).parent.parent)  # graphopt's own code
_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")})
# Called without being named.
_IMPLICIT = frozenset(
    ("forward", "__call__", "__getattr__", "__getitem__", "__iter__", "__len__", "__contains__", "__bool__",
     "__eq__", "__enter__", "__exit__", "__get__")
)  # fmt: skip


def is_users(file: str) -> bool:
    """Whether a source file is part of neither Python, an installed package nor graphopt."""
    return bool(file) and "site-packages" not in file and not file.startswith(_HERE) and not is_standard(file)


def is_standard(file: str) -> bool:
    """Whether a source file is part of Python itself."""
    return file.startswith((*_LIBRARIES, "<frozen")) and "site-packages" not in file


def is_own_class(kind: type) -> bool:
    """Whether a class is graphopt's own."""
    return kind.__module__.partition(".")[0] == "graphopt"


@functools.cache
def _file_of(module: str) -> str:
    return getattr(sys.modules.get(module), "__file__", None) or ""


def is_python_class(kind: type) -> bool:
    """Whether a class was made by a class statement, so that its attribute reads can be watched."""
    heap, immutable = 1 << 9, 1 << 8  # Py_TPFLAGS_HEAPTYPE, Py_TPFLAGS_IMMUTABLETYPE
    return bool(kind.__flags__ & heap) and not kind.__flags__ & immutable


def is_users_class(kind: type) -> bool:
    """Whether a class statement of the user's own made it (a script's or a notebook's too)."""
    if not is_python_class(kind) or issubclass(kind, enum.Enum) or issubclass(kind, torch.Tensor):
        return False
    if kind.__module__ == "__main__":
        return True
    return is_users(_file_of(kind.__module__)) and not kind.__module__.startswith("torch.")


def members(kind: type) -> dict[str, object]:
    """What a class gives its instances by name: all that the user's own classes define, and the methods
    of installed packages (torch aside)."""
    found: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        users = is_users_class(base)
        if not users and (base.__module__.partition(".")[0] == "torch" or not is_python_class(base)):
            for name in vars(base):
                found.pop(name, None)
            continue
        for name, value in vars(base).items():
            if isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
                continue  # the slots of its objects
            if name in _IMPLICIT or not name.startswith("__"):
                if isinstance(underlying(value), types.FunctionType) or users:
                    found[name] = value
                else:
                    found.pop(name, None)
    return found


def underlying(member: Any) -> Any:
    """The function of a method, class method, static method or property; any other thing as it is."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, functools.cached_property):
        return member.func
    return getattr(member, "__func__", member)


def is_implicit(name: str) -> bool:
    """Whether Python or torch calls the method without the program naming it."""
    return name in _IMPLICIT


def code_names(code: types.CodeType) -> Iterator[str]:
    """Every global and attribute that the code names, in the functions that it defines too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_names(constant)


def global_names(code: types.CodeType) -> tuple[str, ...]:
    """The globals that the code reads, in the functions that it defines too."""
    return tuple(dict.fromkeys(name for kind, name in _global_accesses(code) if kind == "LOAD"))


def stored_globals(code: types.CodeType) -> tuple[str, ...]:
    """The globals that the code assigns or deletes."""
    return tuple(dict.fromkeys(name for kind, name in _global_accesses(code) if kind != "LOAD"))


@functools.lru_cache(maxsize=4096)
def _global_accesses(code: types.CodeType) -> tuple[tuple[str, str], ...]:
    found = [
        (kind, str(instruction.argval))
        for instruction in dis.get_instructions(code)
        for kind, _, scope in [instruction.opname.partition("_")]
        if scope in ("GLOBAL", "NAME")
    ]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.extend(_global_accesses(constant))
    return tuple(found)
