"""Blocks that say what the video shows: the prompt, and what of the past is remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..models.prompt_weights import without_weights
from .doubts import PROMPT_DOUBTS
from .fitting import check_latent_fits_vae, check_start_is_complete
from .notices import tell
from .pictures import fill

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.model_info import VAEInfo

PLAIN = 0.05  # deviation of the colours along an edge
QUALITY_WORDS = ", hyper quality, Ultra HD, 8K"  # what the official code appends to every prompt


class EncodePrompt:
    CATEGORY = "pyramid video/condition"
    DESCRIPTION = "Turns your words into what the model reads. Use one for what you want and one for what you do not."
    SEARCH_ALIASES = [
        "clip text encode",
        "prompt",
        "text encode",
        "positive",
        "negative",
        "pyramidflow text encode",
        "conditioning",
        "describe",
        "文生视频",
        "提示词",
        "プロンプト",
    ]
    RETURN_TYPES = ("CONDITIONING",)
    OUTPUT_TOOLTIPS = ("For positive or negative of the sampler.",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip": ("CLIP", {"tooltip": "From 'Load text encoder'."}),
                "text": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "dynamicPrompts": True,
                        "tooltip": "Empty lets the model choose. Pyramid Flow reads about 90 words (128 tokens), "
                        "Helios 350 (512 tokens), the small model a sentence or two (48 tokens); the rest is cut.",
                    },
                ),
            },
            "optional": {
                "add_quality_words": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": f'On appends "{QUALITY_WORDS}", as official Pyramid Flow prompts do. '
                        "Off for negative prompts and for the small model, which never saw these words.",
                    },
                )
            },
        }

    def encode(self, clip, text: str, add_quality_words: bool = False):
        host, notices = get_host(), []
        read, weighted = without_weights(text)
        if weighted:
            notices.append(f"These models use no weights of words; the prompt is read as: {read}")
        full_text = read + QUALITY_WORDS if add_quality_words else read
        conditioning = host.encode_prompt(clip, full_text)
        vocabulary = host.vocabulary(clip)
        if vocabulary is not None:  # a sampler with a model that learned no other words says it
            conditioning = [
                [features, {**extras, PROMPT_DOUBTS: vocabulary.doubts(read)}] for features, extras in conditioning
            ]
        words, tokens = len(full_text.split()), host.most_tokens(clip) or conditioning[0][0].shape[1]
        if words > tokens:  # every word is at least one token, so something was cut
            notices.append(f"The prompt has {words} words; only its first {tokens} tokens are read, the rest is cut.")
        return {"ui": tell(*notices), "result": (conditioning,)} if notices else (conditioning,)


class History:
    CATEGORY = "pyramid video/condition"
    DESCRIPTION = (
        "Temporal conditioning: how much of the past each new piece of video sees, and a start image or clip that is "
        "taken as the past. The clip can only be continued forward; an end image cannot be set."
    )
    SEARCH_ALIASES = [
        "image to video",
        "i2v",
        "img2vid",
        "animate image",
        "start image",
        "first frame",
        "history",
        "extend video",
        "continue video",
        "temporal",
        "图生视频",
        "画像から動画",
    ]
    RETURN_TYPES = ("PYRAMID_HISTORY",)
    RETURN_NAMES = ("history",)
    OUTPUT_TOOLTIPS = ("For the sampler.",)
    FUNCTION = "build"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "depth": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 64,
                        "tooltip": "How many newest latent frames are remembered. 0 is all, as official; 1 is the "
                        "fastest and forgets at once what went out of sight; large values cost time.",
                    },
                ),
                "noise": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 0.33,
                        "step": 0.01,
                        "tooltip": "Noise added to the past. 0 trusts it fully, as official; a little hides small "
                        "faults that would add up in long clips; 0.33, the most seen in training, lets things drift.",
                    },
                ),
            },
            "optional": {
                "vae": ("VAE", {"tooltip": "The video VAE; needed with a start image."}),
                "start_image": (
                    "IMAGE",
                    {"tooltip": "One picture to begin with, or a clip to continue. It becomes the first frames."},
                ),
                "latent_image": (
                    "LATENT",
                    {"tooltip": "The same 'Empty video latent' as for the sampler: it tells size and length."},
                ),
            },
        }

    def build(self, depth: int, noise: float, vae=None, start_image=None, latent_image=None):
        from ..samplers.history import PyramidHistory

        if start_image is None:
            return (PyramidHistory(depth or None, noise),)
        check_start_is_complete(vae, latent_image)
        images, notices = fit_start(start_image, get_host().vae_info(vae), latent_image)
        history = PyramidHistory(depth or None, noise, get_host().encode(vae, images))
        return {"ui": tell(*notices), "result": (history,)} if notices else (history,)


def fit_start(images: Tensor, info: VAEInfo, latent: dict[str, Any]) -> tuple[Tensor, list[str]]:
    """Bring start pictures `(n, h, w, c)` to the video's size and to a length that the VAE can encode.

    Returns the pictures `(n', height, width, 3)` and a sentence for everything that was changed.
    Raises ValueError when the pictures leave nothing of the video to make.
    """
    check_latent_fits_vae(info, latent)
    frames, height, width = (
        info.frames_of(latent["samples"].shape[2]),
        info.space_compression * latent["samples"].shape[3],
        info.space_compression * latent["samples"].shape[4],
    )
    notices = []
    count = info.frames_of(info.latent_frames_of(len(images)))
    if count != len(images):
        notices.append(
            f"The start clip has {len(images)} frames; the first {count} are used, because the VAE takes "
            f"{info.time_compression}k+1 frames{f' and {info.unit_frames} at a time' if info.unit else ''}."
        )
    if count >= frames:
        raise ValueError(
            f"the start clip has {count} frames and the video only {frames}, so nothing is left to make: "
            "make the video longer in 'Empty video latent', or the start clip shorter"
        )
    if tuple(images.shape[1:3]) != (height, width):
        start = "image" if len(images) == 1 else "clip"
        notices.append(
            f"The start {start} is {images.shape[2]}x{images.shape[1]}; it was resized and its centre "
            f"cut out to fill {width}x{height}."
        )
    if info.start is not None and not has_plain_border(images[0]):
        notices.append(
            f"The small model knows pictures of {info.start}; it leaves another one behind after the first frame."
        )
    return fill(images[:count, ..., :3], width, height), notices


def has_plain_border(picture: Tensor) -> bool:
    """Whether the edge of a picture `(h, w, c)` in 0..1 is of one colour, but for what compression leaves."""
    edge = [picture[0], picture[-1], picture[:, 0], picture[:, -1]]
    return max(float(side.std(dim=0).max()) for side in edge) < PLAIN


NODES = {"PyramidVideoEncodePrompt": EncodePrompt, "PyramidVideoHistory": History}
NAMES = {"PyramidVideoEncodePrompt": "Encode prompt", "PyramidVideoHistory": "Temporal conditioning"}
