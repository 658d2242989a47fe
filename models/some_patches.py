"""The velocity of some patches of a clip, at the price of those alone: what training on a part of the tokens needs."""

from __future__ import annotations

from torch import Tensor

from .layers import patch_grid, patchify
from .transformer import PyramidTransformer, real_tokens


def velocity_of_some(
    network: PyramidTransformer,
    clip: Tensor,
    chosen: Tensor,
    timestep: Tensor,
    text: Tensor,
    text_mask: Tensor | None,
    pooled: Tensor,
) -> Tensor:
    """Return the velocity `(b, k, 4c)` of the patches `chosen (b, k)` of `clip (b, c, t, h, w)`.

    chosen: of each row, the places of its patches in `patchify(clip)`, each once. They stay where they are in the clip
    and see each other and the text; the other patches do not exist. The rest as in the network's `forward`. Raises
    ValueError when a shape does not fit, or when later frames are hidden from earlier ones in this network.
    """
    config = network.config
    network.check_inputs([clip], timestep, text, text_mask, pooled)
    if chosen.ndim != 2 or len(chosen) != len(clip):
        raise ValueError(f"patches chosen as {tuple(chosen.shape)}; expected ({len(clip)}, k), a row for every clip")
    if config.use_temporal_causal:
        raise ValueError(
            f"this {network.name} model hides later frames from earlier ones (use_temporal_causal): some patches can "
            "be worked out alone only where all frames see each other"
        )
    real = real_tokens(text, text_mask if config.use_t5_mask else None)
    plan = network.plan((patch_grid(clip),), real, clip, chosen=chosen)
    tokens = chosen_patches(patchify(clip), chosen)
    return network.velocity_of_patches(tokens, timestep, text.to(clip.dtype), pooled.to(clip.dtype), plan)


def chosen_patches(patches: Tensor, chosen: Tensor) -> Tensor:
    """The patches `chosen (b, k)` of `patches (b, n, d)`: `(b, k, d)`."""
    return patches.gather(1, chosen.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
