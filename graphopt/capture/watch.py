"""What forward does while it is traced that a graph cannot show: reads that bake facts in, and effects
that tracing would drop.

torch.export records operators. Reading `x.requires_grad`, `x.storage_offset()` or a Python attribute
leaves no operator behind, so the facts read are recorded here and become guards; `x.retain_grad()` or a
custom backward leaves none either, so it is refused with the line that does it.
"""

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from graphopt.capture.decisions import Decisions, Undecided
from graphopt.capture.unreadable import UNREADABLE_REMEDY, unreadable
from graphopt.errors import Unsupported
from graphopt.guards.members import is_python_class, is_standard
from graphopt.guards.modes import SETTINGS, autocast_dtype, environment
from graphopt.guards.places import modules_of
from graphopt.ir.literal import SCALARS


class GradientsLost(Unsupported):
    """Gradients would not be eager's, so the program can be kept for calls without gradients alone."""


_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent.parent)


def user_line() -> str:
    """The innermost frame on the stack that is neither torch's nor ours, as "file:line, in name"."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, _HERE, "<")):
            return f"{file}:{frame.f_lineno}, in {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def _called_by_model() -> bool:
    """Whether the function that asks was called by the model or torch.nn, not by torch's machinery."""
    file = sys._getframe(2).f_code.co_filename
    return not file.startswith((_TORCH, _HERE)) or file.startswith(f"{_TORCH}/nn/")


def _asked_by_model() -> bool:
    """The same for a question that the standard library passes on (os.getenv)."""
    frame = sys._getframe(2)
    while is_standard(frame.f_code.co_filename) and frame.f_back:
        frame = frame.f_back
    return not frame.f_code.co_filename.startswith((_TORCH, _HERE))


