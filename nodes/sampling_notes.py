"""What a sampler block says before it runs: what it does not use, and what a small model did not learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host

if TYPE_CHECKING:
    from ..models.model_info import ModelInfo
    from ..samplers.stages import PyramidStages

PROMPT_NOTES = "pyramid_video_doubts"  # beside the tokens of a CONDITIONING: sentences of `Vocabulary.doubts`


def sampling_notes(
    info: ModelInfo, latent: dict[str, Any], positive: list, stages: PyramidStages | None = None
) -> list[str]:
    """What the sampler will not use of its inputs, and what a small model did not learn."""
    sentences = []
    if latent["samples"].any():
        sentences.append(
            "The picture in latent_image was not used, only its size and length: every frame is made from noise. To "
            "start from a picture, wire it into 'Temporal conditioning' of a pyramid model."
        )
    if info.clips is not None:
        count = None if stages is None else len(stages)
        sentences += info.clips.doubts(info.name, *latent["samples"].shape[-3:], count)
        words = [note for _, extras in positive for note in extras.get(PROMPT_NOTES, ())]
        if words:
            sentences.append(f"{info.name} on this prompt: {'; '.join(words)}.")
    return sentences


def with_clip(made: dict[str, Any], ui: dict[str, Any]) -> tuple | dict[str, Any]:
    """The result of a sampler, and the clip that plays on it, which the host then keeps with the result."""
    ui = {**get_host().playing_clip(), **ui}
    return {"ui": ui, "result": (made,)} if ui else (made,)
