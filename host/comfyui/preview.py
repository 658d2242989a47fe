"""What is seen while a clip is made: it plays on the node, grown so far, at each stage's own resolution.

The host's own previews stand still. Its page also plays an animated picture that a node is said to have made, and takes
that message at any time; so the clip so far goes to the temp folder, a new file each time. Other clients get a still
picture for every step, as from the host's samplers (a page that gets both shows the still). Both only where the host is
set to show previews.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import folder_paths
import latent_preview
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ...media.webp import save_webp
from ...models.plain_text import harmless
from ...models.preview_colours import known_colours
from .. import get_host
from .page import play_on_node, plays_clips

PAUSE = 2.0  # seconds between two clips, so that one can be watched
FRAME_MS = 250  # a latent frame is 4 or 8 pictures: about real time
SMALLEST_CLIP, SMALLEST_STILL = 256, 128  # pixels of the longer edge; the small model's latents have 16
KEPT = 2  # files: the one that is seen, and the one before, which a page may still be fetching


class Preview:
    """Shows the latents of a run as pictures. One that fails is the last, and the run goes on."""

    def __init__(self, patcher: Any) -> None:
        self.latent_format = known_colours(get_host().preview_colours, patcher.model.latent_format.ours)
        self.on = False
        self.plays = False
        self.due = 0.0
        self.files: deque[Path] = deque()
        try:
            self.plays = plays_clips()
            self.on = latent_preview.get_previewer(patcher.load_device, patcher.model.latent_format) is not None
        except Exception as error:
            logging.warning("Pyramid Video: no previews, because %s", harmless(str(error)))

    def show(self, clean: Tensor, clip: Tensor, last: bool) -> Image.Image | None:
        """Play the clip `(b, c, t, h, w)` where the client can; else return a still of what is being made."""
        if not self.on:
            return None
        try:
            if not self.plays:
                return to_picture(self.latent_format.preview(enlarge(clean[:1, :, 0], SMALLEST_STILL))[0])
            if last or time.monotonic() >= self.due:
                self.play(clip)
                self.due = time.monotonic() + PAUSE
        except Exception as error:
            logging.warning("Pyramid Video: no more previews in this run, because %s", harmless(str(error)))
            self.on = False
        return None

    def play(self, clip: Tensor) -> None:
        """Write the clip as an animation and show it on the node."""
        frames = [
            to_picture(self.latent_format.preview(enlarge(as_grid(frame), SMALLEST_CLIP))[0])
            for frame in clip.unbind(2)
        ]
        folder = folder_paths.get_temp_directory()
        os.makedirs(folder, exist_ok=True)
        handle, name = tempfile.mkstemp(".webp", "pyramid_video_", folder)  # a page keeps a name that it has seen
        self.files.append(Path(name))
        with os.fdopen(handle, "wb") as file:
            save_webp(file, frames, FRAME_MS, quality=80, effort=0)
        clip_file = {"filename": Path(name).name, "subfolder": "", "type": "temp"}
        play_on_node({"images": [clip_file], "animated": (True,)})
        while len(self.files) > KEPT:
            self.files.popleft().unlink(missing_ok=True)


def as_grid(frames: Tensor) -> Tensor:
    """The frames `(b, c, h, w)` of a batch as one `(1, c, rows * h, columns * w)`, as square as possible."""
    columns = math.ceil(math.sqrt(len(frames)))
    rows = -(-len(frames) // columns)
    empty = frames.new_zeros(rows * columns - len(frames), *frames.shape[1:])
    grid = torch.cat([frames, empty]).unflatten(0, (rows, columns))
    return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2).unsqueeze(0)


def enlarge(frames: Tensor, smallest: int) -> Tensor:
    """Frames `(n, c, h, w)`, large enough to be looked at."""
    factor = max(1, -(-smallest // max(frames.shape[-2:])))
    return frames if factor == 1 else F.interpolate(frames.float(), scale_factor=factor, mode="bilinear")


def to_picture(pixels: Tensor) -> Image.Image:
    """A picture of `(h, w, 3)` in 0..1."""
    return Image.fromarray((pixels * 255).round().byte().cpu().numpy())
