"""What of the past Helios sees: three levels, near frames fine and far ones coarse (arXiv 2603.04379, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..models.families import HELIOS
from ..models.history_levels import UNIT_FRAMES, HistoryLevel, HistoryLevels
from .history import StageHistory, UnitHistory
from .noise import Generators, white_noise
from .units import Units

HELIOS_UNITS = Units(UNIT_FRAMES, UNIT_FRAMES)
HISTORY_SIZES = (16, 2, 1)  # latent frames remembered in large, middle and small patches, oldest first


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth value
class HeliosHistory:
    """The newest frames in three levels, the first frame of all for ever, and a past given by the user.

    `first` (1 or b, c, 1, h, w) is the frame that is always seen and `recent` (1 or b, c, t, h, w) what comes before
    the clip, both in the VAE's own scale; a picture is a still video whose last frame is `recent`. They are seen with a
    share of noise drawn between `noise` for each frame, as the released models expect. Without them the past is empty,
    which is zeros, and the first frame is the clip's own.
    """

    first: Tensor | None = None
    recent: Tensor | None = None
    noise: tuple[float, float] = (0.111, 0.135)

    made_for: ClassVar[str] = HELIOS
    start: ClassVar[None] = None  # what comes before a clip is not part of it

    def __post_init__(self) -> None:
        low, high = self.noise
        if not 0.0 <= low <= high < 1.0:
            raise ValueError(f"the noise of a start is {self.noise}; expected two numbers, 0 <= least <= most < 1")
        if (self.first is None) != (self.recent is None):
            raise ValueError("a start needs both its first frame and the frames before the clip, or neither")
        for name, clip in (("first", self.first), ("recent", self.recent)):
            if clip is not None and (clip.ndim != 5 or not clip.shape[2]):
                raise ValueError(
                    f"{name} has the shape {tuple(clip.shape)}; expected (batch, channel, frame, row, column)"
                )

    @property
    def given(self) -> Tensor | None:
        return self.recent

    def normalized(self, normalize: Callable[[Tensor], Tensor]) -> HeliosHistory:
        if self.first is None or self.recent is None:
            return self
        return replace(self, first=normalize(self.first), recent=normalize(self.recent))

    def without_noise(self) -> HeliosHistory:
        return replace(self, noise=(0.0, 0.0))

    def settled(self, known: int, total: int, stage: int, units: Units) -> int:
        return 0  # what is remembered looks at what is made, which changes

    def begin(self, like: Tensor, levels: int, units: Units, generators: Generators) -> UnitHistory:
        """Take the noise of the start, once for the whole run. ValueError where the start does not fit `like`."""
        seen = [place(clip, like) for clip in (self.first, self.recent) if clip is not None]
        if self.noise[1] > 0:
            seen = [mix_noise(clip, self.noise, generators) for clip in seen]
        first, recent = seen or (None, like[:, :, :0])
        length = sum(HISTORY_SIZES)
        nothing = torch.zeros_like(like[:, :, :1]).expand(-1, -1, length, -1, -1)

        def unit_history(done: Sequence[Tensor]) -> StageHistory:
            kept = first if first is not None else done[0][:, :, :1] if done else nothing[:, :, :1]
            newest = torch.cat([recent, *done], dim=2)[:, :, -length:]
            # Joined to the same length for every unit: a compiled network is compiled anew where strides change.
            past = torch.cat([nothing[:, :, newest.shape[2] :], newest], dim=2)
            memory = remember(kept, past, units.later)
            return lambda stage: memory  # the same at every resolution

        return unit_history


def remember(kept: Tensor, past: Tensor, made: int) -> HistoryLevels:
    """Sort the newest `past` (b, c, 19, h, w) into levels; time runs from the kept frame, 0, to the `made` ones."""
    cuts = past.split(HISTORY_SIZES, dim=2)
    times = torch.arange(1, 1 + past.shape[2]).split(HISTORY_SIZES)
    long, mid, short = (HistoryLevel(cut, tuple(time.tolist())) for cut, time in zip(cuts, times, strict=True))
    now = 1 + past.shape[2]
    return HistoryLevels(
        frames=tuple(range(now, now + made)),
        short=HistoryLevel(torch.cat([kept, short.latents], dim=2), (0, *short.frames)),
        mid=mid,
        long=long,
    )


def place(clip: Tensor, like: Tensor) -> Tensor:
    """A start of the batch, device and dtype of `like`. ValueError where its size is another."""
    b, c, _, h, w = like.shape
    if clip.shape[0] not in (1, b) or (clip.shape[1], *clip.shape[3:]) != (c, h, w):
        raise ValueError(
            f"the start has the shape {tuple(clip.shape)}; expected (1 or {b}, {c}, frames, {h}, {w}): encode a "
            "picture or clip of the size of the empty latent, with the VAE of this model"
        )
    return clip.to(like).expand(b, -1, -1, -1, -1)


def mix_noise(clip: Tensor, limits: tuple[float, float], generators: Generators) -> Tensor:
    """Mix noise into a clip, with a share of its own for every frame, evenly drawn between the limits."""
    low, high = limits
    shares = torch.stack([torch.rand(clip.shape[2], generator=g, device=g.device) for g in generators])
    shares = (low + (high - low) * shares)[:, None, :, None, None].to(clip)
    return shares * white_noise(clip, generators) + (1 - shares) * clip