def _called_by_transform() -> bool:
    """Whether torch.func (grad, jvp) asks, which traces the gradients that it computes."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename.endswith(("torch/_tensor.py", "torch/overrides.py")) and frame.f_back:
        frame = frame.f_back
    return frame.f_code.co_filename.startswith(f"{_TORCH}/_functorch/")


def _writes(func: Any, kwargs: dict[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or "out" in kwargs or name == "__setitem__" or name.startswith("__i")


def _model_frames(tracer: object, summary: traceback.StackSummary) -> traceback.StackSummary:
    """The model's own frames of a stack; torch.export by itself keeps those named forward alone."""
    start = next(
        (
            i
            for i, frame in enumerate(summary)
            if frame.name == "forward" and frame.filename.startswith(_HERE)
        ),
        -1,
    )
    return traceback.StackSummary.from_list(
        [f for f in summary[start + 1 :] if not f.filename.startswith((_TORCH, _HERE, "<"))]
    )


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
# Models take other paths when they are traced; eager's is the one to keep.
_TELLTALES: tuple[tuple[Any, str], ...] = (
    (torch.compiler, "is_compiling"),
    (torch.compiler, "is_dynamo_compiling"),
    (torch.compiler, "is_exporting"),
    (torch._dynamo, "is_compiling"),
    (torch._utils, "is_compiling"),
    (torch.overrides, "has_torch_function"),
    (torch.nn.modules.activation, "_is_make_fx_tracing"),
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
_MACHINERY = set(dir(torch.nn.Module)) - {"training"}
_REMEDY = "move it out of forward"


class Watch(TorchFunctionMode):
    """Active around the model's own forward while it is traced."""

    def __init__(self, as_eager: bool = True, decisions: Decisions | None = None) -> None:
        super().__init__()
        self.as_eager = as_eager  # hide from the model that it is being traced
        self.decisions = decisions or Decisions()
        self.refusal: Unsupported | None = None
        self.reads_grad = False
        self.reads_offset = False
        self.reads_grad_mode = False
        self.grad_mode = torch.is_grad_enabled()
        self._autocast_cache = torch.is_autocast_cache_enabled()  # torch.export turns it off while it traces
        self.modes: set[str] = set()  # settings and environment variables that forward asked for
        self.attributes: dict[tuple[int, str], tuple[object, object]] = {}
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
        if func in _SETS_GRAD and not _called_by_transform():
            return self._require_grad(func, *args, **kwargs)
        if func in _REFUSED and not _called_by_transform():
            self.refuse(_REFUSED[func])
        if any(isinstance(arg, torch.Generator) for arg in (*args, *kwargs.values())):
            self.refuse("forward draws random numbers from a torch.Generator",
                        "draw from torch's own stream, seeded by torch.manual_seed")  # fmt: skip
        if func in _BRANCHES and self.as_eager:
            return self._decide(_BRANCHES[func](*args, **kwargs))
        if func in _READS_GRAD:
            self.reads_grad = self.reads_grad_mode = True
        elif func is _T.storage_offset or func is torch.as_strided or func is _T.as_strided:
            self.reads_offset = True
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
        with _replaced(replacements):
            yield

    def _replacements(self, model: torch.nn.Module) -> Iterator[tuple[Any, str, Any]]:
        yield torch.nn.Module, "__getattribute__", self._recording(_read_attribute)
        for kind in _attribute_classes(model):
            yield kind, "__getattribute__", self._recording(_method(kind, "__getattribute__"))
        yield torch.fx.proxy.TracerBase, "_filter_traceback_frames", _model_frames
        if self.as_eager:
            for owner, name in _TELLTALES:
                yield owner, name, _denying(getattr(owner, name))
            yield torch._subclasses, "FakeTensor", None
            yield torch._subclasses, "__getattr__", _hiding_fake_tensors
        yield torch, "compile", self._compiling(torch.compile)
        yield torch.enable_grad, "__enter__", self._enabling(torch.enable_grad.__enter__)
        yield torch.set_grad_enabled, "__init__", self._setting(torch.set_grad_enabled.__init__)
        yield torch, "is_grad_enabled", self._noting_grad_mode(torch.is_grad_enabled)
        yield torch, "is_inference_mode_enabled", self._noting_grad_mode(torch.is_inference_mode_enabled)
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
        for mode, (owner, name) in SETTINGS.items():
            yield owner, name, self._noting_setting(mode, getattr(owner, name))
        yield torch, "is_autocast_cache_enabled", self._telling_autocast_cache
        yield torch, "get_autocast_dtype", self._noting_autocast_dtype(torch.get_autocast_dtype)
        yield type(os.environ), "__getitem__", self._noting_environment(type(os.environ).__getitem__)
        for owner, name in _REFUSED_CALLS:
            function = getattr(owner, name)
            yield owner, name, self._refusing(f"forward calls {owner.__name__}.{name}", function)

    def _compiling(self, compile_: Callable[..., Any]) -> Callable[..., Any]:
        """torch.cond and its like run torch.compile inside: it must see the world as it is."""

        def compiled(*args: Any, **kwargs: Any) -> Any:
            function = compile_(*args, **kwargs)

            def unwatched(*inner: Any, **named: Any) -> Any:
                self.reads_grad_mode = self.reads_grad_mode or not self.grad_mode
                with _replaced(self._undone), torch.overrides._pop_mode_temporarily():
                    return function(*inner, **named)

            return unwatched

        return compiled

    def _recording(self, read: Callable[[Any, str], object]) -> Callable[[Any, str], object]:
        def __getattribute__(owner: Any, name: str) -> object:
            value = read(owner, name)
            if type(value) in SCALARS and name not in _MACHINERY:
                # torch.export shows the model stand-ins of its sub-modules, which share their __dict__.
                self.attributes.setdefault((id(owner.__dict__), name), (owner, value))
            elif (what := unreadable(value)) and _called_by_model():
                self.refuse(f"forward reads {name}, {what}", UNREADABLE_REMEDY)
            return value

        return __getattribute__

    def _noting_grad_mode(self, read: Callable[[], bool]) -> Callable[[], bool]:
        def noted() -> bool:
            if _called_by_model():
                self.reads_grad_mode = True
            return read()

        return noted

    def _enabling(self, enter: Callable[[Any], None]) -> Callable[[Any], None]:
        """A region with gradients is none to a trace that has them anyway."""

        def entered(region: Any) -> None:
            self.reads_grad_mode = True
            enter(region)

        return entered

    def _setting(self, set_: Callable[[Any, bool], None]) -> Callable[[Any, bool], None]:
        def noted(region: Any, mode: bool) -> None:
            if _called_by_model():  # and not as torch.no_grad leaves
                self.reads_grad_mode = True
            set_(region, mode)

        return noted

    def _noting_setting(self, mode: str, read: Callable[[], object]) -> Callable[[], object]:
        def noted() -> object:
            if _called_by_model():
                self.modes.add(mode)
            return read()

        return noted

    def _telling_autocast_cache(self) -> bool:
        """What a region takes that is told nothing: its weights' gradients round by it."""
        self.modes.add("torch.is_autocast_cache_enabled")
        return self._autocast_cache

    def _noting_autocast_dtype(self, read: Callable[[str], torch.dtype]) -> Callable[[str], torch.dtype]:
        def noted(device: str) -> torch.dtype:
            self.modes.add(autocast_dtype(device))
            return read(device)

        return noted

    def _noting_environment(self, read: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
        def noted(owner: Any, name: str) -> str:
            if owner is os.environ and _asked_by_model():
                self.modes.add(environment(name))
            return read(owner, name)

        return noted

    def _refusing(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def refused(*args: object, **kwargs: object) -> Any:
            if _called_by_model():
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
            self.reads_grad_mode = True
            self.reads_grad = self.reads_grad or torch.is_grad_enabled()
            return asked(setup_context)

        return watched


@contextlib.contextmanager
def _replaced(replacements: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Sets attributes of classes and modules (None removes one), and puts them back."""
    before = [(owner, name, vars(owner).get(name)) for owner, name, _ in replacements]
    try:
        for owner, name, made in replacements:
            _set(owner, name, made)
        yield
    finally:
        for owner, name, made in reversed(before):
            _set(owner, name, made)


def _set(owner: Any, name: str, made: Any) -> None:
    if made is not None:
        setattr(owner, name, made)
    elif name in vars(owner):
        delattr(owner, name)


def _denying(told: Callable[..., bool]) -> Callable[..., bool]:
    """ "No" to the model, and the truth to torch's machinery and to what would keep a stand-in."""

    def denied(*args: Any) -> bool:
        return False if _called_by_model() and not _asked_for_a_cache() else told(*args)

    return denied


def _asked_for_a_cache() -> bool:
    """Whether a function that chooses between an lru_cache and what it caches is asking."""
    frame = sys._getframe(2)
    for _ in range(3):
        if any(isinstance(held, functools._lru_cache_wrapper) for held in frame.f_locals.values()):
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


class _NoFakeTensor:
    """What the model finds in the place of FakeTensor: a class without instances."""


def _hiding_fake_tensors(name: str) -> type:
    """`torch._subclasses.FakeTensor` for torch's machinery alone."""
    if name != "FakeTensor":
        raise AttributeError(f"module 'torch._subclasses' has no attribute {name!r}")
    return _NoFakeTensor if _called_by_model() else torch._subclasses.fake_tensor.FakeTensor


def _read_attribute(owner: object, name: str) -> Any:
    return object.__getattribute__(owner, name)


def _method(kind: type, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(kind, name)
    return found


def _attribute_classes(model: torch.nn.Module) -> list[type]:
    """The Python classes of the objects (configurations and such) that modules hold as attributes."""
    found: dict[type, None] = {}
    pending = [value for _, module in modules_of(model) for value in vars(module).values()]
    seen: set[int] = set()
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, torch.Tensor | torch.nn.Module | type):
            continue
        seen.add(id(thing))
        if type(getattr(thing, "__dict__", None)) is dict:
            if is_python_class(type(thing)):
                found[type(thing)] = None
            pending.extend(vars(thing).values())
    return list(found)
