"""MODEL, VAE and CLIP as they travel on wires where there is no ComfyUI, with the methods its nodes call on them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models.checkpoints import CheckpointInfo
from ...models.kv_cache import CacheSlot
from ...models.model_info import ModelInfo, VAEInfo
from ...models.out_of_memory import is_out_of_memory
from ...models.text_encoder import Tokenizer
from ...models.text_features import TextFeatures
from ...models.vae_pieces import (
    Needs,
    OnChunk,
    Piece,
    as_memory_allows,
    cut_to_fit,
    decode_into,
    fitting_pieces,
    of_row,
    shape_of_tile,
    smaller_pieces,
)
from ..checks import expect
from ..protocol import Conditioning
from .devices import free_memory

Work = Callable[[int | None, int | None], Tensor]
log = logging.getLogger(__name__)


@contextmanager
def resident(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep `module` on `device` inside the block and on the CPU outside it; what is there already stays there.

    Nothing changes weights inside, so those on the CPU are put back as they were, without a copy.
    """
    if device.type == "cpu" or next(module.parameters()).device == device:
        yield
        return
    back = way_back(module) if device.type != "mps" else lambda: None  # whose memory is that of the CPU
    try:
        module.to(device)
        yield
    finally:
        back()
        module.to("cpu")
        release_memory(device)


def way_back(module: nn.Module) -> Callable[[], None]:
    """What puts all parameters and buffers of `module` back as they are now."""
    held: list[tuple[dict[str, Any], str, Any, Tensor]] = []
    for part in module.modules():
        tables: tuple[dict[str, Any], ...] = part._parameters, part._buffers
        for table in tables:
            held += [(table, name, tensor, tensor.data) for name, tensor in table.items() if tensor is not None]

    def back() -> None:
        for table, name, tensor, data in held:
            tensor.data = data
            table[name] = tensor

    return back


def release_memory(device: torch.device) -> None:
    """Give cached memory back to the device, so that the next model has room."""
    backend = getattr(torch, device.type, None)
    if backend is not None and hasattr(backend, "empty_cache"):
        backend.empty_cache()


class Model:
    """A transformer with the numbers that belong to it."""

    def __init__(self, network: nn.Module, info: CheckpointInfo, device: torch.device, dtype: torch.dtype) -> None:
        self.network: Any = network
        self.info = ModelInfo.of(info)
        self.latent_format = self.info.latent_format
        self.device = device
        self.dtype = dtype  # to compute in; float8 weights are stored in less

    def predict(
        self, x: Tensor, timestep: Tensor, history: Any, text: TextFeatures, cache_slot: CacheSlot | None = None
    ) -> Tensor:
        """What the network predicts for noisy latents `x (b, c, t, h, w)` and `timestep (b,)`, in the type of `x`.

        `history`: clips, oldest first, or `HistoryLevels`; its rows are repeated to `b`.
        `cache_slot` spares Pyramid Flow what an earlier unit has worked out.
        """
        output = self.network.predict(
            x.to(self.dtype), timestep, history, text.tokens, text.mask, text.pooled, cache_slot
        )
        return output.to(x.dtype)

    def with_network(self, network: nn.Module) -> Model:
        """The same model with another network in place of its own."""
        changed = copy.copy(self)
        changed.network = network
        return changed


