"""The pyramid for any model of the host: a SAMPLER around a core SAMPLER, which walks each stage's part of a schedule.

The host loads, guides, batches, patches and cleans up as for the sampler inside. Here the latent changes its size
between two parts, and what the host keeps for one size is made anew: prompts, masks, the schedule in the options, and
caches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import comfy.k_diffusion.sampling
import comfy.model_management
import comfy.samplers
import torch
from torch import Tensor

from ...samplers.handover import hand_over, take_over
from ...samplers.seeds import nth_seed
from ...samplers.spectral import (
    Segment,
    jump_up,
    play,
    ratio_of,
    resample,
    resample_picture,
)
from ...samplers.spectral_stages import SpectralStages, check_start, left_out
from .lent_guider import Conds, LentGuider
from .picture_info import picture_info
from .stage_conds import fit_latent, fit_mask, fit_value, stage_conds
from .stage_options import PatchMemory, clean_up, fit_patches, fit_wrappers, stage_options
from .streams import Streams, fresh_noise, packs_streams, streams_of

BY_BLOCKS = "sample_ar_video"  # of the host, for Self-Forcing and Causal Forcing
MOVE_FROM_THE_SECOND_STEP = ("sample_unipc", "sample_unipc_bh2")  # of the host; the first asks the network alone
STOP_BEFORE_ZERO = ("dpm_fast_function", "dpm_adaptive_function")  # of the host, at the last level above it
Callback = Callable[[int, Tensor, Tensor, int], None]  # (step, clean estimate, state, total steps)


class SpectralSampler(comfy.samplers.Sampler):
    """Plays `stages` with the core sampler `inner`, in any guider of the host."""

    family = "spectral"

    def __init__(self, stages: SpectralStages, inner: Any) -> None:
        if not hasattr(inner, "sampler_function"):
            raise ValueError(
                f"a pyramid cannot run the sampler {type(inner).__name__}, which is not one of the host's own kind: "
                "wire 'KSamplerSelect' or another sampler of the host into 'sampler'"
            )
        if getattr(inner.sampler_function, "__name__", "") == BY_BLOCKS:
            raise ValueError(
                "a pyramid cannot run the sampler ar_video, which makes some frames of a clip from noise to the end "
                "before it begins the next ones: a pyramid makes all frames together, stage by stage. Take euler or "
                "another sampler, and a model that makes whole clips"
            )
        self.stages = stages
        self.inner = inner
        self.extra_options = inner.extra_options  # where blocks of other packs look for those of a sampler

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Make a normalised latent of the shape of `noise`, along `sigmas`."""
        run = SpectralRun(self, model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask)
        with run.lent, run.memory:
            return self.play(run)

    def play(self, run: SpectralRun) -> Tensor:
        """What is made of a run; a draft and its end do it in two."""
        state = run.begin()  # which may find that the run goes on from another stage than it planned
        return run.finished(run.play(state, run.segments))


