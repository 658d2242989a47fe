"""The pyramid as a SAMPLER that calls the host's guider for every forward, and pyramid guidance as a GUIDER.

The host then loads, batches, guides, patches and cleans up as for any model. It is called with the sigma inside the
stage, 1 to 0, so that `x - sigma * velocity` is the stage's clean end; the network's timestep and the history ride
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.kv_cache import KVCache, keeps_less
from ...models.model_info import ModelInfo
from ...models.out_of_memory import retry_with_room
from ...samplers.guidance import PyramidGuidance
from ...samplers.history import History
from ...samplers.noise import row_generators
from ...samplers.presets import resolve_defaults, units_of
from ...samplers.pyramid import StepInfo, calls_left, plan_units, sample_pyramid, shift_tokens
from ...samplers.stages import PyramidStages
from ...samplers.time_left import TimeEstimator, time_left
from ..checks import check_family, check_no_mask
from ..protocol import Conditioning
from .forward import KeptRun, StageMemory, compute_dtype, room_for_keys
from .page import say
from .patchers import release_memory
from .stage_options import PatchMemory, stage_options

# (step, estimate of the clean unit, all of the clip so far, total steps)
Callback = Callable[[int, Tensor, Tensor, int], None]


class PyramidSampler(comfy.samplers.Sampler):
    """Plays the pyramid over whatever guider the host runs it with; the SIGMAS wired there are not read."""

    family = "pyramid"  # what the guard on the MODEL looks for

    def __init__(
        self, stages: PyramidStages | None, history: History | None, rows: Sequence[int] | None = None
    ) -> None:
        self.stages = stages  # None: the default of the model
        self.history = history
        self.rows = rows  # their numbers in the batch that they were cut out of

    def of_rows(self, rows: Sequence[int] | None) -> PyramidSampler:
        """The same for rows of a batch: their noise on the way is what it was there."""
        return PyramidSampler(self.stages, self.history, rows)

    def resolve(self, info: ModelInfo) -> tuple[PyramidStages, History]:
        """The stages and history for a model. ValueError where those wired were made for another kind."""
        return resolve_defaults(info, self.stages, self.history)

    def check(self, info: ModelInfo, noise: Tensor) -> None:
        """Raise ValueError where what is wired, or the clip's size or length, does not fit the model."""
        plan_units(noise, *self.resolve(info), units_of(info))

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
        """Make a normalised latent (b, c, t, h, w) from white `noise` of that shape."""
        check_model(model_wrap.inner_model)
        model = model_wrap.inner_model
        check_no_mask(model.info, denoise_mask)
        stages, history = self.resolve(model.info)
        history = history.normalized(lambda latent: model.process_latent_in(latent.to(noise)))
        run = PyramidRun(stages, model_wrap, extra_args, callback, noise.shape, history.start)
        with run.patch_memory:
            result = sample_pyramid(
                run.velocity,
                noise,
                stages,
                generators=row_generators(run.seed, noise.shape[0], self.rows),
                history=history,
                units=units_of(model.info),
                callback=run.report,
                model_dtype=compute_dtype(model),
            )
        run.finish(result)
        return result


