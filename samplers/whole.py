"""Ways to make all frames of a clip at once: what a sampler block hands to a host, which plays it with its own model.

Each asks the network with the timestep it was trained with (0 to 1000, noise is high), whatever the family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from .ddim import DiffusionCall, check_eta, ddim_levels, sample_ddim
from .flow import TIMESTEPS, FlowCall, flow_sigmas, sample_flow
from .noise import Generators
from .noise_schedule import NoiseSchedule
from .solvers import check_finite, count_calls

Ask = Callable[[Tensor, float], Tensor]  # (x, timestep) -> what the network answers, guided
OnCall = Callable[[int, int, Tensor], None]  # (calls done, calls in all, estimate of the clean clip); may raise to stop


class WholeSampler(Protocol):
    """A way to make a normalised clip (b, c, t, h, w) from white noise of its shape."""

    family: ClassVar[str]  # of the models it can ask
    zero_star: bool  # whether guidance is CFG-Zero*

    @property
    def calls(self) -> int:
        """How often the model is asked."""
        ...

    @property
    def timesteps(self) -> tuple[float, ...]:
        """Where its steps begin, from noise on."""
        ...

    def run(self, ask: Ask, noise: Tensor, generators: Generators, on_call: OnCall) -> Tensor: ...


@dataclass(frozen=True)
class FlowSampler:
    """Follow a flow along `steps + 1` noise levels, shifted, with one of `solvers.SOLVERS`.

    `zero_star` is guidance by CFG-Zero*, in which the first `zero_steps` steps stand still: the noise is taken for a
    sample of a later level.
    """

    steps: int = 10
    solver: str = "euler"
    shift: float = 1.0
    zero_star: bool = False
    zero_steps: int = 0

    family: ClassVar[str] = "flow"

    def __post_init__(self) -> None:
        count_calls(self.solver, len(self.sigmas) - 1)
        if not 0 <= self.zero_steps < self.steps:
            raise ValueError(f"{self.zero_steps} of {self.steps} steps at rest; expected 0 or more, and one step to go")

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The noise levels that are travelled."""
        return flow_sigmas(self.steps, self.shift)[self.zero_steps if self.zero_star else 0 :]

    @property
    def calls(self) -> int:
        return count_calls(self.solver, len(self.sigmas) - 1)

    @property
    def timesteps(self) -> tuple[float, ...]:
        return tuple(TIMESTEPS * sigma for sigma in self.sigmas[:-1])

    def run(self, ask: Ask, noise: Tensor, generators: Generators, on_call: OnCall) -> Tensor:
        def told(call: FlowCall, clean: Tensor) -> None:
            on_call(call.index + 1, call.total, clean)

        return sample_flow(lambda x, call: ask(x, TIMESTEPS * call.sigma), noise, self.sigmas, self.solver, told)


@dataclass(frozen=True)
class DDIMSampler:
    """Climb down `steps` of the 1000 levels of a diffusion model's `schedule`; `eta` as `sample_ddim` takes it."""

    schedule: NoiseSchedule
    steps: int = 50
    eta: float = 0.0

    family: ClassVar[str] = "diffusion"
    zero_star: ClassVar[bool] = False

    def __post_init__(self) -> None:
        ddim_levels(self.steps)
        check_eta(self.eta)

    @property
    def calls(self) -> int:
        return self.steps

    @property
    def timesteps(self) -> tuple[float, ...]:
        return tuple(map(float, ddim_levels(self.steps)))

    def run(self, ask: Ask, noise: Tensor, generators: Generators, on_call: OnCall) -> Tensor:
        def told(call: DiffusionCall, clean: Tensor) -> None:
            on_call(call.index + 1, call.total, clean)

        return sample_ddim(
            lambda x, call: ask(x, float(call.level)),
            noise,
            self.schedule,
            ddim_levels(self.steps),
            eta=self.eta,
            generators=generators,
            on_call=told,
        )


@dataclass(frozen=True)
class GANSampler:
    """Ask a generator once, at pure noise: what it answers is the velocity of one whole step."""

    family: ClassVar[str] = "gan"
    zero_star: ClassVar[bool] = False
    calls: ClassVar[int] = 1
    timesteps: ClassVar[tuple[float, ...]] = (TIMESTEPS,)

    @torch.no_grad()
    def run(self, ask: Ask, noise: Tensor, generators: Generators, on_call: OnCall) -> Tensor:
        x = noise.to(torch.promote_types(noise.dtype, torch.float32))
        clip = x - ask(x, TIMESTEPS).to(x.dtype)
        check_finite(clip)
        on_call(1, 1, clip)
        return clip
