"""What other parts may know about a loaded model or VAE, whatever host holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .families import PYRAMID_FLOW, ModelFamily
from .knowledge import knowledge_of

if TYPE_CHECKING:
    from torch import Tensor

    from .checkpoint_info import CheckpointInfo
    from .knowledge import Clips
    from .latent_format import LatentFormat


@dataclass(frozen=True)
class ModelInfo:
    """The numbers of a transformer that other blocks have to agree with."""

    kind: str  # "miniflux", "mmdit" or "helios"
    latent_channels: int
    text_width: int  # features per text token
    pooled_width: int  # features of the pooled text vector, 0 where none is read
    latent_format: LatentFormat
    name: str  # file or folder it was read from
    family: ModelFamily = ModelFamily()
    clips: Clips | None = None  # that a bundled model was made for
    made_for: str = PYRAMID_FLOW  # whose stages and history it takes, of the pyramids
    unit_frames: int = 1  # latent frames that a pyramid makes at once
    text_tokens: int | None = None  # every text is filled up with zeros to this length; None: padding is masked

    @classmethod
    def of(cls, checkpoint: CheckpointInfo, latent_format: LatentFormat | None = None) -> ModelInfo:
        """What a checkpoint of a transformer says; `latent_format`: another than its own."""
        config, own = checkpoint.config, latent_format or checkpoint.latent_format
        assert own is not None  # every transformer has one
        return cls(
            kind=checkpoint.kind,
            latent_channels=config.latent_channels,
            text_width=config.text_width,
            pooled_width=config.pooled_width,
            latent_format=own,
            name=checkpoint.name,
            family=checkpoint.family,
            clips=knowledge_of(checkpoint.path).clips,
            made_for=config.made_for,
            unit_frames=config.unit_frames,
            text_tokens=config.text_tokens,
        )

    def __str__(self) -> str:
        pooled = f", pooled text {self.pooled_width} wide" if self.pooled_width else ""
        return (
            f"{self.name} ({self.kind}, {self.family}, {self.latent_channels} latent channels, "
            f"text {self.text_width} wide{pooled})"
        )

    def reads(self, tokens: Tensor, pooled: Tensor | None) -> bool:
        """Whether features `(b, n, d)` and a pooled vector `(b, p)` of a text are as wide as this model wants them."""
        widths = tokens.shape[-1], 0 if pooled is None or not self.pooled_width else pooled.shape[-1]
        return widths == (self.text_width, self.pooled_width)


@dataclass(frozen=True)
class VAEInfo:
    """How a video VAE shrinks time and space; a clip of `time_compression * k + 1` frames has k + 1 latent frames.

    With a `unit`, that goes for each unit of so many latent frames: they are encoded and decoded on their own, and a
    video is a number of whole units.
    """

    time_compression: int
    space_compression: int
    latent_channels: int
    name: str
    unit: int | None = None
    start: str | None = None  # the pictures that models of a bundled VAE can begin with

    @classmethod
    def of(cls, checkpoint: CheckpointInfo) -> VAEInfo:
        """What a checkpoint of a VAE says."""
        config = checkpoint.config
        return cls(
            time_compression=config.time_compression,
            space_compression=config.space_compression,
            latent_channels=config.latent_channels,
            name=checkpoint.name,
            unit=config.unit,
            start=knowledge_of(checkpoint.path).start,
        )

    @property
    def unit_frames(self) -> int | None:
        """Frames of a unit."""
        return None if self.unit is None else self.time_compression * (self.unit - 1) + 1

    def frames_of(self, latent_frames: int) -> int:
        """How many frames so many latent frames are decoded to."""
        units, rest = divmod(latent_frames, self.unit) if self.unit else (0, latent_frames)
        return units * (self.unit_frames or 0) + (self.time_compression * (rest - 1) + 1 if rest else 0)

    def video_size(self, latent: Sequence[int]) -> tuple[int, int, int]:
        """Frames, height and width of what a latent of the shape `(b, c, t, h, w)` is decoded to."""
        frames, rows, columns = latent[2:]
        return self.frames_of(frames), self.space_compression * rows, self.space_compression * columns

    def latent_frames_of(self, frames: int) -> int:
        """How many latent frames the first of `frames` frames make, as many as fit."""
        units, rest = divmod(frames, self.unit_frames) if self.unit_frames else (0, frames)
        return units * (self.unit or 0) + ((rest - 1) // self.time_compression + 1 if rest else 0)

    def nearest_length(self, frames: int) -> int:
        """The nearest length that a video can have; half way goes up."""
        first, step = self.unit_frames or 1, self.unit_frames or self.time_compression
        return max(0, (2 * (frames - first) + step) // (2 * step)) * step + first

    @property
    def lengths(self) -> str:
        """The lengths that a video can have, in a few signs."""
        return f"{self.unit_frames}k" if self.unit else f"{self.time_compression}k+1"

    def __str__(self) -> str:
        return (
            f"{self.name} (video VAE, {self.latent_channels} latent channels, "
            f"{self.space_compression} times smaller in space, {self.time_compression} in time)"
        )
