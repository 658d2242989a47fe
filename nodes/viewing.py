"""Blocks that show what is inside: the stages for a size, the history, latents, and clips side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..drawings.pen import as_image, on_node
from ..host import get_host
from ..host.checks import check_latent
from .block import Block, Choice, Float, Output, Text, Wire
from .compatibility import check_latent_fits_stages, video_samples
from .messages import show_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..samplers.history import History
    from ..samplers.stages import PyramidStages

SIZE = Wire("latent_image", "LATENT").tip("From 'Empty video latent'; it sets the size and the length.")


class StagePicture(Block):
    ID, NAME = "PyramidVideoStagePicture", "Stage picture"
    CATEGORY = "pyramid video/view"
    DESCRIPTION = (
        "Draws the stages for the size of your video: the resolution of each, its tokens per latent frame, its range "
        "of noise, the timesteps passed to the model, and its steps."
    )
    ALIASES = "show stages, ladder, tokens, sigmas, timesteps, schedule plot, visualize, preview sigmas"
    REQUIRED = (
        Wire("stages", "PYRAMID_STAGES").tip("From 'Pyramid stages'."),
        SIZE,
    )
    OPTIONAL = (Wire("vae", "VAE").tip("The video VAE: sizes are then given in pixels instead of latent cells."),)
    OUTPUTS = (Output("IMAGE", "The drawing.", "picture"),)
    FUNCTION = "draw"
    OUTPUT_NODE = True

    def draw(self, stages: PyramidStages, latent_image, vae):
        from ..drawings.stages import draw_stages, full_table

        rows, columns = video_samples(latent_image).shape[-2:]
        cell = 1
        if vae is not None:
            check_latent(get_host().vae_info(vae), latent_image["samples"])
            cell = get_host().vae_info(vae).space_compression
        check_latent_fits_stages(latent_image, stages)
        picture = draw_stages(stages, full_table(stages, rows, columns, cell), (rows, columns))
        return {"ui": on_node(picture, name="stages"), "result": (as_image(picture),)}


class HistoryPicture(Block):
    ID, NAME = "PyramidVideoHistoryPicture", "History picture"
    CATEGORY = "pyramid video/view"
    DESCRIPTION = (
        "Draws what each stage of each unit sees of the past, at which resolution, and how many tokens that takes: "
        "where the memory and the time of a long video go."
    )
    ALIASES = "show history, temporal pyramid, context, tokens, memory, visualize"
    REQUIRED = (
        Wire("history", "PYRAMID_HISTORY").tip("From 'Temporal conditioning', or the one for Helios."),
        SIZE,
    )
    OPTIONAL = (Wire("stages", "PYRAMID_STAGES").tip("From 'Pyramid stages'. Not connected: 3 stages."),)
    OUTPUTS = (Output("IMAGE", "The drawing.", "picture"),)
    FUNCTION = "draw"
    OUTPUT_NODE = True

    def draw(self, history: History, latent_image, stages: PyramidStages | None):
        from ..drawings.history import draw_contexts
        from ..samplers.context import plan_contexts
        from ..samplers.presets import default_for

        default, units = default_for(history)
        stages = stages or default
        check_latent_fits_stages(latent_image, stages)
        contexts = plan_contexts(stages, history, units, *video_samples(latent_image).shape[-3:])
        picture = draw_contexts(len(stages), contexts)
        return {"ui": on_node(picture, name="history"), "result": (as_image(picture),)}


class LatentViewer(Block):
    ID, NAME = "PyramidVideoLatentViewer", "Latent viewer"
    CATEGORY = "pyramid video/view"
    DESCRIPTION = (
        "Shows a latent video without decoding it: its frames as a contact sheet in rough colours, or each channel "
        "separately."
    )
    ALIASES = "preview latent, latent preview, view latent, contact sheet, latent channels, latent to rgb, debug"
    REQUIRED = (
        Wire("samples", "LATENT").tip("From a sampler, or anything between it and 'Decode video'."),
        Choice("view", ["frames", "channels"], "frames").tip(
            "frames: all frames in rough colours. channels: each channel as a grey picture, up to 8 frames of it, to "
            "see what it holds or whether it is dead."
        ),
    )
    OPTIONAL = (
        Wire("model", "MODEL").tip(
            "The video model, which knows the colours of its channels. Not connected: false colours, which show "
            "shapes and motion."
        ),
    )
    OUTPUTS = (Output("IMAGE", "One sheet for every clip of the batch.", "sheet"),)
    FUNCTION = "draw"
    OUTPUT_NODE = True

    def draw(self, samples, view, model):
        import torch

        from ..drawings.contact_sheet import channel_sheet, frame_sheet, standardised
        from ..models.latent_format import LatentFormat
        from ..models.preview_colours import known_colours

        latent = video_samples(samples).float()
        if view == "channels":
            sheets = [channel_sheet(clip) for clip in standardised(latent)]
        elif model is None:
            plain = LatentFormat("unknown", 0.0, 1.0, 0.0, 1.0)
            sheets = [frame_sheet(clip, plain) for clip in standardised(latent)]
        else:
            info = get_host().model_info(model)
            check_latent(info, samples["samples"])
            coloured = known_colours(get_host().preview_colours, info.latent_format)
            sheets = [frame_sheet(clip, coloured) for clip in coloured.normalize(latent)]
        return {"ui": on_node(*sheets, name="latent"), "result": (torch.cat([as_image(sheet) for sheet in sheets]),)}


class CompareClips(Block):
    ID, NAME = "PyramidVideoCompareClips", "Compare clips"
    CATEGORY = "pyramid video/view"
    DESCRIPTION = (
        "Puts two to four clips side by side in one clip, to see what a change did. Sizes and lengths are matched, "
        "and the block says how."
    )
    ALIASES = "side by side, compare videos, video compare, image compare, compare seeds, grid, stitch, concat, xy plot"
    REQUIRED = (
        Wire("clip_1", "IMAGE").tip("The clip on the left, from 'Decode video'."),
        Wire("clip_2", "IMAGE").tip("The clip to the right of it."),
        Text("labels", multiline=True).tip(
            "What is written above the clips, one line for each, from left to right. Empty writes nothing."
        ),
        Float("fps", 8.0, 1.0, 60.0, 1.0).tip(
            "How fast it plays on this block; the frames of the output are the same."
        ),
    )
    OPTIONAL = (
        Wire("clip_3", "IMAGE").tip("The next clip, if there is one."),
        Wire("clip_4", "IMAGE").tip("The last clip, if there is one."),
    )
    OUTPUTS = (Output("IMAGE", "The joined clip, for 'Create Video'.", "images"),)
    FUNCTION = "join"
    OUTPUT_NODE = True

    def join(self, clip_1: Tensor, clip_2: Tensor, labels, fps, clip_3: Tensor | None, clip_4: Tensor | None):
        from ..drawings.comparison import side_by_side
        from ..drawings.pen import playing_on_node

        clips = [clip for clip in (clip_1, clip_2, clip_3, clip_4) if clip is not None]
        joined, sentences = side_by_side(clips, [line.strip() for line in labels.splitlines()])
        frames, height, width = joined.shape[:3]
        said = show_message(f"{len(clips)} clips, {width}x{height}, {frames} frames.", *sentences)
        return {"ui": {**said, **playing_on_node(joined, fps, name="compared")}, "result": (joined,)}


BLOCKS = (StagePicture, HistoryPicture, LatentViewer, CompareClips)
