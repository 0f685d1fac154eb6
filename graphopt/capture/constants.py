"""Tensors that forward makes from Python numbers: equal ones are one constant."""

from dataclasses import replace

import torch

from graphopt.ir.graph import Constant, Graph, Input, Value, replace_values

_COPY = "aten.lift_fresh_copy.default"


def shared(graph: Graph, constants: dict[str, torch.Tensor]) -> tuple[Graph, dict[str, torch.Tensor]]:
    """The graph with one input for all constants of the same bits, and the constants left.

    `torch.tensor(...)` is traced as a copy of a constant, so that what writes into the tensor does not
    write into the constant; only constants that are copied, and nothing else, are shared. The `detach_`
    that follows does nothing to what has no history, and goes.
    """
    first: dict[object, Value] = {}
    values: dict[str, Value] = {}
    inputs: list[Input] = []
    for entry in graph.inputs:
        readers = graph.uses.get(entry.value.name, ())
        if isinstance(entry.source, Constant) and all(node.op == _COPY for node in readers):
            tensor = constants[entry.source.name]
            known = first.setdefault((*_bits(tensor), entry.value.type), entry.value)
            if known is not entry.value:
                values[entry.value.name] = known
                continue
        inputs.append(entry)
    copies = {node.results[0].name: node for node in graph.nodes if node.op == _COPY}
    nodes = []
    for node in graph.nodes:
        made_here = node.op == "aten.detach_.default" and node.operands[0].name in copies
        if made_here and _is_of_constant(graph, copies[node.operands[0].name].operands[0]):
            values[node.results[0].name] = node.operands[0]
            continue
        nodes.append(
            replace(
                node,
                args=tuple(replace_values(arg, values) for arg in node.args),
                kwargs=tuple((name, replace_values(arg, values)) for name, arg in node.kwargs),
            )
            if any(value.name in values for value in node.operands)
            else node
        )
    if not values:
        return graph, constants
    outputs = tuple(replace_values(output, values) for output in graph.outputs)
    made = replace(graph, inputs=tuple(inputs), nodes=tuple(nodes), outputs=outputs)
    kept = {entry.source.name for entry in inputs if isinstance(entry.source, Constant)}
    return made, {name: tensor for name, tensor in constants.items() if name in kept}


def _is_of_constant(graph: Graph, value: Value) -> bool:
    return any(e.value.name == value.name and isinstance(e.source, Constant) for e in graph.inputs)


def _bits(tensor: torch.Tensor) -> tuple[object, ...]:
    if tensor.is_meta or tensor.layout is not torch.strided:
        return (id(tensor),)
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().view(-1)
    return tensor.dtype, tuple(tensor.shape), tensor.stride(), plain.view(torch.uint8).numpy().tobytes()
