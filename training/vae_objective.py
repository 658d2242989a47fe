"""What the video VAE learns: to give back the clip, from a latent close to a unit normal, and to look alike and real.

The adversarial part is that of VQGAN (Esser et al. 2021): hinge losses, and a weight that makes its pull on the
decoder's last layer as strong as that of the reconstruction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..models.causal_vae import CausalVideoVAE

LARGEST_ADAPTIVE_WEIGHT = 1e4


@dataclass(frozen=True)
class PerceptualTerm:
    """How much it counts that a decoded clip looks like the true one, and the network that sees it.

    `distance(decoded, video)` is one number for videos (b, 3, t, h, w) in -1..1; `PerceptualDistance` is meant.
    """

    distance: nn.Module
    weight: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"the perceptual loss has the weight {self.weight}; expected a number of at least 0")


@dataclass(frozen=True)
class VAELoss:
    """Weights of the terms.

    `absolute` and `squared` weigh the mean absolute and squared error of the pixels (-1..1): the first keeps edges, the
    second is what PSNR measures. `kl` weighs the divergence per latent number: large enough that the latents have no
    outliers, small enough that nothing visible is lost. `adversarial` weighs a discriminator, when one is given.
    `perceptual` belongs to the reconstruction, where there is one.
    """

    absolute: float = 1.0
    squared: float = 5.0
    kl: float = 3e-4
    adversarial: float = 0.5
    perceptual: PerceptualTerm | None = None

    def __call__(
        self, vae: CausalVideoVAE, video: Tensor, generator: torch.Generator, discriminator: nn.Module | None = None
    ) -> dict[str, Tensor]:
        """Losses of one batch of clips `(b, 3, t, h, w)`; the latent is a sample of the posterior.

        One backward pass of `loss` teaches both networks: the VAE gets no gradient from judging, the discriminator
        none from being deceived.
        """
        posterior = vae.encode(video)
        decoded = vae.decode(posterior.sample(generator))
        error = (decoded - video).float()
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        absolute, squared = error.abs().mean(), error.square().mean()
        reconstruction = self.absolute * absolute + self.squared * squared
        losses = {"absolute": absolute, "squared": squared, "kl": kl}
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual.distance(decoded, video)
            reconstruction = reconstruction + self.perceptual.weight * losses["perceptual"]
        losses = {"loss": reconstruction + self.kl * kl, **losses}
        if discriminator is not None:
            deceive = deceive_loss(discriminator, decoded)
            judge = judge_loss(discriminator, video, decoded)
            weight = self.adversarial * adaptive_weight(vae, reconstruction, deceive)
            losses |= {"deceive": deceive, "judge": judge, "loss": losses["loss"] + weight * deceive + judge}
        return losses


def deceive_loss(discriminator: nn.Module, decoded: Tensor) -> Tensor:
    """How badly decoded clips pass for real ones; the discriminator itself learns nothing from it."""
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    return -functional_call(discriminator, frozen, decoded).float().mean()


def judge_loss(discriminator: nn.Module, video: Tensor, decoded: Tensor) -> Tensor:
    """Hinge loss of the discriminator (Lim and Ye 2017): real above 1, decoded below -1."""
    real, made = discriminator(video).float(), discriminator(decoded.detach()).float()
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())


def adaptive_weight(vae: CausalVideoVAE, reconstruction: Tensor, deceive: Tensor) -> Tensor:
    """Ratio of the two losses' gradients at the decoder's last weight (Esser et al. 2021, equation 7)."""
    last = vae.decoder.conv_out.conv.weight
    ours, theirs = (torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, deceive))
    return (ours / (theirs + 1e-4)).clamp(0, LARGEST_ADAPTIVE_WEIGHT).detach()


def psnr(decoded: Tensor, video: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB of each clip of `(b, 3, t, h, w)` in -1..1 (peak to peak 2)."""
    error = (decoded.clamp(-1, 1) - video).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp_min(1e-12))
