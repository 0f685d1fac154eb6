"""Everything a caller can observe of one call, recorded as frozen facts, and the first difference
between two such records.

The rule of the whole project is that an optimised program may not be told from the original. This
module is that rule as code: ``observe`` runs a callable once and writes down its outputs, what it
did to its arguments and to a module's parameters and buffers, which tensors share memory, the
random stream, the gradients and the exception. ``difference`` reads two records and says in one
sentence what a caller would notice.

A record holds copies of bytes, no tensors: it stays true whatever happens to the tensors
afterwards.

What is deliberately not observed: NaN payloads and signs, the text of an exception, warnings, the
time it took, and which class of ``grad_fn`` an output carries. Quantised tensors are out of scope.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import hashlib
import math
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from re import Pattern
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

__all__ = [
    "Literal",
    "Observation",
    "Structure",
    "TensorFact",
    "copy_arguments",
    "difference",
    "observe",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Structure:
    """A container or object: its type and the names of its members, in order."""

    path: str
    type: str
    members: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Literal:
    """A value that is no tensor, by type and bits: 1, 1.0 and True differ, so do 0.0 and -0.0;
    every NaN is one NaN.
    """

    path: str
    type: str
    bits: str
    text: str = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class TensorFact:
    """One tensor as the caller sees it.

    ``identity`` numbers the tensor object and ``storage`` its memory, each in order of first sight
    over arguments, parameters, buffers and outputs, so that two records agree exactly where their
    ``is`` and sharing relations agree. ``requires_grad`` and ``is_leaf`` are None where autograd
    raises on the question, as it does of a stale view. ``content`` holds the elements in index
    order, lazy conjugation and negation resolved, NaNs made one NaN. ``parts`` holds the component
    tensors of layouts without strides (sparse, nested).
    """

    path: str
    type: str
    dtype: torch.dtype
    layout: torch.layout
    device: torch.device
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    offset: int | None
    requires_grad: bool | None
    is_leaf: bool | None
    conjugate: bool
    negative: bool
    identity: int
    storage: int | None
    content: bytes | None
    parts: tuple[Fact, ...] = ()


Fact = Structure | Literal | TensorFact


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """What one call did, section by section; equal observations cannot be told apart by the caller.

    ``gradients`` holds the ``.grad`` of every leaf among arguments and parameters that requires
    one, after ``backward`` where it was asked for; ``backward_exception`` the type that
    ``backward`` raised. ``random_state`` is a digest of the generators after the call; ``modes``
    the global switches that a call can leave behind.
    """

    exception: str | None
    outputs: tuple[Fact, ...]
    arguments: tuple[Fact, ...]
    state: tuple[Fact, ...]
    random_state: str
    modes: tuple[Literal, ...]
    backward_exception: str | None
    gradients: tuple[Fact, ...]
    message: str = dataclasses.field(default="", compare=False)


# ------------------------------------------------------------------------------------------
# Reading one value
# ------------------------------------------------------------------------------------------


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _float_bits(value: float) -> str:
    return "nan" if math.isnan(value) else struct.pack(">d", value).hex()


_BY_REPR = (
    torch.dtype, torch.device, torch.layout, torch.memory_format, range, slice, Pattern,
    PurePath,  # its slots fill as it is asked
)  # fmt: skip


def _literal(path: str, value: object) -> Literal | None:
    """The fact of a plain Python value, or None where ``value`` has parts to look into."""
    if isinstance(value, enum.Enum):
        bits = value.name
    elif value is None or isinstance(value, (bool, int, str, bytes)):
        bits = repr(value)
    elif isinstance(value, float):
        bits = _float_bits(value)
    elif isinstance(value, complex):
        bits = f"{_float_bits(value.real)} {_float_bits(value.imag)}"
    elif isinstance(value, np.generic):
        bits = f"{value.dtype} {value.tobytes().hex()}"
    elif isinstance(value, np.ndarray):
        if value.dtype == object:
            return None
        bits = f"{value.dtype} {value.shape} {np.ascontiguousarray(value).tobytes().hex()}"
    elif isinstance(value, torch.Size):
        bits = repr(tuple(value))
    elif isinstance(value, _BY_REPR):
        bits = repr(value)
    elif isinstance(value, (type, FunctionType, BuiltinFunctionType, MethodType)):
        bits = f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, ModuleType):
        bits = value.__name__
    elif isinstance(value, torch.Generator):
        bits = hashlib.sha256(value.get_state().numpy().tobytes()).hexdigest()
    else:
        return None
    return Literal(path, _type_name(value), bits, repr(value)[:80])


def _attributes(value: object) -> list[tuple[str, object]]:
    """The instance attributes of ``value``, from its ``__dict__`` and its slots, in order of
    definition.
    """
    found = dict(getattr(value, "__dict__", {}))
    for kind in reversed(type(value).__mro__):
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                found.setdefault(slot, getattr(value, slot))
    return list(found.items())


def _members(value: object) -> list[tuple[str, object]]:
    """The parts of a container or object, each with the suffix that its path takes."""
    parts: list[tuple[str, object]] = []
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts += [(f".{name}", item) for name, item in zip(value._fields, value, strict=True)]
    elif isinstance(value, (tuple, list, deque)):
        parts += [(f"[{index}]", item) for index, item in enumerate(value)]
    elif isinstance(value, Mapping):
        parts += [(f"[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, (set, frozenset)):
        parts += [("{}", item) for item in sorted(value, key=repr)]
    if type(value).__module__ != "builtins" and not isinstance(value, (deque, torch.Tensor)):
        # Subclasses of containers carry state of their own: a ModelOutput is a dict and a dataclass
        # in one.
        parts += [(f".{name}", item) for name, item in _attributes(value)]
    return parts


def _bits(tensor: torch.Tensor) -> bytes:
    """The elements of a strided tensor in index order, NaNs made one NaN, as bytes."""
    values = tensor.detach().resolve_conj().resolve_neg().reshape(-1)
    plain = torch.empty(values.numel(), dtype=values.dtype)  # strides of its own: [1] may have 0
    plain.copy_(values)
    if plain.is_complex():
        plain = torch.view_as_real(plain).reshape(-1)
    if plain.is_floating_point():
        nan = plain.float().isnan() if plain.element_size() == 1 else plain.isnan()
        if bool(nan.any()):
            plain = torch.where(nan, torch.full((), math.nan).to(plain.dtype), plain)
    return plain.view(torch.uint8).numpy().tobytes()


def tensors_in(value: object) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor inside ``value`` with the suffix of its path, in the order in which facts are
    recorded.
    """
    yield from _tensors_in("", value, set())


