"""Judging a rewrite that may round otherwise: its error against float64, beside the original's own.

The captured graph is run with floating types promoted, each value freed after its last use. Deliberate
down-casts stay: their result is rounded, and carried on in float64. What draws random numbers, and what
has no float64 kernel, runs in its own types. Gradients are those of the three runs under autograd, from the
same cotangents.
"""

import contextlib
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from graphopt.ir.graph import Argument, Constant, Graph, Node, Value
from graphopt.ir.laws import Form, holds, laws_of
from graphopt.ir.ops import Effect, effect_of, lookup
from graphopt.ir.resolve import resolve
from graphopt.ir.types import Dim, TensorType, Type
from graphopt.verify.errors import Errors, errors_of, excess
from graphopt.verify.interpreter import Interpreter, last_uses

Results: TypeAlias = tuple[str, Any, Any, Any]
"""What it is of, the truth, the original's, the rewritten program's."""

_WIDE = {
    **dict.fromkeys((torch.float16, torch.bfloat16, torch.float32), torch.float64),
    torch.complex64: torch.complex128,
}


def widened(value: Any) -> Any:
    """A tensor in float64 or complex128 where it is floating; anything else as it is."""
    wide = _WIDE.get(value.dtype) if isinstance(value, torch.Tensor) else None
    return value if wide is None else value.to(wide)


