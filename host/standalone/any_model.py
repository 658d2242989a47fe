"""The pyramid for models of one size where there is no ComfyUI: our flows and diffusion models, by the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...models.fingerprint import fingerprint, shapes_digest
from ...models.layers import PATCH
from ...samplers.drafts import Draft, pack_draft, unpack_draft
from ...samplers.flow import TIMESTEPS, shift_sigma
from ...samplers.names import ANY_MODEL_SCHEDULERS, ANY_MODEL_SOLVERS
from ...samplers.noise import draw_noise
from ...samplers.noise_schedule import schedule_of
from ...samplers.sigma_schedule import NUM_TRAIN_TIMESTEPS
from ...samplers.solvers import check_finite
from ...samplers.spectral import (
    FLOW,
    VARIANCE_EXPLODING,
    PictureInfo,
    Segment,
    jump_up,
    play,
    resample,
    resample_picture,
    size_of,
)
from ...samplers.spectral_stages import SpectralStages, check_jump, check_start
from ..checks import check_latent
from ..protocol import Latent, ProgressBar, Prompts
from .devices import free_memory
from .sampling import guided_model
from .wires import VAE, Model, resident

Clean = Callable[[Tensor, float], Tensor]  # (state, sigma) -> clean estimate
Callback = Callable[[int], None]  # steps done


@dataclass(frozen=True, eq=False)
class Run:
    """One run over a batch: what every part of the schedule needs."""

    clean: Clean
    solver: str
    noise: Tensor
    info: PictureInfo
    segments: Sequence[Segment]
    highest: float  # of the model's levels
    callback: Callback

    def begin(self, latent: Tensor) -> Tensor:
        """The state where the first segment begins; `latent` is clean, zeros for a clip from noise."""
        first = self.segments[0]
        sigma, noise = first.sigmas[0], resample(self.noise, first.size)
        at_noise = sigma > self.highest or math.isclose(sigma, self.highest, rel_tol=1e-5)
        check_start(first, sigma, not latent.any(), at_noise)
        data = resample_picture(latent, first.size)
        if self.info.scaling is VARIANCE_EXPLODING and at_noise:  # as ComfyUI, where little is left of the data
            return data + noise * math.sqrt(1 + sigma**2)
        return self.info.scaling.mixed(data, noise, sigma)

    def play(self, state: Tensor, segments: Sequence[Segment]) -> Tensor:
        state = play(self.walk, self.jump, state, segments)
        check_finite(state)
        return state

    def jump(self, state: Tensor, segment: Segment) -> Tensor:
        return jump_up(state, self.noise, segment.level_before or 0.0, segment.size, self.info.scaling)

    def walk(self, x: Tensor, segment: Segment) -> Tensor:
        """Euler or Heun along the part of a stage, in the scaling of k-diffusion: the slope is (x - clean) / sigma."""
        for step, (sigma, after) in enumerate(pairwise(segment.sigmas)):
            slope = (x - self.clean(x, sigma)) / sigma
            ahead = x + (after - sigma) * slope
            if self.solver == "heun" and after > 0:
                slope = (slope + (ahead - self.clean(ahead, after)) / after) / 2
                ahead = x + (after - sigma) * slope
            x = ahead
            self.callback(segment.first_step + step + 1)
        return x


class AnyModel:
    """The pyramid for our models of one size: `protocol.AnyModel`."""

    def __init__(self, progress: Callable[[int], ProgressBar]) -> None:
        self._progress = progress

    def info(self, model: Model) -> PictureInfo:
        family = model.info.family
        if not family.rules.any_sampler:
            raise ValueError(
                f"{model.info.name} is a {family}, which makes no picture of one size from noise step by step: use "
                f"'{family.rules.sampler}'"
            )
        scaling = VARIANCE_EXPLODING if family.rules.has_noise_schedule else FLOW
        return PictureInfo(PATCH, scaling, model.info.latent_format.name, 0)

    def sigmas(self, model: Model, steps: int, scheduler: str, denoise: float = 1.0) -> Tensor:
        """The schedule "simple" of ComfyUI: levels of a table of 1000 in equal steps, and 0."""
        self.info(model)
        check_listed("scheduler", scheduler, ANY_MODEL_SCHEDULERS)
        if not 0 < denoise <= 1:
            raise ValueError(f"denoise is {denoise}; expected more than 0, up to 1")
        total = steps if denoise > 0.9999 else int(steps / denoise)
        table = level_table(model)
        levels = [table[-(1 + int(step * len(table) / total))] for step in range(total)]
        return torch.tensor([*levels[-steps:], 0.0])

    def free_memory(self) -> int:
        return free_memory(torch.device("cpu"))

    def encode(self, vae: VAE, images: Tensor, model: Model | None = None) -> Tensor:
        samples = vae.encode(images, 2 * vae.info.time_compression)
        return samples if model is None else model.latent_format.normalize(samples)

    def picture(self, latent: Latent) -> Tensor:
        return latent["samples"]

    def fitted(self, model: Model, latent: Latent) -> Latent:
        return latent  # what does not fit is refused where it is sampled

    def make_sampler(self, stages: SpectralStages, sampler: Any) -> Any:
        """Nothing: core SAMPLERs are ComfyUI's."""
        raise ValueError(
            "'Pyramid sampler (any model)' is a part for ComfyUI's own sampler blocks, which are not here: use 'Sample "
            "with a pyramid'"
        )

    def sample(
        self,
        model: Model,
        prompts: Prompts,
        sampler_name: str,
        stages: SpectralStages,
        sigmas: Tensor,
        latent: Latent,
        seed: int,
    ) -> Latent:
        check_run(model, sampler_name, latent)
        clean = model.latent_format.normalize(latent["samples"]) if latent["samples"].any() else latent["samples"]
        made = self._run(model, prompts, sampler_name, stages, sigmas, clean, seed)
        return {**latent, "samples": model.latent_format.denormalize(made).float().cpu()}

    def _run(
        self,
        model: Model,
        prompts: Prompts,
        sampler_name: str,
        stages: SpectralStages,
        sigmas: Tensor,
        latent: Tensor,
        seed: int,
    ) -> Tensor:
        """A whole run, from a normalised `latent`, zeros for one from noise; normalised."""
        info, levels = self.info(model), tuple(float(sigma) for sigma in sigmas)
        segments = stages.plan(size_of(latent), info.patch, levels, info.scaling, info.latents)
        bar = self._progress(len(levels) - 1)
        try:
            with resident(model.network, model.device):
                run = Run(
                    clean_estimate(model, prompts, len(latent)),
                    sampler_name,
                    draw_noise(latent.shape, seed).to(model.device),
                    info,
                    segments,
                    level_table(model)[-1],
                    lambda done: bar.update(done, f"step {done}/{len(levels) - 1}"),
                )
                return run.play(run.begin(latent.to(run.noise)), segments)
        finally:
            bar.close()

    def draft(
        self,
        model: Model,
        prompts: Prompts,
        sampler_name: str,
        stages: SpectralStages,
        sigmas: Tensor,
        latent: Latent,
        seeds: list[int],
        jump: int,
    ) -> tuple[Latent, Latent]:
        check_run(model, sampler_name, latent)
        info, levels = self.info(model), tuple(float(sigma) for sigma in sigmas)
        shape = latent["samples"].shape
        segments = stages.plan(size_of(latent["samples"]), info.patch, levels, info.scaling, info.latents)
        check_jump(segments, jump, stages.shares(size_of(latent["samples"]), info.latents), levels)
        samples = latent["samples"][:1]
        start = model.latent_format.normalize(samples) if samples.any() else samples
        rows, clips, highest, digest = [], [], level_table(model)[-1], model_names(model)[0]
        bar = self._progress(len(seeds) * segments[jump].first_step)
        try:
            with resident(model.network, model.device):
                clean = clean_estimate(model, prompts, 1)
                for number, seed in enumerate(seeds):
                    noise = draw_noise((1, *shape[1:]), seed).to(model.device)
                    done = number * segments[jump].first_step
                    run = Run(clean, sampler_name, noise, info, segments, highest, from_step(bar, done))
                    state = run.play(run.begin(start.to(noise)), segments[:jump])
                    shown = clean(state, segments[jump].level_before or 0.0)
                    clips.append(model.latent_format.denormalize(shown).float().cpu())
                    tensors = {"state": [state.cpu()], "noise": [noise.cpu()], "latent": [start]}
                    shares = stages.shares(size_of(noise), info.latents)
                    rows.append(pack_draft(Draft(digest, seed, stages.scales, shares, levels, jump, tensors)))
        finally:
            bar.close()
        return {"samples": torch.cat(rows)}, {"samples": torch.cat(clips)}

    def finish_draft(self, model: Model, prompts: Prompts, sampler_name: str, latent: Latent) -> Latent:
        check_listed("sampler", sampler_name, ANY_MODEL_SOLVERS)
        drafts, info = [unpack_draft(row) for row in latent["samples"].split(1)], self.info(model)
        names = list(model_names(model))
        if any(draft.model not in names for draft in drafts):
            names.append(weights_digest(model))
        for draft in drafts:
            draft.check_model(*names)
        made, bar = [], self._progress(sum(len(draft.sigmas) - 1 for draft in drafts))
        try:
            with resident(model.network, model.device):
                clean, highest, done = clean_estimate(model, prompts, 1), level_table(model)[-1], 0
                for draft in drafts:
                    (noise,), (state,) = draft.tensors["noise"], draft.tensors["state"]
                    stages = SpectralStages(draft.scales, levels=draft.levels)
                    segments = stages.plan(size_of(noise), info.patch, draft.sigmas, info.scaling)
                    noise = noise.to(model.device)
                    run = Run(clean, sampler_name, noise, info, segments, highest, from_step(bar, done))
                    made.append(run.play(state.to(noise), segments[draft.segment :]))
                    done += len(draft.sigmas) - 1
        finally:
            bar.close()
        return {"samples": model.latent_format.denormalize(torch.cat(made)).float().cpu()}

    def finish_clip(
        self,
        model: Model,
        prompts: Prompts,
        sampler_name: str,
        sigmas: Tensor,
        clip: Latent,
        latent: Latent,
        seed: int,
    ) -> Latent:
        for given, socket in ((clip, "clip"), (latent, "latent_image")):
            check_run(model, sampler_name, given, socket)
        large = resample_picture(model.latent_format.normalize(clip["samples"]), size_of(latent["samples"]))
        made = self._run(model, prompts, sampler_name, SpectralStages((1.0,)), sigmas, large, seed)
        return {"samples": model.latent_format.denormalize(made).float().cpu()}


