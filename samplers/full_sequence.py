"""Ways to make all frames of a clip at once: what a sampler block hands to a host, which plays it with its own model.

Each passes the timestep that the network was trained with (0 to 1000, noise is high), whatever the family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from .ddim import DDIMStep, check_eta, ddim_timesteps, sample_ddim
from .flow import TIMESTEPS, FlowStep, flow_sigmas, sample_flow
from .guidance import PLAIN, ClipGuidance
from .noise import Generators
from .noise_schedule import NoiseSchedule
from .solvers import check_finite, count_calls

ModelCall = Callable[[Tensor, float], Tensor]  # (x, timestep) -> the network's output, guided
Callback = Callable[[int, int, Tensor], None]  # (evaluations done, in all, estimate of the clean clip); may raise


def counting(callback: Callback) -> Callable[[FlowStep | DDIMStep, Tensor], None]:
    """The callback of a sampler function that reports to `callback` how many evaluations are done."""
    return lambda info, clean: callback(info.index + 1, info.total, clean)


class FullSequenceSampler(Protocol):
    """A way to make a normalised clip (b, c, t, h, w) from white noise of its shape."""

    family: ClassVar[str]  # of the models it samples

    @property
    def guidance(self) -> ClipGuidance:
        """How the outputs for both prompts are combined."""
        ...

    @property
    def calls(self) -> int:
        """The number of model evaluations."""
        ...

    @property
    def timesteps(self) -> tuple[float, ...]:
        """Where its steps begin, from noise on."""
        ...

    def run(self, model: ModelCall, noise: Tensor, generators: Generators, callback: Callback) -> Tensor: ...


@dataclass(frozen=True)
class FlowSampler:
    """Follow a flow along `steps + 1` noise levels, shifted, with one of `solvers.SOLVERS`.

    With guidance by CFG-Zero* the first `zero_steps` steps stand still: the noise is taken for a sample of a later
    level.
    """

    steps: int = 10
    solver: str = "euler"
    shift: float = 1.0
    guidance: ClipGuidance = PLAIN
    zero_steps: int = 0

    family: ClassVar[str] = "flow"

    def __post_init__(self) -> None:
        count_calls(self.solver, len(self.sigmas) - 1)
        if not 0 <= self.zero_steps < self.steps:
            raise ValueError(f"{self.zero_steps} of {self.steps} steps at rest; expected 0 or more, and one step to go")

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The noise levels that are travelled."""
        return flow_sigmas(self.steps, self.shift)[self.zero_steps if self.guidance.zero_star else 0 :]

    @property
    def calls(self) -> int:
        return count_calls(self.solver, len(self.sigmas) - 1)

    @property
    def timesteps(self) -> tuple[float, ...]:
        return tuple(TIMESTEPS * sigma for sigma in self.sigmas[:-1])

    def run(self, model: ModelCall, noise: Tensor, generators: Generators, callback: Callback) -> Tensor:
        def velocity(x: Tensor, info: FlowStep) -> Tensor:
            return model(x, TIMESTEPS * info.sigma)

        return sample_flow(velocity, noise, self.sigmas, self.solver, counting(callback))


@dataclass(frozen=True)
class DDIMSampler:
    """Take `steps` of the 1000 timesteps of a diffusion model's `schedule`; `eta` as `sample_ddim` takes it."""

    schedule: NoiseSchedule
    steps: int = 50
    eta: float = 0.0

    family: ClassVar[str] = "diffusion"
    guidance: ClassVar[ClipGuidance] = PLAIN

    def __post_init__(self) -> None:
        ddim_timesteps(self.steps)
        check_eta(self.eta)

    @property
    def calls(self) -> int:
        return self.steps

    @property
    def timesteps(self) -> tuple[float, ...]:
        return tuple(map(float, ddim_timesteps(self.steps)))

    def run(self, model: ModelCall, noise: Tensor, generators: Generators, callback: Callback) -> Tensor:
        return sample_ddim(
            lambda x, info: model(x, float(info.timestep)),
            noise,
            self.schedule,
            ddim_timesteps(self.steps),
            eta=self.eta,
            generators=generators,
            callback=counting(callback),
        )


@dataclass(frozen=True)
class GANSampler:
    """Evaluate a generator once, at pure noise: its output is the velocity of one step from noise to data."""

    family: ClassVar[str] = "gan"
    guidance: ClassVar[ClipGuidance] = PLAIN
    calls: ClassVar[int] = 1
    timesteps: ClassVar[tuple[float, ...]] = (TIMESTEPS,)

    @torch.no_grad()
    def run(self, model: ModelCall, noise: Tensor, generators: Generators, callback: Callback) -> Tensor:
        x = noise.to(torch.promote_types(noise.dtype, torch.float32))
        clip = x - model(x, TIMESTEPS).to(x.dtype)
        check_finite(clip)
        callback(1, 1, clip)
        return clip
