"""What of the past a unit sees: the newest unit sharp, older ones ever coarser (Pyramid Flow, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..models.families import PYRAMID_FLOW
from ..models.history_levels import HistoryLevels
from .noise import Generators, pyramid, white_noise
from .units import Units

HistoryClips = tuple[Tensor, ...] | HistoryLevels  # as the network takes it; clips (b, c, t, h, w) are oldest first
StageHistory = Callable[[int], HistoryClips]  # stage -> what the unit in work sees there
UnitHistory = Callable[[Sequence[Tensor]], StageHistory]  # finished latent frames -> what the next unit sees
WhiteNoise = Callable[[Tensor], Tensor]  # clip -> white noise of its shape, device and dtype


class History(Protocol):
    """A policy of temporal conditioning: what of the past every stage of every unit is shown."""

    made_for: ClassVar[str]  # the kind of model, as `PyramidStages.made_for`

    @property
    def start(self) -> Tensor | None:
        """Latent frames (b, c, t, h, w) that open the clip itself."""
        ...

    @property
    def given(self) -> Tensor | None:
        """Latents (b, c, t, h, w) that the user gave to begin from, whether or not they are part of the clip."""
        ...

    def normalized(self, normalize: Callable[[Tensor], Tensor]) -> History:
        """The same policy with the latents it holds brought from the VAE's scale to the transformer's."""
        ...

    def without_noise(self) -> History:
        """The same policy with a clean history."""
        ...

    def begin(self, like: Tensor, levels: int, units: Units, generators: Generators) -> UnitHistory:
        """Start a run that makes latents in shape, device and dtype of `like` over `levels` resolutions."""
        ...

    def settled(self, known: int, total: int, stage: int, units: Units) -> int:
        """How many frames a unit sees in `stage` that all later units of the clip will see alike, the oldest ones.

        known: latent frames before the unit, of `total` in the whole clip.
        """
        ...


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth value
class PyramidHistory:
    """How much of the past later units see, how clean it is, and a past given by the user."""

    made_for: ClassVar[str] = PYRAMID_FLOW

    depth: int | None = None  # newest latent frames seen; None = all
    noise: float = 0.0  # share of noise mixed into the past, 0 = clean, as the released models expect
    start: Tensor | None = None  # latent frames that open the clip, (b, c, t, h, w) in the VAE's own scale

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth < 1:
            raise ValueError(
                f"history depth is {self.depth}; expected at least 1 latent frame, or nothing for the whole past"
            )
        if not 0.0 <= self.noise < 1.0:
            raise ValueError(f"history noise is {self.noise}; expected 0 (clean) to below 1 (training goes up to 1/3)")
        if self.start is not None and self.start.ndim != 5:
            raise ValueError(
                f"start frames have shape {tuple(self.start.shape)}; expected (batch, channel, frame, row, column)"
            )

    @property
    def given(self) -> Tensor | None:
        return self.start

    def normalized(self, normalize: Callable[[Tensor], Tensor]) -> PyramidHistory:
        return self if self.start is None else replace(self, start=normalize(self.start))

    def without_noise(self) -> PyramidHistory:
        return replace(self, noise=0.0)

    def begin(self, like: Tensor, levels: int, units: Units, generators: Generators) -> UnitHistory:
        def unit_history(done: Sequence[Tensor]) -> StageHistory:
            past = newest(done, self.depth, levels)

            def stage_history(stage: int) -> tuple[Tensor, ...]:
                clips = history_clips(past, stage, units.later) if past else ()
                if self.noise > 0:
                    clips = corrupt_clips(clips, self.noise, lambda clip: white_noise(clip, generators))
                return clips

            return stage_history

        return unit_history

    def settled(self, known: int, total: int, stage: int, units: Units) -> int:
        if self.noise > 0 or (self.depth is not None and self.depth < total - units.later):
            return 0  # noise is drawn anew, and a window that slides changes what every frame has seen
        return max(0, known - stage * units.later)


def newest(done: Sequence[Tensor], depth: int | None, levels: int) -> tuple[Tensor, ...]:
    """The finished frames a unit may see, at every resolution, coarsest first; empty for the first unit."""
    if not done:
        return ()
    frames = torch.cat(list(done), dim=2)
    return pyramid(frames if depth is None else frames[:, :, -depth:], levels)


def history_clips(levels: Sequence[Tensor], stage: int, unit: int = 1) -> tuple[Tensor, ...]:
    """Cut the past into the clips that `stage` sees, oldest first.

    `levels` holds the finished frames (b, c, t, h, w) at every resolution, coarsest first; `unit` is the number of
    frames of a unit. Going back in time: the newest unit at the resolution of `stage`, the one before one level
    coarser, and so on down to level 1; everything older is one clip at level 0.
    """
    clips: list[Tensor] = []
    end = levels[0].shape[2]
    for level in range(stage, 0, -1) or (0,):  # in stage 0 the newest unit is still a clip of its own
        start = max(0, end - unit)
        clips.append(levels[level][:, :, start:end])
        end = start
    clips.append(levels[0][:, :, :end])
    return tuple(clip for clip in reversed(clips) if clip.shape[2])


def corrupt_clips(clips: Sequence[Tensor], strength: Tensor | float, white: WhiteNoise) -> tuple[Tensor, ...]:
    """Mix noise into every clip: `strength * noise + (1 - strength) * clip`, drawn newest clip first.

    `strength` is one number, or a tensor that broadcasts against (b, c, t, h, w). It keeps a model from trusting its
    own past too much.
    """
    return tuple(reversed([strength * white(clip) + (1 - strength) * clip for clip in reversed(clips)]))