def _tensors_in(path: str, value: object, above: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif id(value) not in above and _literal(path, value) is None:
        for suffix, item in _members(value):
            yield from _tensors_in(path + suffix, item, above | {id(value)})


def _markers_in(value: object, above: set[int]) -> Iterator[object]:
    """Every bare object() inside ``value``."""
    if type(value) is object:
        yield value
    elif id(value) not in above and not isinstance(value, torch.Tensor) and _literal("", value) is None:
        for _, item in _members(value):
            yield from _markers_in(item, above | {id(value)})


def _asked(tensor: torch.Tensor, question: str) -> bool | None:
    """What autograd says of ``tensor``; None where it raises, as the tensor was one of several
    views made by one operator, and their base was written to since.
    """
    try:
        return bool(getattr(tensor, question))
    except RuntimeError:
        return None


class _Recorder:
    """Turns values into facts, numbering tensor objects and storages in order of first sight.

    It keeps every object that it numbered alive, so that an ``id`` is never used twice.
    """

    def __init__(self) -> None:
        self._identities: dict[int, int] = {}
        self._storages: dict[int, int] = {}
        self._alive: list[object] = []

    def see(self, tensor: torch.Tensor) -> None:
        """Number ``tensor`` and its storage now, before a call can replace them."""
        self._number(self._identities, tensor)
        self._storage(tensor)

    def _number(self, numbers: dict[int, int], value: object) -> int:
        if id(value) not in numbers:
            numbers[id(value)] = len(numbers)
            self._alive.append(value)
        return numbers[id(value)]

    def _storage(self, tensor: torch.Tensor) -> int | None:
        try:
            # The Python object of a storage is one for all tensors that share it, as long as it is
            # alive.
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse layouts have none
            return None
        return self._number(self._storages, storage)

    def facts(self, path: str, value: object) -> tuple[Fact, ...]:
        found: list[Fact] = []
        self._record(path, value, found, set())
        return tuple(found)

    def _record(self, path: str, value: object, found: list[Fact], above: set[int]) -> None:
        if isinstance(value, torch.Tensor):
            found.append(self.tensor(path, value))
            return
        if id(value) in above:
            found.append(
                Literal(path, _type_name(value), "contains itself", "an object that contains itself")
            )
            return
        literal = _literal(path, value)
        if literal is not None:
            found.append(literal)
            return
        members = _members(value)
        found.append(Structure(path, _type_name(value), tuple(suffix for suffix, _ in members)))
        for suffix, item in members:
            self._record(path + suffix, item, found, above | {id(value)})

    def tensor(self, path: str, value: torch.Tensor) -> TensorFact:
        identity = self._number(self._identities, value)
        strided = value.layout == torch.strided and not value.is_nested
        content: bytes | None = None
        parts: tuple[Fact, ...] = ()
        if strided and value.device.type != "meta":
            content = _bits(value.int_repr() if value.is_quantized else value)
        elif not strided:
            parts = tuple(
                fact for name, part in _components(value) for fact in self.facts(f"{path}.{name}", part)
            )
        return TensorFact(
            path=path,
            type=_type_name(value),
            dtype=value.dtype,
            layout=value.layout,
            device=value.device,
            shape=() if value.is_nested else tuple(value.shape),
            strides=tuple(value.stride()) if strided else None,
            offset=int(value.storage_offset()) if strided else None,
            requires_grad=_asked(value, "requires_grad"),
            is_leaf=_asked(value, "is_leaf"),
            conjugate=value.is_conj(),
            negative=value.is_neg(),
            identity=identity,
            storage=self._storage(value) if strided else None,
            content=content,
            parts=parts,
        )


def _components(value: torch.Tensor) -> list[tuple[str, object]]:
    """The plain tensors that a tensor without strides is made of. They are new objects on each
    call, hence copies.
    """
    plain = value.detach()
    if value.is_nested:
        if value.layout == torch.jagged:
            return [(f"{name}()", getattr(plain, name)().clone()) for name in ("values", "offsets")]
        return [(f"unbind()[{i}]", part.clone()) for i, part in enumerate(plain.unbind())]
    if value.layout == torch.sparse_coo:
        # Eager itself may hold the same elements in another order; coalescing would hide that, as a
        # caller can see it.
        return [
            ("is_coalesced()", plain.is_coalesced()),
            ("_indices()", plain._indices().clone()),
            ("_values()", plain._values().clone()),
        ]
    if value.layout in (torch.sparse_csr, torch.sparse_bsr):
        names = ("crow_indices", "col_indices", "values")
    elif value.layout in (torch.sparse_csc, torch.sparse_bsc):
        names = ("ccol_indices", "row_indices", "values")
    else:
        return [("to_dense()", plain.to_dense())]
    return [(f"{name}()", getattr(plain, name)().clone()) for name in names]


# ------------------------------------------------------------------------------------------
# Observing one call
# ------------------------------------------------------------------------------------------


def _modes() -> tuple[Literal, ...]:
    switches: list[tuple[str, object]] = [
        ("grad mode", torch.is_grad_enabled()),
        ("inference mode", torch.is_inference_mode_enabled()),
        ("default dtype", torch.get_default_dtype()),
        ("autocast on cpu", torch.is_autocast_enabled("cpu")),
        ("autocast dtype on cpu", torch.get_autocast_dtype("cpu")),
        ("deterministic algorithms", torch.are_deterministic_algorithms_enabled()),
        ("threads", torch.get_num_threads()),
    ]
    return tuple(Literal(name, _type_name(value), repr(value), repr(value)) for name, value in switches)


def _random_state(gpus: Sequence[int]) -> str:
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    for gpu in gpus:
        digest.update(torch.cuda.get_rng_state(gpu).numpy().tobytes())
    return digest.hexdigest()


def _state(module: torch.nn.Module | None) -> list[tuple[str, torch.Tensor]]:
    """Parameters, then buffers, by qualified name; a tied tensor under each of its names."""
    if module is None:
        return []
    named = [(f"parameter {n!r}", p) for n, p in module.named_parameters(remove_duplicate=False)]
    return named + [(f"buffer {n!r}", b) for n, b in module.named_buffers(remove_duplicate=False)]


def _backward(outputs: object) -> str | None:
    """Run ``backward`` from the sum of every differentiable output; the type of what it raised, or
    None.
    """
    roots = [
        tensor.to_dense() if tensor.layout != torch.strided else tensor
        for _, tensor in tensors_in(outputs)
        if _asked(tensor, "requires_grad") and not tensor.is_nested
    ]
    if not roots:
        return None
    try:
        with torch.enable_grad():
            total = sum(
                ((r.real if r.is_complex() else r).sum().double() for r in roots),
                torch.zeros(()).double(),
            )
            torch.autograd.backward(total)
    except Exception as raised:
        return _type_name(raised)
    return None


def observe(
    fn: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object] | None = None,
    *,
    module: torch.nn.Module | None = None,
    seed: int = 0,
    backward: bool = False,
) -> Observation:
    """Call ``fn(*args, **kwargs)`` once after ``torch.manual_seed(seed)`` and record all that the
    caller can observe.

    The arguments are used as they are, and keep what the call did to them: pass a copy
    (``copy_arguments``) where they are needed again. ``module`` is the module whose parameters and
    buffers are watched. With ``backward`` the sum of every differentiable output is differentiated.
    The generators, grad mode and default dtype that the caller had are restored.
    """
    named = dict(kwargs or {})
    recorder = _Recorder()
    state = _state(module)
    inputs = [(f"args{suffix}", tensor) for suffix, tensor in tensors_in(tuple(args))]
    inputs += [(f"kwargs{suffix}", tensor) for suffix, tensor in tensors_in(named)]
    tensors = [tensor for _, tensor in inputs + state]
    for tensor in tensors:
        recorder.see(tensor)
    leaves = [(path, t) for path, t in inputs + state if t.requires_grad and t.is_leaf]

    gpus = sorted({t.device.index for t in tensors if t.device.type == "cuda"})
    grad_mode, default_dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    outputs: object = None
    exception, message = None, ""
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        try:
            outputs = fn(*args, **named)
        except Exception as raised:
            exception, message = _type_name(raised), str(raised)
        random_state = _random_state(gpus)
    modes = _modes()
    torch.set_grad_enabled(grad_mode)
    torch.set_default_dtype(default_dtype)

    seen_arguments = recorder.facts("args", tuple(args)) + recorder.facts("kwargs", named)
    seen_state = tuple(fact for name, tensor in _state(module) for fact in recorder.facts(name, tensor))
    seen_outputs = recorder.facts("output", outputs) if exception is None else ()
    backward_exception = _backward(outputs) if backward and exception is None else None
    gradients = tuple(
        fact
        for path, tensor in leaves
        if tensor.is_leaf
        for fact in _gradient(f"gradient of {path}", tensor.grad)
    )
    return Observation(
        exception=exception,
        outputs=seen_outputs,
        arguments=seen_arguments,
        state=seen_state,
        random_state=random_state,
        modes=modes,
        backward_exception=backward_exception,
        gradients=gradients,
        message=message,
    )


