"""A MODEL with whole weights where this host streams them: what is streamed may be gone when a gradient comes back."""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import Tensor, nn


def whole_weights(model: Any) -> Any:
    """A clone of a MODEL, with whole weights, in the types that it was loaded for, where this host would stream them.

    ValueError where nobody can read the weights anew, or a patch holds on to those that are streamed.
    """
    is_dynamic = getattr(model, "is_dynamic", None)
    if is_dynamic is None or not is_dynamic():
        return model.clone()
    if getattr(model, "cached_patcher_init", None) is None:
        raise ValueError(
            "ComfyUI streams the weights of this model (dynamic VRAM), and its loader does not say how to read them as "
            "a whole, which training needs: load it with core's 'Load Diffusion Model', or start ComfyUI with "
            "--disable-dynamic-vram"
        )
    clone = model.clone(disable_dynamic=True)
    take_asked_types(clone)
    bind_patches_anew(clone, model.model)
    return clone


def take_asked_types(patcher: Any) -> None:
    """Bring weights to the types that the model was loaded for.

    Layers of a host that streams keep those of the file: only what streams them looks at what was asked for.
    """
    for module in patcher.model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            asked = getattr(module, f"{name}_comfy_model_dtype", None)
            plain = type(weight) is nn.Parameter and type(weight.data) is Tensor  # quantised ones keep their form
            if asked is not None and plain and weight.is_floating_point() and weight.dtype != asked:
                setattr(module, name, nn.Parameter(weight.to(asked), requires_grad=False))
    patcher.size = 0  # to be measured again


def bind_patches_anew(patcher: Any, streamed: nn.Module) -> None:
    """Let object patches that are methods of modules of `streamed` be those of the same modules of the patcher's model.

    Other packs give a block another forward by binding it to the block that they found. ValueError for a patch that
    holds such a module in another way.
    """
    names = {id(module): name for name, module in streamed.named_modules()}
    for place, patch in patcher.object_patches.items():
        if isinstance(patch, MethodType) and id(patch.__self__) in names:
            own = patcher.model.get_submodule(names[id(patch.__self__)])
            patcher.object_patches[place] = MethodType(patch.__func__, own)
        elif any(id(module) in names for module in modules_of(patch)):
            raise ValueError(
                f"a patch on the model wire ({type(patch).__name__} in the place of {place}) holds the weights that "
                "ComfyUI streams, through which nothing can be learned: take it off, or start ComfyUI with "
                "--disable-dynamic-vram"
            )


def modules_of(patch: Any) -> list[nn.Module]:
    """The modules in a patch: its own, or those that it keeps as attributes."""
    held = [patch, *vars(patch).values()] if hasattr(patch, "__dict__") else [patch]
    return [inner for each in held if isinstance(each, nn.Module) for inner in each.modules()]
