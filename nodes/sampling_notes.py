"""What a sampler block says before it runs: what it does not use, and what a small model did not learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .messages import show_message

if TYPE_CHECKING:
    from ..models.model_info import ModelInfo
    from ..samplers.stages import PyramidStages

PROMPT_NOTES = "pyramid_video_doubts"  # beside the tokens of a CONDITIONING: sentences of `Vocabulary.doubts`


def show_notes(
    info: ModelInfo, latent: dict[str, Any], positive: list, stages: PyramidStages | None = None
) -> dict[str, list[str]]:
    """Write the notes on the node and in the log; returns the `ui` part of its result, empty where there are none."""
    sentences = []
    if latent["samples"].any():
        sentences.append(
            "The picture in latent_image was not used, only its size and length: every frame is made from noise. To "
            "begin with a picture, wire it into 'Temporal conditioning' of a pyramid model."
        )
    if info.clips is not None:
        count = None if stages is None else len(stages)
        sentences += info.clips.doubts(info.name, *latent["samples"].shape[-3:], count)
        words = [doubt for _, extras in positive for doubt in extras.get(PROMPT_NOTES, ())]
        if words:
            sentences.append(f"{info.name} learned few words: {'; '.join(words)}.")
    return show_message(*sentences) if sentences else {}


def with_notes(made: dict[str, Any], notes: dict[str, list[str]]) -> tuple | dict[str, Any]:
    """The result of a block with one output, and its notes."""
    return {"ui": notes, "result": (made,)} if notes else (made,)
