"""The game of a GAN: a generator that makes clips in one pass, and a discriminator that tells them from real ones.

The generator is a transformer of the pack asked once, at pure noise: what it answers is taken for the velocity of one
whole step, so `clip = noise - answer`. A model trained by flow matching can so become a generator, and the other way
round.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ...samplers.flow import TIMESTEPS
from ..presets import GAMES
from .pyramid import GeneratorDraw

BETAS = (0.0, 0.99)  # of Adam: each side must follow the other without the momentum of where it was before


def generate(network: nn.Module, noise: Tensor, text: Tensor, mask: Tensor | None, pooled: Tensor) -> Tensor:
    """Normalised clips (b, c, t, h, w) from white noise of their shape, in one forward."""
    return noise - network((noise,), torch.full((len(noise),), TIMESTEPS, device=noise.device), text, mask, pooled)


@dataclass(frozen=True)
class GANObjective:
    """One round of the game; one backward pass of `loss` teaches both networks.

    `relativistic` compares every made clip with a real one (Huang et al. 2024, arXiv 2501.05441): a generator that
    forgets some of the data then loses on the pairs with it, so modes do not collapse, and with both penalties the game
    converges. `non_saturating` is the classical game (Goodfellow et al. 2014), `hinge` that of Lim and Ye (2017).
    `penalty` weighs the squared gradients of the discriminator at real (R1, Mescheder et al. 2018) and at made clips
    (R2), halved as there.
    """

    game: str = "relativistic"
    penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.game not in GAMES:
            raise ValueError(f"unknown game {self.game!r}; expected one of {', '.join(GAMES)}")
        if not self.penalty >= 0:
            raise ValueError(f"penalty is {self.penalty}; expected a number of at least 0 (0.1 to 10 are usual)")

    def __call__(
        self,
        network: nn.Module,
        discriminator: nn.Module,
        latent: Tensor,
        text: Tensor,
        mask: Tensor | None,
        pooled: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Losses of normalised latents (b, c, t, h, w) and their texts.

        The discriminator learns nothing from being deceived, and the generator and the text encoder nothing from the
        judging: it gets clips and texts without their history.
        """
        noise = GeneratorDraw(generator, latent.device).normal(latent.shape).to(latent)
        made, known = generate(network, noise, text, mask, pooled), pooled.detach()
        frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
        fooled = functional_call(discriminator, frozen, (made, known)).float()
        target = functional_call(discriminator, frozen, (latent, known)).float()
        deceive = self.deceive(fooled, target)

        real, fake = latent.detach().requires_grad_(), made.detach().requires_grad_()
        real_score, fake_score = (discriminator(clip, known).float() for clip in (real, fake))
        judge = self.judge(real_score, fake_score)
        losses = {"deceive": deceive, "judge": judge, "margin": (real_score - fake_score).mean()}
        total = deceive + judge
        if self.penalty:
            slope = squared_gradient(real_score, real) + squared_gradient(fake_score, fake)
            total = total + self.penalty / 2 * slope
            losses["slope"] = slope
        return {"loss": total, **losses}

    def deceive(self, fake: Tensor, real: Tensor) -> Tensor:
        """What the generator minimises, from the scores (b,) of made and real clips."""
        if self.game == "hinge":
            return -fake.mean()
        return F.softplus(-(fake - real) if self.game == "relativistic" else -fake).mean()

    def judge(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator minimises."""
        if self.game == "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        if self.game == "relativistic":
            return F.softplus(-(real - fake)).mean()
        return F.softplus(-real).mean() + F.softplus(fake).mean()


def squared_gradient(score: Tensor, clip: Tensor) -> Tensor:
    """Mean squared length of the gradient of each score with respect to its clip."""
    (gradient,) = torch.autograd.grad(score.sum(), clip, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()
