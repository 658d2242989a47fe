"""Does what is wired together belong together? One sentence that says what each thing is when it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ..host.facts import ModelFacts, VAEFacts
    from ..samplers.history import History
    from ..samplers.stages import PyramidStages


def video_samples(latent: dict[str, Any]) -> Tensor:
    """The samples of a LATENT, once they are known to be a video `(b, c, t, h, w)`.

    Raises `ValueError` for the four axes of an image latent.
    """
    samples = latent["samples"]
    if samples.ndim != 5:
        raise ValueError(
            f"this latent has the shape {tuple(samples.shape)}; a video latent has five axes "
            "(batch, channel, frame, row, column). Make one with 'Empty video latent'"
        )
    return samples


def check_family(facts: ModelFacts, family: str) -> None:
    """Refuse a model that was trained for another way of sampling."""
    if facts.family.name != family:
        raise ValueError(
            f"this block cannot sample the model {facts.name}, which is a {facts.family}: use '{facts.family.sampler}'"
        )


def check_latent_fits_model(facts: ModelFacts, latent: dict[str, Any]) -> None:
    """Refuse a latent whose channels the model does not make."""
    channels = video_samples(latent).shape[1]
    if channels != facts.latent_channels:
        raise ValueError(
            f"the latent has {channels} channels, which does not fit the model {facts}: "
            "wire the VAE that belongs to this model into 'Empty video latent'"
        )


def complete_plan(
    facts: ModelFacts, stages: PyramidStages | None, history: History | None
) -> tuple[PyramidStages, History]:
    """Ladder and memory for a model, its own where none is wired; refuses one made for another kind of pyramid."""
    from ..samplers.recipes import complete

    return complete(facts.kind, facts.family.variant, facts.name, stages, history)


def check_latent_fits_vae(facts: VAEFacts, latent: dict[str, Any]) -> None:
    """Refuse a latent whose channels the VAE cannot read."""
    channels = video_samples(latent).shape[1]
    if channels != facts.latent_channels:
        raise ValueError(
            f"the latent has {channels} channels, which does not fit the VAE {facts}: "
            "wire the VAE that belongs to the model"
        )


def check_text_fits_model(facts: ModelFacts, conditioning: list, socket: str) -> None:
    """Refuse text features whose widths are not those the model was trained with."""
    for tokens, extras in conditioning:
        pooled = extras.get("pooled_output")
        if not facts.reads(tokens, pooled):
            vector = "no pooled text" if pooled is None else f"pooled text {pooled.shape[-1]} wide"
            raise ValueError(
                f"'{socket}' holds text {tokens.shape[-1]} wide and {vector}, which does not fit the model {facts}: "
                "load the text encoder that belongs to this model and encode the prompt with 'Encode prompt'"
            )
