"""Finding things in a model by the names that facts give them: sub-modules, attributes, state, hooks."""

from typing import Any

import torch


def submodule(model: torch.nn.Module, path: str) -> torch.nn.Module:
    """The sub-module of a qualified name; the empty name is the model."""
    for name in path.split(".") if path else ():
        model = model._modules[name]  # type: ignore[assignment]
    return model


def held(model: torch.nn.Module, holder: tuple[str, ...]) -> Any:
    """The object reached from the model by sub-module and attribute names."""
    thing: Any = model
    for name in holder:
        children = vars(thing).get("_modules") if isinstance(thing, torch.nn.Module) else None
        thing = children[name] if children and name in children else vars(thing)[name]
    return thing


def find_state(model: torch.nn.Module, path: str) -> tuple[dict[str, Any], str]:
    """The dictionary that owns the state tensor at a qualified name, whatever its kind, and its key."""
    parent, _, name = path.rpartition(".")
    owner = vars(submodule(model, parent))
    for slot in ("_parameters", "_buffers"):
        if name in owner[slot]:
            return owner[slot], name
    return owner, name


_CHECKING = ("torch.export._unlift",)  # checks the inputs of an exported program, as the guards do
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def find_hook(model: torch.nn.Module) -> str | None:
    """The first forward or backward hook on the model, its sub-modules, or all modules."""
    for name in _GLOBAL_HOOKS:
        if getattr(torch.nn.modules.module, name):
            return f"the global hook {name.removeprefix('_global_')}"
    for path, module in model.named_modules():
        for name in _HOOKS:
            hooks = vars(module).get(name) or {}
            if any(getattr(hook, "__module__", "") not in _CHECKING for hook in hooks.values()):
                return f"a hook ({name.removeprefix('_').removesuffix('s')}) on {path or 'the model'}"
    return None
