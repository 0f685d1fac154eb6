"""How much memory nodes hold at once."""

from collections.abc import Iterable, Sequence, Set

from graphopt.analysis.contractions import products
from graphopt.analysis.cost import hands_on
from graphopt.analysis.sizes import Sizes
from graphopt.ir.graph import Node, Value
from graphopt.ir.operands import type_of


def peak_bytes(nodes: Sequence[Node], needed: Set[str], sizes: Sizes, dying: Iterable[Value] = ()) -> int:
    """The bytes that nodes hold at most, run one after the other: what they make is held as long as it, or a
    view of it, is read. `needed`: the names of what is needed afterwards. `dying`: operands from elsewhere
    that nothing else reads."""
    held = {value.name: sizes.bytes(value) for value in dying}
    owners = {name: name for name in held}  # of the memory of each value
    first, last = dict.fromkeys(held, 0), dict.fromkeys(held, 0)
    for number, node in enumerate(nodes):
        read = [owners[value.name] for value in node.operands if value.name in owners]
        last.update(dict.fromkeys(read, number))
        for value in node.results:
            if not hands_on(node, sizes):
                owners[value.name] = value.name
                held[value.name] = sizes.bytes(value)
                first[value.name] = last[value.name] = number
            elif read:
                owners[value.name] = read[0]
        # An einsum of three holds the product of two meanwhile.
        inside = max((one.batch * one.m * one.n for one in products(node, sizes)[:-1]), default=0)
        name = f"inside {node.name}"
        first[name] = last[name] = number
        held[name] = inside * type_of(node.results[0]).dtype.itemsize if inside else 0
    for name in needed & owners.keys():
        last[owners[name]] = len(nodes)
    change = [0] * (len(nodes) + 2)
    for name, size in held.items():
        change[first[name]] += size
        change[last[name] + 1] -= size
    most = now = 0
    for one in change:
        now += one
        most = max(most, now)
    return most
