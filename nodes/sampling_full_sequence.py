"""Blocks that make all frames of a latent video at once: flow matching, DDIM, and the single pass of a GAN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..host.checks import check_family, check_latent
from ..models.families import FAMILIES
from ..samplers.names import SOLVER_NAMES
from .block import Block, Choice, Float, Input, Int, Wire
from .compatibility import check_texts_fit_model
from .messages import show_message
from .sampling_notes import sampling_notes, with_clip
from .shared_inputs import FINISHED, LATENT, NEGATIVE, POSITIVE, SEED

if TYPE_CHECKING:
    from ..models.model_info import ModelInfo
    from ..samplers.full_sequence import FullSequenceSampler

PLAIN, CFG_ZERO = "plain", "CFG-Zero*"
CFG = Float("cfg", 3.0, 0.0, 30.0, 0.1).tip(
    "How strongly the prompt is followed. 1 is the prompt alone (twice as fast); 2 to 5 follow it more closely; high "
    "values burn colours; 0 follows the negative prompt. Without a negative prompt it is ignored."
)


def wires(family: str) -> tuple[Input, ...]:
    """What every sampler of full sequences is wired to, and its seed."""
    model = Wire("model", "MODEL").tip(f"A {FAMILIES[family].title} from 'Load video model', with or without LoRAs.")
    return model, POSITIVE, LATENT, SEED


class FullSequence(Block):
    """A sampler of full sequences: checks that everything fits, and lets the host run what `sampler` makes."""

    CATEGORY = "pyramid video/sample"
    OUTPUTS = (FINISHED,)
    FUNCTION = "sample"
    FAMILY: str

    def sampler(self, model: Any, info: ModelInfo, guided: bool, **settings: Any) -> FullSequenceSampler:
        """The sampler that the widgets describe; `guided` says whether there is guidance."""
        raise NotImplementedError

    def sample(self, model, positive, latent_image, seed, negative=None, cfg=1.0, **settings):
        host = get_host()
        info = host.model_info(model)
        check_family(info, self.FAMILY)
        check_latent(info, latent_image["samples"])
        check_texts_fit_model(info, positive, negative)
        sampler = self.sampler(model, info, negative is not None and cfg != 1, **settings)
        notes = sampling_notes(info, latent_image, positive)
        ui = show_message(*notes) if notes else {}
        made = host.sample_full_sequence(model, sampler, positive, negative, cfg, latent_image, seed)
        return with_clip(made, ui)


class SampleFlow(FullSequence):
    FAMILY = "flow"
    ID, NAME = "PyramidVideoFlowSampler", "Sample flow"
    DESCRIPTION = "Makes the video with a flow matching model: all frames at once, along a path from noise to data."
    ALIASES = (
        "ksampler, rectified flow, flow matching, euler, heun, midpoint, text to video, t2v, generate, "
        "文生视频, テキストから動画"
    )
    REQUIRED = (
        *wires("flow"),
        Int("steps", 10, 1, 1000).tip(
            "Steps along the path. 1 gives the blurred average of what fits the prompt; 5 to 20 are usual; above 50 "
            "little changes."
        ),
        CFG,
    )
    OPTIONAL = (
        NEGATIVE,
        Choice("solver", SOLVER_NAMES, "euler").tip(
            "euler evaluates the model once per step; heun and midpoint evaluate it twice and follow curves more "
            "closely."
        ),
        Float("shift", 0.0, 0.0, 20.0, 0.1).tip(
            "Where the noise levels are. 0 takes the model's own shift, 1 spaces them evenly; above 1 stays noisy "
            "longer (layout), below 1 moves to detail sooner."
        ),
        Choice("guidance_rule", (PLAIN, CFG_ZERO), PLAIN).tip(
            "How cfg combines the two predictions. CFG-Zero* rescales the negative one first; it helps where cfg "
            "burns colours."
        ),
        Int("zero_steps", 0, 0, 100).tip(
            "With CFG-Zero*: how many steps at the start are skipped. 0 only rescales; 1 of 10 is usual; more leaves "
            "less of the way to go."
        ),
        Float("coarse_guidance", 1.0, 0.0, 1.0, 0.05).tip(
            "Share of cfg that acts on large areas; detail always gets all of it. 0.2 with a cfg of 3.5 gives clearer "
            "edges and steadier backgrounds than 3 and 1."
        ),
    )

    def sampler(self, model, info, guided, steps, solver, shift, guidance_rule, zero_steps, coarse_guidance):
        from ..samplers.full_sequence import FlowSampler
        from ..samplers.guidance import ClipGuidance

        zero_star = guidance_rule == CFG_ZERO and guided
        guidance = ClipGuidance(zero_star, coarse_guidance) if guided else ClipGuidance()
        shift = shift or get_host().shift_of(model)
        return FlowSampler(steps, solver, shift, guidance, zero_steps if zero_star else 0)


class SampleDDIM(FullSequence):
    FAMILY = "diffusion"
    ID, NAME = "PyramidVideoDDIMSampler", "Sample DDIM"
    DESCRIPTION = (
        "Makes the video with a diffusion model: all frames at once, through the noise levels that it was trained on."
    )
    ALIASES = (
        "ksampler, ddim, ancestral, ddpm, diffusion, denoise, text to video, t2v, generate, 文生视频, テキストから動画"
    )
    REQUIRED = (
        *wires("diffusion"),
        Int("steps", 50, 1, 1000).tip(
            "How many of the 1000 timesteps are visited. Below 10 is rough, 50 is usual, above 250 little changes."
        ),
        CFG,
    )
    OPTIONAL = (
        NEGATIVE,
        Float("eta", 0.0, 0.0, 1.0, 0.05).tip(
            "Fresh noise in every step. 0 is DDIM, where only the seed's noise matters; 1 is ancestral sampling, "
            "which needs more steps."
        ),
    )

    def sampler(self, model, info, guided, steps, eta):
        from ..samplers.full_sequence import DDIMSampler
        from ..samplers.noise_schedule import schedule_of

        return DDIMSampler(schedule_of(info.family), steps, eta)


class SampleGAN(FullSequence):
    FAMILY = "gan"
    ID, NAME = "PyramidVideoGANSampler", "Sample GAN"
    DESCRIPTION = "Makes the video with the generator of a GAN, in one pass of the model."
    ALIASES = "gan, generator, one step, single step, fast, text to video, t2v, generate, 文生视频, テキストから動画"
    REQUIRED = wires("gan")

    def sampler(self, model, info, guided):
        from ..samplers.full_sequence import GANSampler

        return GANSampler()


BLOCKS = (SampleFlow, SampleDDIM, SampleGAN)
