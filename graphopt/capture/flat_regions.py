"""Regions of another grad mode or autocast, which the trace has as flat nodes that change the mode, made
sub-graphs.

torch.export would do so itself, but loses a no_grad inside an autocast region, or around a torch.cond, and
leaves an autocast region around a torch.cond flat.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from unittest.mock import patch

import torch._export.passes.replace_autocast_with_hop_pass as autocast_pass
import torch._export.passes.replace_set_grad_with_hop_pass as set_grad_pass

from graphopt.errors import Unsupported
from graphopt.ir.graph import Arg, Argument, Graph, Input, Node, values_in
from graphopt.ir.literal import Lit
from graphopt.ir.types import ListType, NoneType

ENTER = "autocast.enter"  # (device, dtype, enabled, cache)
EXIT = "autocast.exit"  # (name of the node that entered)
SET_GRAD = "grad_mode.set"  # (mode)


@contextlib.contextmanager
def kept_flat() -> Iterator[None]:
    """torch.export, called inside, leaves all regions flat."""
    with (
        patch.object(autocast_pass, "replace_autocast_with_hop_pass", lambda *given: given),
        patch.object(set_grad_pass, "replace_set_grad_with_hop_pass", lambda *given: given),
    ):
        yield


@dataclass
class _Scope:
    """An autocast region, or the whole: its nodes, and those not yet in it since their grad mode is not
    its own."""

    entered: Node | None
    mode: Lit
    body: list[Node] = field(default_factory=list)
    others: list[Node] = field(default_factory=list)
    switched: Node | None = None  # what the others follow


def gathered(nodes: Sequence[Node], outputs: Sequence[Arg], grad: bool) -> tuple[Node, ...]:
    """The nodes with every flat region as one node, which returns under their own names the values that
    are read after it; `grad` is the grad mode before the first node.

    Raises Unsupported where regions overlap, or one is not left.
    """
    last = {value.name: len(nodes) for output in outputs for value in values_in(output)}
    for i, node in reversed(list(enumerate(nodes))):
        for value in node.operands:
            last.setdefault(value.name, i)

    def close(scope: _Scope, before: int) -> None:
        if scope.switched is not None and scope.others:
            scope.body.append(_region("set_grad_enabled", scope.switched, scope.others, last, before))
        scope.others = []

    mode = Lit(grad)
    scopes = [_Scope(None, mode)]
    for i, node in enumerate(nodes):
        scope = scopes[-1]
        if node.op == SET_GRAD:
            if _mode(node) != mode:
                close(scope, i)
                mode = _mode(node)
                scope.switched = node
        elif node.op == ENTER:
            scopes.append(_Scope(node, mode))
        else:
            if node.op == EXIT:
                close(scope, i)
                scopes.pop()
                if scope.entered is None or node.args != (Lit(scope.entered.name),) or mode != scope.mode:
                    raise _overlap()
                if not scope.body:
                    continue
                node = _region("autocast", scope.entered, scope.body, last, i)
                scope = scopes[-1]
            (scope.body if mode == scope.mode else scope.others).append(node)
    if len(scopes) != 1:
        raise _overlap()
    close(scopes[0], len(nodes) - 1)
    return tuple(scopes[0].body)


def _mode(node: Node) -> Lit:
    (mode,) = node.args
    assert isinstance(mode, Lit)
    return mode


def _region(kind: str, marker: Node, body: list[Node], last: dict[str, int], before: int) -> Node:
    """One node for a body, which returns what is read after the place `before`."""
    made = [value for node in body for value in node.results]
    own = {value.name for value in made}
    given = {value.name: value for node in body for value in node.operands if value.name not in own}
    returned = tuple(value for value in made if last.get(value.name, -1) > before)
    if any(isinstance(value.type, NoneType | ListType) for value in returned):
        raise _overlap()
    inputs = tuple(Input(value, Argument(i)) for i, value in enumerate(given.values()))
    operands = (*marker.args, Graph(inputs, tuple(body), returned), *given.values())
    return Node(marker.name, f"higher_order.wrap_with_{kind}", operands, (), returned, True, marker.origins)


def _overlap() -> Unsupported:
    return Unsupported(
        "forward leaves an autocast or no_grad region in the midst of another",
        remedy="enter both in a with statement",
    )
