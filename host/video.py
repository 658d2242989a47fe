"""Video files through PyAV: H.264 in MP4 with the workflow in the container's metadata, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CRF = "17"  # no loss that the eye finds; small clips are a few kilobytes either way


@dataclass(frozen=True)
class Clip:
    """What travels on a VIDEO wire: frames `(f, h, w, 3)` in 0..1 and how many of them make a second."""

    images: Tensor
    frame_rate: Fraction

    def get_dimensions(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.images.shape[2], self.images.shape[1]

    def get_duration(self) -> float:
        """Length in seconds."""
        return float(self.images.shape[0] / self.frame_rate)


def write_mp4(path: Path, clip: Clip, metadata: Mapping[str, str]) -> None:
    """Encode `clip` into `path`; players read it from 2x2 pixels on.

    Raises ValueError for an odd width or height, which H.264 in its common form cannot hold.
    """
    import av

    width, height = clip.get_dimensions()
    if width % 2 or height % 2:
        raise ValueError(
            f"MP4 needs even sizes, not {width}x{height}; the nearest is {width + width % 2}x{height + height % 2}"
        )
    # The option keeps metadata under keys of our choice, which MP4 otherwise drops.
    with av.open(str(path), "w", format="mp4", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(metadata)
        stream = container.add_stream("h264", rate=clip.frame_rate, options={"crf": CRF})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in clip.images:
            pixels = (image[..., :3] * 255).clamp(0, 255).byte().cpu().numpy()
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_clip(path: Path) -> Clip:
    """Decode every frame of a video; ValueError when `path` holds none."""
    import av
    import torch

    with _open(path) as container:
        if not container.streams.video:
            raise ValueError(f"{path} holds no video")
        stream = container.streams.video[0]
        try:
            frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        except av.error.FFmpegError as error:
            raise ValueError(f"{path} is damaged: {error.strerror}") from error
        if not frames:
            raise ValueError(f"{path} holds no frames")
        return Clip(torch.stack(frames).float() / 255, Fraction(stream.average_rate or 1))


def read_metadata(path: Path) -> dict[str, str]:
    """The container's metadata, keys in lower case (Matroska and WebM write them in capitals)."""
    with _open(path) as container:
        return {key.lower(): value for key, value in container.metadata.items()}


def _open(path: Path):
    import av

    try:
        return av.open(str(path))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {path}") from error
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as a video: {error.strerror}") from error