def _gradient(path: str, gradient: torch.Tensor | None) -> tuple[Fact, ...]:
    """A gradient's dtype, shape and bits; who shares its memory, and its strides, are autograd's
    own business.
    """
    if gradient is None:
        return (Literal(path, "NoneType", "None", "None"),)
    plain = gradient.detach()
    dense = plain.to_dense() if plain.layout != torch.strided else plain
    own = torch.empty(dense.shape, dtype=dense.dtype, device=dense.device)
    return _Recorder().facts(path, own.copy_(dense))


# ------------------------------------------------------------------------------------------
# The first difference
# ------------------------------------------------------------------------------------------


def difference(expected: Observation, actual: Observation, *, gradient_tolerance: float = 0.0) -> str | None:
    """None where a caller cannot tell the two calls apart; else one sentence on the first thing
    that differs.

    ``gradient_tolerance`` lets a gradient's elements move by that share of the largest magnitude in
    the expected gradient: merging two equal expressions sums their incoming gradients first and
    multiplies once, which rounds differently. Which leaves get a gradient, its dtype and its shape
    stay exact, and so does all else.
    """
    if expected.exception != actual.exception:
        return (
            f"exception: expected {_raised(expected.exception, expected.message)}, "
            f"got {_raised(actual.exception, actual.message)}"
        )
    for mine, theirs in (
        (expected.outputs, actual.outputs),
        (expected.arguments, actual.arguments),
        (expected.state, actual.state),
    ):
        found = _first_difference(mine, theirs, 0.0)
        if found is not None:
            return found
    if expected.random_state != actual.random_state:
        return "random state: the generators stand elsewhere after the call"
    found = _first_difference(expected.modes, actual.modes, 0.0)
    if found is not None:
        return f"after the call, {found}"
    if expected.backward_exception != actual.backward_exception:
        return (
            f"backward: expected {_raised(expected.backward_exception)}, "
            f"got {_raised(actual.backward_exception)}"
        )
    return _first_difference(expected.gradients, actual.gradients, gradient_tolerance)


