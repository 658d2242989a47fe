"""What is wired together must belong together: each check once, for the blocks and for the samplers of both hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.model_info import ModelInfo, VAEInfo

T = TypeVar("T")


def expect(found: Any, kind: type[T], wire: str, block: str, given: Any = None, hint: str = "") -> T:
    """Return `found` if it is a `kind`; else a ValueError says what is wired (`given`), and which block to wire."""
    if isinstance(found, kind):
        return found
    given = found if given is None else given
    raise ValueError(f"this {wire} is {describe(given)}, not one that '{block}' makes: wire that block here{hint}")


def describe(value: Any) -> str:
    """A few words for anything that may come over a wire."""
    info = getattr(value, "info", None)
    return f"a {type(value).__name__}" if info is None or callable(info) else str(info)


def check_family(info: ModelInfo, family: str) -> None:
    """Refuse a model that was trained for another way of sampling."""
    if info.family.name != family:
        raise ValueError(
            f"this block cannot sample {info.name}, which is a {info.family}: use '{info.family.rules.sampler}'"
        )


def check_no_mask(info: ModelInfo, mask: Any) -> None:
    """Refuse a mask of what is to be made: our samplers begin with noise everywhere, so it would change nothing."""
    if mask is None:
        return
    rules, instead = info.family.rules, ""
    if rules.in_stages:
        instead = "; a start image goes into 'Temporal conditioning'"
    elif rules.any_sampler:
        instead = ", or sample this model with ComfyUI's KSampler, which changes only what the mask covers"
    sampler = "a pyramid" if rules.in_stages else f"'{rules.sampler}'"
    raise ValueError(
        f"{sampler} makes every frame from noise and keeps no masked part: take 'Set Latent Noise Mask' away{instead}"
    )


def check_conditioning(info: ModelInfo, conditioning: Any, socket: str) -> None:
    """Refuse what is no CONDITIONING, and prompts that the model does not read."""
    pairs = conditioning if isinstance(conditioning, list) else [None]
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[1], dict):
            raise ValueError(f"'{socket}' is a {type(conditioning).__name__}, not a prompt: wire 'Encode prompt' here")
        check_text(info, pair[0], pair[1].get("pooled_output"), f"'{socket}'")


def check_text(info: ModelInfo, tokens: Tensor | None, pooled: Tensor | None, prompt: str = "the prompt") -> None:
    """Refuse features `(b, n, d)` and a pooled vector `(b, p)` of a text that are not as wide as the model's."""
    if tokens is None or not info.reads(tokens, pooled):
        text = "no text" if tokens is None else f"text {tokens.shape[-1]} wide"
        vector = "no pooled text" if pooled is None else f"pooled text {pooled.shape[-1]} wide"
        raise ValueError(
            f"{prompt} has {text} and {vector}, which does not fit the model {info}: load the text encoder that "
            "belongs to this model, and encode the prompt with 'Encode prompt'"
        )


def check_video(samples: Tensor, what: str = "latent") -> None:
    """Refuse samples that are not those of a video `(b, c, t, h, w)`, such as the four axes of a picture's latent."""
    if samples.ndim != 5:
        raise ValueError(
            f"the {what} has the shape {tuple(samples.shape)}; a video latent has five axes (batch, channel, frame, "
            "row, column). Make one with 'Empty video latent'; latents of pictures come from other models and do not "
            "fit"
        )


def check_latent(info: ModelInfo | VAEInfo, samples: Tensor, what: str = "latent") -> None:
    """Refuse samples `(b, c, t, h, w)` with other channels than those of a model or VAE."""
    check_video(samples, what)
    if samples.shape[1] != info.latent_channels:
        raise ValueError(
            f"the {what} has {samples.shape[1]} channels, which does not fit {info}: make it with the VAE that belongs "
            "to it"
        )
