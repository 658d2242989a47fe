"""The clips at the top of the README, `web/clips.webp`: twelve prompts, seeds 0 to 11, at their real size.

    python benchmarks/readme_picture.py
    python benchmarks/readme_picture.py --family flow

The clips are made by the graph blocks themselves, outside ComfyUI, in the steps that the workflows have.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import _package
import torch
from _small_models import SmallModels
from help_pictures import write
from pyramid_video.drawings.comparison import GAP
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from torch import Tensor
from torch.nn.functional import pad

PICTURE = _package.ROOT / "web" / "clips.webp"
LARGEST = 300_000  # bytes
COLUMNS = 4
PROMPTS = (
    "a tiger moving left on a blue background",
    "a penguin standing still on a red background",
    "a snail moving right on a yellow background",
    "a whale moving up on a white background",
    "a christmas tree standing still on a purple background",
    "a honeybee moving right on a green background",
    "a pig moving down on an orange background",
    "an octopus moving up on a black background",
    "a turtle moving left on a blue background",
    "a racing car moving left on a white background",
    "a rabbit moving up on a green background",
    "a sun moving down on a purple background",
)


def grid(clips: Sequence[Tensor]) -> Tensor:
    """Clips (frames, h, w, 3) in rows, with white gaps."""
    framed = [pad(clip, (0, 0, 0, GAP, 0, GAP), value=1) for clip in clips]
    rows = [torch.cat(framed[begin : begin + COLUMNS], dim=2) for begin in range(0, len(framed), COLUMNS)]
    return torch.cat(rows, dim=1)[:, :-GAP, :-GAP]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=("pyramid", "flow"), default="pyramid")
    family = parser.parse_args().family
    use_host(StandaloneHost())
    small = SmallModels(None)
    make = {"pyramid": small.pyramid, "flow": small.flow}[family]
    write(grid([make(text, seed=seed) for seed, text in enumerate(PROMPTS)]), PICTURE, LARGEST)


if __name__ == "__main__":
    main()
