"""Video files through PyAV: H.264 in MP4 with the workflow in the container's metadata, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from av.filter import Graph
    from torch import Tensor

ENCODING = {
    "crf": "17",  # no loss that the eye finds; small clips are a few kilobytes either way
    # x264's fast forms read memory that was never written in widths of no multiple of 128: the same clip in other bytes
    "x264-params": "cpu-independent=1",
}
COLOURS = {
    "colorspace": 1,
    "color_primaries": 1,
    "color_trc": 13,
    "color_range": 1,
}  # BT.709, sRGB, limited: ITU-T H.273


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
    """Encode `clip` into `path`, its colours in BT.709 and tagged so; players read it from 2x2 pixels on.

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
        stream = container.add_stream("h264", rate=clip.frame_rate, options=ENCODING)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for name, value in COLOURS.items():
            setattr(stream.codec_context, name, value)
        graph = to_bt709(width, height, 1 / clip.frame_rate)
        for index, image in enumerate(clip.images):
            pixels = (image[..., :3] * 255).clamp(0, 255).byte().cpu().numpy()
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, 1 / clip.frame_rate
            graph.push(frame)
            container.mux(stream.encode(graph.pull()))
        container.mux(stream.encode(None))


def to_bt709(width: int, height: int, unit: Fraction) -> Graph:
    """A filter graph from RGB frames to YUV by the matrix of BT.709, which players take for granted in large films."""
    import av

    graph = av.filter.Graph()
    chain = [
        graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=unit),
        graph.add("scale", "out_color_matrix=bt709:out_range=limited:flags=bicubic+accurate_rnd+full_chroma_int"),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*chain).configure()
    return graph


def read_clip(path: Path) -> Clip:
    """Read every frame of a video or an animated picture; ValueError says why `path` cannot be read."""
    from ...media.clips import read_video

    with named(path):
        frames, rate = read_video(path)
    return Clip(to_floats(frames), rate)


def read_metadata(path: Path) -> dict[str, str]:
    """The container's metadata, keys in lower case (Matroska and WebM write them in capitals)."""
    from ...media.files import open_real
    from ...media.video_reader import open_container

    with named(path), open_real(path) as file, open_container(file) as container:
        return {key.lower(): value for key, value in container.metadata.items()}


def to_floats(frames: list[np.ndarray]) -> Tensor:
    """Frames of bytes as one tensor `(n, h, w, channels)` in 0..1; `frames` is emptied to have them in memory once."""
    import torch

    made = torch.empty(len(frames), *frames[0].shape)
    for index in reversed(range(len(frames))):
        made[index] = torch.from_numpy(frames.pop().copy())
    return made.div_(255)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Put the name of the file before what is wrong with it."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {path}") from error
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
