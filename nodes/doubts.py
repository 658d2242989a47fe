"""What a sampler block says before it runs: what will not be used, and what is new to a small model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .notices import tell

if TYPE_CHECKING:
    from ..models.model_info import ModelInfo
    from ..samplers.stages import PyramidStages

PROMPT_DOUBTS = "pyramid_video_doubts"  # beside the tokens of a CONDITIONING: sentences of `Vocabulary.doubts`


def say_doubts(
    info: ModelInfo, latent: dict[str, Any], positive: list, stages: PyramidStages | None = None
) -> dict[str, list[str]]:
    """Say them on the node and in the log; the `ui` part of its answer, empty where there is nothing to say."""
    sentences = []
    if latent["samples"].any():
        sentences.append(
            "The picture in latent_image was not used, only its size and length: every frame is made from noise. To "
            "begin with a picture, wire it into 'Temporal conditioning' of a pyramid model."
        )
    if info.clips is not None:
        count = None if stages is None else len(stages)
        sentences += info.clips.doubts(info.name, *latent["samples"].shape[-3:], count)
        words = [doubt for _, extras in positive for doubt in extras.get(PROMPT_DOUBTS, ())]
        if words:
            sentences.append(f"{info.name} learned few words: {'; '.join(words)}.")
    return tell(*sentences) if sentences else {}


def with_notes(made: dict[str, Any], said: dict[str, list[str]]) -> tuple | dict[str, Any]:
    """The answer of a block with one output and with what it has said."""
    return {"ui": said, "result": (made,)} if said else (made,)
