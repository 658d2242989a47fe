"""Flow matching on some of the tokens of each clip, drawn so that most of the figure is among them.

MaskDiT (Zheng et al. 2023, arXiv 2306.09305) trains a diffusion transformer on a random half of the tokens and then,
for a short while, on all. Here the half is not drawn evenly: where a clip looks like its corner there is little to
learn. Whole clips have to be learned beside it, or the network never meets as many tokens as it works on later.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.layers import patch_grid, patchify
from ...models.some_patches import chosen_patches, velocity_of_some
from ...samplers.flow import TIMESTEPS
from ..batch import Batch, Losses, Networks
from .draw import GeneratorDraw
from .flow import FlowObjective

SMALLEST_WEIGHT = 0.1  # of a token that is just like the corner


@dataclass(frozen=True)
class SomeTokensObjective:
    """The loss of `flow` on a `share` of the tokens of each clip; all frames of the network see each other."""

    flow: FlowObjective
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; expected a part of the tokens, above 0 and up to 1")

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """`loss` of the transformer for normalised latents and their texts."""
        latent, text = batch.latents, batch.text
        sigma, noisy, wanted = self.flow.draw_path(latent, GeneratorDraw(generator, latent.device))
        chosen = draw_tokens(latent, self.share, generator)
        network, timestep = networks["transformer"], sigma * TIMESTEPS
        assert text.pooled is not None, "transformers of Pyramid Flow read the vector of a whole text"
        velocity = velocity_of_some(network, noisy, chosen, timestep, text.tokens, text.mask, text.pooled)
        error = velocity.float() - chosen_patches(patchify(wanted), chosen).float()
        return {"loss": error.square().mean()}


def draw_tokens(latent: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Draw a `share` of the patches of each normalised clip (b, c, t, h, w), without repetition: places (b, k).

    The weight of a patch is its distance (root mean square) from the corner of its frame, which shows the background.
    """
    frames, rows, columns = patch_grid(latent)
    patches = patchify(latent).unflatten(1, (frames, rows * columns)).float()
    distance = (patches - patches[:, :, :1]).square().mean(-1).sqrt().flatten(1)
    count = max(1, round(share * frames * rows * columns))
    weights = distance.clamp_min(SMALLEST_WEIGHT).to(generator.device)
    return torch.multinomial(weights, count, generator=generator).to(latent.device)
