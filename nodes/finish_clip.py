"""The block that brings a clip to a larger size, with detail of the model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..host import get_host
from .any_model_inputs import CARE, CFG, MODEL, PROMPTS, SAMPLER_NAME, SCHEDULER, SPECTRUM, size_of_latent
from .block import Block, Float, Int, Output, Wire
from .messages import with_message
from .shared_inputs import SEED

if TYPE_CHECKING:
    from ..samplers.spectrum import Spectrum


class FinishClip(Block):
    ID, NAME = "PyramidVideoFinishClip", "Finish a clip"
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "Brings any clip (a draft, an old video, a render) to a larger size with detail of the model's own. It adds "
        "only as much noise as the new detail needs."
    )
    ALIASES = "upscale, hires fix, refine, enhance, latent upscale, super resolution"
    REQUIRED = (
        MODEL,
        SEED,
        Int("steps", 12, 1, 1000).tip(
            "Steps from the starting level down, all at full size. Few are rough; 10 to 20 are usual."
        ),
        CFG,
        SAMPLER_NAME,
        SCHEDULER,
        *PROMPTS,
        Wire("clip", "LATENT").tip("The clip to enlarge, from VAE Encode or the clips of 'Draft'."),
        Wire("latent_image", "LATENT").tip("An empty latent of the size that the clip is to have."),
        Float("level", 0.0, 0.0, 0.99, 0.01).tip(
            "The share of noise to start from. 0 takes the least that theory allows, below which new detail stays "
            "blurred; higher values change the clip more."
        ),
        CARE.tip("How much of the new detail may be missing: 0.01 starts noisier, 0.05 stays closer to the clip."),
    )
    OPTIONAL = (SPECTRUM,)
    OUTPUTS = (Output("LATENT", "The clip at the larger size."),)
    FUNCTION = "finish"

    def finish(
        self,
        model,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        positive,
        negative,
        clip,
        latent_image,
        level,
        care,
        spectrum: Spectrum | None,
    ):
        import torch

        host = get_host().any_model
        clip, latent_image = (host.fitted(model, given) for given in (clip, latent_image))
        info, small, large = host.info(model), size_of_latent(clip), size_of_latent(latent_image)
        check_larger(host.picture(clip).shape, host.picture(latent_image).shape)
        start, said = start_level(level, info.latents, small, large, care, spectrum)
        top = info.scaling.from_share(start)
        sigmas = torch.tensor([top, *below(lambda n: host.sigmas(model, n, scheduler), top, steps)])
        made = host.finish_clip(model, (positive, negative, cfg), sampler_name, sigmas, clip, latent_image, seed)
        return with_message(made, [f"{steps} steps from a share of noise of {start:.3f}.", *said])


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


def start_level(
    level: float, latents: str, small, large, care: float, spectrum: Spectrum | None
) -> tuple[float, list[str]]:
    """The share of noise to start from, and what to say where it was raised or may not be enough."""
    try:
        least = least_level(latents, small, large, care, spectrum)
    except ValueError:
        if not level:
            raise
        return level, ["The spectrum of this VAE is not known, so detail may stay blurred: wire 'Fit spectrum'."]
    if 0 < level < least:
        return least, [f"The level {level:.3f} was raised, because new detail stays blurred below {least:.3f}."]
    return max(level, least), []


def least_level(latents: str, small, large, care: float, spectrum: Spectrum | None) -> float:
    """The share of noise below which detail that the small clip lacks cannot come back."""
    from ..samplers.spectral_stages import SpectralStages

    scale = min(small[0] / large[0], small[1] / large[1])
    return SpectralStages((scale, 1.0), care, spectrum).shares(large, latents)[0]


def below(schedule, top: float, steps: int) -> list[float]:
    """The last `steps` levels of the shortest schedule that has as many below `top`."""
    for total in range(steps, 50 * steps + 50):
        levels = [float(sigma) for sigma in schedule(total).unique_consecutive() if float(sigma) < top]
        if len(levels) >= steps:
            return levels[-steps:]
    raise ValueError(f"this scheduler does not have {steps} levels below {top:.3g}: use another one, or fewer steps")


BLOCKS = (FinishClip,)
