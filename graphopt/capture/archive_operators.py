"""Which names of functions a `.pt2` may hold: operators that compute, and do nothing else.

torch resolves such a name by a `getattr` chain from `torch` (`torch.os.system` resolves), and the
program calls what it finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from graphopt.capture.archive_refusal import Refusal

_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)\.(\w+)", re.ASCII)
_HIGHER_ORDER = re.compile(r"torch\.ops\.higher_order\.(\w+)", re.ASCII)

# The plain functions that torch.export writes (torch/_export/verifier.py), less
# _call_custom_autograd_function_in_pre_dispatch, which takes the name of a class.
_FUNCTION = re.compile(
    r"_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_"
    r"|lshift|rshift)"
    r"|math\.(ceil|floor|trunc)"
    r"|torch\.(sym_(int|float|ite|max|min|not|sqrt|sum)|_sym_sqrt|_C\._set_grad_enabled)"
    r"|torch\.autograd\.grad_mode\.set_grad_enabled"
    r"|torch\.amp\.autocast_mode\._(enter|exit)_autocast"
    r"|torch\.fx\.experimental\.symbolic_shapes\.cast_symbool_to_symint_guardless"
    r"|torch\._functorch\.predispatch\.(_add_batch_dim|_remove_batch_dim|_(vmap|jvp)_(in|de)crement"
    r"_nesting|lazy_load_decompositions|_make_dual|_unpack_dual|_unwrap_for_grad|_enter_dual_level"
    r"|_exit_dual_level)"
)

# Those that only run the sub-graphs and operators they are given. Not: aoti_call_delegate (loads
# a library by path), inline_asm_elementwise, triton_kernel_wrapper_*, call_torchbind, print.
_ALLOWED_HIGHER_ORDER = re.compile(
    r"associative_scan|auto_functionalized(_v2)?|autograd_function_apply|cond"
    r"|flex_attention(_backward)?|hints_wrapper|invoke_subgraph|map_impl|out_dtype|scan"
    r"|strict_mode|tag_activation_checkpoint|while_loop(_stack_output)?|wrap"
    r"|wrap_activation_checkpoint|wrap_with_autocast|wrap_with_set_grad_enabled"
)

_FILE_OPERATORS = frozenset({"aten::from_file", "aten::from_file.out"})
"""`aten.from_file("/any/path", True, 10)` creates that file."""

_OWN_NAMESPACES = frozenset({"aten", "prims"})


def check_operator(target: str) -> None:
    """Accepts the name of an allowed function; raises `Refusal` on any other."""
    if _FUNCTION.fullmatch(target):
        return
    if found := _HIGHER_ORDER.fullmatch(target):
        if not _ALLOWED_HIGHER_ORDER.fullmatch(found[1]):
            raise Refusal(f"the higher-order operator {found[1]!r} is not allowed")
        return
    found = _OPERATOR.fullmatch(target)
    if not found:
        raise Refusal(f"{target[:120]!r} is no operator")
    namespace, name, overload = found.groups()
    qualified = f"{namespace}::{name}" + ("" if overload == "default" else f".{overload}")
    if qualified in _FILE_OPERATORS:
        raise Refusal(f"the operator {qualified!r} touches files")
    # TorchScript's own operators (aten::save writes a file) have no kernel in the dispatcher.
    try:
        known = torch._C._dispatch_has_kernel(qualified)
    except RuntimeError:  # it is no name
        known = False
    if not known:
        raise Refusal(f"no operator {qualified!r} is registered; import its library first")


def check_call(target: str, arguments: Iterator[Mapping[str, Any]]) -> None:
    """Refuses text as an argument of another library's operator.

    Such an operator computes on tensors and numbers as its authors meant it to, but text may be a
    path: torchvision's `image.write_file` takes one. `arguments` are Arguments of torch's schema.
    """
    leaves = [leaf for argument in arguments for leaf in _leaves(argument)]
    operators = [target, *(value for kind, value in leaves if kind == "as_operator")]
    found = [_OPERATOR.fullmatch(operator) for operator in operators]
    foreign = [match[1] for match in found if match and match[1] not in _OWN_NAMESPACES]
    if foreign and any(kind in ("as_string", "as_strings") for kind, _ in leaves):
        raise Refusal(f"an operator of the library {foreign[0]!r} with text as an argument")


def _leaves(argument: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The kind and value of an argument, or of each argument in a mapping of them."""
    ((kind, value),) = argument.items()
    if kind != "as_string_to_argument":
        yield kind, value
    else:
        for item in value.values():
            yield from _leaves(item)