def _raised(exception: str | None, message: str = "") -> str:
    if exception is None:
        return "no exception"
    return f"{exception} ({message.splitlines()[0][:120]})" if message else exception


def _first_difference(expected: Sequence[Fact], actual: Sequence[Fact], tolerance: float) -> str | None:
    for mine, theirs in zip(expected, actual, strict=False):
        found = _fact_difference(mine, theirs, tolerance)
        if found is not None:
            return found
    if len(expected) == len(actual):
        return None
    longer, what = (expected, "missing") if len(expected) > len(actual) else (actual, "not expected")
    return f"{longer[min(len(expected), len(actual))].path}: {what}"


def _shown(fact: Fact) -> str:
    if isinstance(fact, TensorFact):
        return f"a {str(fact.dtype).removeprefix('torch.')} tensor of shape {list(fact.shape)}"
    if isinstance(fact, Literal):
        return f"{fact.type} {fact.text}"
    return f"{fact.type} with members {', '.join(fact.members) or 'none'}"


def _fact_difference(expected: Fact, actual: Fact, tolerance: float) -> str | None:
    if expected == actual:
        return None
    if expected.path != actual.path:
        return f"{expected.path}: expected here, got {actual.path}"
    if not isinstance(expected, TensorFact) or not isinstance(actual, TensorFact):
        return f"{expected.path}: expected {_shown(expected)}, got {_shown(actual)}"
    for name, what in _TENSOR_FIELDS:
        mine, theirs = getattr(expected, name), getattr(actual, name)
        if mine != theirs:
            return f"{expected.path}: {what} differs, expected {_plain(mine)}, got {_plain(theirs)}"
    if expected.parts != actual.parts:
        return _first_difference(expected.parts, actual.parts, tolerance)
    return _content_difference(expected, actual, tolerance)


