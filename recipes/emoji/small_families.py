"""The families that share a VAE and a text encoder: only the transformer is trained.

Of 64 pixels the pyramid comes first, see `small_pyramid`, and flow, diffusion and GAN go on from it. Of 128 pixels the
flow comes first. It begins with what is cheap, first frames alone and clips of half the size: both teach it what words
mean and how things look at a quarter of the price of a whole clip, and all families know both sizes in the end. All but
the pyramid make all frames at once, so every frame may look at every other.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...models import checkpoints
from ...models.causal_vae import CausalVideoVAE
from ...models.checkpoint_info import CheckpointInfo
from ...models.feature_discriminator import FrozenTransformer
from ...models.latent_format import LatentFormat
from ...models.miniflux import MiniFluxTransformer
from ...models.text_encoder import TextEncoder, Tokenizer
from ...samplers.noise_schedule import schedule_of
from ...training.batch import Batch, Objective
from ...training.data.captions import Combination
from ...training.data.datasets import AnimationDataset
from ...training.objectives.diffusion import DiffusionObjective
from ...training.objectives.draw import TimestepSampling
from ...training.objectives.flow import FlowObjective
from ...training.objectives.gan import GANObjective, gan_settings
from ...training.objectives.some_tokens import SomeTokensObjective
from ...training.presets import TEXT_DROPOUT
from ...training.run.loop import OnStep, TrainingRun
from ...training.run.precision import use_fast_attention
from ...training.run.run_state import run_exists
from ...training.run.train_settings import TrainSettings
from ...training.trainers.model import TrainedModel, go_with_run, train
from ...training.trainers.model_source import new_discriminators
from . import small_pyramid
from .kinds import KindsObjective, KindsOfClips, shares_at
from .latents import cached_latents, encode_clips, resized
from .recipe import FAMILY_OF, RECIPES, TEXT_FILE, TRANSFORMER_FILES, Recipe
from .rolled_out import with_own_history
from .texts import CaptionedLatents, check_sizes, new_transformer

ERRORS = ("flow", "diffusion")  # families that minimise a squared error


def train_part(
    part: str,
    dataset: AnimationDataset,
    vae: CausalVideoVAE,
    models: Path,
    folder: Path,
    settings: TrainSettings,
    clips: int | None = None,
    begin_from: Path | None = None,
    on_step: OnStep | None = None,
    recipe: Recipe | None = None,
) -> TrainedModel:
    """Train the transformer of a family with the text encoder in the folder `models`; `part` is one of `FAMILY_OF`.

    A new run begins with a transformer of the folder `begin_from` (see `Recipe`), if given: what it knows of texts and
    shapes serves every family. A GAN needs it: its discriminator soon outplays a generator that knows nothing, and
    what that transformer sees in clips is what its second discriminator judges by. "history" needs it too: the pyramid
    goes on learning, now also from a history that it made itself.
    """
    recipe, name = recipe or RECIPES[dataset.size], FAMILY_OF[part]
    clips, kinds = clips or recipe.clips, recipe.kinds[part]
    encoder, tokenizer = load_text_encoder(models)
    network, begun = new_transformer(recipe, name, settings.seed + 6), None
    if begin_from is not None and (name == "gan" or not run_exists(folder)):
        begun = begin_with(network, begin_from / TRANSFORMER_FILES[recipe.begins_with[part]])
    latents, combinations, latent_format = cached_latents(dataset, vae, folder, clips, settings.seed, begun)
    modules: dict[str, nn.Module] = {"transformer": network}
    features = None
    if name == "gan":
        features = None if begin_from is None else FrozenTransformer(network)
        config, seed = network.config, settings.seed + 7
        modules |= new_discriminators(latents.shape[1], config.pooled_width, config.width if features else None, seed)
        settings = gan_settings(settings, modules)
    run = TrainingRun(modules, settings, folder)
    run.resume()
    encoder.requires_grad_(False).to(run.device)
    use_fast_attention(network, run.device, run.precision)
    if features is not None:
        go_with_run(features, run)

    def clips_of(kind: str) -> tuple[Tensor, list[Combination]]:
        if kind == "half":
            return encode_clips(resized(dataset, dataset.size // 2), vae, folder, clips, settings.seed + 6)
        return latents[:, :, :1] if kind == "stills" else latents, combinations

    captioned = {kind: CaptionedLatents(*clips_of(kind), encoder, tokenizer, kinds[kind].batch) for kind in kinds}
    if part == "history":
        captioned["whole"] = with_own_history(captioned["whole"], network, latent_format, folder, settings.seed + 9)
    data = KindsOfClips(captioned, lambda: shares_at(kinds, run.done))
    objective = KindsObjective({kind: objective_of(name, kind, recipe) for kind in kinds}, error=name in ERRORS)
    trained = TrainedModel(run, "miniflux", network.config, recipe.families[name], latent_format, features)
    return train(trained, objective, data, TEXT_DROPOUT, on_step)


def objective_of(family: str, kind: str, recipe: Recipe) -> Objective[Batch]:
    """What a family learns from a kind of clips."""
    options = recipe.objectives.get(family, {})
    if family == "flow":
        flow = FlowObjective(TimestepSampling("logit_normal", **options))
        return SomeTokensObjective(flow) if kind == "some" else flow
    if family == "diffusion":
        return DiffusionObjective(schedule_of(recipe.families[family]), **options)
    return GANObjective(**options) if family == "gan" else small_pyramid.objective_of(kind, options)


def begin_with(network: MiniFluxTransformer, path: Path) -> LatentFormat | None:
    """Give a network the weights in a file of the same sizes, and return its latent format, if any.

    Raises ValueError where the sizes are others.
    """
    start = checkpoints.inspect(path, ["miniflux"])
    check_sizes(start, network.config)
    network.load_state_dict(checkpoints.load_state_dict(start, dtype=torch.float32))
    return start.latent_format


def load_text_encoder(models: Path) -> tuple[TextEncoder, Tokenizer]:
    """The text encoder in a models folder and its tokenizer; FileNotFoundError says where else to get one."""
    info = text_encoder_in(models)
    return checkpoints.build(info, dtype=torch.float32), checkpoints.load_tokenizer(info)


def text_encoder_in(models: Path) -> CheckpointInfo:
    """What the text encoder in a models folder is, as `load_text_encoder` needs one."""
    path = models / TEXT_FILE
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path}, the text encoder that a family learns to read with: copy the bundled one there "
            f"(models/pretrained/{TEXT_FILE}), or train one with `train pyramid --pixels 64` and `train text`"
        )
    return checkpoints.inspect(path, ["text_encoder"])
