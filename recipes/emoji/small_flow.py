"""The recipe of the small flow of 128 pixels, and of the text encoder that it shares with the other families.

It begins with what is cheap: first frames alone, and clips of half the size. Both teach it what words mean and how
things look at a quarter of the price of a whole clip; and it knows both sizes in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d, mse_loss

from ...models import miniflux, text_encoder
from ...models.causal_vae import CausalVideoVAE
from ...models.fingerprint import fingerprint
from ...models.latent_format import LatentFormat
from ...training.data.captions import Combination
from ...training.data.datasets import AnimationDataset
from ...training.data.latent_cache import prepare_latents
from ...training.objectives.flow import FlowObjective
from ...training.objectives.pyramid import GeneratorDraw, drop_captions
from ...training.presets import ENCODING
from ...training.run.loop import OnStep, TrainingRun, TrainSettings
from .sentences import sentence
from .small_pyramid import TEXT_DROPOUT, cached_latents, encode_latents, kept_tokenizer
from .small_vae import to_bytes

TEXT_CONFIG = {"width": 192, "layers": 3, "heads": 6, "max_tokens": 64, "summary": 4}
VOCABULARY = 2048
TRANSFORMER_CONFIG = {
    "in_channels": 64,
    "num_layers": 0,
    "num_single_layers": 7,
    "attention_head_dim": 64,
    "num_attention_heads": 4,
    "axes_dims_rope": [16, 24, 24],
    "joint_attention_dim": 192,
    "pooled_projection_dim": 192,
    "input_skip": True,
    "use_temporal_causal": False,
}
FLOW_TRAINING = {
    "steps": 40000,
    "learning_rate": 1.5e-3,
    "warmup": 100,
    "weight_decay": 1e-2,
    "optimizer": "muon",
    "precision": "bf16",
    "average": 0.999,
}
CLIPS = 5000
CHEAP_FIRST = 0.35  # share of the run without whole clips
BATCHES = {"stills": 112, "half": 96, "whole": 48}
SHARES = {"stills": 0.15, "half": 0.15, "whole": 0.7}  # of the later steps
OUTLINE_EDGE = 4
NOISE_MEAN = 0.2  # of the logit-normal noise levels: a little more noise than the middle
MANY_SENTENCES = 20000  # that the tokenizer reads


@dataclass(frozen=True)
class FlowClips:
    """Normalised latents `(n, c, t, h, w)` of whole clips and of half their size, and what each shows."""

    whole: Tensor
    half: Tensor
    combinations: tuple[tuple[Combination, ...], tuple[Combination, ...]]

    def draw(self, kind: str, batch: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """A batch of one kind of `BATCHES`, with a sentence for each clip."""
        latents = self.half if kind == "half" else self.whole
        combinations = self.combinations[kind == "half"]
        rows = torch.randint(len(latents), (batch,), generator=generator).tolist()
        texts = [sentence(combinations[row], generator) for row in rows]
        return latents[rows][:, :, :1] if kind == "stills" else latents[rows], texts


def train_flow(
    dataset: AnimationDataset,
    vae: CausalVideoVAE,
    folder: Path,
    settings: TrainSettings,
    clips: int = CLIPS,
    on_step: OnStep | None = None,
) -> tuple[TrainingRun, LatentFormat, text_encoder.Tokenizer]:
    """Train flow and text encoder together; as in `train_pyramid` a head foretells the outline from the text."""
    whole, combinations, latent_format = cached_latents(dataset, vae, folder, clips, settings.seed)
    half, half_combinations = half_size_latents(dataset, vae, folder, clips, settings.seed)
    data = FlowClips(whole, latent_format.normalize(half), (tuple(combinations), half_combinations))
    tokenizer = kept_tokenizer(folder, lambda: learn_words(combinations, settings.seed))
    encoder = text_encoder.TextEncoder(text_encoder.TextEncoderConfig(vocab_size=tokenizer.vocab_size, **TEXT_CONFIG))
    network = miniflux.MiniFluxTransformer(miniflux.MiniFluxConfig.from_dict(TRANSFORMER_CONFIG))
    text_encoder.init_weights(encoder, torch.Generator().manual_seed(settings.seed + 3))
    miniflux.init_weights(network, torch.Generator().manual_seed(settings.seed + 4))
    outline = nn.Linear(encoder.config.pooled_width, outlines(whole[:1]).shape[1])
    for parameter in outline.parameters():
        nn.init.zeros_(parameter)
    run = TrainingRun({"transformer": network, "text_encoder": encoder, "outline": outline}, settings, folder)
    run.resume()
    if run.device.type == "cpu":
        network.attention = explicit_attention
    loss = FlowObjective(times="logit_normal", mean=NOISE_MEAN)

    def objective(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        kind = draw_kind(run.done, generator)
        latents, texts = data.draw(kind, BATCHES[kind], generator)
        latents, texts = latents.to(run.device), drop_captions(texts, TEXT_DROPOUT, GeneratorDraw(generator))
        tokens, mask, pooled = text_encoder.encode_texts(encoder, tokenizer, texts)
        error = loss(network, latents, tokens, mask, pooled, generator)["loss"]
        wanted = outlines(latents)
        foretold = mse_loss(outline(pooled)[:, : wanted.shape[1]], wanted)
        return {"loss": error.log() + foretold.log(), kind: error, "outline": foretold}

    return run.train(objective, on_step=on_step), latent_format, tokenizer


def draw_kind(done: float, generator: torch.Generator) -> str:
    """What a step learns from, after the part `done` of the run: a key of `BATCHES`."""
    shares = {"stills": 0.5, "half": 0.5} if done < CHEAP_FIRST else SHARES
    weights = torch.tensor(list(shares.values()))
    return list(shares)[int(torch.multinomial(weights, 1, generator=generator))]


def half_size_latents(
    dataset: AnimationDataset, vae: CausalVideoVAE, folder: Path, clips: int, seed: int
) -> tuple[Tensor, tuple[Combination, ...]]:
    """Latents of clips at half the size of `dataset`, in the VAE's own scale, and what they show."""
    small = AnimationDataset(
        dataset.folder, dataset.subjects, dataset.size // 2, dataset.frames, dataset.fps, dataset.split
    )
    cached = prepare_latents(
        small,
        lambda videos: encode_latents(vae, to_bytes(videos)),
        folder / "latents",
        clips,
        seed + 6,
        fingerprint(vae, prefixes=ENCODING),
    )
    return torch.stack([row.latent for row in cached.rows]), tuple(Combination(**row.label) for row in cached.rows)


def learn_words(combinations: list[Combination], seed: int) -> text_encoder.Tokenizer:
    """A tokenizer that has read many sentences."""
    words = torch.Generator().manual_seed(seed + 2)
    texts = [sentence(combinations[i % len(combinations)], words) for i in range(MANY_SENTENCES)]
    return text_encoder.Tokenizer.train(texts, VOCABULARY, TEXT_CONFIG["max_tokens"])


def outlines(latents: Tensor) -> Tensor:
    """The coarse clip, frame by frame, (n, features); that of a first frame alone is the beginning of it."""
    frames = latents.shape[2]
    return adaptive_avg_pool3d(latents, (frames, OUTLINE_EDGE, OUTLINE_EDGE)).transpose(1, 2).flatten(1)


def explicit_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by two products of matrices: on a CPU its gradient takes half the time of the fused one's."""
    query, key = query.to(value.dtype), key.to(value.dtype)
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return weights.softmax(-1).to(value.dtype) @ value
