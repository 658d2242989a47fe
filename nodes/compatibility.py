"""Checks that connected models, texts, latents and stages are compatible; an error says what each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host.checks import check_conditioning, check_video

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.model_info import ModelInfo, VAEInfo
    from ..samplers.history import History
    from ..samplers.stages import PyramidStages


def video_samples(latent: dict[str, Any]) -> Tensor:
    """The samples of a LATENT, once they are known to be a video `(b, c, t, h, w)`.

    Raises `ValueError` for the four axes of an image latent.
    """
    samples = latent["samples"]
    check_video(samples)
    return samples


def check_start_is_complete(vae: Any, latent_image: Any) -> None:
    """Refuse a start image without what it takes to encode it in the right size."""
    missing = [name for name, wire in (("vae", vae), ("latent_image", latent_image)) if wire is None]
    if missing:
        raise ValueError(
            f"a start image also needs {' and '.join(missing)}: wire the video VAE into 'vae' and the sampler's "
            "'Empty video latent' into 'latent_image', which sets the size to fit to"
        )


def stages_and_history(
    info: ModelInfo, stages: PyramidStages | None, history: History | None
) -> tuple[PyramidStages, History]:
    """Stages and history for a model, its own where none are wired; refuses those of another kind of pyramid."""
    from ..samplers.presets import resolve_defaults

    return resolve_defaults(info, stages, history)


def check_vae_fits_model(info: ModelInfo, vae: VAEInfo) -> None:
    """Refuse a VAE whose latents the model does not make."""
    if vae.latent_channels != info.latent_channels:
        raise ValueError(f"the VAE {vae} does not belong to the model {info}: wire the one that does")


def check_latent_fits_stages(latent: dict[str, Any], stages: PyramidStages) -> None:
    """Refuse a size that the stages cannot halve as often as they need."""
    try:
        stages.check_latent_size(*video_samples(latent).shape[-2:])
    except ValueError as error:
        raise ValueError(
            f"{error}. Make the latent with 'Empty video latent' and wire the same 'Pyramid stages' into it: it then "
            "takes the nearest size that fits"
        ) from error


def check_start_fits(latent: dict[str, Any], history: History) -> None:
    """Refuse a start image, or a clip to go on from, of another VAE or of another size than the video has."""
    if history.given is None:
        return
    samples = video_samples(latent)
    if history.given.shape[1] != samples.shape[1]:
        raise ValueError(
            f"the start has {history.given.shape[1]} latent channels, but the video has {samples.shape[1]}: make both "
            "with the VAE of this model"
        )
    (rows, columns), (start_rows, start_columns) = samples.shape[-2:], history.given.shape[-2:]
    if (rows, columns) != (start_rows, start_columns):
        raise ValueError(
            f"the start was fitted to {start_columns} x {start_rows} latent cells, but the video has {columns} x "
            f"{rows}: wire the same 'Empty video latent' into 'Temporal conditioning' and into this block"
        )


def check_texts_fit_model(info: ModelInfo, positive: list, negative: list | None) -> None:
    """Refuse prompts that the model cannot read; without a negative one there is no guidance."""
    check_conditioning(info, positive, "positive")
    if negative is not None:
        check_conditioning(info, negative, "negative")


def check_dataset(dataset: Any, method: str) -> None:
    """Refuse what is not a dataset of ours: one that has no such method."""
    if not callable(getattr(dataset, method, None)):
        raise ValueError(f"this VIDEO_DATASET is a {type(dataset).__name__}; wire a dataset block here")
