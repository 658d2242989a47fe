"""What the blocks for any model share: the inputs of core's KSampler, and what they read of a latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from .block import Choice, Float, Int, Wire
from .shared_inputs import SEED

if TYPE_CHECKING:
    from ..samplers.spectral import Size
    from ..samplers.spectral_stages import SpectralStages

MODEL = Wire("model", "MODEL").tip("Any model that the plain sampler runs, with its LoRAs and patches.")
STEPS = Int("steps", 20, 1, 1000).tip(
    "Steps in all, as without a pyramid; the first ones are small and fast. With few steps the picture grows early "
    "or not at all; with many steps, more of them are fast."
)
CFG = Float("cfg", 5.0, 0.0, 100.0, 0.1).tip(
    "How strongly the prompt is followed, as in the plain sampler. 1 is the prompt alone and twice as fast; high "
    "values burn colours."
)
SAMPLER_NAME = Choice("sampler_name", lambda: get_host().sampler_names, "euler").tip(
    "The solver inside each stage. Solvers with a memory start again after a jump."
)
SCHEDULER = Choice("scheduler", lambda: get_host().scheduler_names, "simple").tip(
    "Where the noise levels are, as in the plain sampler."
)
POSITIVE = Wire("positive", "CONDITIONING").tip(
    "What to show, as for the plain sampler; start images and controls work too."
)
NEGATIVE = Wire("negative", "CONDITIONING").tip("What to steer away from, as for the plain sampler.")
PROMPTS = (POSITIVE, NEGATIVE)
KSAMPLER = (MODEL, SEED, STEPS, CFG, SAMPLER_NAME, SCHEDULER, *PROMPTS)
STAGES = Wire("stages", "SPECTRAL_STAGES").tip(
    "From 'Pyramid stages (any model)'. Not connected: half size first, careful, for models whose latents are known."
)
SPECTRUM = Wire("spectrum", "PYRAMID_SPECTRUM").tip(
    "From 'Fit spectrum'. Not connected: the known spectra of Wan 2.1 and FLUX latents."
)
CARE = Float("care", 0.01, 0.001, 0.2, 0.001, exact=True)


def size_of_latent(latent: dict[str, Any]) -> Size:
    """Rows and columns of a LATENT's picture."""
    samples = get_host().any_model.picture(latent)
    if samples.ndim not in (4, 5):
        raise ValueError(f"this latent has the shape {tuple(samples.shape)}, which is not a picture or a video")
    return samples.shape[-2], samples.shape[-1]


def stages_or_default(stages: SpectralStages | None) -> SpectralStages:
    """The stages that are wired, or half size first."""
    from ..samplers.spectral_stages import SpectralStages

    return SpectralStages() if stages is None else stages
