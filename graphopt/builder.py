"""New nodes one after another, with the types that running them on tensors without memory shows."""

from collections.abc import Sequence
from typing import TypeAlias

import torch

from graphopt.draft import Draft
from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.graph import Sequence as Operands
from graphopt.ir.literal import Lit, Scalar
from graphopt.ir.regions import likeness
from graphopt.ir.resolve import called
from graphopt.ir.types import TensorType, Type

Operand: TypeAlias = "Arg | Scalar | Sequence[int]"


class Builder:
    """Makes nodes in the place of one, to be handed to `Draft.replace` as `added`.

    build = Builder(draft, like=node)
    y = build("aten.mul.Tensor", w, s)
    """

    def __init__(self, draft: Draft, like: Node) -> None:
        self.nodes: list[Node] = []
        self._draft = draft
        self._like = like

    def __call__(self, op: str, *args: Operand, **kwargs: Operand) -> Value:
        """The only result of an operator on static tensors. Raises InvalidGraph where it does not take
        these operands."""
        given, named = [as_arg(arg) for arg in args], {name: as_arg(arg) for name, arg in kwargs.items()}
        return self.typed(op, given, self._type(op, given, named), named)

    def typed(self, op: str, args: Sequence[Arg], kind: Type, kwargs: dict[str, Arg] | None = None) -> Value:
        """The same for an operator whose result has a known type."""
        node = self._draft.node(op, args, kind, kwargs=kwargs, like=self._like)
        self.nodes.append(node)
        return node.results[0]

    def _type(self, op: str, args: Sequence[Arg], kwargs: dict[str, Arg]) -> TensorType:
        node = Node("", op, tuple(args), tuple(kwargs.items()), ())
        known, place = self._draft.costs.known, (Builder, likeness(node))
        if place not in known:
            known[place] = self._shown(node, kwargs)
        kind: TensorType = known[place]
        return kind

    def _shown(self, node: Node, kwargs: dict[str, Arg]) -> TensorType:
        """What a node's result is, as running it shows."""
        where = f"{node.op} in the place of {self._like.name}"
        devices = [value.type.device for value in node.operands if isinstance(value.type, TensorType)]
        try:
            with torch.no_grad():
                made = called(node, _on_meta)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise InvalidGraph(f"it does not take these operands: {error}", where=where) from error
        if not isinstance(made, torch.Tensor):
            raise InvalidGraph("it returns no tensor", where=where)
        named = kwargs.get("device")
        device = named.value if isinstance(named, Lit) else next(iter(devices), torch.device("cpu"))
        assert isinstance(device, torch.device)
        return TensorType(made.dtype, tuple(made.shape), made.stride(), device)


def as_arg(operand: Operand) -> Arg:
    """An operand of a node: numbers and types as literals, lists of these as such."""
    if isinstance(operand, Sequence) and not isinstance(operand, str):
        return Operands("list", tuple(map(Lit, operand)))
    if operand is None or isinstance(operand, bool | int | float | complex | str):
        return Lit(operand)
    if isinstance(operand, torch.dtype | torch.device | torch.layout | torch.memory_format):
        return Lit(operand)
    return operand


def _on_meta(arg: Arg) -> object:
    match arg:
        case Value(_, TensorType() as kind) if kind.is_static and kind.strides is not None:
            return torch.empty_strided(kind.shape, kind.strides, dtype=kind.dtype, device="meta")
        case Lit(value):
            return torch.device("meta") if isinstance(value, torch.device) else value
    raise InvalidGraph("an operand is no static tensor")
