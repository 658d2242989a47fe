"""The decoder once more, when there is a flow: from what the flow makes of clips, beside the true pictures.

With the true clip beside a rebuilt one the decoder learns to draw a clean outline from a smeared one. The encoder stays
as it is, so every model that knows its latents still does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...models.causal_vae import CausalVideoVAE
from ...training.batch import Losses, Networks
from ...training.data.datasets import AnimationDataset
from ...training.objectives.vae import VAEObjective, noisy_latent
from ...training.run.loop import OnStep
from ...training.run.train_settings import TrainSettings
from ...training.trainers.vae import TrainedVAE
from .figure_vae import DECODER_OBJECTIVE
from .latents import resized
from .rebuilt_clips import Pieces, RebuiltClips, rebuilt_clips, true_clips
from .small_vae import start_vae

# Where a flow has moved an outline the errors of pixels ask for blur, so the discriminator counts for more than before.
OBJECTIVE = replace(DECODER_OBJECTIVE, adversarial=0.8, judged_frames=8)
LATENT_FRAMES = ((5, 1), (3, 2))  # of the pieces, and how many make a batch, in turn
HALF_EVERY = 5  # steps; then whole clips of half the size are learned
HALF_BATCH = 2


@dataclass(frozen=True)
class FinishObjective:
    """What `objective` asks of clips that are decoded from given latents."""

    objective: VAEObjective = OBJECTIVE

    def __call__(self, networks: Networks, batch: Pieces, generator: torch.Generator) -> Losses:
        """Losses of `networks["vae"]`; what a piece does not tell of its edges is not asked for."""
        latents = noisy_latent(batch.latents, self.objective.latent_noise, generator)
        decoded = torch.where(batch.known, networks["vae"].decode(latents), batch.videos)
        return self.objective.of_decoded(networks, decoded, batch.videos, generator)


@dataclass(frozen=True, eq=False)
class RebuiltThenHalf:
    """Pieces of rebuilt clips, and in every `HALF_EVERY`-th step whole clips of half the size."""

    rebuilt: RebuiltClips
    half: RebuiltClips

    def draw(self, step: int, generator: torch.Generator) -> Pieces:
        """The pieces of a step."""
        if step % HALF_EVERY == HALF_EVERY - 1:
            return self.half.draw(self.half.latents.shape[2], HALF_BATCH, generator)
        frames, batch = LATENT_FRAMES[step % HALF_EVERY % len(LATENT_FRAMES)]
        return self.rebuilt.draw(min(frames, self.rebuilt.latents.shape[2]), batch, generator)


def finish_decoder(
    dataset: AnimationDataset,
    vae: CausalVideoVAE,
    models: Path,
    folder: Path,
    settings: TrainSettings,
    clips: int = 1600,
    on_step: OnStep | None = None,
) -> TrainedVAE:
    """Train the decoder of `vae` with a discriminator, on clips that the flow in the folder `models` rebuilds.

    What it becomes draws plain colours better and edges softer; the bundled decoder took over a fifth of the change
    (`add_learned`), which keeps most of the edges.
    """
    seed = settings.seed + 8
    pieces = RebuiltThenHalf(
        rebuilt_clips(dataset, vae, models, folder, clips, seed),
        true_clips(resized(dataset, dataset.size // 2), vae, folder, max(clips // 4, 1), seed),
    )
    trained = start_vae(vae.to(memory_format=torch.channels_last_3d), True, True, folder, settings)
    run, objective = trained.run, FinishObjective()

    def training_step(step: int, generator: torch.Generator) -> Losses:
        return objective(run.modules, pieces.draw(step, generator).to(run.device), generator)

    run.train(training_step, on_step=on_step)
    return trained
