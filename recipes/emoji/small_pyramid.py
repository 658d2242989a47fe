"""The recipe of the pack's small model: transformer and text encoder, trained together on latents of `small_vae`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ...models import checkpoints, miniflux, text_encoder
from ...models.causal_vae import CausalVideoVAE
from ...models.files import write_beside
from ...models.fingerprint import fingerprint
from ...models.latent_format import LatentFormat
from ...samplers.noise import pyramid
from ...samplers.stages import make_stages
from ...training.data.captions import Combination, caption
from ...training.data.datasets import AnimationDataset
from ...training.data.latent_cache import latents_key, prepare_latents
from ...training.data.preview_colours import pictures_of, with_colours
from ...training.objectives.pyramid import GeneratorDraw, PyramidObjective, drop_captions, relative_loss
from ...training.presets import ENCODING
from ...training.run.loop import OnStep, TrainingRun, TrainSettings
from ...training.run.run_description import earlier_format, read_record
from ...training.run.run_state import run_exists
from .small_vae import render, to_bytes

TEXT_CONFIG = {"width": 160, "layers": 2, "heads": 5, "max_tokens": 48, "summary": 4}
VOCABULARY = 512
TRANSFORMER_CONFIG = {
    "in_channels": 96,
    "num_layers": 2,
    "num_single_layers": 6,
    "attention_head_dim": 32,
    "num_attention_heads": 5,
    "axes_dims_rope": [8, 12, 12],
    "joint_attention_dim": 160,
    "pooled_projection_dim": 160,
    "input_skip": True,
}
PYRAMID_TRAINING = {"steps": 20000, "learning_rate": 1.5e-3, "warmup": 100, "average": 0.999}
STAGE_RATIOS = (1, 1, 6)  # the last stage draws the picture and is the hardest here
FIRST_UNITS = 0.4  # share of the steps for first frames only
TEXT_DROPOUT = 0.1
OUTLINE_LEVEL = 1  # of the pyramid: small enough to be foretold from the text, large enough to show the subject
MEASURED_CLIPS = 500  # that the latents' scale and the colours of previews are taken from
Say = Callable[[Combination, torch.Generator], str]  # what a clip shows, in one of many wordings
TRANSFORMER_FILE = "diffusion_models/pyramid_video_small.safetensors"
TEXT_FILE = "text_encoders/pyramid_video_small_text.safetensors"


@torch.inference_mode()
def encode_latents(vae: CausalVideoVAE, videos: Tensor, batch: int = 4) -> Tensor:
    """Latents `(n, c, t, h, w)` of byte clips, in the VAE's own scale."""
    return torch.cat([vae.encode(part.float() / 127.5 - 1).mode() for part in videos.split(batch)])


def channel_weights(vae: CausalVideoVAE) -> Tensor:
    """How much each latent channel shall count, (c,) with a mean square of 1.

    The linear code gives every channel deviation 1, whether it moves many pixels or few. Half of that levelling (in
    logarithms) is taken back: a small transformer otherwise spends itself on detail that nobody sees. Without such a
    code all count alike.
    """
    if vae.encoder_shortcut is None:
        return torch.ones(vae.config.latent_channels)
    pixels_per_unit = 1 / vae.encoder_shortcut.rest.weight.detach().float().norm(dim=1)
    weights = pixels_per_unit.sqrt()
    return weights / weights.square().mean().sqrt()


def measured_format(latents: Tensor, videos: Tensor, weights: Tensor, name: str = "small") -> LatentFormat:
    """The format that gives the channels of `latents` mean 0 and the deviations `weights`, with colours for previews.

    `videos` are the byte clips of the same rows.
    """
    first, rest = latents[:, :, :1], latents[:, :, 1:]
    (shift, scale), (first_shift, first_scale) = (
        (part.mean((0, 2, 3, 4)).tolist(), (weights / part.std((0, 2, 3, 4))).tolist()) for part in (rest, first)
    )
    plain = LatentFormat(name, tuple(shift), tuple(scale), tuple(first_shift), tuple(first_scale))
    return with_colours(plain, latents, pictures_of(latents, videos).float() / 127.5 - 1)