class SpectralRun:
    """One run: from noise, from a clip, from the latent of another sampler, or from a draft."""

    def __init__(
        self,
        sampler: SpectralSampler,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None,
        denoise_mask: Tensor | None,
    ) -> None:
        self.sampler, self.guider, self.extra_args, self.callback = sampler, guider, extra_args, callback
        self.model = guider.inner_model
        self.options: dict[str, Any] = extra_args.get("model_options", {})
        self.memory = PatchMemory(self.options, self.model.diffusion_model)
        self.sigmas = tuple(sigmas.unique_consecutive().tolist())  # as the plan counts them
        self.lent = LentGuider(guider)
        self.streams = streams_of(guider, noise)
        self.size = self.streams.size
        self.info = picture_info(self.model)
        self.scaling = self.info.scaling
        self.goes_on = not torch.count_nonzero(noise)  # the latent holds a state already
        self.raw_noise, self.mask = noise, denoise_mask
        self.latent = torch.zeros_like(noise) if latent_image is None else latent_image
        self.noise = getattr(self.model.model_sampling, "noise_scale", 1.0) * noise
        self.segments = self.plan()
        self.clean: Tensor | None = None  # last estimate, of the size of its stage

    def plan(self, stage: int | None = None) -> tuple[Segment, ...]:
        """Which stage walks which part of the schedule."""
        return self.sampler.stages.plan(self.size, self.info.patch, self.sigmas, self.scaling, self.info.latents, stage)

    def begin(self) -> Tensor:
        """The state where the first segment begins."""
        first = self.segments[0]
        empty = not torch.count_nonzero(self.latent)
        if self.goes_on and not empty:
            return self.take_up()
        check_start(first, self.sigmas[0], empty, self.sampler.max_denoise(self.guider, torch.tensor(self.sigmas)))
        say_left_out(self.sampler.stages, self.segments)
        stage = self.streams.at(first.size)
        picture, *others = self.streams.split(self.raw_noise)
        noise = stage.join([resample(picture, first.size), *others])
        return self.mixed(first.sigmas[0], noise, fit_latent(self.latent, self.streams, stage))

    def take_up(self) -> Tensor:
        """Go on from the latent of another sampler: a smaller stage's, or one of full size, which stays as it is."""
        state = self.mixed(self.sigmas[0], self.raw_noise, self.latent)
        picture, *others = self.streams.split(state)
        sizes = self.sampler.stages.sizes(self.size, self.info.patch)
        taken = take_over(picture, self.sigmas[0], sizes)
        self.segments = self.plan(len(sizes) - 1 if taken is None else taken.stage)
        if taken is None:
            return state
        # The sound of this part gets noise that follows from what came before.
        self.noise = self.streams.join([taken.noise, *others])
        return self.streams.at(sizes[taken.stage]).join([taken.state, *others])

    def mixed(self, sigma: float, noise: Tensor, latent: Tensor) -> Tensor:
        """Noise and data at a level, by the model's own rule."""
        most = self.sampler.max_denoise(self.guider, torch.tensor(self.sigmas))
        return self.model.model_sampling.noise_scaling(noise.new_tensor(sigma), noise, latent, most)

    def play(self, state: Tensor, segments: Sequence[Segment]) -> Tensor:
        """Walk some segments of the run."""
        return play(self.walk, self.jump, state, segments)

    def jump(self, state: Tensor, segment: Segment) -> Tensor:
        """Bring the picture up by the frequencies of the run's noise, and what has no size to the same level."""
        size, level, after = segment.size_before, segment.level_before, segment.sigmas[0]
        assert size is not None and level is not None  # a jump has something before it
        picture, *others = self.streams.at(size).split(state)
        noise, *other_noise = self.streams.split(self.noise)
        picture = jump_up(picture, noise, level, segment.size, self.scaling)
        others = [
            self.scaling.restarted(each, level, after, fresh_noise(each, each_noise, segment.stage))
            for each, each_noise in zip(others, other_noise, strict=True)
        ]
        return self.streams.at(segment.size).join([picture, *others])

    def walk(self, state: Tensor, segment: Segment) -> Tensor:
        """Let the core sampler walk the schedule of one stage."""
        stage = self.streams.at(segment.size)
        mask, latent = fit_mask(self.mask, self.streams, stage), fit_latent(self.latent, self.streams, stage)
        picture, *others = self.streams.split(self.raw_noise)
        noise = stage.join([resample(picture, segment.size), *others])
        sigmas = self.walked = state.new_tensor(segment.sigmas)  # UniPC writes its own last level into it
        seed = self.extra_args.get("seed")
        is_full = segment.size == self.size
        self.lent.show(stage, None if is_full else partial(self.conds_for, noise, stage, latent, mask, seed))
        schedule = state.new_tensor(self.schedule_from(segment))
        model = comfy.samplers.KSamplerX0Inpaint(self.guider, schedule)  # masks that depend on how far the run is
        model.latent_image, model.noise = latent, self.inpaint_noise(noise, seed)
        self.memory.forget()
        if segment.level_before is not None:
            clean_up(self.model.current_patcher)
        ahead = schedule[segment.first_step :]
        fitted = fit_wrappers(self.options, self.size, segment.size)
        fitted = fit_patches(fitted, self.size, segment.size, self.info.patch)
        arguments = {
            **self.extra_args,
            "model_options": stage_options(fitted, ahead, self.model, schedule),
            "denoise_mask": mask,
        }
        if segment.level_before is not None and seed is not None:
            arguments["seed"] = nth_seed(seed, segment.stage)  # else each stage would draw the same noise again

        def on_step(info: dict[str, Any]) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            self.clean = info["denoised"]
            if self.callback is not None:
                step = segment.first_step + min(info["i"], segment.steps - 1)
                self.callback(
                    step, self.in_place(info["denoised"], stage), self.in_place(info["x"], stage), len(self.sigmas) - 1
                )

        inner = self.sampler.inner
        options = fit_value("", self.sampler.extra_options, self.size, segment.size)  # such as a latent to be guided by
        solve = partial(inner.sampler_function, **options)
        if stands_still(inner.sampler_function, segment):
            solve = comfy.k_diffusion.sampling.sample_euler
        return solve(model, state, sigmas, extra_args=arguments, callback=on_step, disable=True)

    def schedule_from(self, segment: Segment) -> tuple[float, ...]:
        """The levels of the whole run, seen from one stage: every step has a place of its own in it, and they fall.

        A jump lifts the level; so earlier ones are those that their steps would have had at the size of `segment`.
        """
        earlier = (each for each in self.segments if each.first_step < segment.first_step)
        lifted = [
            self.scaling.level_after(sigma, ratio_of(each.size, segment.size))
            for each in earlier
            for sigma in each.sigmas[:-1]
        ]
        return (*lifted, *segment.sigmas, *self.sigmas[segment.first_step + segment.steps + 1 :])

    def conds_for(
        self, like: Tensor, stage: Streams, latent: Tensor, mask: Tensor | None, seed: int | None, model: Any
    ) -> Conds:
        """The prompts, start images and masks for a stage, by the host's own code for a model."""
        rest: dict[str, Any] = {"latent_image": latent, "denoise_mask": mask, "seed": seed}
        if packs_streams():
            rest["latent_shapes"] = stage.sizes
        return stage_conds(self.guider, model, like, stage.split(like)[0], self.size, self.info.patch, **rest)

    def inpaint_noise(self, noise: Tensor, seed: int | None) -> Tensor:
        """What the kept part of a masked picture is made noisy with."""
        if not self.sampler.inner.inpaint_options.get("random", False):
            return noise
        generator = torch.Generator("cpu").manual_seed((41 if seed is None else seed) + 1)
        return torch.randn(noise.shape, generator=generator).to(noise)

    def in_place(self, latent: Tensor, stage: Streams) -> Tensor:
        """A latent of a stage at full size, so that previews stay where they are."""
        picture, *others = stage.split(latent)
        return self.streams.join([resample_picture(picture, self.size).to(picture.dtype), *others])

    def finished(self, state: Tensor) -> Tensor:
        """What the host takes over: data, or a state that another sampler goes on with."""
        last = self.segments[-1]
        stage = self.streams.at(last.size)
        if last.size != self.size:
            picture, *others = stage.split(state)
            noise = self.streams.split(self.noise)[0]
            state = self.streams.join([hand_over(picture, noise, last.sigmas[-1]), *others])
        return self.model.model_sampling.inverse_noise_scaling(self.walked[-1], state)


def say_left_out(stages: SpectralStages, segments: tuple[Segment, ...]) -> None:
    """Log the stages that this run does not use."""
    sentence = left_out(stages, segments)
    if sentence:
        logging.info("Pyramid Video: %s", sentence)


def stands_still(solver: Any, segment: Segment) -> bool:
    """Whether a solver of the host hands a stage of one step back as it was; its first order, euler, walks it."""
    name = getattr(solver, "__name__", "")
    to_zero = segment.sigmas[-1] == 0
    return segment.steps == 1 and (name in MOVE_FROM_THE_SECOND_STEP or (to_zero and name in STOP_BEFORE_ZERO))
