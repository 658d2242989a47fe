"""Sizes of the causal video VAE, with the field names of the official `config.json`, and what they allow as input."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from .network_config import JSONConfig, check_sizes, shown
from .sizes import nearest_multiple

# Official switches with only one value in use; anything else is a network that this code does not build.
_FIXED = {
    "encoder_down_block_types": "DownEncoderBlockCausal3D",
    "encoder_block_dropout": 0.0,
    "encoder_act_fn": "silu",
    "encoder_double_z": True,
    "encoder_type": "causal_vae_conv",
    "decoder_up_block_types": "UpDecoderBlockCausal3D",
    "decoder_block_dropout": 0.0,
    "decoder_act_fn": "silu",
    "decoder_type": "causal_vae_conv",
    "add_post_quant_conv": True,
    "interpolate": False,
}
# Counted with benchmarks/count_vae.py, a tenth more: full-size frames that exist at once for each frame in work (in,
# out, and what norm and convolution need; of a decoder without what waits beside them), and those that all convolutions
# together keep for the next chunk.
DECODED_FRAMES, ENCODED_FRAMES, KEPT_FRAMES = 2.5, 3.5, 18
# Official keys that change nothing here: bookkeeping, a scale that is never used, and sizes that follow from the flags.
_HARMLESS = {"sample_size", "scaling_factor", "downsample_scale"}


def live_frames(each: float, frames: float, chunk: int | None) -> float:
    """Full-size frames alive at once while `frames` are worked through, `chunk` at a time: so many of `each`."""
    if chunk is None or frames <= chunk + 1:
        return each * frames
    return each * (chunk + 1) + KEPT_FRAMES


@dataclass(frozen=True)
class CausalVAEConfig(JSONConfig):
    """Shape of a `CausalVideoVAE`; the defaults are the official network.

    Lists run from the pixels inwards in the encoder. In the decoder the flags and layer counts run from the latent
    outwards, while `decoder_block_out_channels` is written like the encoder's and used in reverse, as officially.
    """

    encoder_in_channels: int = 3
    encoder_out_channels: int = 16  # latent channels
    encoder_layers_per_block: tuple[int, ...] = (2, 2, 2, 2)
    encoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    encoder_spatial_down_sample: tuple[bool, ...] = (True, True, True, False)
    encoder_temporal_down_sample: tuple[bool, ...] = (True, True, True, False)
    encoder_norm_num_groups: int = 32
    decoder_in_channels: int = 16  # latent channels
    decoder_out_channels: int = 3
    decoder_layers_per_block: tuple[int, ...] = (3, 3, 3, 3)
    decoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    decoder_spatial_up_sample: tuple[bool, ...] = (True, True, True, False)
    decoder_temporal_up_sample: tuple[bool, ...] = (True, True, True, False)
    decoder_norm_num_groups: int = 32
    patch_size: int = 1  # pixels per edge folded into channels before the first convolution (1 in the official network)
    frame_blocks: bool = False  # only the middle and what changes time look back (in the official network all do)
    block_shortcut: bool = False  # a linear code of each block beside the networks (not in the official network)

    def __post_init__(self) -> None:
        check_sizes(self)
        for field in fields(self):
            if field.type.startswith("tuple"):
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        self._check_half("encoder", "spatial_down_sample", "temporal_down_sample")
        self._check_half("decoder", "spatial_up_sample", "temporal_up_sample")
        self._check_both_halves_agree()

    def _check_half(self, half: str, *flags: str) -> None:
        names = [f"{half}_{name}" for name in ("block_out_channels", "layers_per_block", *flags)]
        lengths = {name: len(getattr(self, name)) for name in names}
        if len(set(lengths.values())) > 1 or not all(lengths.values()):
            listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ValueError(f"causal VAE config: every list of the {half} needs one entry per block, but {listed}")
        for name in (f"{half}_block_out_channels", f"{half}_layers_per_block"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"causal VAE config: {name} is {getattr(self, name)}; every entry must be 1 or more")
        groups = getattr(self, f"{half}_norm_num_groups")
        for channels in getattr(self, f"{half}_block_out_channels"):
            if groups < 1 or channels % groups:
                raise ValueError(
                    f"causal VAE config: {half}_norm_num_groups {groups} does not divide the {channels} channels "
                    f"in {half}_block_out_channels"
                )

    def _check_both_halves_agree(self) -> None:
        if self.encoder_out_channels != self.decoder_in_channels:
            raise ValueError(
                f"causal VAE config: encoder_out_channels is {self.encoder_out_channels} but decoder_in_channels is "
                f"{self.decoder_in_channels}; both are the number of latent channels"
            )
        for name, down, up in (
            ("space", self.encoder_spatial_down_sample, self.decoder_spatial_up_sample),
            ("time", self.encoder_temporal_down_sample, self.decoder_temporal_up_sample),
        ):
            if sum(down) != sum(up):
                raise ValueError(
                    f"causal VAE config: the encoder halves {name} {sum(down)} times "
                    f"but the decoder doubles it {sum(up)} times"
                )
        smallest = min(self.encoder_in_channels, self.encoder_out_channels, self.decoder_out_channels, self.patch_size)
        if smallest < 1:
            raise ValueError("causal VAE config: channel counts and patch_size must be 1 or more")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CausalVAEConfig:
        """Read an official `config.json` or what `to_dict` wrote; unknown keys and unsupported switches are named."""
        known = {field.name for field in fields(cls)}
        for key, value in values.items():
            if key in _FIXED:
                given = value if isinstance(value, list | tuple) else [value]
                if any(entry != _FIXED[key] for entry in given):
                    raise ValueError(f"causal VAE config: {key} is {shown(value)}; only {_FIXED[key]!r} is supported")
            elif key not in known and key not in _HARMLESS and not key.startswith("_"):
                raise ValueError(f"causal VAE config: unknown key {key!r}; is this the config of another model?")
        return cls(**{key: value for key, value in values.items() if key in known})

    @property
    def latent_channels(self) -> int:
        return self.encoder_out_channels

    @property
    def space_compression(self) -> int:
        """Pixels per latent pixel, along an edge."""
        return self.patch_size * 2 ** sum(self.encoder_spatial_down_sample)

    @property
    def time_compression(self) -> int:
        """Frames per latent frame, after the first."""
        return 2 ** sum(self.encoder_temporal_down_sample)

    unit = None  # a clip is encoded and decoded as one, not in units of so many latent frames

    def decode_numbers(self, shape: tuple[int, ...], chunk: int | None) -> float:
        """Numbers alive at once while latents of `shape` are decoded, `chunk` frames at a time, beside the weights."""
        frames: float = (shape[2] - 1) * self.time_compression + 1
        if frames == 1:
            frames = 1.25  # in memory there is still the other half of a pair, which no longer belongs to the clip
        area = shape[3] * shape[4] * (self.space_compression // self.patch_size) ** 2
        # The last block begins at full size with the width of its input; what goes past it has that of its output.
        width = max(self.decoder_block_out_channels[:2])
        each = DECODED_FRAMES + self.decoder_block_out_channels[0] / width
        return area * width * live_frames(each, frames, chunk and chunk * self.time_compression)

    def encode_numbers(self, shape: tuple[int, ...], chunk: int | None) -> float:
        """Numbers alive at once while video of `shape` is encoded, `chunk` frames at a time, beside the weights."""
        area = shape[3] * shape[4] // self.patch_size**2
        return area * self.encoder_block_out_channels[0] * live_frames(ENCODED_FRAMES, shape[2], chunk)

    def check_video(self, video: Tensor) -> None:
        """Raise ValueError unless `video` can be encoded; says the nearest legal length and size."""
        check_tensor(video, self.encoder_in_channels, "video")
        frames, height, width = video.shape[2:]
        step = self.time_compression
        if (frames - 1) % step:
            shorter = (frames - 1) // step * step + 1
            raise ValueError(
                f"{frames} frames cannot be encoded: this VAE takes {step}k + 1 frames; "
                f"the nearest are {shorter} and {shorter + step}"
            )
        edge = self.space_compression
        if height % edge or width % edge:
            near_width, near_height = (nearest_multiple(n, edge) for n in (width, height))
            raise ValueError(
                f"{width}x{height} pixels cannot be encoded: width and height must be multiples of {edge}; "
                f"the nearest size is {near_width}x{near_height}"
            )

    def check_latent(self, latent: Tensor) -> None:
        """Raise ValueError unless `latent` can be decoded."""
        hint = ": decode it with the VAE of the model that made it"
        check_tensor(latent, self.decoder_in_channels, "latent", hint)


def check_tensor(x: Tensor, channels: int, what: str, hint: str = "") -> None:
    """Raise ValueError unless `x` is a clip of so many channels and holds numbers; `hint` ends the sentence."""
    if x.ndim != 5 or x.shape[1] != channels or 0 in x.shape:
        raise ValueError(
            f"{what} of shape {tuple(x.shape)} does not fit this VAE; "
            f"expected (batch, {channels}, frames, rows, columns){hint}"
        )
    # Only on the CPU: on other devices this look at the values would wait for all work queued there.
    if x.device.type == "cpu" and not torch.isfinite(x).all():
        raise ValueError(f"{what} of shape {tuple(x.shape)} and type {x.dtype} holds NaN or infinite values")
