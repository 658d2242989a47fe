"""Our video VAE as a true ComfyUI VAE: whole, in temporal chunks or in tiles, as much as fits in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.sd
import torch
from torch import Tensor

from ...models import checkpoints
from ...models.checkpoint_dtypes import LARGE
from ...models.model_info import VAEInfo
from ...models.vae_pieces import (
    Needs,
    OnChunk,
    as_memory_allows,
    cut_to_fit,
    decode_into,
    fitting_pieces,
    of_row,
    shape_of_tile,
    smaller_pieces,
)
from .model import json_tensor
from .patchers import free_memory, patcher_of, release_memory
from .progress import PartBar

TILES = (512, 256, 128)  # pixels
Work = Callable[["int | None", "int | None"], Tensor]  # (chunk, tile) -> result


class PyramidVAE(comfy.sd.VAE):
    """Pictures `(f, h, w, 3)` in 0..1 on one side, latents `(b, c, t, h, w)` in the VAE's own scale on the other."""

    def __init__(self, path: Path, disable_dynamic: bool = False) -> None:
        info = checkpoints.inspect(path, checkpoints.VAES)
        with without_warnings():  # the host means to warn of a missing VAE; ours follows
            super().__init__(sd={})
        self.device = comfy.model_management.vae_device()
        self.output_device = comfy.model_management.intermediate_device()
        if info.parameters < LARGE:  # it gains nothing from half the memory
            self.working_dtypes = [torch.float32]
        self.vae_dtype = comfy.model_management.vae_dtype(self.device, self.working_dtypes)
        network: Any = checkpoints.build(info, ops=comfy.ops.disable_weight_init, dtype=self.vae_dtype)
        self.first_stage_model = network.requires_grad_(False)
        places = self.device, comfy.model_management.vae_offload_device()
        self.patcher = patcher_of(network, network, *places, (read_patcher, (path,)), disable_dynamic)
        self.config = config = network.config
        time, space = config.time_compression, config.space_compression
        self.info = VAEInfo.of(info)
        self.kind = info.kind
        self.latent_channels = config.latent_channels
        self.latent_dim = 3
        self.upscale_ratio = (self.info.frames_of, space, space)
        self.downscale_ratio = (self.info.latent_frames_of, space, space)
        self.upscale_index_formula = self.downscale_index_formula = (time, space, space)
        self.memory_used_decode = lambda shape, dtype: self.decode_memory(shape, dtype, 1)
        self.memory_used_encode = lambda shape, dtype: self.encode_memory(shape, dtype, time)

    def decode(
        self,
        samples_in: Tensor,
        vae_options: dict[str, Any] | None = None,
        chunk: int | None = None,
        tile: int | None = None,
        **kw: Any,
    ) -> Tensor:
        """Video `(b, frames, h, w, 3)` in 0..1; `chunk` in latent frames, `tile` in pixels.

        None for both decodes as much at once as there is memory for; when that is too much, smaller and smaller pieces.
        """
        latent = samples_in.unsqueeze(2) if samples_in.ndim == 4 else samples_in
        self.config.check_latent(latent.cpu())  # before anything is loaded; on other devices it does not look for NaN

        def work(chunk: int | None, tile: int | None) -> Tensor:
            size = len(latent), *self.info.video_size(latent.shape), 3
            pictures = torch.empty(size, device=self.output_device, dtype=torch.float32)
            progress = on_chunk()
            for row, (given, into) in enumerate(zip(latent.split(1), pictures.split(1), strict=True)):
                given = given.to(self.device, self.vae_dtype)
                step = of_row(progress, row, len(latent))
                decode_into(into, self.first_stage_model, given, (chunk, tile), self.as_images, step)
            return pictures

        def memory(chunk: int | None, tile: int | None) -> float:
            return self.decode_memory(
                shape_of_tile(latent.shape, tile, self.info.space_compression), self.vae_dtype, chunk
            )

        return self.as_memory_allows(work, memory, chunk, tile)

    def encode(self, pixel_samples: Tensor, chunk: int | None = None, tile: int | None = None) -> Tensor:
        """Latents `(b, c, t, h, w)` of pictures that follow each other, `(f, h, w, c)`, or of `b` such clips.

        The mean of the posterior. Rows, columns and last frames that the VAE cannot take are cut off; `chunk`
        counts frames.
        """
        clips = pixel_samples if pixel_samples.ndim == 5 else pixel_samples.unsqueeze(0)
        video = cut_to_fit(clips[..., :3].movedim(-1, 1), self.info)
        step = self.info.time_compression

        def work(chunk: int | None, tile: int | None) -> Tensor:
            frames, progress = chunk and chunk * step, on_chunk()
            clips = [
                self.encode_one(clip, frames, tile, of_row(progress, row, len(video)))
                for row, clip in enumerate(video.split(1))
            ]
            return torch.cat(clips)

        def memory(chunk: int | None, tile: int | None) -> float:
            return self.encode_memory(shape_of_tile(video.shape, tile), self.vae_dtype, chunk and chunk * step)

        return self.as_memory_allows(work, memory, chunk and max(1, chunk // step), tile)

    def decode_tiled(
        self,
        samples: Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: Any = None,
        tile_t: int | None = None,
        **kw: Any,
    ) -> Tensor:
        """Decode in square tiles of `tile_x` latent columns that overlap by a quarter; in time nothing is lost."""
        space = self.info.space_compression
        return self.decode(samples, chunk=tile_t, tile=self.legal_tile(space * min(tile_x or 64, tile_y or 64)))

    def encode_tiled(
        self,
        pixel_samples: Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: Any = None,
        tile_t: int | None = None,
        **kw: Any,
    ) -> Tensor:
        """Encode in tiles of `tile_x` pixels."""
        return self.encode(pixel_samples, chunk=tile_t, tile=self.legal_tile(min(tile_x or 512, tile_y or 512)))

    def get_sd(self) -> dict[str, Tensor]:
        """As the host saves a VAE, and its description as a tensor of JSON bytes, so that the file loads again."""
        about = {"kind": self.kind, "config": self.config.to_dict()}
        return {**super().get_sd(), checkpoints.METADATA_KEY: json_tensor(about)}

    def encode_one(self, clip: Tensor, chunk: int | None, tile: int | None, step: OnChunk) -> Tensor:
        posterior = self.first_stage_model.encode(clip, chunk, tile, step, self.placed)
        return posterior.mode().to(self.output_device, torch.float32)

    def placed(self, clip: Tensor) -> Tensor:
        """Pictures in 0..1 as the network reads them: in -1..1, on its device."""
        return self.process_input(clip).to(self.device, self.vae_dtype)

    def as_images(self, video: Tensor) -> Tensor:
        """(b, 3, t, h, w) in -1..1 -> (b, t, h, w, 3) in 0..1, where the video is and laid out as it is kept."""
        return self.process_output(video.float()).movedim(1, -1).contiguous()

    def as_memory_allows(self, work: Work, needs: Needs, chunk: int | None, tile: int | None) -> Tensor:
        """Do the work in the largest pieces that fit, and in smaller ones when memory runs out all the same."""
        pieces = smaller_pieces(chunk, tile, map(self.legal_tile, TILES))
        # First what the device could hold with nothing else on it: the host makes as much room as it can.
        possible = fitting_pieces(pieces, needs, self.memory_beside_weights())
        comfy.model_management.load_models_gpu([self.patcher], memory_required=needs(*possible[0]))
        fitting = fitting_pieces(possible, needs, free_memory(self.patcher, self.device))
        return as_memory_allows(work, fitting, (chunk, tile), partial(release_memory, self.first_stage_model))

    def memory_beside_weights(self) -> float:
        """Bytes on the device that neither the VAE's weights nor the host's reserve take."""
        total = comfy.model_management.get_total_memory(self.device)
        return total - self.patcher.model_size() - comfy.model_management.minimum_inference_memory()

    def legal_tile(self, pixels: int) -> int:
        """The nearest tile edge that the VAE can blend: a quarter of it must be whole latent pixels."""
        grid = 4 * self.info.space_compression
        return max(grid, pixels // grid * grid)

    def decode_memory(self, shape: tuple[int, ...], dtype: torch.dtype, chunk: int | None) -> float:
        """Bytes that decoding latents of `shape` needs beside the weights, `chunk` latent frames at once."""
        return self.config.decode_numbers(shape, chunk) * comfy.model_management.dtype_size(dtype)

    def encode_memory(self, shape: tuple[int, ...], dtype: torch.dtype, chunk: int | None) -> float:
        """Bytes that encoding video of `shape` needs beside the weights, `chunk` frames at once."""
        return self.config.encode_numbers(shape, chunk) * comfy.model_management.dtype_size(dtype)


def read_patcher(path: Path, disable_dynamic: bool = False) -> Any:
    """The patcher of a VAE, for a host that wants the same weights once more."""
    return PyramidVAE(path, disable_dynamic).patcher


def on_chunk() -> OnChunk:
    """Progress on the node, and the place where an interrupt is noticed, for each piece of a batch."""
    bar = PartBar()
    return lambda done, total: bar.update(done, total=total)


@contextmanager
def without_warnings() -> Iterator[None]:
    logger = logging.getLogger()
    logger.addFilter(is_no_warning)
    try:
        yield
    finally:
        logger.removeFilter(is_no_warning)


def is_no_warning(record: logging.LogRecord) -> bool:
    return record.levelno != logging.WARNING
