"""The pyramid for any model of the host, as blocks call it: whole runs, drafts and what finishes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import latent_preview
import torch
from torch import Tensor

from ...models.fingerprint import shapes_digest
from ...samplers.drafts import Draft, pack_draft, unpack_draft
from ...samplers.noise import row_seeds, seed_generator
from ...samplers.spectral import PictureInfo, resample_picture, size_of
from ...samplers.spectral_stages import SpectralStages
from ..protocol import Latent, Prompts
from .drafts import DraftSampler, FinishSampler
from .picture_info import picture_info
from .spectral import SpectralSampler
from .streams import Streams

Callback = Callable[[int, Any, Any, int], None]  # (step, clean estimate, state, total steps)


class AnyModel:
    """The pyramid for the host's models of all kinds: `protocol.AnyModel`."""

    def info(self, model: Any) -> PictureInfo:
        return picture_info(model.model)

    def sigmas(self, model: Any, steps: int, scheduler: str, denoise: float = 1.0) -> Tensor:
        return ksampler(model, "euler", steps, scheduler, denoise).sigmas

    def free_memory(self) -> int:
        return int(comfy.model_management.get_free_memory(torch.device("cpu")))

    def picture(self, latent: Latent) -> Tensor:
        samples = latent["samples"]
        return samples.unbind()[0] if getattr(samples, "is_nested", False) else samples

    def fitted(self, model: Any, latent: Latent) -> Latent:
        return with_samples(latent, fit_empty(model, latent))

    def make_sampler(self, stages: SpectralStages, sampler: Any) -> SpectralSampler:
        return SpectralSampler(stages, sampler)

    def sample(
        self,
        model: Any,
        prompts: Prompts,
        sampler_name: str,
        stages: SpectralStages,
        sigmas: Tensor,
        latent: Latent,
        seed: int,
    ) -> Latent:
        sampler = SpectralSampler(stages, comfy.samplers.sampler_object(sampler_name))
        samples = fit_empty(model, latent)
        noise = noise_rows(samples, seed, latent.get("batch_index"))
        made = run(model, prompts, sampler, sigmas, noise, samples, latent.get("noise_mask"), seed)
        return with_samples(latent, made)

    def draft(
        self,
        model: Any,
        prompts: Prompts,
        sampler_name: str,
        stages: SpectralStages,
        sigmas: Tensor,
        latent: Latent,
        seeds: list[int],
        jump: int,
    ) -> tuple[Latent, Latent]:
        samples, mask = first_row(fit_empty(model, latent)), latent.get("noise_mask")
        mask = None if mask is None else first_row(mask)
        rows, clips, total = [], [], len(seeds) * (len(sigmas) - 1)
        digest = network_names(model)[0]
        report = latent_preview.prepare_callback(model, total)
        for number, seed in enumerate(seeds):
            first = number * (len(sigmas) - 1)
            sampler = DraftSampler(stages, comfy.samplers.sampler_object(sampler_name), jump)
            noise = noise_rows(samples, seed)
            run(
                *(model, prompts, sampler, sigmas, noise, samples, mask, seed),
                from_step(report, first, total),
            )
            draft = Draft(
                digest,
                seed,
                stages.scales,
                sampler.levels,
                tuple(float(sigma) for sigma in sigmas),
                sampler.next_segment,
                {"state": [sampler.state.cpu()], "noise": tensors_of(noise), "latent": tensors_of(samples)},
            )
            if mask is not None:
                draft.tensors["mask"] = tensors_of(mask)
            rows.append(pack_draft(draft))
            clips.append([each.cpu() for each in sampler.clip])
        joined = [torch.cat(streams) for streams in zip(*clips, strict=True)]
        return {"samples": torch.cat(rows)}, {"samples": nested(joined)}

    def finish_draft(self, model: Any, prompts: Prompts, sampler_name: str, latent: Latent) -> Latent:
        drafts, names = [unpack_draft(row) for row in latent["samples"].split(1)], network_names(model)
        for draft in drafts:
            draft.check_model(*names)
        made: list[list[Tensor]] = []
        total = sum(len(draft.sigmas) - 1 for draft in drafts)
        report, first = latent_preview.prepare_callback(model, total), 0
        for draft in drafts:
            stages = SpectralStages(draft.scales, levels=draft.levels)
            sampler = FinishSampler(stages, comfy.samplers.sampler_object(sampler_name), draft)
            noise, samples = (nested(draft.tensors[name]) for name in ("noise", "latent"))
            mask = nested(draft.tensors["mask"]) if "mask" in draft.tensors else None
            sigmas = torch.tensor(draft.sigmas)
            done = run(
                *(model, prompts, sampler, sigmas, noise, samples, mask, draft.seed),
                from_step(report, first, total),
            )
            made.append(tensors_of(done))
            first += len(draft.sigmas) - 1
        joined = [torch.cat(streams) for streams in zip(*made, strict=True)]
        return with_samples({}, nested(joined))

    def finish_clip(
        self,
        model: Any,
        prompts: Prompts,
        sampler_name: str,
        sigmas: Tensor,
        clip: Latent,
        latent: Latent,
        seed: int,
    ) -> Latent:
        large, *others = tensors_of(fit_empty(model, latent))
        small, *sound = tensors_of(clip["samples"])
        samples = nested([resample_picture(small, size_of(large)), *(sound or others)])
        sampler, mask = comfy.samplers.sampler_object(sampler_name), clip.get("noise_mask", latent.get("noise_mask"))
        noise = noise_rows(samples, seed, clip.get("batch_index"))
        made = run(model, prompts, sampler, sigmas, noise, samples, mask, seed)
        return with_samples({}, made)

    def encode(self, vae: Any, images: Tensor, model: Any = None) -> Tensor:
        samples = vae.encode(images[..., :3])
        samples = tensors_of(samples)[0].float().cpu()
        return samples if model is None else model.model.process_latent_in(samples)


