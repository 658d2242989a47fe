"""Blocks for what the video shows: the prompt, and the history with its start image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..host.checks import check_latent
from ..models.prompt_weights import without_weights
from .block import Block, Bool, Float, Int, Output, Text, Wire
from .compatibility import check_start_is_complete
from .messages import with_message
from .pictures import fill
from .sampling_notes import PROMPT_NOTES

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.model_info import VAEInfo

PLAIN = 0.05  # deviation of the colours along an edge
MOST_SHOWN = 100  # characters of what is cut from a prompt
QUALITY_WORDS = ", hyper quality, Ultra HD, 8K"  # what the official code appends to every prompt


class EncodePrompt(Block):
    ID, NAME = "PyramidVideoEncodePrompt", "Encode prompt"
    CATEGORY = "pyramid video/condition"
    DESCRIPTION = (
        "Turns a prompt into what the model reads. Use one block for what you want and one for what you do not want."
    )
    ALIASES = (
        "clip text encode, prompt, text encode, positive, negative, pyramidflow text encode, conditioning, describe, "
        "文生视频, 提示词, プロンプト"
    )
    REQUIRED = (
        Wire("clip", "CLIP").tip("From 'Load text encoder'."),
        Text("text", multiline=True, dynamicPrompts=True).tip(
            "Leave it empty to let the model choose. Pyramid Flow reads about 90 words (128 tokens), Helios about "
            "350 (512 tokens), the small model a sentence or two (64 tokens); the rest is cut."
        ),
    )
    OPTIONAL = (
        Bool("add_quality_words", False).tip(
            f'Appends "{QUALITY_WORDS}", as official Pyramid Flow prompts do. Keep it off for negative '
            "prompts; the small model takes no notice of it."
        ),
    )
    OUTPUTS = (Output("CONDITIONING", "For the positive or negative input of the sampler."),)
    FUNCTION = "encode"

    def encode(self, clip, text, add_quality_words):
        host, sentences = get_host(), []
        read, weighted = without_weights(text)
        if weighted:
            sentences.append(f"These models do not use weights of words; the prompt is read as: {read}")
        full_text = read + QUALITY_WORDS if add_quality_words else read
        conditioning = host.encode_prompt(clip, full_text)
        if (tokenizer := host.tokenizer(clip)) is None:
            words, tokens = len(full_text.split()), conditioning[0][0].shape[1]
            if words > tokens:  # every word is at least one token, so something was cut
                sentences.append(
                    f"The prompt has {words} words; only its first {tokens} tokens are read; the rest is cut."
                )
            return with_message(conditioning, sentences)
        _, cut = tokenizer.split(full_text)
        if cut:
            shown = cut if len(cut) <= MOST_SHOWN else f"{cut[:MOST_SHOWN]} ..."
            sentences.append(f"Of this prompt only its first {tokenizer.max_tokens} tokens are read; cut: {shown}")
        if tokenizer.vocabulary is not None:  # a sampler with a model that learned no other words says it
            doubts = tokenizer.vocabulary.doubts(tokenizer.split(read)[0])
            conditioning = [[features, {**extras, PROMPT_NOTES: doubts}] for features, extras in conditioning]
        return with_message(conditioning, sentences)


class TemporalConditioning(Block):
    ID, NAME = "PyramidVideoHistory", "Temporal conditioning"
    CATEGORY = "pyramid video/condition"
    DESCRIPTION = (
        "How much of the past each new part of the video sees, and an optional start image or clip. The model only "
        "works forward in time; an end image cannot be set."
    )
    ALIASES = (
        "image to video, i2v, img2vid, animate image, start image, first frame, history, extend video, continue "
        "video, temporal, 图生视频, 画像から動画"
    )
    REQUIRED = (
        Int("depth", 0, 0, 64).tip(
            "How many of the newest latent frames the model sees. 0 is all of them, as in the official code; 1 is "
            "the fastest, but what leaves the picture is forgotten; large values take more time."
        ),
        Float("noise", 0.0, 0.0, 0.33, 0.01).tip(
            "Noise added to the past. 0 trusts it fully, as in the official code; a little hides small faults that "
            "would add up in long clips; 0.33, the most used in training, lets things drift."
        ),
    )
    OPTIONAL = (
        Wire("vae", "VAE").tip("The video VAE; needed with a start image."),
        Wire("start_image", "IMAGE").tip(
            "One picture to start from, or a clip to continue. It becomes the first frames."
        ),
        Wire("latent_image", "LATENT").tip(
            "The same 'Empty video latent' as for the sampler; it sets the size and the length."
        ),
    )
    OUTPUTS = (Output("PYRAMID_HISTORY", "For the sampler.", "history"),)
    FUNCTION = "build"

    def build(self, depth, noise, vae, start_image, latent_image):
        from ..samplers.history import PyramidHistory

        if start_image is None:
            return (PyramidHistory(depth or None, noise),)
        check_start_is_complete(vae, latent_image)
        images, sentences = fit_start(start_image, get_host().vae_info(vae), latent_image)
        history = PyramidHistory(depth or None, noise, get_host().encode(vae, images))
        return with_message(history, sentences)


def fit_start(images: Tensor, info: VAEInfo, latent: dict[str, Any]) -> tuple[Tensor, list[str]]:
    """Bring start pictures `(n, h, w, c)` to the video's size and to a length that the VAE can encode.

    Returns the pictures `(n', height, width, 3)` and a sentence for everything that was changed.
    Raises ValueError when the pictures leave nothing of the video to make.
    """
    check_latent(info, latent["samples"])
    frames, height, width = info.video_size(latent["samples"].shape)
    sentences = []
    count = info.frames_of(info.latent_frames_of(len(images)))
    if count != len(images):
        sentences.append(
            f"The start clip has {len(images)} frames; the first {count} are used, because the VAE takes "
            f"{info.time_compression}k+1 frames{f' and {info.unit_frames} at a time' if info.unit else ''}."
        )
    if count >= frames:
        raise ValueError(
            f"the start clip has {count} frames and the video only {frames}, so there is nothing left to make: "
            "make the video longer in 'Empty video latent', or the start clip shorter"
        )
    if tuple(images.shape[1:3]) != (height, width):
        start = "image" if len(images) == 1 else "clip"
        sentences.append(
            f"The start {start} is {images.shape[2]}x{images.shape[1]}; it was resized and its centre "
            f"cut out to fill {width}x{height}."
        )
    if info.start is not None and not has_plain_border(images[0]):
        sentences.append(
            f"The small model knows pictures of {info.start}; it does not keep any other after the first frame."
        )
    return fill(images[:count, ..., :3], width, height), sentences


def has_plain_border(picture: Tensor) -> bool:
    """Whether the edge of a picture `(h, w, c)` in 0..1 is of one colour, but for what compression leaves."""
    edge = [picture[0], picture[-1], picture[:, 0], picture[:, -1]]
    return max(float(side.std(dim=0).max()) for side in edge) < PLAIN


BLOCKS = (EncodePrompt, TemporalConditioning)
