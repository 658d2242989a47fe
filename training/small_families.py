"""The recipes of the pack's other small models: flow matching, diffusion and GAN, on the pyramid's latents and texts.

VAE and text encoder are shared and stay as they are; only the transformer is another. All frames are made at once, so
every frame may look at every other.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..models import checkpoints, miniflux, text_encoder, video_discriminator
from ..models.causal_vae import CausalVideoVAE
from ..models.families import ModelFamily
from ..models.latent_format import LatentFormat
from ..samplers.noise_schedule import schedule_of
from .data import AnimationDataset
from .diffusion_objective import DiffusionObjective
from .flow_objective import FlowObjective
from .gan_objective import BETAS, GANObjective
from .loop import OnStep, TrainingRun, TrainSettings, run_exists
from .small_pyramid import TEXT_DROPOUT, TEXT_FILE, TRANSFORMER_CONFIG, TRANSFORMER_FILE, cached_latents, draw_batch
from .trainees import DISCRIMINATOR_WIDTHS
from .trainer import TrainedModel

CONFIG = {**TRANSFORMER_CONFIG, "use_temporal_causal": False}
SMALL_FAMILIES = {
    "flow": ModelFamily("flow"),
    "diffusion": ModelFamily("diffusion", schedule="cosine", prediction="v", zero_terminal_snr=True),
    "gan": ModelFamily("gan"),
}
TRAINING = {
    "flow": {"steps": 3000, "learning_rate": 1e-3, "warmup": 100, "average": 0.999},
    "diffusion": {"steps": 1600, "learning_rate": 1e-3, "warmup": 100, "average": 0.999},
    "gan": {"steps": 700, "learning_rate": 2e-4, "warmup": 100, "average": 0.99, "betas": BETAS},
}
BATCH = 32
FILES = {family: f"diffusion_models/pyramid_video_small_{family}.safetensors" for family in SMALL_FAMILIES}
BEGINNINGS = {"flow": TRANSFORMER_FILE, "diffusion": FILES["flow"], "gan": FILES["flow"]}


def train_family(
    name: str,
    dataset: AnimationDataset,
    vae: CausalVideoVAE,
    models: Path,
    folder: Path,
    settings: TrainSettings,
    clips: int = 8000,
    batch: int = BATCH,
    begin_from: Path | None = None,
    on_step: OnStep | None = None,
) -> tuple[TrainingRun, LatentFormat]:
    """Train the transformer of family `name`, a key of `SMALL_FAMILIES`, with the text encoder in the folder `models`.

    A new run begins with a transformer of the folder `begin_from` (see `BEGINNINGS`), if given: what it knows of texts
    and shapes serves every family. A GAN needs it: its discriminator soon outplays a generator that knows nothing.
    """
    latents, combinations, latent_format = cached_latents(dataset, vae, folder, clips, settings.seed)
    info = checkpoints.inspect(models / TEXT_FILE, ["text_encoder"])
    encoder, tokenizer = checkpoints.build(info, dtype=torch.float32), checkpoints.load_tokenizer(info)
    modules = new_modules(name, latents.shape[1], settings.seed)
    if begin_from is not None and not run_exists(folder):
        start = checkpoints.inspect(begin_from / BEGINNINGS[name], ["miniflux"])
        modules["transformer"].load_state_dict(checkpoints.load_state_dict(start, dtype=torch.float32))
    run = TrainingRun(modules, settings, folder)
    run.resume()
    encoder.to(run.device)
    loss = make_objective(name)

    def objective(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        dropout = 0.0 if name == "gan" else TEXT_DROPOUT
        chosen, captions = draw_batch(combinations, batch, dropout, generator)
        with torch.no_grad():
            texts = text_encoder.encode_texts(encoder, tokenizer, captions)
        return loss(*modules.values(), latents[chosen].to(run.device), *texts, generator)

    return run.train(objective, on_step=on_step), latent_format


def make_objective(name: str) -> FlowObjective | DiffusionObjective | GANObjective:
    """What a family learns."""
    if name == "gan":
        return GANObjective()
    if name == "flow":
        return FlowObjective(times="logit_normal")
    return DiffusionObjective(schedule_of(SMALL_FAMILIES[name]))


def new_modules(name: str, channels: int, seed: int) -> dict[str, nn.Module]:
    """The networks of a family, ready to learn."""
    network = miniflux.MiniFluxTransformer(miniflux.MiniFluxConfig.from_dict(CONFIG))
    miniflux.init_weights(network, torch.Generator().manual_seed(seed + 6))
    modules: dict[str, nn.Module] = {"transformer": network}
    if name == "gan":
        pooled = CONFIG["pooled_projection_dim"]
        modules["discriminator"] = video_discriminator.VideoDiscriminator(channels, pooled, DISCRIMINATOR_WIDTHS)
        video_discriminator.init_weights(modules["discriminator"], torch.Generator().manual_seed(seed + 7))
    return modules


def export_family(name: str, run: TrainingRun, latent_format: LatentFormat, folder: Path) -> Path:
    """Write the averaged transformer where the loaders look, in float16."""
    config = run.modules["transformer"].config
    return TrainedModel(run, "miniflux", config, SMALL_FAMILIES[name], latent_format).save(folder / FILES[name])
