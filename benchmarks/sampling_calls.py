"""What the pyramid saves, counted in tokens: `python benchmarks/sampling_calls.py --width 1280 --height 768`.

Plays the real sampler with a model that only counts what it is asked, and compares with as many calls in which noisy
unit and past are at full size. Pairs are query-key pairs inside causal attention; the text is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass

import _package  # noqa: F401
import torch
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.noise import row_generators
from pyramid_video.samplers.pyramid import StepInfo, sample_pyramid
from pyramid_video.samplers.stages import PyramidStages, make_stages
from torch import Tensor

SPACE_COMPRESSION = 8
PATCH_AREA = 4  # latent cells in one token


@dataclass
class Count:
    """Work of one way to make a clip."""

    calls: int = 0
    tokens: int = 0
    pairs: int = 0

    def add(self, frames: Iterable[int]) -> None:
        """One call over latent frames of so many tokens, oldest first; a frame sees itself and older ones."""
        self.calls += 1
        before = 0
        for tokens in frames:
            before += tokens
            self.pairs += tokens * before
        self.tokens += before


def frame_tokens(clip: Tensor) -> list[int]:
    """Tokens of every latent frame of a clip (b, c, t, h, w)."""
    return [clip.shape[3] * clip.shape[4] // PATCH_AREA] * clip.shape[2]


def count(stages: PyramidStages, shape: tuple[int, ...], history: PyramidHistory) -> tuple[Count, Count]:
    """Work of the pyramid, and of as many calls at full size with all of the past."""
    pyramid, flat = Count(), Count()
    full = shape[3] * shape[4] // PATCH_AREA

    def velocity(x: Tensor, call: StepInfo) -> Tensor:
        pyramid.add(tokens for clip in (*call.history, x) for tokens in frame_tokens(clip))
        flat.add([full] * (call.unit + 1))
        return torch.zeros_like(x)

    sample_pyramid(velocity, torch.zeros(shape), stages, generators=row_generators(0, 1), history=history)
    return pyramid, flat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--frames", type=int, default=16, help="latent frames")
    parser.add_argument("--first-steps", type=int, default=20)
    parser.add_argument("--video-steps", type=int, default=10)
    parser.add_argument("--depth", type=int, default=None, help="newest latent frames seen; all when left out")
    given = parser.parse_args()
    stages = make_stages(first_steps=given.first_steps, video_steps=given.video_steps)
    shape = (1, 1, given.frames, given.height // SPACE_COMPRESSION, given.width // SPACE_COMPRESSION)
    pyramid, flat = count(stages, shape, PyramidHistory(depth=given.depth))
    print(f"{given.width}x{given.height}, {given.frames} latent frames, {pyramid.calls} calls")
    for name in ("tokens", "pairs"):
        ours, theirs = getattr(pyramid, name), getattr(flat, name)
        print(f"{name:7} pyramid {ours:.3g}, full size throughout {theirs:.3g}: {theirs / ours:.1f} times less")


if __name__ == "__main__":
    main()
