"""A loss on some of the tokens of each clip, drawn so that most of the figure is among them.

MaskDiT (Zheng et al. 2023, arXiv 2306.09305) trains a diffusion transformer on a random half of the tokens and then,
for a short while, on all. Here they are not drawn evenly: where a clip looks like its corner there is little to learn.
A new model has to learn whole clips beside it, or it never meets as many tokens as it works on later; a LoRA for one
that knows them need not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.layers import patch_grid, patchify
from ...models.some_patches import chosen_patches, velocity_of_some
from ..batch import Batch, Losses, Networks
from .draw import Draw, GeneratorDraw
from .noisy_clips import NoisyObjective

SMALLEST_WEIGHT = 0.1  # of a token that is just like the corner


@dataclass(frozen=True)
class SomeTokensObjective:
    """The loss of `objective` on a `share` of the tokens of each clip; all frames of the network see each other."""

    objective: NoisyObjective
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; expected a part of the tokens, above 0 and up to 1")

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """`loss` of the transformer for normalised latents and their texts."""
        latent, text, network = batch.latents, batch.text, networks["transformer"]
        draw = GeneratorDraw(generator, latent.device)
        noisy = self.objective.add_noise(latent, draw)
        chosen = draw_tokens(latent, self.share, draw)
        assert text.pooled is not None, "transformers of Pyramid Flow read the vector of a whole text"
        answer = velocity_of_some(network, noisy.clips, chosen, noisy.timesteps, text.tokens, text.mask, text.pooled)
        return {"loss": noisy.loss(answer.float() - chosen_patches(patchify(noisy.target), chosen).float())}


def draw_tokens(latent: Tensor, share: float, draw: Draw) -> Tensor:
    """Draw a `share` of the patches of each normalised clip (b, c, t, h, w), without repetition: places (b, k).

    The weight of a patch is its distance (root mean square) from the corner of its frame, which shows the background.
    The patches with the largest `u ** (1 / weight)` are drawn one after the other with those weights (Efraimidis and
    Spirakis 2006, Weighted random sampling with a reservoir); so the device need not tell the host its weights.
    """
    frames, rows, columns = patch_grid(latent)
    patches = patchify(latent).unflatten(1, (frames, rows * columns)).float()
    distance = (patches - patches[:, :, :1]).square().mean(-1).sqrt().flatten(1)
    count = max(1, round(share * frames * rows * columns))
    chances = draw.uniform(distance.numel()).view(distance.shape)
    return (chances.log() / distance.clamp_min(SMALLEST_WEIGHT)).topk(count).indices
