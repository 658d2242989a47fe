"""A GAN: a generator that makes clips in one pass, and a discriminator that tells them from real ones.

The generator is a transformer of the pack, evaluated once at pure noise. Its output is taken for the velocity of one
whole step, `clip = noise - velocity`, so a model trained by flow matching can become a generator, and the other way
round. Where the generator begins with a trained model, a second discriminator judges by what that model sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ...models.feature_discriminator import FrozenTransformer
from ...models.text_features import TextFeatures
from ...samplers.flow import TIMESTEPS
from ..batch import Batch, Losses, Networks
from ..presets import GAN_LOSSES
from ..run.train_settings import ModuleRate, TrainSettings
from .draw import GeneratorDraw

BETAS = (0.0, 0.99)  # of Adam: each side must follow the other without the momentum of where it was before
DISCRIMINATOR_RATE = 4.0  # times the generator's, the two time scales of Heusel et al. 2017, arXiv 1706.08500
ALONE = 100  # steps in which the discriminator learns alone, see `ModuleRate`
FEATURE_NOISE = (-1.0, 1.2)  # mean and deviation of the logit of the share of noise in clips whose features are taken


def gan_settings(settings: TrainSettings, modules: Iterable[str]) -> TrainSettings:
    """The settings of a run of a GAN with these `modules`, whose generator learns with those that are given.

    The discriminators begin with random weights. A generator that learned from the first step on, or as fast, fooled
    them before they knew anything apart, and none learned from then on.
    """
    waiting, faster = ModuleRate(waits=ALONE), ModuleRate(times=DISCRIMINATOR_RATE)
    rates = {name: waiting if name == "transformer" else faster for name in modules}
    return replace(settings, betas=BETAS, module_rates=rates)


def generate(network: nn.Module, noise: Tensor, text: TextFeatures) -> Tensor:
    """Normalised clips (b, c, t, h, w) from white noise of their shape, in one forward."""
    timestep = torch.full((len(noise),), TIMESTEPS, device=noise.device)
    return noise - network((noise,), timestep, text.tokens, text.mask, text.pooled)


@dataclass(frozen=True)
class GANObjective:
    """The losses of generator and discriminators on one batch; one backward pass of `loss` teaches all networks.

    `gan_loss` "relativistic" compares every generated clip with a real one (Huang et al. 2024, arXiv 2501.05441): a
    generator that forgets some of the data then loses on the pairs with it, so modes do not collapse, and with both
    penalties the training converges. "non_saturating" is the loss of Goodfellow et al. (2014), "hinge" that of Lim and
    Ye (2017). `penalty` weighs the squared gradients of the discriminator at real (R1, Mescheder et al. 2018) and at
    generated clips (R2), halved as there. `mismatch` weighs real clips beside the text of another, which are to be
    told from those beside their own like generated ones (Reed et al. 2016, arXiv 1605.05396): the discriminator knows
    sooner what the words mean, and the generator follows them.
    """

    gan_loss: str = "relativistic"
    penalty: float = 1.0
    mismatch: float = 1.0

    def __post_init__(self) -> None:
        if self.gan_loss not in GAN_LOSSES:
            raise ValueError(f"unknown GAN loss {self.gan_loss!r}; expected one of {', '.join(GAN_LOSSES)}")
        if not self.penalty >= 0:
            raise ValueError(f"penalty is {self.penalty}; expected a number of at least 0 (0.1 to 10 are usual)")
        if not self.mismatch >= 0:
            raise ValueError(f"mismatch is {self.mismatch}; expected a number of at least 0 (1 is usual)")

    def __call__(self, networks: Networks, batch: Batch, generator: torch.Generator) -> Losses:
        """Losses of transformer and discriminators for normalised latents and their texts.

        `networks` are a "transformer", a "discriminator", and perhaps a "feature_discriminator" with the "features"
        that it reads, a `FrozenTransformer`. Of what each discriminator loses they are the means. Discriminators learn
        nothing from `generator_loss`, and generator and text encoder learn nothing from `discriminator_loss`: it is
        computed from clips and texts without their history.
        """
        latent, draw = batch.latents, GeneratorDraw(generator, batch.latents.device)
        made = generate(networks["transformer"], draw.normal(latent.shape).to(latent), batch.text)
        assert batch.text.pooled is not None, "the discriminator reads the vector of a whole text"
        pooled = batch.text.pooled.detach()
        played = [self.play(networks["discriminator"], (latent,), (made,), pooled)]
        if "feature_discriminator" in networks:
            features = features_of(networks["features"], latent, made, batch.text, draw)
            played.append(self.play(networks["feature_discriminator"], *features, pooled))
        losses = {name: torch.stack([each[name] for each in played]).mean() for name in played[0]}
        total = losses["generator_loss"] + losses["discriminator_loss"]
        if self.penalty:
            total = total + self.penalty / 2 * losses["gradient_penalty"]
        return {"loss": total, **losses}

    def play(
        self, discriminator: nn.Module, real: Sequence[Tensor], made: Sequence[Tensor], pooled: Tensor
    ) -> dict[str, Tensor]:
        """What generator and `discriminator` lose, from all that it reads of real and of made clips."""
        frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
        made_score = functional_call(discriminator, frozen, (*made, pooled)).float()

        real, made = ([view.detach().requires_grad_() for view in views] for views in (real, made))
        other = pooled.roll(1, 0)
        real_score, wrong_score = discriminator(*real, torch.stack((pooled, other))).float()
        fake_score = discriminator(*made, pooled).float()
        losses = {"generator_loss": self.generator_loss(made_score, real_score.detach())}
        fake = self.discriminator_loss(real_score, fake_score)
        wrong = self.discriminator_loss(real_score, wrong_score, (other != pooled).any(1))
        losses["discriminator_loss"] = fake + self.mismatch * wrong
        losses["margin"] = (real_score - fake_score).mean()
        if self.penalty:
            losses["gradient_penalty"] = squared_gradient(real_score, *real) + squared_gradient(fake_score, *made)
        return losses

    def generator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """What the generator minimises, from the scores (b,) of generated and real clips."""
        if self.gan_loss == "hinge":
            return -fake.mean()
        return F.softplus(-(fake - real) if self.gan_loss == "relativistic" else -fake).mean()

    def discriminator_loss(self, real: Tensor, fake: Tensor, rows: Tensor | None = None) -> Tensor:
        """What the discriminator minimises, from scores (b,); a pair that is False in `rows` costs nothing."""
        if self.gan_loss == "hinge":
            loss = F.relu(1 - real) + F.relu(1 + fake)
        elif self.gan_loss == "relativistic":
            loss = F.softplus(-(real - fake))
        else:
            loss = F.softplus(-real) + F.softplus(fake)
        return loss.mean() if rows is None else (loss * rows).mean()


def features_of(
    transformer: FrozenTransformer, real: Tensor, made: Tensor, text: TextFeatures, draw: GeneratorDraw
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The features of real and of made clips, with the same noise in both."""
    mean, deviation = FEATURE_NOISE
    sigma = torch.sigmoid(mean + deviation * draw.normal((len(real),)))
    noise, part = draw.normal(real.shape).to(real), sigma.view(-1, *[1] * (real.ndim - 1)).to(real)
    fixed = TextFeatures(text.tokens.detach(), text.mask, None if text.pooled is None else text.pooled.detach())

    def features(clip: Tensor) -> tuple[Tensor, ...]:
        return transformer.features(part * noise + (1 - part) * clip, sigma * TIMESTEPS, fixed)

    with torch.no_grad():
        of_real = features(real)
    return of_real, features(made)


def squared_gradient(score: Tensor, *read: Tensor) -> Tensor:
    """Mean squared length of the gradient of each score with respect to all that was `read` for it."""
    gradients = torch.autograd.grad(score.sum(), read, create_graph=True)
    return torch.stack([gradient.float().square().flatten(1).sum(1).mean() for gradient in gradients]).sum()
