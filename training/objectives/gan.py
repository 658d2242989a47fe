"""A GAN: a generator that makes clips in one pass, and a discriminator that tells them from real ones.

The generator is a transformer of the pack, evaluated once at pure noise. Its output is taken for the velocity of one
whole step, `clip = noise - velocity`, so a model trained by flow matching can become a generator, and the other way
round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ...models.text_features import TextFeatures
from ...samplers.flow import TIMESTEPS
from ..batch import Batch, Losses, Networks
from ..presets import GAN_LOSSES
from ..run.train_settings import ModuleRate, TrainSettings
from .pyramid import GeneratorDraw

BETAS = (0.0, 0.99)  # of Adam: each side must follow the other without the momentum of where it was before
DISCRIMINATOR_RATE = 4.0  # times the generator's, the two time scales of Heusel et al. 2017, arXiv 1706.08500
ALONE = 100  # steps in which the discriminator learns alone, see `ModuleRate`


def gan_settings(settings: TrainSettings) -> TrainSettings:
    """The settings of a run of a GAN whose generator learns with those that are given.

    The discriminator begins with random weights. A generator that learned from the first step on, or as fast, fooled
    it before it had told anything apart, and neither learned from then on.
    """
    rates = {"transformer": ModuleRate(waits=ALONE), "discriminator": ModuleRate(times=DISCRIMINATOR_RATE)}
    return replace(settings, betas=BETAS, module_rates=rates)


def generate(network: nn.Module, noise: Tensor, text: TextFeatures) -> Tensor:
    """Normalised clips (b, c, t, h, w) from white noise of their shape, in one forward."""
    timestep = torch.full((len(noise),), TIMESTEPS, device=noise.device)
    return noise - network((noise,), timestep, text.tokens, text.mask, text.pooled)


@dataclass(frozen=True)
class GANObjective:
    """The losses of generator and discriminator on one batch; one backward pass of `loss` teaches both networks.

    `gan_loss` "relativistic" compares every generated clip with a real one (Huang et al. 2024, arXiv 2501.05441): a
    generator that forgets some of the data then loses on the pairs with it, so modes do not collapse, and with both
    penalties the training converges. "non_saturating" is the loss of Goodfellow et al. (2014), "hinge" that of Lim and
    Ye (2017). `penalty` weighs the squared gradients of the discriminator at real (R1, Mescheder et al. 2018) and at
    generated clips (R2), halved as there.
    """

    gan_loss: str = "relativistic"
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.gan_loss not in GAN_LOSSES:
            raise ValueError(f"unknown GAN loss {self.gan_loss!r}; expected one of {', '.join(GAN_LOSSES)}")
        if not self.penalty >= 0:
            raise ValueError(f"penalty is {self.penalty}; expected a number of at least 0 (0.1 to 10 are usual)")

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """Losses of transformer and discriminator for normalised latents and their texts.

        The discriminator learns nothing from `generator_loss`, and generator and text encoder learn nothing from
        `discriminator_loss`: it is computed from clips and texts without their history.
        """
        latent, discriminator = batch.latents, networks["discriminator"]
        noise = GeneratorDraw(generator, latent.device).normal(latent.shape).to(latent)
        made = generate(networks["transformer"], noise, batch.text)
        assert batch.text.pooled is not None, "the discriminator reads the vector of a whole text"
        pooled = batch.text.pooled.detach()
        frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
        made_score = functional_call(discriminator, frozen, (made, pooled)).float()
        target_score = functional_call(discriminator, frozen, (latent, pooled)).float()
        generator_loss = self.generator_loss(made_score, target_score)

        real, fake = latent.detach().requires_grad_(), made.detach().requires_grad_()
        real_score, fake_score = (discriminator(clip, pooled).float() for clip in (real, fake))
        discriminator_loss = self.discriminator_loss(real_score, fake_score)
        losses = {
            "generator_loss": generator_loss,
            "discriminator_loss": discriminator_loss,
            "margin": (real_score - fake_score).mean(),
        }
        total = generator_loss + discriminator_loss
        if self.penalty:
            losses["gradient_penalty"] = squared_gradient(real_score, real) + squared_gradient(fake_score, fake)
            total = total + self.penalty / 2 * losses["gradient_penalty"]
        return {"loss": total, **losses}

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """What the generator minimises, from the scores (b,) of generated and real clips."""
        if self.gan_loss == "hinge":
            return -fake.mean()
        return F.softplus(-(fake - real) if self.gan_loss == "relativistic" else -fake).mean()

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator minimises."""
        if self.gan_loss == "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        if self.gan_loss == "relativistic":
            return F.softplus(-(real - fake)).mean()
        return F.softplus(-real).mean() + F.softplus(fake).mean()


def squared_gradient(score: Tensor, clip: Tensor) -> Tensor:
    """Mean squared length of the gradient of each score with respect to its clip."""
    (gradient,) = torch.autograd.grad(score.sum(), clip, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()