class VAE:
    """A video VAE: pictures `(f, h, w, 3)` in 0..1 on one side, latents `(b, c, t, h, w)` on the other."""

    def __init__(self, network: nn.Module, info: CheckpointInfo, device: torch.device) -> None:
        self.network: Any = network
        self.networks = (network,)
        self.device = device
        self.info = VAEInfo.of(info)

    def decode(
        self, samples: Tensor, chunk: int | None = None, tile: int | None = None, on_chunk: OnChunk | None = None
    ) -> Tensor:
        """Video `(b, t, h, w, 3)` in 0..1 from a latent; a latent without a time axis is a single frame."""
        latent = samples.unsqueeze(2) if samples.ndim == 4 else samples
        self.network.config.check_latent(latent)  # while it is on the CPU, where looking for NaN costs no wait
        with resident(self.network, self.device):
            clips = [
                self._decode_one(clip, chunk, tile, of_row(on_chunk or silent, row, len(latent)))
                for row, clip in enumerate(latent.split(1))
            ]
        return clips[0] if len(clips) == 1 else torch.cat(clips)

    def _decode_one(self, latent: Tensor, chunk: int | None, tile: int | None, step: OnChunk) -> Tensor:
        space = self.info.space_compression

        def work(chunk: int | None, tile: int | None) -> Tensor:
            pictures = torch.empty(1, *self.info.video_size(latent.shape), 3)
            decode_into(pictures, self.network, self._placed(latent), (chunk, tile), as_images, step)
            return pictures

        def needs(chunk: int | None, tile: int | None) -> float:
            return self._bytes(self.network.config.decode_numbers(shape_of_tile(latent.shape, tile, space), chunk))

        return self._as_memory_allows(work, needs, (chunk, tile))

    def _as_memory_allows(self, work: Work, needs: Needs, wanted: Piece) -> Tensor:
        pieces = fitting_pieces(smaller_pieces(*wanted), needs, free_memory(self.device))
        return as_memory_allows(work, pieces, wanted, lambda: release_memory(self.device))

    def _bytes(self, numbers: float) -> float:
        return next(self.network.parameters()).element_size() * numbers

    def encode(self, pixels: Tensor, chunk: int | None = None) -> Tensor:
        """Latent `(1, c, t, h, w)` of pictures that follow each other: the mean of the posterior of what fits."""
        video = cut_to_fit(pixels[..., :3].movedim(-1, 0).unsqueeze(0), self.info) * 2 - 1
        time = self.info.time_compression

        def work(chunk: int | None, tile: int | None) -> Tensor:
            posterior = self.network.encode(video, chunk and chunk * time, tile, bring=self._placed)
            return posterior.mode().float().cpu()

        def needs(chunk: int | None, tile: int | None) -> float:
            shape = shape_of_tile(video.shape, tile)
            return self._bytes(self.network.config.encode_numbers(shape, chunk and chunk * time))

        with resident(self.network, self.device):
            return self._as_memory_allows(work, needs, (chunk and max(1, chunk // time), None))

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self.device, next(self.network.parameters()).dtype)


def silent(done: int, total: int) -> None:
    """Progress that nobody asked for."""


def as_images(video: Tensor) -> Tensor:
    """(b, 3, t, h, w) in -1..1 -> (b, t, h, w, 3) in 0..1, on the device of the video, which is written over."""
    return video.float().add_(1).div_(2).clamp_(0, 1).movedim(1, -1).contiguous()


class TextModel:
    """Any text encoder behind one method: text to tokens `(1, n, d)` without padding and a pooled vector, if any."""

    def __init__(
        self,
        encode: Callable[[str], tuple[Tensor, Tensor | None]],
        networks: Sequence[nn.Module],
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self._encode = encode
        self.networks = tuple(networks)
        self.tokenizer = tokenizer  # of our own text encoder

    def encode(self, text: str) -> Conditioning:
        """CONDITIONING of one text."""
        tokens, pooled = self._encode(text)
        return [[tokens.float().cpu(), {} if pooled is None else {"pooled_output": pooled.float().cpu()}]]


def own_text_model(network: nn.Module, tokenizer: Tokenizer, device: torch.device) -> TextModel:
    """Our small text encoder."""

    def encode(text: str) -> tuple[Tensor, Tensor]:
        with resident(network, device):
            return network(torch.tensor([tokenizer.encode(text)], device=device))

    return TextModel(encode, [network], tokenizer)


def official_text_model(folder: Path, device: torch.device, dtype: torch.dtype) -> TextModel:
    """CLIP and T5, or UMT5, from an official folder."""
    from ...models.official_text import load_official_text

    official = load_official_text(folder, torch.device("cpu"), dtype)

    def encode(text: str) -> tuple[Tensor, Tensor | None]:
        try:
            with ExitStack() as on_device:
                for network in official.networks:
                    on_device.enter_context(resident(network, device))
                return official.encode(text)
        except (RuntimeError, MemoryError) as error:
            if device.type == "cpu" or not is_out_of_memory(error):
                raise
        log.warning("the text encoders do not fit into the memory of %s: they read this text on the CPU", device)
        return official.encode(text)

    return TextModel(encode, official.networks)


def apply_lora(model: Model, lora: Path | dict[str, Tensor], strength: float) -> Model:
    """A MODEL with a LoRA, a file or its tensors, in its weights; the one that is given stays as it is."""
    from ...models.lora import load_lora, lora_parts, merge_lora, trained_family

    expect(model, Model, "MODEL", "Load video model")
    name = f"the LoRA {lora.name}" if isinstance(lora, Path) else "this LORA_MODEL"
    parts = load_lora(lora) if isinstance(lora, Path) else lora_parts(lora, name)
    family, own = trained_family(lora) if isinstance(lora, Path) else None, model.info.family
    if family is not None and family.name != own.name:
        log.warning("%s was trained on a %s, and %s is a %s: clips may get worse", name, family, model.info.name, own)
    return model.with_network(merge_lora(model.network, parts, strength, model.dtype, name))
