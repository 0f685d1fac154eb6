"""What forward does while it is traced that tracing would drop: it is refused, with the line that does it.

torch.export records operators. `x.retain_grad()` or a custom backward leaves none behind. What forward reads
without leaving one is recorded, in `graphopt.capture.reads`.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from graphopt.capture.callers import called_by_model, called_by_transform, model_frames, user_line
from graphopt.capture.decisions import Decisions, Undecided
from graphopt.capture.foreign import DrawnNumbers
from graphopt.capture.hidden import hiding, replaced
from graphopt.capture.reads import Reads
from graphopt.errors import Unsupported


class GradientsLost(Unsupported):
    """Gradients would not be eager's, so the program can be kept for calls without gradients alone."""


def _writes(func: Any, kwargs: dict[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or "out" in kwargs or name == "__setitem__" or name.startswith("__i")


def _getter(name: str) -> Any:
    return getattr(torch.Tensor, name).__get__


def _setter(name: str) -> Any:
    return getattr(torch.Tensor, name).__set__


_T = torch.Tensor
_REFUSED: dict[Any, str] = {
    _T.backward: "forward runs a backward pass",
    _T.register_hook: "forward registers a gradient hook",
    _T.register_post_accumulate_grad_hook: "forward registers a gradient hook",
    _T.retain_grad: "forward calls retain_grad()",
    _getter("grad"): "forward reads .grad",
    _setter("grad"): "forward sets .grad",
    _getter("grad_fn"): "forward reads .grad_fn",
    _getter("_version"): "forward reads a tensor's version counter",
    _setter("data"): "forward sets .data",
    _T.data_ptr: "forward reads a memory address",
    _T.untyped_storage: "forward reaches for a tensor's storage",
    _T.storage: "forward reaches for a tensor's storage",
    _T._typed_storage: "forward reaches for a tensor's storage",
    _T.numpy: "forward turns a tensor into a numpy array",
    _T.__array__: "forward turns a tensor into a numpy array",
    _getter("_base"): "forward asks whether a tensor is a view",
    _T._is_view: "forward asks whether a tensor is a view",
    _T.is_shared: "forward asks whether a tensor is in shared memory",
    _T.share_memory_: "forward moves a tensor into shared memory",
}
_REFUSED_CALLS: tuple[tuple[Any, str], ...] = (
    (torch.autograd, "grad"),
    (torch.autograd, "backward"),
    *((torch, name) for name in ("manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state")),
    *((torch.random, name) for name in ("manual_seed", "get_rng_state", "set_rng_state", "fork_rng")),
)
# What reads a Python bool from tensors, and the tensor that is read.
_BRANCHES: dict[Any, Callable[..., Any]] = {
    _T.__bool__: lambda tensor: tensor,
    _T.is_nonzero: lambda tensor: tensor,
    torch.is_nonzero: lambda tensor: tensor,
    _T.__contains__: lambda tensor, element: (element == tensor).any(),
}
_READS_GRAD = {_getter("requires_grad"), _getter("is_leaf"), torch.is_inference, _T.is_inference}
_SETS_GRAD = {_T.requires_grad_, _setter("requires_grad")}
_REMEDY = "move it out of forward"


class Watch(TorchFunctionMode):
    """Active around the model's own forward while it is traced."""

    def __init__(self, as_eager: bool = True, decisions: Decisions | None = None, seed: int = 0) -> None:
        super().__init__()
        self.as_eager = as_eager  # hide from the model that it is being traced
        self.decisions = decisions or Decisions()
        self.refusal: Unsupported | None = None
        self.reads = Reads(self.refuse)
        self.numbers = DrawnNumbers(self.refuse, seed)
        self.grad_mode = torch.is_grad_enabled()
        self._undone: list[tuple[Any, str, Any]] = []
        self._data: list[torch.Tensor] = []
        self._originals: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}

    def refuse(self, what: str, remedy: str = _REMEDY, kind: type[Unsupported] = Unsupported) -> None:
        """Raises Unsupported at the user's line, and remembers it in case the tracer swallows it."""
        error = kind(what, remedy=remedy, where=user_line())
        self.refusal = self.refusal or error
        raise error

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _SETS_GRAD and not called_by_transform():
            return self._require_grad(func, *args, **kwargs)
        if func in _REFUSED and not called_by_transform():
            self.refuse(_REFUSED[func])
        if any(isinstance(arg, torch.Generator) for arg in (*args, *kwargs.values())):
            self.refuse("forward draws random numbers from a torch.Generator",
                        "draw from torch's own stream, seeded by torch.manual_seed")  # fmt: skip
        if func in _BRANCHES and self.as_eager:
            return self._decide(_BRANCHES[func](*args, **kwargs))
        if func in _READS_GRAD:
            self.reads.requires_grad = self.reads.grad_mode = True
        elif func is _T.storage_offset or func is torch.as_strided or func is _T.as_strided:
            self.reads.offset = True
        elif func == _getter("data"):
            detached = args[0].detach()
            self._data.append(detached)
            return detached
        elif _writes(func, kwargs) and any(args and args[0] is data for data in self._data):
            self.refuse("forward writes through .data, past autograd's version check",
                        "write under torch.no_grad() instead")  # fmt: skip
        if not self.decisions.rehearsing:
            for arg in (*args, *kwargs.values()):
                if isinstance(arg, torch.Tensor):
                    self._keep_contents(arg)
        return func(*args, **kwargs)

    def _require_grad(self, func: Any, tensor: torch.Tensor, requires_grad: object = True) -> Any:
        """Lets the graph do it, as an operator on the very tensor."""
        fake = isinstance(tensor, torch._subclasses.fake_tensor.FakeTensor)
        if requires_grad is not True or not (fake or self.decisions.rehearsing):
            self.refuse(f"forward sets requires_grad to {requires_grad}")
        if self.decisions.rehearsing:
            return func(tensor, True)
        torch.ops.aten.requires_grad_.default(tensor)
        return tensor

    def _decide(self, tensor: torch.Tensor) -> bool:
        try:
            return self.decisions.decide(tensor, user_line())
        except Undecided as undecided:
            self.refusal = self.refusal or undecided
            raise

    def _keep_contents(self, tensor: torch.Tensor) -> None:
        """Real tensors (from closures or attribute lists) are written for real while tracing."""
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return
        if plain and id(tensor) not in self._originals:
            with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
                self._originals[id(tensor)] = (tensor, tensor.detach().clone(), tensor._version)

    @property
    def trained(self) -> list[torch.Tensor]:
        """The real tensors requiring grad that forward used: from closures, globals or lists."""
        return [tensor for tensor, _, _ in self._originals.values() if tensor.requires_grad]

    def restore_tensors(self) -> None:
        """Puts the contents of every real tensor that forward wrote back."""
        for tensor, contents, version in self._originals.values():
            if tensor._version != version:
                tensor.detach().copy_(contents)

    @contextlib.contextmanager
    def patches(self, model: torch.nn.Module) -> Iterator[None]:
        """Watches what is not a torch function: attribute reads, grad-mode reads, custom backwards."""
        replacements = list(self._replacements(model))
        self._undone = [(owner, name, vars(owner).get(name)) for owner, name, _ in replacements]
        self.numbers.begin()
        try:
            with replaced(replacements):
                yield
        except BaseException:
            self.numbers.abandon()
            raise
        self.numbers.end()

    def _replacements(self, model: torch.nn.Module) -> Iterator[tuple[Any, str, Any]]:
        yield from self.reads.replacements(model)
        yield from self.numbers.replacements()
        yield torch.fx.proxy.TracerBase, "_filter_traceback_frames", model_frames
        if self.as_eager:
            yield from hiding()
        yield torch, "compile", self._compiling(torch.compile)
        yield (
            torch.autograd.function,
            "_is_setup_context_defined",
            self._custom_function(torch.autograd.function._is_setup_context_defined),
        )
        yield (
            torch.inference_mode,
            "__enter__",
            self._refusing("forward enters torch.inference_mode()", torch.inference_mode.__enter__),
        )
        for owner, name in _REFUSED_CALLS:
            function = getattr(owner, name)
            yield owner, name, self._refusing(f"forward calls {owner.__name__}.{name}", function)

    def _compiling(self, compile_: Callable[..., Any]) -> Callable[..., Any]:
        """torch.cond and its like run torch.compile inside: it must see the world as it is."""

        def compiled(*args: Any, **kwargs: Any) -> Any:
            function = compile_(*args, **kwargs)

            def unwatched(*inner: Any, **named: Any) -> Any:
                self.reads.grad_mode = self.reads.grad_mode or not self.grad_mode
                with replaced(self._undone), torch.overrides._pop_mode_temporarily():
                    return function(*inner, **named)

            return unwatched

        return compiled

    def _refusing(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def refused(*args: object, **kwargs: object) -> Any:
            if called_by_model():
                self.refuse(what)
            return function(*args, **kwargs)

        return refused

    def _custom_function(self, asked: Callable[..., bool]) -> Callable[..., bool]:
        """`Function.apply` asks this first, also where a program holds `apply` under another name."""

        def watched(setup_context: Any) -> bool:
            call = sys._getframe(1).f_locals
            if call["cls"].__module__ == "torch._library.autograd":  # stays inside its operator
                return asked(setup_context)
            wants_grad = any(isinstance(a, torch.Tensor) and a.requires_grad for a in call["args"])
            if torch.is_grad_enabled() and wants_grad:
                self.refuse(
                    f"the custom backward of {call['cls'].__qualname__} would be lost",
                    "call it under torch.no_grad(), or write it as a torch.library operator",
                    GradientsLost,
                )
            self.reads.grad_mode = True
            self.reads.requires_grad = self.reads.requires_grad or torch.is_grad_enabled()
            return asked(setup_context)

        return watched
