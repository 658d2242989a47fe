"""Blocks that draft small and finish later."""

from __future__ import annotations

from typing import Any

from ..host import get_host
from ..samplers.seeds import LARGEST_SEED
from .any_model_inputs import CFG, KSAMPLER, MODEL, PROMPTS, SAMPLER_NAME, STAGES, stages_or_default
from .block import Block, Int, Output, Text, Wire
from .messages import show_message

MOST_DRAFTS = 64


class Draft(Block):
    ID, NAME = "PyramidVideoDraft", "Draft"
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "Makes small drafts that stop before the picture grows. Look at them, keep the good ones, and finish those "
        "with 'Finish draft'. SaveLatent and LoadLatent carry a draft to another day or server."
    )
    ALIASES = "draft, preview, low resolution, small first, seeds, variations, batch"
    REQUIRED = (
        *KSAMPLER,
        Wire("latent_image", "LATENT").tip("The full size and length, as for the finished video."),
        Int("drafts", 4, 1, MOST_DRAFTS).tip(
            "How many, one after the other; draft i uses seed + i. Each needs memory for a few full-size latents."
        ),
    )
    OPTIONAL = (
        STAGES,
        Int("jump", 1, 1, 5).tip(
            "The jump to stop before. 1 is the smallest and fastest; with three stages, 2 shows more."
        ),
    )
    OUTPUTS = (
        Output(
            "LATENT",
            "The drafts, one per row, for 'Finish draft', SaveLatent and LatentFromBatch. They cannot be decoded.",
            "draft",
        ),
        Output("LATENT", "What they show, at their small size, for VAE Decode.", "clips"),
    )
    FUNCTION = "draft"

    def draft(
        self, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, drafts, stages, jump
    ):
        stages, host = stages_or_default(stages), get_host().any_model
        latent_image = host.fitted(model, latent_image)
        check_memory(latent_image, drafts)
        sigmas = host.sigmas(model, steps, scheduler).unique_consecutive()  # some repeat levels
        seeds = [(seed + number) & LARGEST_SEED for number in range(drafts)]
        draft, clips = host.draft(
            model, (positive, negative, cfg), sampler_name, stages, sigmas, latent_image, seeds, jump
        )
        rows, columns = host.picture(clips).shape[-2:]
        ui = show_message(f"{drafts} drafts of {columns} x {rows} latent cells, seeds {seeds[0]} to {seeds[-1]}.")
        return {"ui": ui, "result": (draft, clips)}


def check_memory(latent: dict[str, Any], drafts: int) -> None:
    """Refuse more drafts than memory holds: each keeps its noise and the latent that it started from."""
    each = 3 * 4 * get_host().any_model.picture(latent)[:1].numel()
    free = get_host().any_model.free_memory()
    if drafts * each > free // 2:
        raise ValueError(
            f"{drafts} drafts of this size need {drafts * each / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are "
            f"free: set drafts to {max(1, free // 2 // each)} or fewer"
        )


class FinishDraft(Block):
    ID, NAME = "PyramidVideoFinishDraft", "Finish draft"
    CATEGORY = "pyramid video/sample"
    DESCRIPTION = (
        "Continues drafts where they stopped. With the same model, prompts and sampler the result is what one run "
        "would have made, to the last bit."
    )
    ALIASES = "draft, finish, continue, resume, upscale draft"
    REQUIRED = (
        MODEL,
        CFG,
        SAMPLER_NAME,
        *PROMPTS,
        Wire("draft", "LATENT").tip("From 'Draft' or LoadLatent; it holds the steps, the size and the seed."),
        Text("which", "all").tip("Which drafts to finish: all, or their numbers starting from 1, such as 2, 5."),
    )
    OUTPUTS = (Output("LATENT", "The finished latents, at full size."),)
    FUNCTION = "finish"

    def finish(self, model, cfg, sampler_name, positive, negative, draft, which):
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


BLOCKS = (Draft, FinishDraft)
