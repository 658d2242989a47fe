"""Classifier-free guidance (Ho and Salimans 2022) with a strength per unit of the clip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .noise import double, halve

COARSE = 4  # latent pixels: what is larger says where things are, what is smaller how they look


def check_coarse(coarse: float) -> None:
    """Raise ValueError unless `coarse` is a share."""
    if not 0 <= coarse <= 1:
        raise ValueError(f"coarse guidance is {coarse}; expected a share, 0 (detail alone) to 1 (all)")


@dataclass(frozen=True)
class PyramidGuidance:
    """Guidance strength of the first unit and of all later ones, or falling in a line over the units.

    With `linear` the strength of unit u is `max(first - alpha * u, minimum)` and `video` is not read. `first` at 0
    turns guidance off for the whole clip, as in the released code, and so does 1 for all units, which is the positive
    output alone: the model then evaluates one row, not two.

    With `zero_star` guidance is CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): the negative output is first scaled to
    come as near to the positive one as it can (section 3.2), and the velocity of the first `zero_steps` steps of each
    unit is zero, because there a flow's velocity is worse than none (section 3.3).

    With `stages` above 0 only so many stages are guided, the coarsest; in the finer ones the model evaluates the
    positive row alone. What a clip will be is decided in the former, and guidance at little noise costs quality
    (Kynkäänniemi et al. 2024, arXiv 2404.07724).

    With `coarse` below 1 only that share of the guidance acts, in the stages after the first, on what a coarser stage
    has drawn already, and all of it on the detail that the stage adds: plain areas keep their colour over the clip.
    This is frequency-decoupled guidance (Sadat et al. 2025, arXiv 2506.19713) cut where the stages are.
    """

    first: float = 7.0
    video: float = 5.0
    linear: bool = False
    alpha: float = 0.5
    minimum: float = 2.0
    zero_star: bool = False
    zero_steps: int = 0
    stages: int = 0
    coarse: float = 1.0

    def __post_init__(self) -> None:
        for name in ("first", "video", "alpha", "minimum"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"guidance {name} is {value}; expected a number of at least 0")
        if self.zero_steps < 0:
            raise ValueError(f"zero_steps is {self.zero_steps}; expected 0 or more (1 or 2 are usual)")
        if self.stages < 0:
            raise ValueError(f"{self.stages} guided stages; expected 0 (all) or more")
        check_coarse(self.coarse)

    @property
    def enabled(self) -> bool:
        """Whether the negative prompt is evaluated at all."""
        return self.first > 0 and (self.linear or not self.first == self.video == 1)

    def guides(self, stage: int) -> bool:
        """Whether the negative prompt is evaluated in stage 0, 1, ..., the coarsest first."""
        return self.enabled and (not self.stages or stage < self.stages)

    def scale(self, unit: int) -> float:
        """Strength in unit 0, 1, ...; units after start frames count on, so image to video uses `video` throughout."""
        if self.linear:
            return max(self.first - self.alpha * unit, self.minimum)
        return self.first if unit == 0 else self.video

    def is_zero_init(self, stage: int, step: int) -> bool:
        """Whether the velocity of this step is zero and the model is not evaluated."""
        return self.enabled and self.zero_star and stage == 0 and step < self.zero_steps

    @property
    def plain(self) -> bool:
        """Whether both outputs combine as in plain classifier-free guidance in every stage."""
        return not self.zero_star and (self.coarse == 1 or self.stages == 1)

    def combine(self, negative: Tensor, positive: Tensor, unit: int, stage: int) -> Tensor:
        """The guided velocity of a unit in a stage, from the outputs (b, c, t, h, w) for both prompts."""
        guided = apply_cfg(negative, positive, self.scale(unit), self.zero_star)
        if stage == 0 or self.coarse == 1:
            return guided
        return guided - (1 - self.coarse) * double(halve(guided - positive))


@dataclass(frozen=True)
class ClipGuidance:
    """How the outputs for both prompts are combined where all frames are made at once.

    `zero_star` is CFG-Zero* (Fan et al. 2025, arXiv 2503.18886). With `coarse` below 1 only that share of the guidance
    acts on what is larger than `COARSE` latent pixels, and all of it on detail: edges become clearer at a strength at
    which plain areas would change (frequency-decoupled guidance, Sadat et al. 2025, arXiv 2506.19713).
    """

    zero_star: bool = False
    coarse: float = 1.0

    def __post_init__(self) -> None:
        check_coarse(self.coarse)

    @property
    def plain(self) -> bool:
        """Whether it is plain classifier-free guidance."""
        return not self.zero_star and self.coarse == 1

    def combine(self, negative: Tensor, positive: Tensor, scale: float) -> Tensor:
        """The guided output, from those (b, c, t, h, w) for both prompts."""
        guided = apply_cfg(negative, positive, scale, self.zero_star)
        return guided if self.coarse == 1 else guided - (1 - self.coarse) * coarse_part(guided - positive)


PLAIN = ClipGuidance()


def coarse_part(x: Tensor) -> Tensor:
    """What is larger than `COARSE` pixels in the frames of (b, c, t, h, w): means of blocks, brought back to size."""
    rows, columns = x.shape[-2:]
    frames = x.flatten(0, 2).unsqueeze(1).float()
    whole = F.pad(frames, (0, -columns % COARSE, 0, -rows % COARSE), mode="replicate")
    coarse = F.interpolate(F.avg_pool2d(whole, COARSE), scale_factor=COARSE, mode="bilinear")
    return coarse[..., :rows, :columns].reshape(x.shape).to(x.dtype)


def apply_cfg(negative: Tensor, positive: Tensor, scale: float, zero_star: bool = False) -> Tensor:
    """Classifier-free guidance: `negative + scale * (positive - negative)`; 1 is the positive output alone.

    With `zero_star` the negative output is multiplied by `optimized_scale` first (CFG-Zero*).
    """
    if zero_star:
        negative = (optimized_scale(positive, negative) * negative).to(negative.dtype)
    return negative + scale * (positive - negative)


def optimized_scale(positive: Tensor, negative: Tensor) -> Tensor:
    """`<positive, negative> / <negative, negative>` of each row (b, ...), as (b, 1, ...) float32.

    That multiple of the negative output is nearest to the positive one (CFG-Zero*, section 3.2).
    """
    flat, wanted = negative.flatten(1).float(), positive.flatten(1).float()
    factor = (flat * wanted).sum(1) / flat.square().sum(1).clamp_min(torch.finfo(torch.float32).tiny)
    return factor.view(-1, *[1] * (negative.ndim - 1))
