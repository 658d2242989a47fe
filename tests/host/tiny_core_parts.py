"""Blocks for the tests: tiny random networks of ComfyUI's own classes in the place of its loaders.

The text encoders and VAEs of the real models have billions of weights; what stands for them here has the shapes that
the other blocks of a workflow look at: a prompt of the right width, and pictures of the right size.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import comfy.sd
import torch
from torch.nn.functional import interpolate

sys.path.insert(0, str(Path(__file__).resolve().parent))
import spectral_models  # noqa: E402

STRIDES = {"ltx2": (8, 32), "minimax h3": (4, 16), "hunyuan1.5": (4, 16)}  # frames and pixels of a latent cell
RATE = 16000  # samples of sound in a second
NEWER = hasattr(comfy.sd.VAE, "prepare_decode")  # sound comes with its channels last


class Part:
    """What the pack looks at in a CLIP or VAE to know it again: weights, and what was patched into them."""

    first_stage_model = None

    def __init__(self, kind: str) -> None:
        self.kind, self.cond_stage_model = kind, torch.nn.Linear(2, 2)
        self.patcher = SimpleNamespace(patches={})


class TinyClip(Part):
    def tokenize(self, text: str, **_: object) -> str:
        return text

    def encode_from_tokens_scheduled(self, text: str) -> list:
        return spectral_models.prompt(self.kind, zlib.crc32(text.encode()))


class TinyVAE(Part):
    """Pictures are the first three channels, brought to size."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.frames, self.pixels = STRIDES.get(kind, (4, 8))
        self.channels = spectral_models.KINDS[kind].latent[0]

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        frames, rows, columns = latent.shape[2:]
        size = (1 + self.frames * (frames - 1), self.pixels * rows, self.pixels * columns)
        return interpolate(latent[:, :3].float(), size, mode="trilinear").sigmoid().movedim(1, -1)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        frames, rows, columns, _ = pictures.shape
        size = (1 + (frames - 1) // self.frames, rows // self.pixels, columns // self.pixels)
        small = interpolate(pictures.movedim(-1, 0)[None].float(), size, mode="area")
        return small.repeat(1, -(-self.channels // 3), 1, 1, 1)[:, : self.channels]


class TinySound:
    """Older hosts ask the VAE itself of its sound, newer ones its network."""

    latent_channels = 8
    latent_frequency_bins = 16
    sample_rate = output_sample_rate = audio_sample_rate = RATE

    @property
    def first_stage_model(self) -> TinySound:
        return self

    def num_of_latents_from_frames(self, frames: int, rate: float) -> int:
        return round(25 * frames / rate)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        waves = latent.float().flatten(1)[:, None]
        waves = interpolate(waves, RATE // 4, mode="linear").repeat(1, 2, 1).tanh()
        return waves.movedim(1, -1) if NEWER else waves


def block(kinds: tuple[str, ...], make) -> type:
    class Tiny:
        RETURN_TYPES, FUNCTION, CATEGORY = kinds, "load", "testing"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"kind": ("STRING", {}), "seed": ("INT", {"default": 0})}}

        def load(self, kind, seed):
            return make(kind, seed)

    return Tiny


NODE_CLASS_MAPPINGS = {
    "TinyCoreModel": block(("MODEL",), lambda kind, seed: (spectral_models.make_model(kind, seed),)),
    "TinyCoreClip": block(("CLIP",), lambda kind, seed: (TinyClip(kind),)),
    "TinyCoreVAE": block(("VAE",), lambda kind, seed: (TinyVAE(kind),)),
    "TinyCoreSound": block(("VAE",), lambda kind, seed: (TinySound(),)),
    "TinyCoreCheckpoint": block(
        ("MODEL", "CLIP", "VAE"),
        lambda kind, seed: (spectral_models.make_model(kind, seed), TinyClip(kind), TinyVAE(kind)),
    ),
}