class Reference(Interpreter):
    """Runs a graph in float64."""

    def execute(self, node: Node, env: Mapping[str, Any]) -> Sequence[Any]:
        """The results of one node, in float64."""
        if effect_of(node) in (Effect.RANDOM, Effect.OPAQUE):
            return self._in_its_own_types(node, env)
        cast = laws_of(node.op, Form.CAST)
        if cast:
            return (_rounded(node, self._operand_of(node, env, cast[0].operands[0])),)
        try:
            results = super().execute(node, env)
        except (RuntimeError, NotImplementedError):
            return self._in_its_own_types(node, env)
        if effect_of(node) is Effect.WRITES or all(map(_is_as_typed, results, node.results)):
            return results
        return self._in_its_own_types(node, env)  # it looks at the bits

    def call(
        self, node: Node, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Sequence[Any]:
        """The results of an operator, told to make float64 where it makes a floating type."""
        args = [_WIDE.get(arg, arg) if isinstance(arg, torch.dtype) else arg for arg in args]
        kwargs = {n: _WIDE.get(a, a) if isinstance(a, torch.dtype) else a for n, a in kwargs.items()}
        made = super().call(node, function, args, kwargs)
        return tuple(map(widened, made)) if node.results and not lookup(node.op).written else made

    def _operand_of(self, node: Node, env: Mapping[str, Any], parameter: str) -> torch.Tensor:
        position = lookup(node.op).parameters.index(parameter)
        arg = node.args[position] if position < len(node.args) else dict(node.kwargs)[parameter]
        operand: torch.Tensor = self.operand(arg, env)
        return operand

    def _in_its_own_types(self, node: Node, env: Mapping[str, Any]) -> Sequence[Any]:
        given = {v.name: env[v.name] for v in node.operands}
        own = {v.name: _narrowed(env[v.name], v) for v in node.operands}
        args = [self.operand(arg, own) for arg in node.args]
        kwargs = {name: self.operand(arg, own) for name, arg in node.kwargs}
        results = Interpreter.call(self, node, resolve(node.op), args, kwargs)
        for name, tensor in given.items():
            if own[name] is not tensor and own[name]._version:  # it was written
                tensor.copy_(own[name])
        same = {id(own[name]): given[name] for name in own}
        return tuple(same.get(id(result), widened(result)) for result in results)


def _is_as_typed(result: Any, value: Value) -> bool:
    kind = value.type
    if not isinstance(kind, TensorType) or not isinstance(result, torch.Tensor):
        return True
    return result.dtype == _WIDE.get(kind.dtype, kind.dtype) and (
        not kind.is_static or tuple(result.shape) == kind.shape
    )


def _narrowed(value: Any, known: Value) -> Any:
    if not isinstance(value, torch.Tensor) or not isinstance(known.type, TensorType):
        return value
    return value.to(known.type.dtype)


def _rounded(node: Node, operand: torch.Tensor) -> torch.Tensor:
    source = next(value.type for value in node.operands)
    target = node.results[0].type
    assert isinstance(source, TensorType) and isinstance(target, TensorType)
    keeps = holds(source.dtype, target.dtype) and target.dtype in _WIDE
    rounded: torch.Tensor = widened(operand.to(_WIDE[target.dtype] if keeps else target.dtype))
    return rounded


DRAWS = 16
"""Of the inputs, where the first does not pass: one error of a few elements says little of their size."""


def excess_error(
    graph: Graph,
    rewritten: Graph,
    inputs: Sequence[Any],
    seed: int,
    its_inputs: Sequence[Any] | None = None,
) -> str | None:
    """Why the rewritten graph is further from the truth than it may be on these inputs, and on others near
    them, naming the output; None where it is not. The inputs are left as they are; what is written in them is
    compared, too. `its_inputs` are those of the rewritten graph, where it has others. Raises what the graphs
    raise."""
    sources = [entry.source for entry in graph.inputs]
    names = [f"output {i}" for i, _ in enumerate(graph.outputs)]
    names += [f"input {i}, written," for i, _ in enumerate(sources)]

    def results(number: int) -> Iterator[Results]:
        mine = theirs = _near(graph, inputs, number)
        if its_inputs is not None:
            mine, theirs = (
                _near(*pair, number, Argument) for pair in ((graph, inputs), (rewritten, its_inputs))
            )
        truth = outcome(Reference(), graph, [*map(widened, mine)])
        before = outcome(Interpreter(), graph, mine)
        after = outcome(Interpreter(), rewritten, theirs)
        for i, source in enumerate(sources, len(graph.outputs)):
            if its_inputs is not None and (isinstance(source, Constant) or after[i] is None):
                after[i] = before[i]  # a program's own, and what only one of two has
        return zip(names, truth, before, after, strict=True)

    def outcome(interpreter: Interpreter, one: Graph, values: Sequence[Any]) -> list[Any]:
        given = [*map(_copied, values)]
        with _seeded(seed), torch.no_grad():
            outputs = interpreter.run(one, given)
        after = {entry.source: value for entry, value in zip(one.inputs, given, strict=True)}
        return [*outputs, *(after.get(source) for source in sources)]

    return _excess(results, inputs)


def gradient_excess(graph: Graph, rewritten: Graph, inputs: Sequence[Any], seed: int) -> str | None:
    """The same of the gradients of every input that requires one, from random cotangents of every output
    that has one in the original."""
    names = [
        f"the gradient of %{entry.value.name}"
        for entry, value in zip(graph.inputs, inputs, strict=True)
        if _has_gradient(value)
    ]
    cotangents: dict[int, torch.Tensor] = {}

    def results(number: int) -> Iterator[Results]:
        near = _near(graph, inputs, number)
        before = outcome(Interpreter(), graph, near)
        if not cotangents:
            return iter(())
        after = outcome(Interpreter(), rewritten, near)
        truth = outcome(Reference(), graph, [*map(widened, near)])
        truth = [widened(old) if exact is None else exact for exact, old in zip(truth, before, strict=True)]
        return zip(names, truth, before, after, strict=True)

    def outcome(interpreter: Interpreter, one: Graph, values: Sequence[Any]) -> list[Any]:
        given = [*map(_copied, values)]
        for leaf, value in zip(given, inputs, strict=True):
            if _has_gradient(value):
                leaf.requires_grad_()
        leaves = [leaf for leaf in given if _has_gradient(leaf)]
        with _seeded(seed), torch.enable_grad():
            outputs = interpreter.run(one, given)
            if not cotangents:  # of the original, which comes first
                cotangents.update((i, torch.randn_like(o)) for i, o in enumerate(outputs) if _has_gradient(o))
            roots = {i: outputs[i] for i in cotangents if _has_gradient(outputs[i])}
            if not roots:
                return [None] * len(leaves)
            given_back = [cotangents[i].to(root.dtype) for i, root in roots.items()]
            found = torch.autograd.grad([*roots.values()], leaves, given_back, allow_unused=True)
        return [None if gradient is None else gradient.to_dense() for gradient in found]

    return _excess(results, inputs)


def _excess(draw: Callable[[int], Iterator[Results]], inputs: Sequence[Any]) -> str | None:
    """What is wrong with a rewritten program's results, naming the first; `draw` runs it on inputs of a
    number, 0 being those given. What fails there by its errors alone is judged by all draws together."""
    finite_inputs = all(map(_is_finite, inputs))
    noise = max((_noise_in(value) for value in inputs), default=0.0) / math.sqrt(3)
    doubtful: dict[str, list[Errors]] = {}
    for number in range(DRAWS):
        for name, exact, old, new in draw(number):
            if (old is None) != (new is None):
                return f"{name} is {'there' if old is None else 'missing'}"
            found = errors_of(exact, old, new, finite_inputs)
            if isinstance(found, str):
                return f"{name} {found}"
            if found is None:
                continue
            if number == 0 and excess([found], noise) is not None:
                doubtful[name] = [found]
            elif name in doubtful:
                doubtful[name].append(found)
        if not doubtful:
            return None
    reasons = ((name, excess(draws, noise)) for name, draws in doubtful.items())
    return next((f"{name} {reason}" for name, reason in reasons if reason is not None), None)


def _near(graph: Graph, inputs: Sequence[Any], number: int, only: type = object) -> list[Any]:
    """Each floating element a little larger or smaller, the same for one source; not of number 0. `only`
    those of one kind of source."""
    if not number:
        return [*inputs]
    return [
        _shaken(value, zlib.crc32(f"{number} {entry.source}".encode()))
        if isinstance(entry.source, only)
        else value
        for entry, value in zip(graph.inputs, inputs, strict=True)
    ]


def _shaken(value: Any, seed: int) -> Any:
    noise = _noise_in(value)
    if not noise:
        return value
    generator = torch.Generator(value.device).manual_seed(seed)
    by = torch.rand(value.shape, generator=generator, device=value.device, dtype=torch.float64) * 2 - 1
    shaken = (widened(value.detach()) * (1 + by * noise)).to(value.dtype)
    return shaken.requires_grad_(value.requires_grad)


def _noise_in(value: Any) -> float:
    """By what share of itself an element may change: so little that what it does is proportional, and so much
    that all is rounded anew."""
    if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
        return 0.0
    return math.sqrt(torch.finfo(value.dtype).eps)


def reference_bytes(graph: Graph, sizes: Mapping[str, int], *, backward: bool) -> int:
    """About how much memory a run in float64 takes at most: with `backward`, nothing is freed before the
    end. `sizes` are those of the graph's symbols."""

    def needed(values: Iterable[Value]) -> int:
        return sum(_wide_bytes(value.type, sizes) for value in values)

    live = most = needed(entry.value for entry in graph.inputs) * (2 if backward else 1)
    last = last_uses(graph)
    known = {value.name: value for value in graph.values}
    for node in graph.nodes:
        live += needed(node.results)
        most = max(most, live)
        if not backward:
            live -= needed(known[name] for name in last.get(node.name, ()))
    return most


def _wide_bytes(kind: Type, sizes: Mapping[str, int]) -> int:
    if not isinstance(kind, TensorType):
        return 0
    elements = math.prod(_size(dim, sizes) for dim in kind.shape)
    return elements * _WIDE.get(kind.dtype, kind.dtype).itemsize


def _size(dim: Dim, sizes: Mapping[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    known = dim.subs({symbol: sizes[str(symbol)] for symbol in dim.free_symbols if str(symbol) in sizes})
    return int(known) if known.is_Integer else 1


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _has_gradient(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad and value.layout is torch.strided


def _is_finite(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) or bool(value.isfinite().all())