_TENSOR_FIELDS = (
    ("type", "type"),
    ("dtype", "dtype"),
    ("layout", "layout"),
    ("device", "device"),
    ("shape", "shape"),
    ("requires_grad", "requires_grad"),
    ("is_leaf", "is_leaf"),
    ("identity", "which tensor object it is (numbered by first sight)"),
    ("storage", "whose memory it shares (numbered by first sight)"),
    ("strides", "strides"),
    ("offset", "storage offset"),
    ("conjugate", "conjugate bit"),
    ("negative", "negative bit"),
)


def _plain(value: object) -> str:
    return repr(list(value)) if isinstance(value, tuple) else str(value)


def _content_difference(expected: TensorFact, actual: TensorFact, tolerance: float) -> str | None:
    """Where the elements differ and by how much; None where ``tolerance`` allows it."""
    assert expected.content is not None and actual.content is not None
    mine, theirs = (_elements(fact) for fact in (expected, actual))
    width = 2 if expected.dtype.is_complex else 1
    integers = _integers(mine), _integers(theirs)
    unequal = (integers[0] != integers[1]).reshape(-1, width).any(dim=1)
    positions = unequal.nonzero().reshape(-1)
    exact_mine, exact_theirs = mine.double(), theirs.double()
    gap = (exact_mine - exact_theirs).abs()
    both_equal = (exact_mine == exact_theirs) | (exact_mine.isnan() & exact_theirs.isnan())
    gap = torch.where(both_equal, torch.zeros((), dtype=torch.float64), gap)
    finite_scale = exact_mine[exact_mine.isfinite()].abs()
    scale = float(finite_scale.max()) if finite_scale.numel() else 0.0
    if tolerance > 0 and bool((gap <= tolerance * max(scale, torch.finfo(torch.float32).tiny)).all()):
        return None
    first = int(positions[0])
    index = [int(i) for i in np.unravel_index(first, expected.shape)] if expected.shape else []
    ulps = _largest_ulps(*integers) if mine.is_floating_point() else None
    largest = f"{float(gap.max()):.3g}"
    if bool((gap == 0).all()):
        largest = "0, by signed zeros"
    return (
        f"{expected.path}: {len(positions)} of {unequal.numel()} elements differ, "
        f"first at {index}: expected "
        f"{_element(mine, first, width)}, got {_element(theirs, first, width)} "
        f"(largest absolute difference {largest}{'' if ulps is None else f', {ulps} ULP'})"
    )


