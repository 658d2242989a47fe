"""What the blocks may know about a loaded model or VAE, whatever host holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..models.families import ModelFamily

if TYPE_CHECKING:
    from ..models.latent_format import LatentFormat


@dataclass(frozen=True)
class ModelFacts:
    """The numbers of a transformer that other blocks have to agree with."""

    kind: str  # "miniflux" or "mmdit"
    latent_channels: int
    text_width: int  # features per text token
    pooled_width: int  # features of the pooled text vector
    latent_format: LatentFormat
    name: str  # file or folder it was read from
    family: ModelFamily = ModelFamily()

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.kind}, {self.family}, {self.latent_channels} latent channels, "
            f"text {self.text_width} wide, pooled text {self.pooled_width} wide)"
        )


@dataclass(frozen=True)
class VAEFacts:
    """How a video VAE shrinks time and space; a clip of `time_compression * k + 1` frames has k + 1 latent frames."""

    time_compression: int
    space_compression: int
    latent_channels: int
    name: str

    def __str__(self) -> str:
        return (
            f"{self.name} (video VAE, {self.latent_channels} latent channels, "
            f"{self.space_compression} times smaller in space, {self.time_compression} in time)"
        )
