"""Clips of fixed prompts while a model is trained, to see what it has learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ...models.files import write_beside

FOLDER = "validation"
MOST_PROMPTS = 16
SHOWN = 5  # frames of each clip on the sheet
SMALLEST = 64  # pixels of the shorter side on the sheet
GAP = 2


@dataclass(frozen=True)
class ValidationPlan:
    """Which prompts are made into clips, and after how many steps again; steps 0: the usual number of the family."""

    prompts: tuple[str, ...]
    every: int = 500
    steps: int = 0
    cfg: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.prompts) <= MOST_PROMPTS:
            raise ValueError(f"{len(self.prompts)} prompts for validation; write 1 to {MOST_PROMPTS}, one a line")
        if self.every < 1:
            raise ValueError(f"validation every {self.every} steps; expected at least 1")

    def due(self, step: int, steps: int) -> bool:
        """Whether clips are made after `step` of `steps`; after the last they always are."""
        return step % self.every == 0 or step == steps


def contact_sheet(clips: Sequence[Tensor]) -> Image.Image:
    """A few frames of every clip `(frames, h, w, 3)` in 0..1, a clip a row."""
    height, width = clips[0].shape[1:3]
    scale = max(1, -(-SMALLEST // min(height, width)))
    cell = (width * scale + GAP, height * scale + GAP)
    sheet = Image.new("RGB", (cell[0] * SHOWN - GAP, cell[1] * len(clips) - GAP), "white")
    for row, clip in enumerate(clips):
        for column in range(SHOWN):
            frame = picture(clip[round(column * (len(clip) - 1) / (SHOWN - 1))])
            sheet.paste(frame.resize((width * scale, height * scale)), (column * cell[0], row * cell[1]))
    return sheet


def save_animation(clips: Sequence[Tensor], path: Path, fps: float) -> Path:
    """All clips beside each other as one animated webp."""
    frames = []
    for shown in zip(*clips, strict=True):
        height, width = shown[0].shape[:2]
        sheet = Image.new("RGB", ((width + GAP) * len(shown) - GAP, height), "white")
        for column, frame in enumerate(shown):
            sheet.paste(picture(frame), (column * (width + GAP), 0))
        frames.append(sheet)
    with write_beside(path) as part:
        frames[0].save(
            part, format="WEBP", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0, quality=90
        )
    return path


def picture(frame: Tensor) -> Image.Image:
    """A frame `(h, w, 3)` in 0..1."""
    return Image.fromarray((frame.clamp(0, 1) * 255).round().byte().cpu().numpy().astype(np.uint8))