def _elements(fact: TensorFact) -> torch.Tensor:
    """The recorded elements as a flat real tensor; a complex number is two of them."""
    real = fact.dtype.to_real() if fact.dtype.is_complex else fact.dtype
    return torch.frombuffer(bytearray(fact.content or b""), dtype=torch.uint8).view(real)


def _integers(values: torch.Tensor) -> torch.Tensor:
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    return values.view(width)


def _element(values: torch.Tensor, index: int, width: int) -> str:
    if width == 1:
        return repr(values[index].item())
    return repr(complex(values[2 * index].item(), values[2 * index + 1].item()))


def _largest_ulps(mine: torch.Tensor, theirs: torch.Tensor) -> int:
    """The largest distance in steps between neighbouring floating-point numbers, over at most
    100,000 unequal elements.
    """
    unequal = (mine != theirs).nonzero().reshape(-1)[:100_000]
    bits = 8 * mine.element_size()

    def steps(value: int) -> int:
        value &= (1 << bits) - 1
        sign = 1 << (bits - 1)
        return value if value < sign else sign - value  # -0.0 and 0.0 both at 0

    return max(
        abs(steps(a) - steps(b))
        for a, b in zip(mine[unequal].tolist(), theirs[unequal].tolist(), strict=True)
    )


# ------------------------------------------------------------------------------------------
# Copying arguments
# ------------------------------------------------------------------------------------------


def copy_arguments(
    args: Sequence[object],
    kwargs: Mapping[str, object] | None = None,
    kept: Mapping[int, object] | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Deep copies of the arguments in which every relation among them holds again.

    Views of one storage become views of one copied storage, one object stays one object, and dtype,
    strides, offset, lazy bits, ``requires_grad`` and ``.grad`` are kept. A tensor inside an
    autograd graph becomes a leaf that requires grad. Parameters stay parameters. What is `kept`, by
    id(), stays itself, and so does a bare object(), which is nothing but its identity.
    """
    memo: dict[int, Any] = dict(kept or {})
    storages: dict[int, torch.UntypedStorage] = {}
    alive: list[object] = []
    values = (tuple(args), dict(kwargs or {}))
    for _, tensor in tensors_in(values):
        if id(tensor) not in memo:
            memo[id(tensor)] = _copy_tensor(tensor, storages, alive)
    memo |= {id(marker): marker for marker in _markers_in(values, set())}
    copied_args, copied_kwargs = copy.deepcopy(values, memo)
    return copied_args, copied_kwargs


def _copy_tensor(
    tensor: torch.Tensor, storages: dict[int, torch.UntypedStorage], alive: list[object]
) -> torch.Tensor:
    strided = tensor.layout == torch.strided and not tensor.is_nested
    if not strided or type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.is_quantized:
        copied = tensor.detach().clone()
    else:
        with torch.no_grad(), torch.inference_mode(tensor.is_inference()):
            storage = tensor.untyped_storage()
            if id(storage) not in storages:
                alive.append(storage)
                octets = torch.empty(0, dtype=torch.uint8, device=tensor.device)
                storages[id(storage)] = octets.set_(storage).clone().untyped_storage()
            copied = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
                storages[id(storage)], tensor.storage_offset(), tensor.size(), tensor.stride()
            )
            if tensor.is_conj():
                copied = copied.conj()
            if tensor.is_neg():
                copied = torch._neg_view(copied)  # no public name makes a negative view of given memory
    if isinstance(tensor, torch.nn.Parameter):
        copied = torch.nn.Parameter(copied, requires_grad=tensor.requires_grad)
    elif tensor.requires_grad:
        copied.requires_grad_()
    if tensor.is_leaf and tensor.grad is not None:
        copied.grad = _copy_tensor(tensor.grad, storages, alive)
    return copied
