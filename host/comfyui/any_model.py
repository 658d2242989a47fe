"""The pyramid for any model of the host, as blocks ask for it: whole runs, drafts and what finishes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import latent_preview
import torch
from torch import Tensor

from ...samplers.drafts import Draft, pack_draft, unpack_draft
from ...samplers.noise import seed_generator
from ...samplers.spectral import PictureInfo, resample_picture, size_of
from ...samplers.spectral_stages import SpectralStages
from .drafts import DraftSampler, FinishSampler
from .spectral import SpectralSampler, patch_of, scaling_of

Latent = dict[str, Any]


class AnyModel:
    """What the host's models of all kinds are asked for."""

    def info(self, model: Any) -> PictureInfo:
        """What a pyramid has to know of a MODEL."""
        network = model.model
        latents = network.latent_format
        return PictureInfo(
            patch_of(network),
            scaling_of(network),
            type(latents).__name__,
            int(getattr(latents, "spacial_downscale_ratio", 0) or 0),
        )

    def sigmas(self, model: Any, steps: int, scheduler: str, denoise: float = 1.0) -> Tensor:
        """The schedule that KSampler would walk."""
        return self.ksampler(model, "euler", steps, scheduler, denoise).sigmas

    def ksampler(self, model: Any, name: str, steps: int, scheduler: str, denoise: float) -> Any:
        return comfy.samplers.KSampler(
            model, steps, model.load_device, name, scheduler, denoise, model_options=model.model_options
        )

    def free_memory(self) -> int:
        """Bytes of the computer's memory that are free."""
        return int(comfy.model_management.get_free_memory(torch.device("cpu")))

    def picture(self, latent: Latent) -> Tensor:
        """The picture of a LATENT, without its sound."""
        samples = latent["samples"]
        return samples.unbind()[0] if getattr(samples, "is_nested", False) else samples

    def make_sampler(self, stages: SpectralStages, sampler: Any) -> SpectralSampler:
        """SAMPLER that plays `stages` with a core SAMPLER."""
        return SpectralSampler(stages, sampler)

    def sample(
        self,
        model: Any,
        prompts: tuple[list, list, float],
        sampler_name: str,
        stages: SpectralStages,
        sigmas: Tensor,
        latent: Latent,
        seed: int,
    ) -> Latent:
        """Make the clip that KSampler would make, climbing `stages`; `prompts` are positive, negative and cfg."""
        sampler = SpectralSampler(stages, comfy.samplers.sampler_object(sampler_name))
        samples = self.fit_empty(model, latent)
        made = run(model, prompts, sampler, sigmas, noise_rows(samples, seed), samples, latent.get("noise_mask"), seed)
        return handed_on(latent, made)

    def draft(
        self,
        model: Any,
        prompts: tuple[list, list, float],
        sampler_name: str,
        stages: SpectralStages,
        sigmas: Tensor,
        latent: Latent,
        seeds: list[int],
        jump: int,
    ) -> tuple[Latent, Latent]:
        """One draft for each seed that stops before jump 1, 2, ..., and what they show at their size."""
        samples, mask = first_row(self.fit_empty(model, latent)), latent.get("noise_mask")
        mask = None if mask is None else first_row(mask)
        rows, clips, total = [], [], len(seeds) * (len(sigmas) - 1)
        report = latent_preview.prepare_callback(model, total)
        for number, seed in enumerate(seeds):
            first = number * (len(sigmas) - 1)
            sampler = DraftSampler(stages, comfy.samplers.sampler_object(sampler_name), jump)
            noise = noise_rows(samples, seed)
            run(
                *(model, prompts, sampler, sigmas, noise, samples, mask, seed),
                lambda step, x0, x, _, first=first: report(first + step, x0, x, total),
            )
            draft = Draft(
                network_word(model),
                seed,
                stages.scales,
                sampler.levels,
                tuple(float(sigma) for sigma in sigmas),
                sampler.next_segment,
                {"state": [sampler.state.cpu()], "noise": streams_of(noise), "latent": streams_of(samples)},
            )
            if mask is not None:
                draft.tensors["mask"] = streams_of(mask)
            rows.append(pack_draft(draft))
            clips.append([each.cpu() for each in sampler.clip])
        joined = [torch.cat(streams) for streams in zip(*clips, strict=True)]
        return {"samples": torch.cat(rows)}, {"samples": nested(joined)}

    def finish_draft(self, model: Any, prompts: tuple[list, list, float], sampler_name: str, latent: Latent) -> Latent:
        """Go on with every draft of a LATENT where it stopped."""
        drafts = [unpack_draft(row) for row in latent["samples"].split(1)]
        for draft in drafts:
            draft.check_model(network_word(model))
        made, total = [], sum(len(draft.sigmas) - 1 for draft in drafts)
        report, first = latent_preview.prepare_callback(model, total), 0
        for draft in drafts:
            stages = SpectralStages(draft.scales, levels=draft.levels)
            sampler = FinishSampler(stages, comfy.samplers.sampler_object(sampler_name), draft)
            noise, samples = (nested(draft.tensors[name]) for name in ("noise", "latent"))
            mask = nested(draft.tensors["mask"]) if "mask" in draft.tensors else None
            sigmas = torch.tensor(draft.sigmas)
            done = run(
                *(model, prompts, sampler, sigmas, noise, samples, mask, draft.seed),
                lambda step, x0, x, _, first=first: report(first + step, x0, x, total),
            )
            made.append(streams_of(done))
            first += len(draft.sigmas) - 1
        joined = [torch.cat(streams) for streams in zip(*made, strict=True)]
        return handed_on({}, nested(joined))

    def finish_clip(
        self,
        model: Any,
        prompts: tuple[list, list, float],
        sampler_name: str,
        sigmas: Tensor,
        clip: Latent,
        latent: Latent,
        seed: int,
    ) -> Latent:
        """Bring a clean clip to the size of `latent`, with the model's own detail from the first of `sigmas` on."""
        large, *others = streams_of(self.fit_empty(model, latent))
        small, *sound = streams_of(clip["samples"])
        samples = nested([resample_picture(small, size_of(large)), *(sound or others)])
        sampler = comfy.samplers.sampler_object(sampler_name)
        made = run(model, prompts, sampler, sigmas, noise_rows(samples, seed), samples, None, seed)
        return handed_on({}, made)

    def fit_empty(self, model: Any, latent: Latent) -> Any:
        """The samples of a LATENT as this model wants them; the host knows how, each version with other words."""
        known = len(inspect.signature(comfy.sample.fix_empty_latent_channels).parameters) - 2
        ratios = [latent.get(name) for name in ("downscale_ratio_spacial", "downscale_ratio_temporal")]
        return comfy.sample.fix_empty_latent_channels(model, latent["samples"], *ratios[:known])

    def encode(self, vae: Any, images: Tensor, model: Any = None) -> Tensor:
        """Latents (n, c, [t,] h, w) of pictures (frames, h, w, 3), in the model's scale where there is one."""
        samples = vae.encode(images[..., :3])
        samples = streams_of(samples)[0].float().cpu()
        return samples if model is None else model.model.process_latent_in(samples)


