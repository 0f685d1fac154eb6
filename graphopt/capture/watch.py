"""What forward does while it is traced that a graph cannot show: reads that bake facts in, and effects
that tracing would drop.

torch.export records operators. Reading `x.requires_grad`, `x.storage_offset()` or a Python attribute
leaves no operator behind, so the facts read are recorded here and become guards; `x.retain_grad()` or a
custom backward leaves none either, so it is refused with the line that does it.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from graphopt.errors import Unsupported
from graphopt.ir.literal import SCALARS

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
    _T.requires_grad_: "forward calls requires_grad_()",
    _setter("requires_grad"): "forward sets requires_grad",
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
    _T.share_memory_: "forward moves a tensor into shared memory",
}
_READS_GRAD = {_getter("requires_grad"), _getter("is_leaf"), torch.is_inference, _T.is_inference}
_REMEDY = "move it out of forward"


class Watch(TorchFunctionMode):
    """Active around the model's own forward while it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal: Unsupported | None = None
        self.reads_grad = False
        self.reads_offset = False
        self.reads_grad_mode = False
        self.attributes: dict[tuple[int, str], tuple[object, object]] = {}
        self._originals: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}

    def refuse(self, what: str, remedy: str = _REMEDY) -> None:
        """Raises Unsupported at the user's line, and remembers it in case the tracer swallows it."""
        error = Unsupported(what, remedy=remedy, where=user_line())
        self.refusal = self.refusal or error
        raise error

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _REFUSED:
            self.refuse(_REFUSED[func])
        if func in _READS_GRAD:
            self.reads_grad = self.reads_grad_mode = True
        elif func is _T.storage_offset or func is torch.as_strided or func is _T.as_strided:
            self.reads_offset = True
        elif func is _getter("data"):
            return torch.ops.aten.data.default(args[0])
        for arg in (*args, *kwargs.values()):
            if isinstance(arg, torch.Tensor):
                self._keep_contents(arg)
        return func(*args, **kwargs)

    def _keep_contents(self, tensor: torch.Tensor) -> None:
        """Real tensors (from closures or attribute lists) are written for real while tracing."""
        if type(tensor) in (torch.Tensor, torch.nn.Parameter) and id(tensor) not in self._originals:
            with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
                self._originals[id(tensor)] = (tensor, tensor.detach().clone(), tensor._version)

    def restore_tensors(self) -> None:
        """Puts the contents of every real tensor that forward wrote back."""
        for tensor, contents, version in self._originals.values():
            if tensor._version != version:
                tensor.detach().copy_(contents)

    @contextlib.contextmanager
    def patches(self, model: torch.nn.Module) -> Iterator[None]:
        """Watches what is not a torch function: attribute reads, grad-mode reads, custom backwards."""
        with contextlib.ExitStack() as stack:
            for owner, name, made in self._replacements(model):
                stack.enter_context(_replaced(owner, name, made))
            yield

    def _replacements(self, model: torch.nn.Module) -> Iterator[tuple[Any, str, Any]]:
        yield torch.nn.Module, "__getattribute__", self._recording(object.__getattribute__)
        for kind in _attribute_classes(model):
            yield kind, "__getattribute__", self._recording(kind.__getattribute__)
        yield torch, "is_grad_enabled", self._noting_grad_mode(torch.is_grad_enabled)
        yield torch, "is_inference_mode_enabled", self._noting_grad_mode(torch.is_inference_mode_enabled)
        yield torch.autograd.Function, "apply", classmethod(self._custom_function(torch.autograd.Function))
        yield torch.inference_mode, "__enter__", self._refusing("forward enters torch.inference_mode()")
        yield torch.autograd, "grad", self._refusing("forward computes gradients")
        yield torch.autograd, "backward", self._refusing("forward runs a backward pass")
        for name in ("manual_seed", "seed", "get_rng_state", "set_rng_state", "initial_seed"):
            yield torch, name, self._refusing(f"forward calls torch.{name}")
            yield torch.random, name, self._refusing(f"forward calls torch.random.{name}")

    def _recording(self, read: Callable[[Any, str], object]) -> Callable[[Any, str], object]:
        def __getattribute__(owner: Any, name: str) -> object:
            value = read(owner, name)
            if type(value) in SCALARS and not name.startswith("__"):
                self.attributes.setdefault((id(owner), name), (owner, value))
            return value

        return __getattribute__

    def _noting_grad_mode(self, read: Callable[[], bool]) -> Callable[[], bool]:
        def noted() -> bool:
            file = sys._getframe(1).f_code.co_filename
            if not file.startswith(_TORCH) or file.startswith(f"{_TORCH}/nn/"):
                self.reads_grad_mode = True
            return read()

        return noted

    def _refusing(self, what: str) -> Callable[..., Any]:
        def refused(*args: object, **kwargs: object) -> None:
            self.refuse(what)

        return refused

    def _custom_function(self, base: Any) -> Callable[..., Any]:
        apply = base.apply.__func__

        def watched(kind: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.is_grad_enabled() and any(
                isinstance(a, torch.Tensor) and a.requires_grad for a in args
            ):
                self.refuse(
                    f"the custom backward of {kind.__qualname__} would be lost",
                    "optimise without gradients (requires_grad_(False) on the parameters), or write it as "
                    "a torch.library operator",
                )
            self.reads_grad = self.reads_grad_mode = True
            return apply(kind, *args, **kwargs)

        return watched


@contextlib.contextmanager
def _replaced(owner: Any, name: str, made: Any) -> Iterator[None]:
    own = vars(owner)
    before = own.get(name)
    setattr(owner, name, made)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def _attribute_classes(model: torch.nn.Module) -> list[type]:
    """The Python classes of the objects (configurations and such) that modules hold as attributes."""
    found: dict[type, None] = {}
    pending = [value for module in model.modules() for value in vars(module).values()]
    seen: set[int] = set()
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, torch.Tensor | torch.nn.Module | type):
            continue
        seen.add(id(thing))
        kind = type(thing)
        if kind.__flags__ & (1 << 9) and type(getattr(thing, "__dict__", None)) is dict:  # a Python class
            found[kind] = None
            pending.extend(vars(thing).values())
    return list(found)