def check_listed(what: str, name: str, listed: Sequence[str]) -> None:
    """Refuse one of ComfyUI's samplers and schedulers that is not here: another in its place makes another clip."""
    if name not in listed:
        raise ValueError(f"there is no {what} {name!r} without ComfyUI: take {' or '.join(map(repr, listed))}")


def check_run(model: Model, sampler_name: str, latent: Latent, socket: str = "latent_image") -> None:
    """Refuse what a run from the LATENT of `socket` cannot do here."""
    check_latent(model.info, latent["samples"], socket)
    check_listed("sampler", sampler_name, ANY_MODEL_SOLVERS)
    if latent.get("noise_mask") is not None:
        raise ValueError(
            "a pyramid keeps no masked part without ComfyUI: take 'Set Latent Noise Mask' away, or run this in ComfyUI"
        )


def from_step(bar: ProgressBar, first: int) -> Callback:
    """The callback of one run of several, whose steps begin at `first`."""
    return lambda done: bar.update(first + done)


def clean_estimate(model: Model, prompts: Prompts, batch: int) -> Clean:
    """The guided model as ComfyUI calls it: the clean clip, from a state at a level of its own scaling."""
    guided = guided_model(model, *prompts, batch)
    if not model.info.family.rules.has_noise_schedule:
        return lambda x, sigma: x - sigma * guided(x, TIMESTEPS * sigma)
    table = level_table(model)
    logs = torch.tensor(table, dtype=torch.float64).log()
    of_noise = schedule_of(model.info.family).prediction == "epsilon"

    def clean(x: Tensor, sigma: float) -> Tensor:
        level = int((logs - math.log(sigma)).abs().argmin())  # the network knows these only
        output = guided(x / math.sqrt(sigma**2 + 1), float(level))
        return x - sigma * output if of_noise else x / (sigma**2 + 1) - sigma / math.sqrt(sigma**2 + 1) * output

    return clean


def level_table(model: Model) -> list[float]:
    """The 1000 levels of a model, rising, in the scaling of its family."""
    family = model.info.family
    if not family.rules.has_noise_schedule:
        even = [(step + 1) / NUM_TRAIN_TIMESTEPS for step in range(NUM_TRAIN_TIMESTEPS)]
        return [shift_sigma(level, family.shift) for level in even]
    return schedule_of(family).sigmas.tolist()


def model_names(model: Model) -> tuple[str, str]:
    """What drafts call a model, the same for all weights of it; then what drafts of earlier versions call it.

    Its kind, its family with what it predicts, and a digest of its shapes.
    """
    family, kind, digest = model.info.family, model.info.kind, shapes_digest(model.network)
    predicts = family.prediction if family.rules.has_noise_schedule else "velocity"
    return f"{kind} {family.name} {predicts} {digest}", f"{kind} {digest}"


def weights_digest(model: Model) -> str:
    """What drafts of still earlier versions call a model: its kind and a digest of its weights."""
    return f"{model.info.kind} {fingerprint(model.network)[:12]}"
