"""Blocks that draft small and finish later: drafts of any model, and clips that get a larger size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from .choices import SEED
from .notices import tell
from .spectral import (
    CFG,
    MODEL,
    NEGATIVE,
    POSITIVE,
    STAGES,
    STEPS,
    sampler_name,
    scheduler,
    size_of_latent,
    stages_or_usual,
)

if TYPE_CHECKING:
    from ..samplers.spectral_stages import SpectralStages
    from ..samplers.spectrum import Spectrum

MOST_DRAFTS = 64


class Draft:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "Makes small drafts that stop before the picture grows: look at them, keep the good ones, and finish those "
        "with 'Finish draft'. SaveLatent and LoadLatent carry a draft to another day or server."
    )
    SEARCH_ALIASES = ["draft", "preview", "low resolution", "small first", "seeds", "variations", "batch"]
    RETURN_TYPES = ("LATENT", "LATENT")
    RETURN_NAMES = ("draft", "clips")
    OUTPUT_TOOLTIPS = (
        "The drafts, one a row, for 'Finish draft', SaveLatent and LatentFromBatch. They cannot be decoded.",
        "What they show, small: for VAE Decode.",
    )
    FUNCTION = "draft"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL,
                "seed": SEED,
                "steps": STEPS,
                "cfg": CFG,
                "sampler_name": sampler_name(),
                "scheduler": scheduler(),
                "positive": POSITIVE,
                "negative": NEGATIVE,
                "latent_image": ("LATENT", {"tooltip": "The full size and length, as for the finished video."}),
                "drafts": (
                    "INT",
                    {
                        "default": 4,
                        "min": 1,
                        "max": MOST_DRAFTS,
                        "tooltip": "How many, one after the other; draft i uses seed + i. Memory holds a few full-size "
                        "latents for each.",
                    },
                ),
            },
            "optional": {
                "stages": STAGES,
                "jump": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 5,
                        "tooltip": "Before which jump to stop. 1 is the smallest and fastest; with three stages 2 "
                        "shows more.",
                    },
                ),
            },
        }

    def draft(
        self,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: list,
        negative: list,
        latent_image: dict[str, Any],
        drafts: int,
        stages: SpectralStages | None = None,
        jump: int = 1,
    ):
        from ..samplers.seeds import LARGEST_SEED

        stages, host = stages_or_usual(stages), get_host().any_model
        check_memory(latent_image, drafts)
        sigmas = host.sigmas(model, steps, scheduler)
        seeds = [(seed + number) & LARGEST_SEED for number in range(drafts)]
        draft, clips = host.draft(
            model, (positive, negative, cfg), sampler_name, stages, sigmas, latent_image, seeds, jump
        )
        rows, columns = host.picture(clips).shape[-2:]
        notice = tell(f"{drafts} drafts of {columns} x {rows} latent cells, seeds {seeds[0]} to {seeds[-1]}.")
        return {"ui": notice, "result": (draft, clips)}


def check_memory(latent: dict[str, Any], drafts: int) -> None:
    """Refuse more drafts than memory holds: each keeps its noise and the latent that it began with."""
    each = 3 * 4 * get_host().any_model.picture(latent)[:1].numel()
    free = get_host().any_model.free_memory()
    if drafts * each > free // 2:
        raise ValueError(
            f"{drafts} drafts of this size need {drafts * each / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are "
            f"free: ask for {max(1, free // 2 // each)} or fewer"
        )


class FinishDraft:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "Goes on with drafts where they stopped: to the last bit what one run would have made, with the same model, "
        "prompts and sampler."
    )
    SEARCH_ALIASES = ["draft", "finish", "continue", "resume", "upscale draft"]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The finished latents, at full size.",)
    FUNCTION = "finish"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL,
                "cfg": CFG,
                "sampler_name": sampler_name(),
                "positive": POSITIVE,
                "negative": NEGATIVE,
                "draft": ("LATENT", {"tooltip": "From 'Draft' or LoadLatent; steps, size and seed are in it."}),
                "which": (
                    "STRING",
                    {
                        "default": "all",
                        "tooltip": "Which drafts to finish: all, or their numbers from 1 on, such as 2, 5.",
                    },
                ),
            }
        }

    def finish(
        self,
        model: Any,
        cfg: float,
        sampler_name: str,
        positive: list,
        negative: list,
        draft: dict[str, Any],
        which: str = "all",
    ):
        from ..samplers.drafts import NO_DRAFT

        samples = draft["samples"]
        if getattr(samples, "is_nested", False) or samples.ndim != 3:
            raise ValueError(NO_DRAFT)
        chosen = {"samples": samples[rows_of(which, len(samples))]}
        return (get_host().any_model.finish_draft(model, (positive, negative, cfg), sampler_name, chosen),)


def rows_of(which: str, count: int) -> list[int]:
    """The rows that a text names, from 1 on; all of them for "all"."""
    named = which.replace(",", " ").split()
    if not named or [word.lower() for word in named] == ["all"]:
        return list(range(count))
    rows = [int(word) - 1 if word.isascii() and word.isdigit() else -1 for word in named]
    if not all(0 <= row < count for row in rows):
        raise ValueError(f"'which' is {which!r}; expected all, or numbers from 1 to {count}, such as 1, {count}")
    return rows


class FinishClip:
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "Brings any clip (a draft, an old video, a render) to a larger size with the model's own detail: as much noise "
        "as the new detail needs, and not more."
    )
    SEARCH_ALIASES = ["upscale", "hires fix", "refine", "enhance", "latent upscale", "super resolution"]
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The clip at the larger size.",)
    FUNCTION = "finish"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": MODEL,
                "seed": SEED,
                "steps": (
                    "INT",
                    {
                        "default": 12,
                        "min": 1,
                        "max": 1000,
                        "tooltip": "Steps from the level down, all at full size. Few are rough, 10 to 20 are usual.",
                    },
                ),
                "cfg": CFG,
                "sampler_name": sampler_name(),
                "scheduler": scheduler(),
                "positive": POSITIVE,
                "negative": NEGATIVE,
                "clip": ("LATENT", {"tooltip": "The clip to be enlarged, from VAE Encode or the clips of 'Draft'."}),
                "latent_image": ("LATENT", {"tooltip": "Empty, of the size that the clip shall get."}),
                "level": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 0.99,
                        "step": 0.01,
                        "tooltip": "Share of noise to begin at. 0 takes the least that theory allows, below which new "
                        "detail stays blurred; higher changes the clip more.",
                    },
                ),
                "care": (
                    "FLOAT",
                    {
                        "default": 0.01,
                        "min": 0.001,
                        "max": 0.2,
                        "step": 0.001,
                        "round": False,
                        "tooltip": "How much of the new detail may be missing: 0.01 begins noisier, 0.05 stays nearer "
                        "to the clip.",
                    },
                ),
            },
            "optional": {
                "spectrum": (
                    "PYRAMID_SPECTRUM",
                    {"tooltip": "From 'Fit spectrum'. Left open: what is known of Wan 2.1 and FLUX latents."},
                )
            },
        }

    def finish(
        self,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: list,
        negative: list,
        clip: dict[str, Any],
        latent_image: dict[str, Any],
        level: float = 0.0,
        care: float = 0.01,
        spectrum: Spectrum | None = None,
    ):
        import torch

        host = get_host().any_model
        info, small, large = host.info(model), size_of_latent(clip), size_of_latent(latent_image)
        check_larger(host.picture(clip).shape, host.picture(latent_image).shape)
        begin, said = begin_of(level, info.latents, small, large, care, spectrum)
        top = info.scaling.from_share(begin)
        sigmas = torch.tensor([top, *below(lambda n: host.sigmas(model, n, scheduler), top, steps)])
        notice = tell(f"{steps} steps from a share of noise of {begin:.3f}.", *said)
        made = host.finish_clip(model, (positive, negative, cfg), sampler_name, sigmas, clip, latent_image, seed)
        return {"ui": notice, "result": (made,)}


def check_larger(small, large) -> None:
    """Refuse a clip that is not smaller than what it shall become, or of another length."""
    if len(small) != len(large) or small[2:-2] != large[2:-2]:
        raise ValueError(
            f"the clip has the shape {tuple(small)} and latent_image {tuple(large)}: make latent_image as long as the "
            "clip"
        )
    if small[-2] > large[-2] or small[-1] > large[-1] or tuple(small[-2:]) == tuple(large[-2:]):
        raise ValueError(
            f"the clip has {small[-1]} x {small[-2]} latent cells and latent_image {large[-1]} x {large[-2]}: make "
            "latent_image larger than the clip"
        )


def begin_of(
    level: float, latents: str, small, large, care: float, spectrum: Spectrum | None
) -> tuple[float, list[str]]:
    """The share of noise to begin at, and what to say where it is not as asked or nobody knows whether it is enough."""
    try:
        least = least_level(latents, small, large, care, spectrum)
    except ValueError:
        if not level:
            raise
        return level, ["Nothing is known of this VAE's spectrum, so detail may stay blurred: wire 'Fit spectrum'."]
    if 0 < level < least:
        return least, [f"Asked for {level:.3f}, where theory says that new detail stays blurred."]
    return max(level, least), []


def least_level(latents: str, small, large, care: float, spectrum: Spectrum | None) -> float:
    """The share of noise below which detail that the small clip lacks cannot come back."""
    from ..samplers.spectral_stages import SpectralStages

    scale = min(small[0] / large[0], small[1] / large[1])
    if not 0 < scale < 1:
        scale = 0.999
    return SpectralStages((scale, 1.0), care, spectrum).shares(large, latents)[0]


def below(schedule, top: float, steps: int) -> list[float]:
    """The last `steps` levels of the shortest schedule that has as many below `top`."""
    for total in range(steps, 50 * steps + 50):
        levels = [float(sigma) for sigma in schedule(total) if float(sigma) < top]
        if len(levels) >= steps:
            return levels[-steps:]
    raise ValueError(f"this scheduler has no {steps} levels below {top:.3g}: take another, or fewer steps")


NODES = {
    "PyramidVideoDraft": Draft,
    "PyramidVideoFinishDraft": FinishDraft,
    "PyramidVideoFinishClip": FinishClip,
}
NAMES = {
    "PyramidVideoDraft": "Draft",
    "PyramidVideoFinishDraft": "Finish draft",
    "PyramidVideoFinishClip": "Finish a clip",
}