class PyramidRun:
    """One run: turns the model calls of `sample_pyramid` into calls of the host's guider."""

    def __init__(
        self,
        stages: PyramidStages,
        guider: Any,
        extra_args: dict[str, Any],
        callback: Callback | None,
        shape: torch.Size,
        start: Tensor | None = None,
    ) -> None:
        self.stages = stages
        self.guider = guider
        self.options: dict[str, Any] = extra_args.get("model_options", {})
        self.patch_memory = PatchMemory(self.options)
        self.seed: int = extra_args.get("seed") or 0
        self.callback = callback
        self.shape = shape
        self.conds = guider.conds  # resolved by the host for the full size
        self.stage_options: dict[str, Any] = {}
        self.total = 1
        self.time_estimator = TimeEstimator()
        self.start = start
        self.memory = StageMemory()
        self.kept: KeptRun | None = None
        self.clip: Tensor | None = None  # estimates of all frames so far, of full size

    def velocity(self, x: Tensor, info: StepInfo) -> Tensor:
        if info.step == 0:
            self.enter_stage(x, info)
        beside = {
            "timestep": self.timesteps[info.step : info.step + 1],
            "network_timestep": info.timestep,
            "history": info.history,
            "settled": info.settled,
            "settled_later": info.settled_later,
            "memory": self.memory,
            "kept": self.kept_run,
            "unit": info.unit,
            "stage": info.stage,
            "step": info.step,
        }
        inner = {**self.stage_options["transformer_options"], "pyramid": beside}
        options = {**self.stage_options, "transformer_options": inner}
        sigma = x.new_full((x.shape[0],), info.sigma)
        clean = retry_with_room(
            lambda: self.guider(x, sigma, model_options=options, seed=self.seed),
            lambda _: keeps_less(None if self.kept is None else self.kept.cache),
            partial(release_memory, self.guider.inner_model.diffusion_model),
        )
        return (x - clean) / info.sigma

    def kept_run(self, model: Any, x: Tensor) -> KeptRun:
        """What this run keeps from unit to unit, begun when there is first something to keep."""
        if self.kept is None:
            batch, channels, *_ = x.shape
            self.kept = KeptRun(KVCache(room_for_keys(model, [2 * batch, channels, *self.shape[2:]], x.device)))
        return self.kept

    def enter_stage(self, x: Tensor, info: StepInfo) -> None:
        """Bring up to the new size what the host and its patches keep for one size."""
        tokens = shift_tokens(x, info.stage)
        sigmas = self.stages.sigmas(info.stage, info.steps, tokens)
        self.timesteps = x.new_tensor(self.stages.timesteps(info.stage, info.steps, tokens))
        self.memory = StageMemory()
        self.patch_memory.forget()
        self.stage_options = stage_options(self.options, x.new_tensor(sigmas), self.guider.inner_model)
        self.guider.conds = {
            name: [fit_cond(cond, x, info.frames, self.shape[2]) for cond in conds]
            for name, conds in self.conds.items()
        }

    def report(self, info: StepInfo, clean: Tensor) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.time_estimator.step(info.stage)
        left = self.time_estimator.left(calls_left(self.stages, info))
        say(
            f"unit {info.unit + 1} of {info.units}, stage {info.stage + 1} of {info.stages}, "
            f"step {info.step + 1} of {info.steps}{time_left(left)}"
        )
        self.total = info.total
        if self.callback is not None and info.index + 1 < info.total:  # the last is reported with the whole clip
            unit = resize_frames(clean, self.shape[-2:])
            self.callback(info.index, unit, self.with_unit(unit, info.frames), info.total)

    def with_unit(self, unit: Tensor, frames: slice) -> Tensor:
        """The clip up to the end of a unit; what was last estimated of earlier ones stays as it was."""
        if self.clip is None:
            self.clip = unit.new_zeros(self.shape)
            if self.start is not None:
                self.clip[:, :, : self.start.shape[2]] = self.start
        self.clip[:, :, frames] = unit
        return self.clip[:, :, : frames.stop]

    def finish(self, result: Tensor) -> None:
        """Leave the whole clip as the last estimate: core's sampler hands it out as `denoised_output`."""
        if self.callback is not None:
            self.callback(self.total - 1, result, result, self.total)


