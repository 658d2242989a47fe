"""What the video VAE learns: to give back the clip, from a latent close to a unit normal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class VAELoss:
    """Weights of the terms.

    `absolute` and `squared` weigh the mean absolute and squared error of the pixels (-1..1): the first keeps edges, the
    second is what PSNR measures. `kl` weighs the divergence per latent number: large enough that the latents have no
    outliers, small enough that nothing visible is lost.
    """

    absolute: float = 1.0
    squared: float = 5.0
    kl: float = 3e-4

    def __call__(self, vae: nn.Module, video: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of one batch of clips `(b, 3, t, h, w)`; the latent is a sample of the posterior."""
        posterior = vae.encode(video)
        decoded = vae.decode(posterior.sample(generator))
        error = (decoded - video).float()
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        absolute, squared = error.abs().mean(), error.square().mean()
        loss = self.absolute * absolute + self.squared * squared + self.kl * kl
        return {"loss": loss, "absolute": absolute, "squared": squared, "kl": kl}


def psnr(decoded: Tensor, video: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB of each clip of `(b, 3, t, h, w)` in -1..1 (peak to peak 2)."""
    error = (decoded.clamp(-1, 1) - video).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-12))