def train_pyramid(
    dataset: AnimationDataset,
    vae: CausalVideoVAE,
    folder: Path,
    settings: TrainSettings,
    clips: int = 10000,
    batch: int = 64,
    begin_from: Path | None = None,
    on_step: OnStep | None = None,
) -> tuple[TrainingRun, LatentFormat, text_encoder.Tokenizer]:
    """Train transformer and text encoder together on cached latents; captions are worded anew in every step.

    A linear head that is thrown away afterwards foretells the outline of the clip from the pooled text alone. Where
    something is shows only in how it differs from its background, which depends on two words at once; behind the noise
    of a flow's targets the text encoder needs thousands of steps to find that out, here a few hundred.

    A new run begins with the exported files of an earlier one in the models folder `begin_from`, if given, and keeps
    their words; single blocks that they lack begin as the identity.
    """
    latents, combinations, latent_format = cached_latents(dataset, vae, folder, clips, settings.seed)
    tokenizer = run_tokenizer(folder, combinations, settings.seed, begin_from)
    encoder, network = new_networks(tokenizer.vocab_size, settings.seed)
    if begin_from is not None and not run_exists(folder):
        load_exported(begin_from, network, encoder)
    outline = nn.Linear(encoder.config.pooled_width, outlines(latents[:1]).shape[1])
    for parameter in outline.parameters():
        nn.init.zeros_(parameter)
    run = TrainingRun({"transformer": network, "text_encoder": encoder, "outline": outline}, settings, folder)
    run.resume()
    stages = make_stages(len(STAGE_RATIOS))
    loss = PyramidObjective(stages, STAGE_RATIOS, first_units=FIRST_UNITS, loss=relative_loss)

    def objective(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        chosen, captions = draw_batch(combinations, batch, TEXT_DROPOUT, generator)
        text, mask, pooled = text_encoder.encode_texts(encoder, tokenizer, captions)
        clips = latents[chosen].to(run.device)
        losses = loss(network, clips, text, mask, pooled, generator)
        told = mse_loss(outline(pooled), outlines(clips))
        return {**losses, "loss": losses["loss"] + told.log(), "outline": told}

    return run.train(objective, on_step=on_step), latent_format, tokenizer


def draw_batch(
    combinations: Sequence[Combination], batch: int, dropout: float, generator: torch.Generator, say: Say = caption
) -> tuple[list[int], list[str]]:
    """Which clips a step learns from, and what is said of them; a share `dropout` of the texts is empty."""
    chosen = torch.randint(len(combinations), (batch,), generator=generator).tolist()
    captions = [say(combinations[i], generator) for i in chosen]
    return chosen, drop_captions(captions, dropout, GeneratorDraw(generator))


def run_tokenizer(
    folder: Path, combinations: Sequence[Combination], seed: int, begin_from: Path | None
) -> text_encoder.Tokenizer:
    """The words of the run in `folder`: those it has, else those of the files it begins from, else learned."""

    def learn() -> text_encoder.Tokenizer:
        if begin_from is not None:
            return checkpoints.load_tokenizer(checkpoints.inspect(begin_from / TEXT_FILE, ["text_encoder"]))
        words = torch.Generator().manual_seed(seed + 2)
        texts = [caption(c, words) for c in combinations for _ in range(4)]
        return text_encoder.Tokenizer.train(texts, VOCABULARY, TEXT_CONFIG["max_tokens"])

    return kept_tokenizer(folder, learn)


def kept_tokenizer(folder: Path, learn: Callable[[], text_encoder.Tokenizer]) -> text_encoder.Tokenizer:
    """The tokenizer in the folder of a run; what `learn` gives where there is none yet, which is then kept."""
    path = folder / "tokenizer.json"
    if path.exists():
        words = json.dumps(read_record(path, "remove it: the same command makes it again"))
        try:
            return text_encoder.Tokenizer.from_json(words)
        except Exception as error:  # the tokenizers library raises plain Exception
            raise ValueError(
                f"{path} holds no tokenizer of this pack. Put back a copy of it, or remove it: the same command makes "
                "it again"
            ) from error
    tokenizer = learn()
    with write_beside(path) as part:
        part.write_text(tokenizer.to_json(), encoding="utf-8")
    return tokenizer


def load_exported(folder: Path, network: nn.Module, encoder: nn.Module) -> None:
    """Give two networks the weights that `export_pyramid` wrote; `network` may have more single blocks."""
    info = checkpoints.inspect(folder / TEXT_FILE, ["text_encoder"])
    encoder.load_state_dict(checkpoints.load_state_dict(info, dtype=torch.float32))
    info = checkpoints.inspect(folder / TRANSFORMER_FILE, ["miniflux"])
    missing, _ = network.load_state_dict(checkpoints.load_state_dict(info, dtype=torch.float32), strict=False)
    old = [key for key in missing if not key.startswith("single_transformer_blocks.")]
    if old:
        raise ValueError(f"{folder / TRANSFORMER_FILE} lacks {len(old)} tensors of this recipe, first {old[0]!r}")


def outlines(latents: Tensor) -> Tensor:
    """The coarse clip at level `OUTLINE_LEVEL`, (n, features)."""
    return pyramid(latents, len(STAGE_RATIOS))[OUTLINE_LEVEL].flatten(1)


def new_networks(vocabulary: int, seed: int) -> tuple[nn.Module, nn.Module]:
    """A text encoder and a transformer ready to learn."""
    encoder = text_encoder.TextEncoder(text_encoder.TextEncoderConfig(vocab_size=vocabulary, **TEXT_CONFIG))
    network = miniflux.MiniFluxTransformer(miniflux.MiniFluxConfig.from_dict(TRANSFORMER_CONFIG))
    text_encoder.init_weights(encoder, torch.Generator().manual_seed(seed + 3))
    miniflux.init_weights(network, torch.Generator().manual_seed(seed + 4))
    return encoder, network


def cached_latents(
    dataset: AnimationDataset, vae: CausalVideoVAE, folder: Path, clips: int, seed: int
) -> tuple[Tensor, list[Combination], LatentFormat]:
    """Normalised latents of `clips` clips, encoded once and kept in `folder`, with what they show and their format.

    Raises ValueError when a run that has begun in `folder` learned from other latents.
    """
    record, draw, encoder_key = folder / "latents.json", seed + 5, fingerprint(vae, prefixes=ENCODING)
    key = latents_key(dataset, clips, draw, encoder_key)
    kept = read_record(record, "give the run a new folder") if record.exists() else {}
    if kept.get("key") != key and run_exists(folder):
        raise ValueError(
            f"the run in {folder} learned from other latents: its VAE, animations, number of clips or seed was not "
            "this one. Give the run a new folder, or the settings it was started with"
        )
    cached = prepare_latents(
        dataset, lambda videos: encode_latents(vae, to_bytes(videos)), folder / "latents", clips, draw, encoder_key
    )
    latents = torch.stack([row.latent for row in cached.rows])
    if kept.get("key") != key:
        sample, _ = render(dataset, min(MEASURED_CLIPS, clips), torch.Generator().manual_seed(draw))
        latent_format = measured_format(latents[: len(sample)], sample, channel_weights(vae))
        kept = {"key": key, "format": latent_format.to_dict()}
        with write_beside(record) as part:
            part.write_text(json.dumps(kept), encoding="utf-8")
    latent_format = earlier_format(record, kept.get("format"))
    return latent_format.normalize(latents), [Combination(**row.label) for row in cached.rows], latent_format


def export_pyramid(
    run: TrainingRun, latent_format: LatentFormat, tokenizer: text_encoder.Tokenizer, folder: Path
) -> tuple[Path, Path]:
    """Write the averaged transformer and text encoder where the loaders look, in float16."""
    network = checkpoints.save(
        folder / TRANSFORMER_FILE,
        run.averaged()["transformer"],
        "miniflux",
        run.modules["transformer"].config,
        latent_format=latent_format,
        dtype=torch.float16,
    )
    return network, export_text(run, tokenizer, folder)


def export_text(run: TrainingRun, tokenizer: text_encoder.Tokenizer, folder: Path) -> Path:
    """Write the averaged text encoder of a run where the loaders look, in float16."""
    return checkpoints.save(
        folder / TEXT_FILE,
        run.averaged()["text_encoder"],
        "text_encoder",
        run.modules["text_encoder"].config,
        extra={"tokenizer": tokenizer.to_json()},
        dtype=torch.float16,
    )
