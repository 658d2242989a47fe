"""What the transformers take: sentences that say what was given and what fits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .layers import PATCH


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
            rows, columns = (max(PATCH, size - size % PATCH) for size in shape[3:])
            raise ValueError(
                f"{what} has {shape[2]} frames of {shape[3]}x{shape[4]} latent pixels, which do not divide "
                f"into {PATCH}x{PATCH} patches; the nearest size is {rows}x{columns}"
            )


def check_conditioning(
    name: str,
    batch: int,
    timestep: Tensor,
    text: Tensor,
    mask: Tensor | None,
    pooled: Tensor,
    text_width: int,
    pooled_width: int,
) -> None:
    """Raise a ValueError that says which text features, pooled vector and timestep this model takes."""
    for what, tensor, axes, width in (
        ("text features", text, 3, text_width),
        ("a pooled text vector", pooled, 2, pooled_width),
    ):
        if tensor.ndim != axes or tensor.shape[-1] != width:
            raise ValueError(
                f"this {name} model expects {what} {width} wide, got {tensor.shape[-1]} (shape {tuple(tensor.shape)}): "
                f"wire the text encoder that belongs to this model"
            )
        if tensor.shape[0] != batch:
            raise ValueError(
                f"got {what} for {tensor.shape[0]} rows and clips for {batch}; give every clip its own row"
            )
    if timestep.shape != (batch,):
        raise ValueError(
            f"timestep has the shape {tuple(timestep.shape)}; expected ({batch},), one number for every clip"
        )
    if mask is not None and mask.shape != text.shape[:2]:
        raise ValueError(
            f"the text mask has the shape {tuple(mask.shape)}; expected {tuple(text.shape[:2])} as the text has"
        )
