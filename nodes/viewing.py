"""Blocks that show what is inside: the ladder for a size, what is remembered, latents, and clips beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from .drawing import as_image, on_node
from .fitting import check_latent_fits_model, check_latent_fits_stages, check_latent_fits_vae, video_samples
from .notices import tell

if TYPE_CHECKING:
    from torch import Tensor

    from ..samplers.history import History
    from ..samplers.stages import PyramidStages

SIZE = ("LATENT", {"tooltip": "From 'Empty video latent': it tells the size and the length."})


class StagePicture:
    CATEGORY = "pyramid video/view"
    DESCRIPTION = (
        "Draws the ladder for the size of your video: for every stage its resolution, how many tokens a latent frame "
        "has there, the noise it travels, the timesteps the model is told, and its steps."
    )
    SEARCH_ALIASES = [
        "show stages",
        "ladder",
        "tokens",
        "sigmas",
        "timesteps",
        "schedule plot",
        "visualize",
        "preview sigmas",
    ]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("picture",)
    OUTPUT_TOOLTIPS = ("The drawing.",)
    FUNCTION = "draw"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "stages": ("PYRAMID_STAGES", {"tooltip": "From 'Pyramid stages'."}),
                "latent_image": SIZE,
            },
            "optional": {
                "vae": ("VAE", {"tooltip": "The video VAE: sizes are then told in pixels instead of latent cells."}),
            },
        }

    def draw(self, stages: PyramidStages, latent_image: dict[str, Any], vae=None):
        from .ladder import draw_ladder, full_table

        rows, columns = video_samples(latent_image).shape[-2:]
        cell = 1
        if vae is not None:
            check_latent_fits_vae(get_host().vae_info(vae), latent_image)
            cell = get_host().vae_info(vae).space_compression
        check_latent_fits_stages(latent_image, stages)
        picture = draw_ladder(stages, full_table(stages, rows, columns, cell))
        return {"ui": on_node(picture, name="stages"), "result": (as_image(picture),)}


class HistoryPicture:
    CATEGORY = "pyramid video/view"
    DESCRIPTION = (
        "Draws what each stage of each unit sees of the past, at which resolution, and how many tokens that makes: "
        "where the memory and the time of a long video go."
    )
    SEARCH_ALIASES = ["show history", "temporal pyramid", "context", "tokens", "memory", "visualize"]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("picture",)
    OUTPUT_TOOLTIPS = ("The drawing.",)
    FUNCTION = "draw"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "history": ("PYRAMID_HISTORY", {"tooltip": "From 'Temporal conditioning', or the one for Helios."}),
                "latent_image": SIZE,
            },
            "optional": {
                "stages": ("PYRAMID_STAGES", {"tooltip": "From 'Pyramid stages'. Left open: 3 stages."}),
            },
        }

    def draw(self, history: History, latent_image: dict[str, Any], stages: PyramidStages | None = None):
        from ..samplers.context import plan_contexts
        from ..samplers.presets import default_for
        from .history_drawing import draw_contexts

        usual, units = default_for(history)
        stages = stages or usual
        check_latent_fits_stages(latent_image, stages)
        contexts = plan_contexts(stages, history, units, *video_samples(latent_image).shape[-3:])
        picture = draw_contexts(len(stages), contexts)
        return {"ui": on_node(picture, name="history"), "result": (as_image(picture),)}


class LatentViewer:
    CATEGORY = "pyramid video/view"
    DESCRIPTION = (
        "Shows a latent video without decoding it: its frames as a contact sheet in rough colours, or every channel by "
        "itself."
    )
    SEARCH_ALIASES = [
        "preview latent",
        "latent preview",
        "view latent",
        "contact sheet",
        "latent channels",
        "latent to rgb",
        "debug",
    ]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("sheet",)
    OUTPUT_TOOLTIPS = ("One sheet for every clip of the batch.",)
    FUNCTION = "draw"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "samples": ("LATENT", {"tooltip": "From a sampler, or anything between it and 'Decode video'."}),
                "view": (
                    ["frames", "channels"],
                    {
                        "default": "frames",
                        "tooltip": "frames: all of them in rough colours. channels: each channel as a grey picture, up "
                        "to 8 frames of it, to see what it holds, or whether it is dead.",
                    },
                ),
            },
            "optional": {
                "model": (
                    "MODEL",
                    {
                        "tooltip": "The video model: it knows which colours its channels mean. Left open, colours are "
                        "false: they show shapes and motion."
                    },
                ),
            },
        }

    def draw(self, samples: dict[str, Any], view: str, model=None):
        import torch

        from ..models.latent_format import LatentFormat
        from ..models.preview_colours import known_colours
        from .contact_sheet import channel_sheet, frame_sheet, standardised

        latent = video_samples(samples).float()
        if view == "channels":
            sheets = [channel_sheet(clip) for clip in standardised(latent)]
        elif model is None:
            plain = LatentFormat("unknown", 0.0, 1.0, 0.0, 1.0)
            sheets = [frame_sheet(clip, plain) for clip in standardised(latent)]
        else:
            info = get_host().model_info(model)
            check_latent_fits_model(info, samples)
            coloured = known_colours(get_host().preview_colours, info.latent_format)
            sheets = [frame_sheet(clip, coloured) for clip in coloured.normalize(latent)]
        return {"ui": on_node(*sheets, name="latent"), "result": (torch.cat([as_image(sheet) for sheet in sheets]),)}


class CompareClips:
    CATEGORY = "pyramid video/view"
    DESCRIPTION = (
        "Puts two to four clips beside each other in one, to see what a change did. Sizes and lengths are brought "
        "together, and the node says how."
    )
    SEARCH_ALIASES = [
        "side by side",
        "compare videos",
        "video compare",
        "image compare",
        "compare seeds",
        "grid",
        "stitch",
        "concat",
        "xy plot",
    ]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    OUTPUT_TOOLTIPS = ("The joined clip, for 'Create Video'.",)
    FUNCTION = "join"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "clip_1": ("IMAGE", {"tooltip": "The clip on the left, from 'Decode video'."}),
                "clip_2": ("IMAGE", {"tooltip": "The clip to its right."}),
                "labels": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "What is written above the clips, one line for each from left to right. Empty "
                        "writes nothing.",
                    },
                ),
                "fps": (
                    "FLOAT",
                    {
                        "default": 8.0,
                        "min": 1.0,
                        "max": 60.0,
                        "step": 1.0,
                        "tooltip": "How fast it plays on this block; the frames that go out are the same.",
                    },
                ),
            },
            "optional": {
                "clip_3": ("IMAGE", {"tooltip": "The next clip, if there is one."}),
                "clip_4": ("IMAGE", {"tooltip": "The last clip, if there is one."}),
            },
        }

    def join(
        self,
        clip_1: Tensor,
        clip_2: Tensor,
        labels: str,
        fps: float,
        clip_3: Tensor | None = None,
        clip_4: Tensor | None = None,
    ):
        from .comparison import beside_each_other
        from .drawing import playing_on_node

        clips = [clip for clip in (clip_1, clip_2, clip_3, clip_4) if clip is not None]
        joined, sentences = beside_each_other(clips, [line.strip() for line in labels.splitlines()])
        frames, height, width = joined.shape[:3]
        said = tell(f"{len(clips)} clips, {width}x{height}, {frames} frames.", *sentences)
        return {"ui": {**said, **playing_on_node(joined, fps, name="compared")}, "result": (joined,)}


NODES = {
    "PyramidVideoStagePicture": StagePicture,
    "PyramidVideoHistoryPicture": HistoryPicture,
    "PyramidVideoLatentViewer": LatentViewer,
    "PyramidVideoCompareClips": CompareClips,
}
NAMES = {
    "PyramidVideoStagePicture": "Stage picture",
    "PyramidVideoHistoryPicture": "History picture",
    "PyramidVideoLatentViewer": "Latent viewer",
    "PyramidVideoCompareClips": "Compare clips",
}
