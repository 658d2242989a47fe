"""The only place that scales latents: between the VAE's scale and the transformer's.

A transformer works on normalised latents, (latent - shift) * scale. The first latent frame of a clip is an image and
has numbers of its own; a latent of one frame is an image too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .network_config import shown

PerChannel = float | tuple[float, ...]
Factors = tuple[tuple[float, float, float], ...]
LARGEST, SMALLEST_SCALE = 1e6, 1e-6  # of a shift or scale; what lies beyond is noise or nothing in any precision
_SCALES = ("shift", "scale", "first_shift", "first_scale")


@dataclass(frozen=True)
class LatentFormat:
    """Shift and scale of latents `(b, c, t, h, w)`, one number for all channels or one for each.

    `rgb_factors` (one RGB triple per channel) and `rgb_bias` turn a normalised latent into a rough picture in 0..1;
    without them pictures have false colours.
    """

    name: str
    shift: PerChannel
    scale: PerChannel
    first_shift: PerChannel
    first_scale: PerChannel
    rgb_factors: Factors | None = None
    rgb_bias: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        counts = set()
        for key in _SCALES:
            value = getattr(self, key)
            entries = tuple(value) if isinstance(value, list | tuple) else (value,)
            if not all(is_number(entry) and (entry >= SMALLEST_SCALE or key.endswith("shift")) for entry in entries):
                raise ValueError(
                    f"latent format {shown(self.name)}: {key} is {shown(value)}; shifts are finite, scales also above 0"
                )
            if isinstance(value, list | tuple):
                object.__setattr__(self, key, entries)
                counts.add(len(entries))
        if self.rgb_factors is not None:
            rows = self.rgb_factors if isinstance(self.rgb_factors, list | tuple) else [self.rgb_factors]
            triples = [*rows, *([] if self.rgb_bias is None else [self.rgb_bias])]
            if not all(isinstance(row, list | tuple) and len(row) == 3 and all(map(is_number, row)) for row in triples):
                raise ValueError(f"latent format {shown(self.name)}: its colours are not triples of numbers")
            object.__setattr__(self, "rgb_factors", tuple(tuple(row) for row in self.rgb_factors))
            object.__setattr__(self, "rgb_bias", tuple(self.rgb_bias or (0.0, 0.0, 0.0)))
            counts.add(len(self.rgb_factors))
        if len(counts) > 1:
            raise ValueError(f"latent format {self.name!r} has numbers for {sorted(counts)} channels; they must agree")

    @property
    def channels(self) -> int | None:
        """How many channels it has numbers for; None where it is the same for all."""
        lists = [getattr(self, key) for key in (*_SCALES, "rgb_factors")]
        return next((len(value) for value in lists if isinstance(value, tuple)), None)

    def normalize(self, latent: Tensor, starts_clip: bool = True) -> Tensor:
        """From the VAE's scale to the transformer's; with `starts_clip=False` frame 0 counts as a later frame."""
        first, rest = self._split(latent, starts_clip)
        first = (first - _column(self.first_shift, latent)) * _column(self.first_scale, latent)
        rest = (rest - _column(self.shift, latent)) * _column(self.scale, latent)
        return torch.cat([first, rest], dim=2)

    def denormalize(self, latent: Tensor, starts_clip: bool = True) -> Tensor:
        """From the transformer's scale to the VAE's; the inverse of `normalize`."""
        first, rest = self._split(latent, starts_clip)
        first = first / _column(self.first_scale, latent) + _column(self.first_shift, latent)
        rest = rest / _column(self.scale, latent) + _column(self.shift, latent)
        return torch.cat([first, rest], dim=2)

    def _split(self, latent: Tensor, starts_clip: bool) -> tuple[Tensor, Tensor]:
        if latent.ndim != 5:
            raise ValueError(
                f"latent of shape {tuple(latent.shape)}; expected (batch, channels, frames, rows, columns)"
            )
        if self.channels not in (None, latent.shape[1]):
            raise ValueError(
                f"a latent of {latent.shape[1]} channels does not fit the latent format {self.name!r}, which has "
                f"numbers for {self.channels}: use the VAE of this model"
            )
        return latent[:, :, : int(starts_clip)], latent[:, :, int(starts_clip) :]

    def colours(self, channels: int) -> tuple[Factors, tuple[float, float, float]]:
        """An RGB triple per channel and a bias: the fitted ones, or a hue for every channel where none are known."""
        if self.rgb_factors is None or self.rgb_bias is None:
            return false_colours(channels), (0.5, 0.5, 0.5)
        return self.rgb_factors, self.rgb_bias

    def preview(self, frames: Tensor) -> Tensor:
        """Rough pictures `(n, h, w, 3)` in 0..1 of normalised frames `(n, c, h, w)`."""
        factors, bias = (frames.new_tensor(part, dtype=torch.float32) for part in self.colours(frames.shape[1]))
        return (frames.float().movedim(1, -1) @ factors + bias).clamp(0.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values, for a checkpoint's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LatentFormat:
        """Read what `to_dict` wrote (lists, as JSON has them, become tuples)."""
        if not isinstance(values, Mapping):
            raise ValueError(f"a latent format is an object with {', '.join(_SCALES)}, not {shown(values)}")
        missing = {"name", *_SCALES} - values.keys()
        unknown = values.keys() - cls.__dataclass_fields__.keys()
        if missing or unknown:
            raise ValueError(f"latent format: missing keys {sorted(missing)}, unknown keys {sorted(unknown)}")
        return cls(**values)


def is_number(value: Any) -> bool:
    """Whether a value from JSON is a number that latents may have."""
    return type(value) in (int, float) and abs(value) <= LARGEST


def _column(value: PerChannel, like: Tensor) -> float | Tensor:
    """A number as it is; a number per channel as a column that broadcasts over `(b, c, t, h, w)`."""
    if isinstance(value, tuple):
        return torch.tensor(value, dtype=like.dtype, device=like.device).view(1, -1, 1, 1, 1)
    return value


MINIFLUX = LatentFormat("miniflux", shift=-0.2343, scale=1 / 3.0986, first_shift=-0.04, first_scale=1 / 1.8726)
SD3 = LatentFormat("sd3", shift=-0.2343, scale=1 / 3.0986, first_shift=0.1490, first_scale=1 / 1.8415)
WAN_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
WAN_DEVIATION = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)
WAN_SCALE = tuple(1 / deviation for deviation in WAN_DEVIATION)
WAN = LatentFormat("wan", shift=WAN_MEAN, scale=WAN_SCALE, first_shift=WAN_MEAN, first_scale=WAN_SCALE)


def false_colours(channels: int) -> Factors:
    """A hue for every channel, which shows shapes and motion where the true colours are not known."""

    def part(channel: int, primary: int) -> float:
        return 0.3 / math.sqrt(channels) * math.cos(2 * math.pi * (channel / channels + primary / 3))

    return tuple((part(channel, 0), part(channel, 1), part(channel, 2)) for channel in range(channels))


def fit_rgb(latents: Tensor, frames: Tensor) -> tuple[Factors, tuple[float, float, float]]:
    """Fit `rgb_factors` and `rgb_bias`: normalised `latents (n, c, h, w)` to `frames (n, 3, H, W)` in -1..1."""
    pictures = F.interpolate(frames.float(), latents.shape[-2:], mode="area") / 2 + 0.5
    known = F.pad(latents.movedim(1, -1).flatten(0, -2), (0, 1), value=1.0)  # (n h w, c + 1)
    wanted = pictures.movedim(1, -1).flatten(0, -2)  # (n h w, 3)
    solution = torch.linalg.lstsq(known.cpu().double(), wanted.cpu().double()).solution.tolist()
    return tuple(map(tuple, solution[:-1])), tuple(solution[-1])
