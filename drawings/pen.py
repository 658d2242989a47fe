"""What the drawings on blocks share: a pen with smooth edges, the colours, and the ways onto a wire and a node."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..models.files import write_beside

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SMOOTH = 2  # drawn larger, then reduced: PIL's own lines have stairs
PAPER, INK, FAINT = (20, 22, 28), (232, 234, 240), (120, 126, 140)
LONGEST_PLAYED = 1024  # pixels of the longer side of a clip that plays on a block
COARSE, FINE = (146, 96, 230), (52, 196, 178)  # colours of the first and the last stage


class Pen:
    """PIL's drawing on a new sheet of `width` x `height`, in the coordinates of the finished picture."""

    def __init__(self, width: int, height: int, paper: tuple[int, int, int] = PAPER) -> None:
        from PIL import Image, ImageDraw

        self.size = width, height
        self.sheet = Image.new("RGB", (width * SMOOTH, height * SMOOTH), paper)
        self.draw = ImageDraw.Draw(self.sheet)

    def line(self, *points: tuple[float, float], colour, width: float = 1.5) -> None:
        corners = [(x * SMOOTH, y * SMOOTH) for x, y in points]
        self.draw.line(corners, fill=colour, width=round(width * SMOOTH), joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, colour, edge=None, round_by: float = 6) -> None:
        corners = [v * SMOOTH for v in (left, top, right, bottom)]
        radius = min(round_by, (right - left) / 2, (bottom - top) / 2) * SMOOTH
        self.draw.rounded_rectangle(corners, radius, fill=colour, outline=edge, width=2 * SMOOTH)

    def dot(self, x: float, y: float, colour, radius: float = 3.0) -> None:
        self.draw.ellipse([v * SMOOTH for v in (x - radius, y - radius, x + radius, y + radius)], fill=colour)

    def text(self, x: float, y: float, words: str, colour=INK, size: int = 17, anchor: str = "mm") -> None:
        self.draw.text((x * SMOOTH, y * SMOOTH), words, fill=colour, font=font_of(size), anchor=anchor)

    def text_width(self, words: str, size: int = 17) -> float:
        return self.draw.textlength(words, font_of(size)) / SMOOTH

    def finished(self) -> Image:
        """The picture, RGB."""
        from PIL import Image

        return self.sheet.resize(self.size, Image.Resampling.LANCZOS)


def font_of(size: int) -> Any:
    """PIL's own font, as large as it is drawn."""
    from PIL import ImageFont

    return ImageFont.load_default(size * SMOOTH)


def mix(a: tuple[int, ...], b: tuple[int, ...], share: float) -> tuple[int, ...]:
    """A colour between two, `share` of the way from `a` to `b`."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def stage_colour(index: int, count: int) -> tuple[int, ...]:
    """The colour of a stage, and of the resolution that it works at."""
    return mix(COARSE, FINE, index / max(1, count - 1))


def below_each_other(pictures: Sequence[Image]) -> Image | None:
    """Pictures as wide as the first, one under the other; None where there are none."""
    from PIL import Image

    if not pictures:
        return None
    width = pictures[0].width
    fitted = [each.resize((width, round(each.height * width / each.width))) for each in pictures]
    sheet = Image.new("RGB", (width, sum(each.height for each in fitted)))
    top = 0
    for each in fitted:
        sheet.paste(each, (0, top))
        top += each.height
    return sheet


def on_node(*pictures: Image, name: str) -> dict[str, list[dict[str, str]]]:
    """What a block's `ui` says so that the host shows the pictures on it; their files lie in its temp folder."""
    return {"images": [save_preview(picture, get_host().temp_dir, name) for picture in pictures]}


def playing_on_node(clip: Tensor, fps: float, name: str) -> dict[str, Any]:
    """Likewise for a clip `(frames, h, w, 3)` in 0..1, which plays: as large as a block is, for that takes seconds."""
    import torch

    from .animation import reduced, save_animation

    bar, frames = get_host().progress(len(clip)), []
    for frame in reduced(clip, LONGEST_PLAYED):
        frames.append(frame)
        bar.update(len(frames))
    bar.close()
    small = torch.stack(frames)
    digest = hashlib.sha256(small.numpy().tobytes() + repr(fps).encode()).hexdigest()[:16]
    path = get_host().temp_dir / f"pyramid_video_{name}_{digest}.webp"
    save_animation([small], path, fps, effort=2)
    return {"images": [{"filename": path.name, "subfolder": "", "type": "temp"}], "animated": (True,)}


def save_preview(picture: Image, folder: Path, name: str) -> dict[str, str]:
    """Write a drawing beside and rename it into place; returns what a node's `ui` says about an image."""
    name = f"pyramid_video_{name}_{hashlib.sha256(picture.tobytes()).hexdigest()[:16]}.png"
    with write_beside(Path(folder) / name) as part:
        picture.save(part, format="PNG")
    return {"filename": name, "subfolder": "", "type": "temp"}


def as_image(picture: Image) -> Tensor:
    """A picture as the IMAGE wire carries it: `(1, h, w, 3)` in 0..1."""
    import numpy as np
    import torch

    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255).unsqueeze(0)
