"""Judging a rewrite that may round otherwise: its error against float64, beside the original's own.

The captured graph is run with floating types promoted, each value freed after its last use. Deliberate
down-casts stay: their result is rounded, and carried on in float64. What draws random numbers, and what
has no float64 kernel, runs in its own types. Gradients are those of the three runs under autograd, from the
same cotangents.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from graphopt.ir.graph import Constant, Graph, Node, Value
from graphopt.ir.laws import Form, holds, laws_of
from graphopt.ir.ops import Effect, effect_of, lookup
from graphopt.ir.resolve import resolve
from graphopt.ir.types import Dim, TensorType, Type
from graphopt.verify.interpreter import Interpreter, last_uses

RMS, LARGEST = 2.0, 4.0  # how much larger the error may be than the original's own
FLOOR = 4.0  # ULP of the output's scale: below it an error is no news

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


def excess_error(
    graph: Graph,
    rewritten: Graph,
    inputs: Sequence[Any],
    seed: int,
    its_inputs: Sequence[Any] | None = None,
) -> str | None:
    """Why the rewritten graph is further from the truth than it may be on these inputs, naming the
    output; None where it is not. The inputs are left as they are; what is written in them is compared,
    too. `its_inputs` are those of the rewritten graph, where it has others. Raises what the graphs raise."""
    sources = [entry.source for entry in graph.inputs]

    def outcome(interpreter: Interpreter, one: Graph, prepare: Callable[[Any], Any]) -> list[Any]:
        values = inputs if one is graph or its_inputs is None else its_inputs
        given = [prepare(_copied(value)) for value in values]
        with _seeded(seed), torch.no_grad():
            outputs = interpreter.run(one, given)
        after = {entry.source: value for entry, value in zip(one.inputs, given, strict=True)}
        return [*outputs, *(after.get(source) for source in sources)]

    truth = outcome(Reference(), graph, widened)
    before = outcome(Interpreter(), graph, _as_it_is)
    after = outcome(Interpreter(), rewritten, _as_it_is)
    for i, source in enumerate(sources, len(graph.outputs)):
        if its_inputs is not None and (isinstance(source, Constant) or after[i] is None):
            after[i] = before[i]  # a program's own, and what only one of two has
    finite = all(_is_finite(value) for value in inputs)
    for i, (exact, old, new) in enumerate(zip(truth, before, after, strict=True)):
        subject = f"output {i}" if i < len(graph.outputs) else f"input {i - len(graph.outputs)}, written,"
        reason = _excess(exact, old, new, finite)
        if reason is not None:
            return f"{subject} {reason}"
    return None


def gradient_excess(graph: Graph, rewritten: Graph, inputs: Sequence[Any], seed: int) -> str | None:
    """The same of the gradients of every input that requires one, from random cotangents of every output
    that has one in the original."""
    cotangents: dict[int, torch.Tensor] = {}

    def outcome(interpreter: Interpreter, one: Graph, prepare: Callable[[Any], Any]) -> list[Any]:
        given = [prepare(_copied(value)) for value in inputs]
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

    before = outcome(Interpreter(), graph, _as_it_is)
    if not cotangents:
        return None
    after = outcome(Interpreter(), rewritten, _as_it_is)
    truth = outcome(Reference(), graph, widened)
    finite = all(_is_finite(value) for value in inputs)
    names = [e.value.name for e, value in zip(graph.inputs, inputs, strict=True) if _has_gradient(value)]
    for name, exact, old, new in zip(names, truth, before, after, strict=True):
        if (old is None) != (new is None):
            return f"the gradient of %{name} is {'there' if old is None else 'missing'}"
        reason = None if old is None else _excess(widened(old) if exact is None else exact, old, new, finite)
        if reason is not None:
            return f"the gradient of %{name} {reason}"
    return None


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


def _as_it_is(value: Any) -> Any:
    return value


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _has_gradient(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad and value.layout is torch.strided


def _is_finite(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) or bool(value.isfinite().all())


def _excess(exact: Any, old: Any, new: Any, finite_inputs: bool) -> str | None:
    """What is wrong with a rewritten result. Where an input is not finite, what comes of it may be one or
    another thing that is not finite, and after a comparison, anything; what is finite stays so."""
    if not isinstance(old, torch.Tensor) or old.dtype not in (*_WIDE, torch.float64, torch.complex128):
        same = torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new
        return None if same else "is no floating number, and differs"
    exact, old, new = (_real(tensor) for tensor in (exact, old, new))
    ulp = torch.finfo(old.dtype).eps
    finite = old.isfinite()
    if bool((finite & ~new.isfinite()).any()):
        return "is not finite where the original is"
    if finite_inputs and bool((~finite & new.isfinite()).any()):
        return "is finite where the original is not"
    finite &= exact.isfinite() & new.isfinite()
    if not bool(finite.any()):
        return None
    exact, old, new = exact[finite], old[finite].double(), new[finite].double()
    floor = FLOOR * ulp * float(exact.abs().max())
    errors = (old - exact).abs(), (new - exact).abs()
    rms = [max(floor, float(error.square().mean().sqrt())) for error in errors]
    largest = [max(floor, float(error.max())) for error in errors]
    if rms[1] > RMS * rms[0]:
        return f"has {rms[1] / rms[0]:.3g} times the original's error against float64 (RMS)"
    if largest[1] > LARGEST * largest[0]:
        return f"has {largest[1] / largest[0]:.3g} times the original's largest error against float64"
    return None


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
