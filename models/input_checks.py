"""What the transformers take: sentences that say what was given and what fits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .layers import PATCH
from .sizes import nearest_multiple


def check_clips(name: str, clips: Sequence[Tensor], channels: int) -> None:
    """Raise a ValueError that says which clips this model takes."""
    if not clips:
        raise ValueError(f"this {name} model got no clips; the last clip is the one it works on")
    batch = clips[-1].shape[0]
    for number, clip in enumerate(clips, 1):
        what, shape = f"clip {number} of {len(clips)}", tuple(clip.shape)
        if len(shape) != 5 or shape[1] != channels:
            raise ValueError(
                f"{what} has the shape {shape}, this {name} model takes (batch, {channels}, frames, rows, columns); "
                f"wire a latent made with the VAE of this model"
            )
        if shape[0] != batch:
            raise ValueError(f"{what} has a batch of {shape[0]} and the last clip one of {batch}; make them the same")
        if 0 in shape or shape[3] % PATCH or shape[4] % PATCH:
            rows, columns = (nearest_multiple(size, PATCH) for size in shape[3:])
            raise ValueError(
                f"{what} has {shape[2]} frames of {shape[3]}x{shape[4]} latent pixels, which do not divide "
                f"into {PATCH}x{PATCH} patches; the nearest size is {rows}x{columns}"
            )


def check_text(
    name: str,
    what: str,
    text: Tensor,
    axes: int,
    width: int,
    rows: int,
    encoder: str = "the text encoder that belongs to this model",
) -> None:
    """Raise a ValueError unless the features or the vector of a text are `width` wide, one text for each of `rows`."""
    if text.ndim != axes or text.shape[-1] != width:
        raise ValueError(
            f"this {name} model expects {what} {width} wide, got {text.shape[-1]} (shape {tuple(text.shape)}): "
            f"wire {encoder}"
        )
    if text.shape[0] != rows:
        raise ValueError(f"got {what} for {text.shape[0]} rows and clips for {rows}; give every clip its own row")


def check_timestep(timestep: Tensor, rows: int) -> None:
    """Raise a ValueError unless there is one number for each of `rows`."""
    if timestep.shape != (rows,):
        raise ValueError(
            f"timestep has the shape {tuple(timestep.shape)}; expected ({rows},), one number for every clip"
        )


def check_mask(mask: Tensor | None, text: Tensor) -> None:
    """Raise a ValueError unless a mask says of every token of `text` whether it is one."""
    if mask is not None and mask.shape != text.shape[:2]:
        raise ValueError(
            f"the text mask has the shape {tuple(mask.shape)}; expected {tuple(text.shape[:2])} as the text has"
        )
