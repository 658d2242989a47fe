"""Decoded frames as a player shows them: colours, pixel shape, rotation, transparency."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .colours import is_wide, matrix_name, to_srgb

FULL_RANGE = 2  # color_range of FFmpeg
WIDEST_PIXEL = 8  # times wider than high, or the other way round; more is a broken number
FORMATS = {  # of the pictures, by (is it to be mapped to sRGB, has it transparency)
    (False, False): "rgb24",
    (False, True): "rgba",
    (True, False): "rgb48le",
    (True, True): "rgba64le",
}
EXACT = "flags=bicubic+accurate_rnd+full_chroma_int"


class FrameConverter:
    """Turns frames of one stream into pictures; FFmpeg's filters do the work, set up anew when the frames change."""

    def __init__(self, stream) -> None:
        self.stream = stream
        self.graphs = {}

    def __call__(self, frame) -> np.ndarray:
        """The picture of a frame, `(h, w, 3)` bytes, upright and with square pixels; white where it is transparent.

        Raises ValueError for colours that cannot be read.
        """
        codec = self.stream.codec_context
        wide = is_wide(codec.color_trc, codec.color_primaries)
        pixels = self._filter(frame, wide)
        alpha = pixels[..., 3:] / np.float32(np.iinfo(pixels.dtype).max) if pixels.shape[-1] == 4 else None
        pixels = pixels[..., :3]
        if wide:
            pixels = to_srgb(pixels, codec.color_trc, codec.color_primaries)
        if alpha is not None:
            pixels = np.round(pixels * alpha + 255 * (1 - alpha)).astype(np.uint8)
        return np.ascontiguousarray(turn(pixels, display_matrix(frame)))

    def _filter(self, frame, wide: bool) -> np.ndarray:
        transparent = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
        output = FORMATS[wide, transparent]
        size = square_size(frame.width, frame.height, self.stream.sample_aspect_ratio)
        scale = f"w={size[0]}:h={size[1]}:{EXACT}"
        if not frame.format.is_rgb and not frame.format.has_palette:
            full = frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")
            matrix = matrix_name(frame.colorspace, frame.width, frame.height)
            scale += f":in_color_matrix={matrix}:in_range={'full' if full else 'limited'}"
        key = (frame.format.name, frame.width, frame.height, frame.interlaced_frame, scale, output)
        if key not in self.graphs:
            self.graphs[key] = make_graph(frame, scale, output)
        self.graphs[key].push(frame)
        return self.graphs[key].pull().to_ndarray()


def make_graph(frame, scale: str, output: str):
    """A filter graph from frames like `frame` through `scale` to pictures in the pixel format `output`."""
    import av

    graph = av.filter.Graph()
    unit = frame.time_base or Fraction(1, 1000)
    chain = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=unit)]
    if frame.interlaced_frame:
        chain.append(graph.add("field", "type=top"))  # the lines of one moment
    chain += [graph.add("scale", scale), graph.add("format", f"pix_fmts={output}"), graph.add("buffersink")]
    graph.link_nodes(*chain).configure()
    return graph


def square_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height with square pixels: the side that is too short grows, as in players."""
    if not aspect or not 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def display_matrix(frame) -> tuple[int, ...]:
    """The matrix by which a phone says how it was held: (a, b, c, d), x' = a x + c y and y' = b x + d y."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
            return a, b, c, d
    return 1, 0, 0, 1


def turn(picture: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """A picture `(h, w, channels)` turned and mirrored by a display matrix, to the nearest quarter turn."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        picture, a, d = picture.swapaxes(0, 1), c, b
    picture = picture[:, ::-1] if a < 0 else picture
    return picture[::-1] if d < 0 else picture