def from_step(report: Callback, first: int, total: int) -> Callback:
    """The callback of one run of several, whose steps begin at `first` of `total`."""
    return lambda step, clean, state, _: report(first + step, clean, state, total)


def ksampler(model: Any, name: str, steps: int, scheduler: str, denoise: float) -> Any:
    """The host's KSampler, which knows the schedules."""
    return comfy.samplers.KSampler(
        model, steps, model.load_device, name, scheduler, denoise, model_options=model.model_options
    )


def fit_empty(model: Any, latent: Latent) -> Any:
    """The samples of a LATENT as this model wants them; the host knows how, each version with other arguments."""
    known = len(inspect.signature(comfy.sample.fix_empty_latent_channels).parameters) - 2
    ratios = [latent.get(name) for name in ("downscale_ratio_spacial", "downscale_ratio_temporal")]
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], *ratios[:known])


def run(
    model: Any,
    prompts: Prompts,
    sampler: Any,
    sigmas: Tensor,
    noise: Any,
    samples: Any,
    mask: Any,
    seed: int,
    callback: Callback | None = None,
) -> Any:
    """Play a sampler in the host's usual guider."""
    positive, negative, cfg = prompts
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    if isinstance(sampler, DraftSampler):
        streams = Streams(tuple(tuple(each.shape) for each in tensors_of(samples)))
        sampler.ask_for_its_size(guider, picture_info(model.model), streams, sigmas.tolist())
    callback = callback or latent_preview.prepare_callback(model, len(sigmas) - 1)
    made = guider.sample(noise, samples, sampler, sigmas, denoise_mask=mask, callback=callback, seed=seed)
    return made.to(comfy.model_management.intermediate_device())


def noise_rows(samples: Any, seed: int, numbers: Sequence[int] | None = None) -> Any:
    """Noise for a latent; each row is what the host would draw from its seed, `noise.row_seeds`, for it alone."""
    tensors = tensors_of(samples)
    rows = []
    for each_seed in row_seeds(seed, len(tensors[0]), numbers):
        generator = seed_generator(each_seed)
        rows.append([torch.randn(each.shape[1:], generator=generator) for each in tensors])
    return nested([torch.stack(parts) for parts in zip(*rows, strict=True)])


def tensors_of(samples: Any) -> list[Tensor]:
    """The tensors of a latent, one or several."""
    return list(samples.unbind()) if getattr(samples, "is_nested", False) else [samples]


def nested(streams: list[Tensor]) -> Any:
    """A latent of its tensors, as the host carries several."""
    if len(streams) == 1:
        return streams[0]
    from comfy.nested_tensor import NestedTensor

    return NestedTensor(streams)


def first_row(samples: Any) -> Any:
    """The first of a batch of latents or masks."""
    return nested([each[:1] for each in tensors_of(samples)])


def with_samples(latent: Latent, samples: Any) -> Latent:
    """A LATENT with other samples."""
    ratios = ("downscale_ratio_spacial", "downscale_ratio_temporal")
    return {**{key: value for key, value in latent.items() if key not in ratios}, "samples": samples}


def network_names(model: Any) -> tuple[str, str]:
    """What drafts call a network, the same for all weights of it; then what drafts of earlier versions call it.

    Its class, what it predicts (the state of a flow is none of EPS or V) and a digest of its shapes.
    """
    name, digest = type(model.model).__name__, shapes_digest(model.model.diffusion_model)
    return f"{name} {model.model.model_type.name} {digest}", f"{name} {digest}"
