"""Everything a caller can observe of one call, recorded as frozen facts.

The rule of the whole project is that an optimised program may not be told from the original. This
module is that rule as code: ``observe`` runs a callable once and writes down its outputs, what it
did to its arguments and to a module's parameters and buffers, which tensors share memory, the
random stream, the gradients and the exception.

What is deliberately not observed: NaN payloads and signs, the text of an exception, warnings, the
time it took, and which class of ``grad_fn`` an output carries. Quantised tensors are out of scope.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from graphopt.capture.foreign import STREAMS
from graphopt.verify.facts import Fact, Literal, Recorder, asked, tensors_in, type_name


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
    return tuple(Literal(name, type_name(value), repr(value), repr(value)) for name, value in switches)


def _random_state(gpus: Sequence[int]) -> str:
    digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    for stream in STREAMS.values():
        digest.update(repr(stream.state()).encode())
    for gpu in gpus:
        digest.update(torch.cuda.get_rng_state(gpu).numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _streams_put_back() -> Iterator[None]:
    before = {name: stream.state() for name, stream in STREAMS.items()}
    try:
        yield
    finally:
        for name, state in before.items():
            STREAMS[name].put_back(state)


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
        if asked(tensor, "requires_grad") and not tensor.is_nested
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
        return type_name(raised)
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
    """Call ``fn(*args, **kwargs)`` once after seeding torch, numpy and Python's random with ``seed``, and
    record all that the caller can observe.

    The arguments are used as they are, and keep what the call did to them: pass a copy
    (``copy_arguments``) where they are needed again. ``module`` is the module whose parameters and
    buffers are watched. With ``backward`` the sum of every differentiable output is differentiated.
    The generators, grad mode and default dtype that the caller had are restored.
    """
    named = dict(kwargs or {})
    recorder = Recorder()
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
    with torch.random.fork_rng(devices=gpus), _streams_put_back():
        torch.manual_seed(seed)
        for stream in STREAMS.values():
            stream.seed(seed)
        try:
            outputs = fn(*args, **named)
        except Exception as raised:
            exception, message = type_name(raised), str(raised)
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
    return Recorder().facts(path, own.copy_(dense))
