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

from ...models.causal_vae import CausalVideoVAE
from ..batch import Losses, Networks

LARGEST_ADAPTIVE_WEIGHT = 1e4
FIGURE = 0.1  # difference from the background at which a figure begins, of -1..1
FIGURE_GROWN = 5  # pixels across of the square that grows it
COLOUR_SQUARE = 16  # pixels across of the squares whose mean colour counts


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
class VAEObjective:
    """Weights of the terms.

    `absolute` and `squared` weigh the mean absolute and squared error of the pixels (-1..1): the first keeps edges, the
    second is what PSNR measures. `kl` weighs the divergence per latent number: large enough that the latents have no
    outliers, small enough that nothing visible is lost. `adversarial` weighs a discriminator, when one is given, and
    `feature_matching` how far the features of its layers are apart for decoded and true frames (pix2pixHD:
    Wang et al. 2018, arXiv 1711.11585); it sees `judged_frames` of a clip at most, evenly apart (None: all), since on
    small pictures it costs more than a VAE. `perceptual` belongs to the reconstruction, where there is one.

    For pictures of figures on plain colours: `foreground` is added to the weight of pixels in and around the figure,
    `gradient` weighs the error of the differences of neighbouring pixels, which are the edges, and `colour` that of the
    mean colour of squares of 16 pixels, so that a background does not drift by a few of 255. For models of latents:
    `latent_noise` is the most noise that a latent gets before it is decoded, in deviations of its channel, so that
    what a model gets wrong is not seen; in a share `downscaled` of the batches the latent is halved in height and width
    and shall decode to the halved clip (equivariance: Kouzelis et al. 2025, arXiv 2502.09509), so that latents are
    smooth.
    """

    absolute: float = 1.0
    squared: float = 5.0
    kl: float = 3e-4
    adversarial: float = 0.5
    feature_matching: float = 0.0
    perceptual: PerceptualTerm | None = None
    foreground: float = 0.0
    gradient: float = 0.0
    colour: float = 0.0
    latent_noise: float = 0.0
    downscaled: float = 0.0
    judged_frames: int | None = None

    def __call__(self, networks: Networks, batch: Tensor, generator: torch.Generator) -> Losses:
        """Losses of `networks["vae"]` for clips (b, 3, t, h, w) in -1..1; the latent is a sample of the posterior.

        With a `networks["discriminator"]` one backward pass of `loss` teaches both: the VAE gets no gradient from
        `discriminator_loss`, the discriminator none from `generator_loss`.
        """
        vae, video = networks["vae"], batch
        posterior = vae.encode(video)
        latent = posterior.sample(generator)
        if self.latent_noise:
            latent = noisy_latent(latent, self.latent_noise, generator)
        if self.downscaled and float(torch.rand((), generator=generator)) < self.downscaled:
            latent, video = (F.avg_pool3d(x, (1, 2, 2)) for x in (latent, video))
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        losses = self.of_decoded(networks, vae.decode(latent), video, generator)
        return {**losses, "loss": losses["loss"] + self.kl * kl, "kl": kl}

    def of_decoded(self, networks: Networks, decoded: Tensor, video: Tensor, generator: torch.Generator) -> Losses:
        """Losses of what `networks["vae"]` has decoded beside the true `video`; both (b, 3, t, h, w)."""
        discriminator = networks.get("discriminator")
        error = (decoded - video).float()
        weight = 1 + self.foreground * figure(video) if self.foreground else 1.0
        absolute, squared = (weight * error.abs()).mean(), (weight * error.square()).mean()
        reconstruction = self.absolute * absolute + self.squared * squared
        losses = {"absolute": absolute, "squared": squared}
        if self.gradient:
            losses["gradient"] = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
            reconstruction = reconstruction + self.gradient * losses["gradient"]
        if self.colour:
            losses["colour"] = colour_distance(error)
            reconstruction = reconstruction + self.colour * losses["colour"]
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual.distance(decoded, video)
            reconstruction = reconstruction + self.perceptual.weight * losses["perceptual"]
        losses = {"loss": reconstruction, **losses}
        if discriminator is not None:
            features: list[Tensor] = []
            if self.judged_frames is not None:
                apart = math.ceil(video.shape[2] / self.judged_frames)
                first = int(torch.randint(apart, (), generator=generator))
                decoded, video = decoded[:, :, first::apart], video[:, :, first::apart]
            from_vae = generator_loss(discriminator, decoded, features)
            from_discriminator = discriminator_loss(discriminator, video, decoded)
            weight = self.adversarial * adaptive_weight(networks["vae"], reconstruction, from_vae)
            losses |= {"generator_loss": from_vae, "discriminator_loss": from_discriminator}
            losses["loss"] = losses["loss"] + weight * from_vae + from_discriminator
            if self.feature_matching:
                losses["feature_matching"] = feature_distance(discriminator, features, video)
                losses["loss"] = losses["loss"] + self.feature_matching * losses["feature_matching"]
        return losses


def noisy_latent(latent: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Add noise to every row, of a strength that is mostly small and at most `most` deviations of each channel."""
    deviation = latent.detach().float().std((0, 2, 3, 4), keepdim=True)
    strength = most * torch.rand(len(latent), 1, 1, 1, 1, generator=generator).square()
    noise = torch.randn(latent.shape, generator=generator, device=generator.device)
    return latent + (strength * noise).to(latent) * deviation.to(latent)


def figure(video: Tensor) -> Tensor:
    """Where something stands before the colour of the corner, and two pixels around: (b, 1, t, h, w) of 0 and 1."""
    apart = ((video - video[..., :1, :1]).abs().amax(1) > FIGURE).float()
    return F.max_pool2d(apart, FIGURE_GROWN, 1, FIGURE_GROWN // 2).unsqueeze(1)


def colour_distance(error: Tensor) -> Tensor:
    """Mean absolute error of the mean colours of squares in every frame, from errors (b, 3, t, h, w) of pixels."""
    square = (1, *(min(COLOUR_SQUARE, edge) for edge in error.shape[-2:]))
    return F.avg_pool3d(error, square, ceil_mode=True).abs().mean()


def generator_loss(discriminator: nn.Module, decoded: Tensor, features: list[Tensor] | None = None) -> Tensor:
    """How badly decoded clips pass for real ones; the discriminator itself learns nothing from it.

    `features` is a list to which its features of them are added.
    """
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    return -functional_call(discriminator, frozen, (decoded, features)).float().mean()


def feature_distance(discriminator: nn.Module, decoded: list[Tensor], video: Tensor) -> Tensor:
    """Mean absolute difference of the features of decoded clips from those of the true ones, alike for all layers."""
    true: list[Tensor] = []
    with torch.no_grad():
        discriminator(video, true)
    distances = [(ours - theirs).float().abs().mean() for ours, theirs in zip(decoded, true, strict=True)]
    return torch.stack(distances).mean()


def discriminator_loss(discriminator: nn.Module, video: Tensor, decoded: Tensor) -> Tensor:
    """Hinge loss of the discriminator (Lim and Ye 2017): real above 1, decoded below -1."""
    real, made = discriminator(video).float(), discriminator(decoded.detach()).float()
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())


def adaptive_weight(vae: CausalVideoVAE, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
    """Ratio of the two losses' gradients at the decoder's last weight (Esser et al. 2021, equation 7)."""
    last = vae.decoder.conv_out.conv.weight
    ours, theirs = (
        torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)
    )
    return (ours / (theirs + 1e-4)).clamp(0, LARGEST_ADAPTIVE_WEIGHT).detach()
