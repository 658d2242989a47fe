"""Latents of drawn clips, encoded once and kept beside a run, with the format that scales them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from ...models.causal_vae import CausalVideoVAE
from ...models.files import write_beside
from ...models.fingerprint import fingerprint
from ...models.latent_format import LatentFormat
from ...training.data.captions import Combination
from ...training.data.datasets import AnimationDataset
from ...training.data.latent_cache import LatentSet, latents_key, prepare_latents
from ...training.data.preview_colours import pictures_of, with_colours
from ...training.data.video_pool import draw_pool, from_bytes, to_bytes
from ...training.presets import ENCODING
from ...training.run.run_description import earlier_format, read_record
from ...training.run.run_state import run_exists

MEASURED_CLIPS = 500  # that the latents' scale and the colours of previews are taken from
MOVED = 0.3  # deviations by which a channel is moved to see what it shows
MOVED_CLIPS = 2
LEAST_VISIBLE = 1e-3  # of the mean of all channels
FURTHEST_MEAN = 0.5  # of a channel, in deviations, in a format that was measured on other clips of the same encoder
LEAST_DEVIATION, LARGEST_DEVIATION = 0.5, 2.0  # of all channels together


def cached_latents(
    dataset: AnimationDataset,
    vae: CausalVideoVAE,
    folder: Path,
    clips: int,
    seed: int,
    begun: LatentFormat | None = None,
) -> tuple[Tensor, list[Combination], LatentFormat]:
    """Latents of `clips` clips in the VAE's own scale, what they show, and their format; kept in the run's `folder`.

    A new run takes the format `begun` of the transformer that it begins with, where that is of the same encoder: in
    another it would first have to learn new scales. Raises ValueError when a run that has begun in `folder` learned
    from other latents.
    """
    record, draw = folder / "latents.json", seed + 5
    key = latents_key(dataset, clips, draw, fingerprint(vae, prefixes=ENCODING))
    kept = read_record(record, "give the run a new folder") if record.exists() else {}
    if kept.get("key") != key and run_exists(folder):
        raise ValueError(
            f"the run in {folder} learned from other latents: its VAE, animations, number of clips or seed was not "
            "this one. Give the run a new folder, or the settings it was started with"
        )
    latents, combinations = encode_clips(dataset, vae, folder, clips, draw)
    begins = begun is not None and not run_exists(folder)  # latents may be there from a try that was stopped early
    if kept.get("key") != key or begins:
        latent_format = begun
        if latent_format is None or not brings_to_unit(latent_format, latents[:MEASURED_CLIPS]):
            (sample,) = draw_pool(dataset, min(MEASURED_CLIPS, clips), torch.Generator().manual_seed(draw))
            weights = channel_weights(vae, latents[: len(sample)])
            latent_format = measured_format(latents[: len(sample)], sample, weights)
        kept = {"key": key, "format": latent_format.to_dict()}
        with write_beside(record) as part:
            part.write_text(json.dumps(kept), encoding="utf-8")
    return latents, combinations, earlier_format(record, kept.get("format"))


def encode_clips(
    dataset: AnimationDataset, vae: CausalVideoVAE, folder: Path, clips: int, seed: int
) -> tuple[Tensor, list[Combination]]:
    """Latents of `clips` clips in the VAE's own scale, from the cache in `folder` where it has them."""

    def encode(videos: Tensor) -> Tensor:
        return encode_latents(vae, to_bytes(videos))

    key = fingerprint(vae, prefixes=ENCODING)
    cached: LatentSet = prepare_latents(dataset, encode, folder / "latents", clips, seed, key)
    return torch.stack([row.latent for row in cached.rows]), [Combination(**row.label) for row in cached.rows]


def resized(dataset: AnimationDataset, size: int) -> AnimationDataset:
    """The same clips at another size."""
    return AnimationDataset(dataset.folder, dataset.subjects, size, dataset.frames, dataset.fps, dataset.split)


@torch.inference_mode()
def encode_latents(vae: CausalVideoVAE, videos: Tensor, batch: int = 4) -> Tensor:
    """Latents `(n, c, t, h, w)` of byte clips, in the VAE's own scale."""
    return torch.cat([vae.encode(from_bytes(part)).mode() for part in videos.split(batch)])


def channel_weights(vae: CausalVideoVAE, latents: Tensor) -> Tensor:
    """The deviation that each normalised latent channel gets, (c,) with a mean square of 1; `latents` of some clips.

    Deviation 1 for every channel would count it alike whether it moves many pixels or few. Half of that levelling (in
    logarithms) is taken back: a small transformer otherwise spends itself on detail that nobody sees.
    """
    if vae.encoder_shortcut is None:
        visible = visible_change(vae, latents)
    else:  # what the linear code says of itself
        visible = 1 / vae.encoder_shortcut.rest.weight.detach().float().norm(dim=1)
    weights = visible.sqrt()
    return weights / weights.square().mean().sqrt()


@torch.inference_mode()
def visible_change(vae: CausalVideoVAE, latents: Tensor) -> Tensor:
    """How much the decoded pixels change (root mean square) when a channel alone gets a little noise, (c,).

    The noise has `MOVED` deviations of the channel in `latents`, the first frame by its own, and is the same in every
    call. A channel that shows nothing counts as one that shows very little, so that it can still be scaled.
    """
    clips, generator = latents[:MOVED_CLIPS].float(), torch.Generator().manual_seed(0)
    decoded = vae.decode(clips).float()
    changes = []
    for channel in range(latents.shape[1]):
        noise = MOVED * torch.randn(clips[:, channel].shape, generator=generator)
        noise[:, :1] *= latents[:, channel, :1].std()
        noise[:, 1:] *= latents[:, channel, 1:].std()
        moved = clips.clone()
        moved[:, channel] += noise
        changes.append((vae.decode(moved).float() - decoded).square().mean().sqrt())
    visible = torch.stack(changes)
    return visible.clamp_min(LEAST_VISIBLE * visible.mean())


def brings_to_unit(latent_format: LatentFormat, latents: Tensor) -> bool:
    """Whether a format brings `latents` near to mean 0 in every channel and deviation 1 over all.

    It does where it was measured on such clips of the same encoder; the deviations of single channels say nothing, as
    they are chosen by what a decoder shows (see `channel_weights`).
    """
    if latent_format.channels not in (None, latents.shape[1]):
        return False
    normal = latent_format.normalize(latents.float())
    for part in (normal[:, :, :1], normal[:, :, 1:]):
        deviations, means = torch.std_mean(part, (0, 2, 3, 4))
        if (means.abs() > FURTHEST_MEAN * deviations).any():
            return False
        if not LEAST_DEVIATION <= float(deviations.square().mean().sqrt()) <= LARGEST_DEVIATION:
            return False
    return True


def measured_format(latents: Tensor, videos: Tensor, weights: Tensor, name: str = "small") -> LatentFormat:
    """The format that gives the channels of `latents` mean 0 and the deviations `weights`, with colours for previews.

    `videos` are the byte clips of the same rows.
    """
    first, rest = latents[:, :, :1], latents[:, :, 1:]
    (shift, scale), (first_shift, first_scale) = (
        (part.mean((0, 2, 3, 4)).tolist(), (weights / part.std((0, 2, 3, 4))).tolist()) for part in (rest, first)
    )
    plain = LatentFormat(name, tuple(shift), tuple(scale), tuple(first_shift), tuple(first_scale))
    return with_colours(plain, latents, from_bytes(pictures_of(latents, videos)))