class PyramidGuider(comfy.samplers.CFGGuider):
    """Classifier-free guidance with a strength per unit; without a negative, or off, one row instead of two."""

    def __init__(
        self, model: Any, positive: Conditioning, negative: Conditioning | None, guidance: PyramidGuidance
    ) -> None:
        super().__init__(model)
        self.guidance = guidance
        self.guided = negative is not None and guidance.enabled
        if self.guided and guidance.zero_star:
            instead = "wire 'Pyramid guidance' with coarse_guidance at 1 in place of 'CFG-Zero* guidance'"
            check_guidance_is_free(model, "CFG-Zero*", instead)
        elif self.guided and not guidance.plain:
            instead = "set coarse_guidance of 'Pyramid guidance' to 1"
            check_guidance_is_free(model, "coarse_guidance below 1", instead)
        self.inner_set_conds({"positive": positive, **({"negative": negative} if self.guided else {})})

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any], seed: int | None = None
    ) -> Tensor:
        now = model_options["transformer_options"]["pyramid"]
        guided = self.guided and self.guidance.guides(now["stage"])
        if guided and self.guidance.is_zero_init(now["stage"], now["step"]):
            return x  # the host wants the clean estimate: no velocity, no change
        self.set_cfg(self.guidance.scale(now["unit"]) if guided else 1.0)
        if guided and not self.guidance.plain:
            model_options = {**model_options, "sampler_cfg_function": self.combine_for(now["unit"], now["stage"])}
        return super().predict_noise(x, timestep, model_options=model_options, seed=seed)

    def combine_for(self, unit: int, stage: int) -> Callable[[dict[str, Any]], Tensor]:
        """What the host calls instead of its own formula, with both outputs as `sigma * velocity`."""
        return lambda outputs: self.guidance.combine(outputs["uncond"], outputs["cond"], unit, stage)


def check_model(model: Any) -> None:
    """Raise ValueError unless `model` is one of our pyramid models."""
    if not isinstance(getattr(model, "info", None), ModelInfo):
        raise ValueError(
            f"the pyramid sampler was given a {type(model).__name__} model, which knows no pyramid: "
            "wire 'Load video model' into it, or sample this model with KSampler"
        )
    check_family(model.info, "pyramid")


def check_guidance_is_free(model: Any, rule: str, instead: str) -> None:
    """Refuse a rule for guidance on a MODEL with another one, which it would replace; `instead` is a way out."""
    other = model.model_options.get("sampler_cfg_function")
    if other is not None:
        block = getattr(other, "__qualname__", type(other).__qualname__).split(".")[0]
        raise ValueError(
            f"{rule} and '{block}' each combine the two predictions by a rule of their own, and only one can: take "
            f"'{block}' away from the model, or {instead}"
        )


def fit_cond(cond: dict[str, Any], x: Tensor, unit: slice, frames: int) -> dict[str, Any]:
    """A prompt whose mask has the size of the unit `x`, and a mask of its own for each of its frames.

    `unit` are its latent frames, of `frames` in the whole clip.
    """
    if "area" in cond:
        raise ValueError(
            "a prompt is bound to an area, which a pyramid cannot cut out of its past: take 'Set Area' away, "
            "or use 'Conditioning (Set Mask)' with set_cond_area at 'default'"
        )
    if "mask" not in cond:
        return cond
    mask = cond["mask"]  # (n, times, h, w), the times spread evenly over the clip
    each = [mask[:, times_of(frame, frames, mask.shape[1])].mean(dim=1) for frame in range(unit.start, unit.stop)]
    mask = torch.stack(each, dim=1)
    return {**cond, "mask": comfy.utils.common_upscale(mask, x.shape[-1], x.shape[-2], "area", "disabled")}


def times_of(frame: int, frames: int, times: int) -> slice:
    """Which of `times` masks belong to the latent frame: those after the ones before, up to its own.

    So a mask for every picture meets the pictures that the latent frame stands for, the first of them alone.
    """
    step = (times - 1) / max(1, frames - 1)
    last = round(frame * step)
    first = min(last, round((frame - 1) * step) + 1) if frame else 0
    return slice(first, last + 1)


def resize_frames(clip: Tensor, size: torch.Size) -> Tensor:
    """Repeat the cells of every frame of `(b, c, t, h, w)` up to `size`: the stage's own resolution stays visible."""
    if clip.shape[-2:] == size:
        return clip
    return F.interpolate(clip, size=(clip.shape[2], *size), mode="nearest")