def run(
    model: Any,
    prompts: tuple[list, list, float],
    sampler: Any,
    sigmas: Tensor,
    noise: Any,
    samples: Any,
    mask: Any,
    seed: int,
    callback: Callable | None = None,
) -> Any:
    """Play a sampler in the host's usual guider."""
    positive, negative, cfg = prompts
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    callback = callback or latent_preview.prepare_callback(model, len(sigmas) - 1)
    made = guider.sample(noise, samples, sampler, sigmas, denoise_mask=mask, callback=callback, seed=seed)
    return made.to(comfy.model_management.intermediate_device())


def noise_rows(samples: Any, seed: int) -> Any:
    """Noise for a latent; row i comes from seed + i, and is what the host would draw from that seed for it alone."""
    streams = streams_of(samples)
    rows = []
    for row in range(len(streams[0])):
        generator = seed_generator(seed + row)
        rows.append([torch.randn(each.shape[1:], generator=generator) for each in streams])
    return nested([torch.stack(parts) for parts in zip(*rows, strict=True)])


def streams_of(samples: Any) -> list[Tensor]:
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
    return nested([each[:1] for each in streams_of(samples)])


def handed_on(latent: Latent, samples: Any) -> Latent:
    """A LATENT with other samples."""
    ratios = ("downscale_ratio_spacial", "downscale_ratio_temporal")
    return {**{key: value for key, value in latent.items() if key not in ratios}, "samples": samples}


def network_word(model: Any) -> str:
    """A word for the kind and the shapes of a network, the same for all weights of it."""
    import hashlib

    network = model.model
    shapes = sorted((name, tuple(weight.shape)) for name, weight in network.diffusion_model.state_dict().items())
    digest = hashlib.sha256(repr(shapes).encode()).hexdigest()[:12]
    return f"{type(network).__name__} {digest}"
