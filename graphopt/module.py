"""`OptimizedModule`: the drop-in for a model. It owns the original and runs emitted graphs behind guards."""

import contextlib
import copy
import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from graphopt.capture.program import Program
from graphopt.serving import Policy, Serving


class OptimizedModule(torch.nn.Module):
    """Runs a model's optimised graph where its guards hold, and the original where they do not.

    The original module owns all state: `state_dict`, `parameters`, `to`, `train` and every other
    attribute are the original's, under its own names. Hooks registered here run around either; those of
    all modules run where they run in the original, and not once more around the drop-in.
    `isinstance` answers as for the original. `modules()` and `apply` meet the original in the place of
    the drop-in, so that code that goes by class finds a model that has no sub-modules too.

    After `torch.compile` all facts are watched but hooks and global modes, which Dynamo does not guard or
    guards by itself.
    """

    def __init__(self, original: torch.nn.Module, programs: tuple[Program, ...], policy: Policy) -> None:
        own = vars(self)
        own.update(vars(torch.nn.Module()))  # __init__ would set the original's mode
        for name in _SHARED:
            if name in vars(original):
                own[name] = vars(original)[name]
        del own["training"]
        own[_SERVING] = Serving(original, programs, policy)
        own["_compiled_call_impl"] = None  # what compile() sets is the drop-in's own
        own["forward"] = _forward(own[_SERVING])
        own[_SERVING].when_retired = functools.partial(_make_way, own)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # what replaces a module's class (parametrize) means the original's
        return type(serving_of(self).original)

    @property
    def training(self) -> bool:
        """The original's mode."""
        mode: bool = serving_of(self).original.training
        return mode

    @training.setter
    def training(self, mode: bool) -> None:
        serving_of(self).original.training = mode

    def __getattr__(self, name: str) -> Any:
        serving = vars(self).get(_SERVING)
        if serving is None:
            raise AttributeError(name)
        return getattr(serving.original, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training":
            serving_of(self).original.training = value
        elif name in vars(self) or _SERVING not in vars(self):
            object.__setattr__(self, name, value)
        else:
            setattr(serving_of(self).original, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(serving_of(self).original, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(serving_of(self).original)})

    def __len__(self) -> int:
        return len(_original(self))

    def __bool__(self) -> bool:
        return bool(serving_of(self).original)

    def __iter__(self) -> Any:
        return iter(_original(self))

    def __getitem__(self, key: Any) -> Any:
        return _original(self)[key]

    def __contains__(self, key: object) -> bool:
        return key in _original(self)

    def __repr__(self) -> str:
        serving = serving_of(self)
        return f"OptimizedModule of {len(serving.variants)} variant(s): {serving.original!r}"

    def __deepcopy__(self, memo: dict[int, Any]) -> "OptimizedModule":
        serving = serving_of(self)
        original = copy.deepcopy(serving.original, memo)
        policy = replace(serving.policy, capture=None)  # it would capture this model, not the copy
        made = OptimizedModule(original, serving.programs, policy)
        memo[id(self)] = made
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        serving = serving_of(self)
        return _restored, (serving.original, serving.programs, replace(serving.policy, capture=None))


def serving_of(module: OptimizedModule) -> Serving:
    """The original, the variants and the policy of a drop-in. They are no attributes of it, so that the
    model's own names win."""
    serving: Serving = vars(module)[_SERVING]
    return serving


def _make_way(own: dict[str, Any]) -> None:
    """Lets calls of a drop-in that is to run the original for good go straight there: what else they would
    pass takes as long as a small operator."""
    if own["_compiled_call_impl"] is None and not any(own[table] for table in _HOOKS):
        own["_compiled_call_impl"] = own[_STRAIGHT] = _straight(own[_SERVING].original)


def _straight(original: torch.nn.Module) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:  # a frame that Dynamo begins at, as at no frame of torch.nn
        return original(*args, **kwargs)

    return call


def _original(module: OptimizedModule) -> Any:
    return serving_of(module).original


def _forward(serving: Serving) -> Callable[..., Any]:
    """The drop-in's forward, with the signature of the original's, by which callers choose arguments."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        return serving(*args, **kwargs)

    forward.__doc__ = serving.original.forward.__doc__
    with contextlib.suppress(TypeError, ValueError):  # some callables have none
        forward.__signature__ = inspect.signature(serving.original.forward)  # type: ignore[attr-defined]
    return forward


def _restored(original: torch.nn.Module, programs: tuple[Program, ...], policy: Policy) -> OptimizedModule:
    return OptimizedModule(original, programs, policy)


_SERVING = "_graphopt_serving"
_STRAIGHT = "_graphopt_straight"
_SHARED = (
    "_modules",
    "_parameters",
    "_buffers",
    "_non_persistent_buffers_set",
    # A parent's load_state_dict reads these of its children.
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_REGISTERING = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_backward_hook",
)
_OWN = {"forward", "compile", *_REGISTERING}


def _delegate(name: str) -> Callable[..., Any]:
    def delegated(self: OptimizedModule, *args: Any, **kwargs: Any) -> Any:
        result = getattr(serving_of(self).original, name)(*args, **kwargs)
        return self if result is serving_of(self).original else result

    delegated.__name__ = name
    delegated.__doc__ = f"The original's `{name}`."
    return delegated


for _name, _method in vars(torch.nn.Module).items():
    _is_public_method = callable(_method) and not _name.startswith("_") and not isinstance(_method, type)
    if (_is_public_method and _name not in _OWN) or _name in (
        "_apply",
        "_load_from_state_dict",
        "_save_to_state_dict",
        "_named_members",
        "_register_state_dict_hook",
        "_register_load_state_dict_pre_hook",
        "_replicate_for_data_parallel",
    ):
        setattr(OptimizedModule, _name, _delegate(_name))


def _registering(name: str) -> Callable[..., Any]:
    def register(self: OptimizedModule, *args: Any, **kwargs: Any) -> Any:
        own = vars(self)
        if own["_compiled_call_impl"] is own.get(_STRAIGHT):
            own["_compiled_call_impl"] = None  # hooks run around the original
        return getattr(torch.nn.Module, name)(self, *args, **kwargs)

    register.__name__ = name
    register.__doc__ = f"torch's own `{name}`, for the drop-in."
    return register


for _name in _REGISTERING:
    setattr(OptimizedModule, _name, _registering(_name))


def _call_impl() -> types.FunctionType:
    """torch's own, which runs hooks, in a namespace where there are none of all modules."""
    scope = vars(torch.nn.modules.module)
    hidden: dict[str, Any] = {
        name: {} for name in scope if name.startswith("_global_") and name.endswith("_hooks")
    }
    return types.FunctionType(torch.nn.Module._call_impl.__code__, scope | hidden, "_call_impl")


OptimizedModule._call_impl = _call_impl()  # type: ignore[method-assign]
