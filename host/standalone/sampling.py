"""SAMPLER, GUIDER and NOISE where there is no ComfyUI: the pyramid sampler calling the network directly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.kv_cache import CacheSlot, KVCache, keeps_less
from ...models.out_of_memory import retry_with_room
from ...models.text_features import TextFeatures
from ...samplers.full_sequence import Callback as StepCallback
from ...samplers.full_sequence import FullSequenceSampler, ModelCall
from ...samplers.guidance import PLAIN, ClipGuidance, PyramidGuidance
from ...samplers.history import History
from ...samplers.noise import draw_noise, row_generators
from ...samplers.presets import resolve_defaults, units_of
from ...samplers.pyramid import Callback, StepInfo, Velocity, plan_units, sample_pyramid
from ...samplers.stages import PyramidStages
from ..checks import check_latent, check_no_mask, check_text
from ..protocol import Conditioning, Latent
from .devices import free_memory
from .wires import Model, release_memory, resident


@dataclass(frozen=True)
class Noise:
    """What travels on a NOISE wire."""

    seed: int


@dataclass(frozen=True)
class PyramidSampler:
    """What travels on a SAMPLER wire."""

    stages: PyramidStages | None  # None: those that the model is sampled with as a rule
    history: History | None


@dataclass(frozen=True)
class Guider:
    """What travels on a GUIDER wire: a model, its prompts, and how strongly they pull."""

    model: Model
    positive: Conditioning
    negative: Conditioning | None
    guidance: PyramidGuidance

    def velocity(self, batch: int) -> Velocity:
        """The guided velocity; negative rows share a forward with the positive ones and come first."""
        model = self.model
        alone = both = text_of(model, batch, self.positive, None)
        if self.negative is not None and self.guidance.enabled:
            both = text_of(model, batch, self.positive, self.negative)
        cache: KVCache | None = None

        def velocity(x: Tensor, info: StepInfo) -> Tensor:
            nonlocal cache
            guided = self.negative is not None and self.guidance.guides(info.stage)
            text = both if guided else alone
            if guided and self.guidance.is_zero_init(info.stage, info.step):
                return torch.zeros_like(x)
            cache = cache or KVCache(free_memory(x.device) // 2)  # the rest is for what forwards need
            timestep = torch.full((len(text),), info.timestep, device=x.device)
            rows = x.repeat(len(text) // batch, 1, 1, 1, 1)
            place = info.stage, info.step, info.timestep
            keep = CacheSlot(cache, place, info.settled, info.settled_later) if info.settled else None
            output = retry_with_room(
                lambda: model.predict(rows, timestep, info.history, text, keep),
                lambda _: keeps_less(cache),
                lambda: release_memory(x.device),
            )
            if not guided:
                return output
            negative, positive = output.chunk(2)
            return self.guidance.combine(negative, positive, info.unit, info.stage)

        return velocity


def sample(guider: Guider, sampler: PyramidSampler, latent: Latent, seed: int, callback: Callback | None) -> Latent:
    """Play the pyramid for a LATENT whose samples say size and length; returns it with the finished samples."""
    model, shape = guider.model, latent["samples"].shape
    check_latent(model.info, latent["samples"])
    check_no_mask(model.info, latent.get("noise_mask"))
    info = model.info
    stages, history = resolve_defaults(info, sampler.stages, sampler.history)
    plan_units(latent["samples"], stages, history, units_of(info))  # before anything is moved to the device
    noise = draw_noise(shape, seed).to(model.device)

    def normalize(start: Tensor) -> Tensor:
        check_latent(model.info, start, "start image's latent")
        return model.latent_format.normalize(start.to(noise))

    with resident(model.network, model.device):
        clip = sample_pyramid(
            guider.velocity(shape[0]),
            noise,
            stages,
            generators=row_generators(seed, shape[0]),
            history=history.normalized(normalize),
            units=units_of(info),
            callback=callback,
            model_dtype=model.dtype,
        )
    samples = model.latent_format.denormalize(clip).float().cpu()
    return {**latent, "samples": samples}


def sample_full_sequence(
    model: Model,
    sampler: FullSequenceSampler,
    prompts: tuple[Conditioning, Conditioning | None, float],
    latent: Latent,
    seed: int,
    callback: StepCallback,
) -> Latent:
    """Play `sampler` for a LATENT whose samples say size and length; `prompts` are positive, negative, guidance."""
    shape = latent["samples"].shape
    check_latent(model.info, latent["samples"])
    check_no_mask(model.info, latent.get("noise_mask"))
    noise = draw_noise(shape, seed).to(model.device)
    with resident(model.network, model.device):
        guided = guided_model(model, *prompts, shape[0], sampler.guidance)
        clip = sampler.run(guided, noise, row_generators(seed, shape[0]), callback)
    return {**latent, "samples": model.latent_format.denormalize(clip).float().cpu()}


def guided_model(
    model: Model,
    positive: Conditioning,
    negative: Conditioning | None,
    scale: float,
    batch: int,
    guidance: ClipGuidance = PLAIN,
) -> ModelCall:
    """The guided model; without a negative prompt, or at scale 1, it evaluates one row a clip, not two."""
    guided = negative is not None and scale != 1
    text = text_of(model, batch, positive, negative if guided else None)

    def evaluate(x: Tensor, timestep: float) -> Tensor:
        timesteps = torch.full((len(text),), timestep, device=x.device)
        output = model.predict(x.repeat(len(text) // batch, 1, 1, 1, 1), timesteps, (), text)
        if not guided:
            return output
        of_negative, of_positive = output.chunk(2)
        return guidance.combine(of_negative, of_positive, scale)

    return evaluate


def text_of(model: Model, batch: int, positive: Conditioning, negative: Conditioning | None) -> TextFeatures:
    """The prompts of a batch of clips; negative rows come first."""
    return join_texts([rows_of(prompt, batch, model) for prompt in (negative, positive) if prompt is not None], model)


def join_texts(rows: list[tuple[Tensor, Tensor | None]], model: Model) -> TextFeatures:
    """Stack tokens and pooled vectors as the network reads them."""
    tokens, mask = model.network.join_texts([tokens for tokens, _ in rows])
    vectors = [pooled for _, pooled in rows if pooled is not None]
    return TextFeatures(tokens, mask, torch.cat(vectors) if vectors else None).to(model.device, model.dtype)


def rows_of(conditioning: Conditioning, batch: int, model: Model) -> tuple[Tensor, Tensor | None]:
    """Tokens `(batch, n, d)` and pooled vectors `(batch, p)` of a CONDITIONING, its rows repeated to fill the batch.

    No vectors for a model that reads none.
    """
    if len(conditioning) != 1:
        raise ValueError(
            f"the conditioning holds {len(conditioning)} prompts to be combined; this model takes one at a time"
        )
    tokens, extras = conditioning[0]
    pooled = extras.get("pooled_output")
    check_text(model.info, tokens, pooled)
    if batch % len(tokens):
        raise ValueError(f"{len(tokens)} prompts do not divide over a batch of {batch} clips")
    repeats = batch // len(tokens)
    return tokens.repeat(repeats, 1, 1), pooled.repeat(repeats, 1) if model.info.pooled_width else None
