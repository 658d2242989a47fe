"""Drawn clips, and what a flow makes of them: noise is added to their latents, and the flow takes it away again.

It does so as it makes clips, with captions and guidance. So what comes back has the flow's own faults, while figures
still stand where they stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from ...models import checkpoints
from ...models.causal_vae import CausalVideoVAE
from ...models.fingerprint import fingerprint
from ...models.text_encoder import encode_texts
from ...samplers.flow import TIMESTEPS, FlowStep, sample_flow
from ...samplers.guidance import apply_cfg
from ...training.data.cache_files import SUFFIX, digest, read_tensors, write_tensors
from ...training.data.captions import Combination, caption
from ...training.data.datasets import AnimationDataset
from ...training.data.video_pool import draw_pool, from_bytes
from ...training.objectives.vae import figure
from ...training.run.run_state import run_exists
from .figure_crops import happens, number
from .latents import encode_clips
from .recipe import TRANSFORMER_FILES
from .small_families import load_text_encoder

LEVELS = ((0.85, 0.55, 0.25, 0.0), (0.75, 0.45, 0.2, 0.0), (0.65, 0.3, 0.0), (0.5, 0.2, 0.0))  # in turn; first: added
GUIDANCE = 3.0
BORDER = 1 / 6  # share of the pieces that begin at one border of the picture, and as many at the other
CHUNK = 100  # clips in a file of the cache: a run that is stopped goes on behind the last
TRUE = 0.4  # share of the pieces whose latents are those of the true clip


@dataclass(frozen=True, eq=False)
class Pieces:
    """What a decoder learns from in one step: videos (b, 3, t, h, w) in -1..1 and latents (b, c, t', h', w') for them.

    `known (b, 1, 1, h, w)` is False where a piece was cut off, so that the latents do not hold what lies around.
    """

    videos: Tensor
    latents: Tensor
    known: Tensor

    def to(self, device: torch.device) -> Pieces:
        """The same on another device."""
        return Pieces(self.videos.to(device), self.latents.to(device), self.known.to(device))


@dataclass(frozen=True, eq=False)
class RebuiltClips:
    """Byte clips (n, 3, t, h, w), their latents (n, c, t', h', w') in the VAE's scale, and those after the flow.

    A piece has the share `part` of a picture's height and width.
    """

    clips: Tensor
    latents: Tensor
    rebuilt: Tensor
    part: float = 0.75

    @property
    def cell(self) -> int:
        """Pixels of a latent, in height and width."""
        return self.clips.shape[-1] // self.latents.shape[-1]

    def draw(self, latent_frames: int, batch: int, generator: torch.Generator) -> Pieces:
        """Pieces of the first frames of clips, most of them with some of the figure."""
        pieces = [self._piece(latent_frames, generator) for _ in range(batch)]
        return Pieces(*(torch.stack(parts) for parts in zip(*pieces, strict=True)))

    def _piece(self, latent_frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        row, cell, cells = number(len(self.clips), generator), self.cell, self.latents.shape[-1]
        latents = (self.latents if happens(TRUE, generator) else self.rebuilt)[row]
        step = (self.clips.shape[2] - 1) // (self.latents.shape[2] - 1)
        video = from_bytes(self.clips[row, :, : step * (latent_frames - 1) + 1])
        stands = max_pool2d(figure(video[None])[0].amax(1), cell)[0] > 0
        edge = round(self.part * cells)
        top, left = (place(stands.any(axis), edge, generator) for axis in (1, 0))
        known = torch.ones(1, 1, cell * edge, cell * edge, dtype=torch.bool)
        for first, across in ((top, known), (left, known.mT)):
            across[..., : cell * (first > 0), :] = False
            across[..., cell * (edge - (first + edge < cells)) :, :] = False
        rows, columns = (slice(cell * first, cell * (first + edge)) for first in (top, left))
        piece = latents[:, :latent_frames, top : top + edge, left : left + edge].float()
        return video[..., rows, columns], piece, known


def place(stands: Tensor, edge: int, generator: torch.Generator) -> int:
    """Where a piece of `edge` cells begins: at a border, or around some of the cells in which the figure stands."""
    room, chance = len(stands) - edge, float(torch.rand((), generator=generator))
    if chance < 2 * BORDER:
        return room if chance < BORDER else 0
    cells = stands.nonzero().flatten().tolist() or list(range(len(stands)))
    return min(max(cells[number(len(cells), generator)] - edge // 2, 0), room)


def rebuilt_clips(
    dataset: AnimationDataset, vae: CausalVideoVAE, models: Path, folder: Path, clips: int, seed: int
) -> RebuiltClips:
    """Draw `clips` clips and let the flow in `models` rebuild them; latents of both are kept in the run's `folder`.

    Raises ValueError where a run that has begun in `folder` learned from others.
    """
    latents, combinations = encode_clips(dataset, vae, folder, clips, seed)
    flow, rebuilt = Flow(models), []
    for first in range(0, clips, CHUNK):
        path = folder / "rebuilt" / f"{first:05}{SUFFIX}"
        chunk, shown = latents[first : first + CHUNK], combinations[first : first + CHUNK]
        key = digest([flow.key, LEVELS, GUIDANCE, seed, clips], [("latents", chunk)])
        kept = read_tensors(path)
        if kept is not None and kept[1] != key and run_exists(folder):
            raise ValueError(
                f"the run in {folder} learned from other clips: its flow, text encoder, VAE, animations, number of "
                "clips or seed was not this one. Give the run a new folder, or what it was started with"
            )
        if kept is None or kept[1] != key:
            kept = {"rebuilt": flow.rebuild_all(chunk, shown, torch.Generator().manual_seed(seed + first))}, key
            write_tensors(path, *kept)
        rebuilt.append(kept[0]["rebuilt"])
    return RebuiltClips(pool_of(dataset, clips, seed), latents, torch.cat(rebuilt))


def true_clips(dataset: AnimationDataset, vae: CausalVideoVAE, folder: Path, clips: int, seed: int) -> RebuiltClips:
    """Clips that no flow has touched, to be learned whole."""
    latents, _ = encode_clips(dataset, vae, folder, clips, seed)
    return RebuiltClips(pool_of(dataset, clips, seed), latents, latents, part=1.0)


def pool_of(dataset: AnimationDataset, clips: int, seed: int) -> Tensor:
    """The byte clips whose latents `encode_clips` gives."""
    (pool,) = draw_pool(dataset, clips, torch.Generator().manual_seed(seed))
    return pool


class Flow:
    """The flow in a models folder, with its text encoder."""

    def __init__(self, models: Path) -> None:
        info = checkpoints.inspect(models / TRANSFORMER_FILES["flow"], ["miniflux"])
        self.network = checkpoints.build(info, dtype=torch.float32).eval()
        self.format = info.latent_format
        self.encoder, self.tokenizer = load_text_encoder(models)
        self.key = fingerprint(self.network, self.encoder)
        self.nothing = encode_texts(self.encoder, self.tokenizer, [""])

    def rebuild_all(self, latents: Tensor, shown: Sequence[Combination], generator: torch.Generator) -> Tensor:
        """Rebuild `latents (n, c, t, h, w)` of clips from one of `LEVELS` after the other."""
        rows = zip(latents.split(1), shown, cycle(LEVELS), strict=False)
        return torch.cat([self.rebuild(*row, generator) for row in rows])

    @torch.inference_mode()
    def rebuild(
        self, latents: Tensor, shown: Combination, levels: tuple[float, ...], generator: torch.Generator
    ) -> Tensor:
        """`latents (1, c, t, h, w)` of a clip after noise of the first of `levels` and the steps between them."""
        texts = self.nothing, encode_texts(self.encoder, self.tokenizer, [caption(shown, generator)])

        def velocity(x: Tensor, info: FlowStep) -> Tensor:
            time = torch.full((1,), TIMESTEPS * info.sigma)
            without, with_text = (
                self.network.predict(x, time, (), text.tokens, text.mask, text.pooled) for text in texts
            )
            return apply_cfg(without, with_text, GUIDANCE)

        clean = self.format.normalize(latents.float())
        noise = torch.randn(clean.shape, generator=generator)
        return self.format.denormalize(sample_flow(velocity, levels[0] * noise + (1 - levels[0]) * clean, levels))
