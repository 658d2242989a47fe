"""Blocks that make training clips, and that show them."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..samplers.seeds import LARGEST_SEED
from ..training.presets import SPLITS
from .block import Block, Choice, Float, Int, Output, Text, Wire
from .compatibility import check_dataset
from .messages import counting, show_message
from .widget_validation import validation_result

if TYPE_CHECKING:
    from ..training.data.datasets import AnimationDataset, VideoDataset

MOST_ROWS = 40  # of a table that the node, the log and the history keep


class ReadsFolder(Block):
    """A block with a `folder` of the input folder, whose files may come, go and change between two runs."""

    @classmethod
    def IS_CHANGED(cls, folder: Any = None, **_):
        """The same as long as the files are: then nothing is looked at or trained again."""
        from ..training.data.folder_files import folder_version

        try:
            return folder_version(get_host().input_folder(folder))
        except (OSError, TypeError, ValueError):  # it comes from another block, or leads nowhere: the block says why
            return str(time.time_ns())


class Animations(ReadsFolder):
    ID, NAME = "PyramidVideoAnimationDataset", "Animation dataset"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Turns a folder of transparent animations into captioned training clips: every subject on eight plain "
        "colours, still or moving, small, medium or large. A file named by a Unicode code point (1f405.webp) is "
        "called what Unicode calls it (tiger); others are called by their file name."
    )
    ALIASES = "dataset, training data, sprites, emoji, webp, gif, apng, transparent, synthetic data, training"
    REQUIRED = (
        Text("folder", "animations").tip(
            "A folder inside the input folder, with webp, gif or apng files that have transparency."
        ),
        Text("subjects", multiline=True).tip(
            "Names separated by commas or lines, such as: tiger, baby chick. Empty takes every animation of the "
            "folder; hundreds take minutes to decode and 2 MB each at 64 pixels."
        ),
        Int("size", 64, 16, 1024, 16).tip(
            "Width and height in pixels. 16 shows a few specks; 64 trains on a CPU; twice the size takes four times "
            "the work. More than the size of the files adds no detail."
        ),
        Int("frames", 17, 1, 241).tip(
            "Length of a clip: a multiple of the VAE's time compression, plus 1. 1 gives images; longer clips move "
            "more slowly (the distance stays the same) and take more work."
        ),
        Float("fps", 8.0, 1.0, 60.0).tip(
            "Frames per second. Low values show more of the animation in a clip, in larger steps; high values show "
            "less, more smoothly."
        ),
        Choice("split", SPLITS, "train").tip(
            "train: nine tenths of the combinations of subject, background, motion and size. test: the tenth that is "
            "never trained on. all: both."
        ),
    )
    OUTPUTS = (
        Output(
            "VIDEO_DATASET", "For the trainers ('Train flow' and the others) and 'Preview video dataset'.", "dataset"
        ),
    )
    FUNCTION = "open"

    @classmethod
    def VALIDATE_INPUTS(cls, folder: Any = None, subjects: Any = None):
        from ..training.data.datasets import choose_files

        return validation_result(
            lambda place, text: choose_files(get_host().input_folder(place), names(str(text))), folder, subjects
        )

    def open(self, folder, subjects, size, frames, fps, split):
        from ..training.data.datasets import AnimationDataset

        place = get_host().input_folder(folder)
        with counting("decoding animations") as on_load:
            dataset = AnimationDataset(place, names(subjects), size, frames, fps, split, on_load)
        return {"ui": show_message(describe(dataset)), "result": (dataset,)}


class VideoFolderDataset(ReadsFolder):
    ID, NAME = "PyramidVideoFolderDataset", "Video folder dataset"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Turns a folder of your own videos and animated pictures into captioned training clips, cut to a common "
        "length and speed and to the nearest of a few aspect ratios. A table lists which files are used, what is "
        "done to them, and why others are left out."
    )
    ALIASES = (
        "dataset, training data, clips, load videos, video folder, captions, buckets, load video path, directory, "
        "training"
    )
    REQUIRED = (
        Text("folder", "clips").tip(
            "A folder inside the input folder, with videos (mp4, mov, mkv, webm, avi, ...), gif or animated webp and "
            "png files, directly or in subfolders. Captions are in a text file of the same name for each, or in a "
            "list (jsonl, json or csv) for all."
        ),
        Int("size", 64, 16, 2048, 16).tip(
            "Clips have about size x size pixels, wide or tall as the files are. 64 trains on a CPU; twice the size "
            "takes four times the work."
        ),
        Int("frames", 17, 1, 241).tip(
            "Length of a clip: a multiple of the VAE's time compression, plus 1. 1 trains on images; files that are "
            "shorter are left out."
        ),
        Float("fps", 8.0, 1.0, 60.0).tip(
            "Frames per second of the clips. Low values take every third or fourth frame of a file and show more of "
            "it; values above the file's own rate repeat frames."
        ),
        Int("multiple", 64, 8, 256, 8).tip(
            "The sides of the clips are multiples of this. Pyramid models need 64 (with 3 stages); lower values cut "
            "less off the edges, where the model allows them."
        ),
    )
    OUTPUTS = (
        Output(
            "VIDEO_DATASET", "For the trainers ('Train flow' and the others) and 'Preview video dataset'.", "dataset"
        ),
        Output("STRING", "One line per file: used or left out, and why.", "table"),
    )
    FUNCTION = "open"

    @classmethod
    def VALIDATE_INPUTS(cls, folder: Any = None):
        return validation_result(get_host().input_folder, folder)

    def open(self, folder, size, frames, fps, multiple):
        from ..training.data.video_folder import VideoFolder

        place = get_host().input_folder(folder)
        with counting("looking at videos") as on_load:
            dataset = VideoFolder(place, size, frames, fps, multiple, on_load)
        table = dataset.table()
        rows, summary = table.split("\n"), f"{len(dataset.kept)} of {len(dataset.sources)} files are used."
        more = [f"and {len(rows) - MOST_ROWS} more, see 'table'"] if len(rows) > MOST_ROWS else []
        shown = "\n".join([summary, *rows[:MOST_ROWS], *more])
        return {"ui": show_message(shown), "result": (dataset, table)}


class PreviewDataset(Block):
    ID, NAME = "PyramidVideoDatasetPreview", "Preview video dataset"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = "Draws a few clips of a dataset with their captions, so that you see the data before you train on it."
    ALIASES = "show dataset, dataset samples, check captions, inspect data, training"
    REQUIRED = (
        Wire("dataset", "VIDEO_DATASET").tip("From a dataset block."),
        Int("count", 4, 1, 64).tip("How many clips: 1 is quick, more show the variety."),
        Int("seed", 0, 0, LARGEST_SEED, control_after_generate=True).tip(
            "Which clips; the same seed draws the same ones."
        ),
    )
    OUTPUTS = (
        Output("IMAGE", "The frames, one clip after the other.", "images"),
        Output("STRING", "One caption per line, in the same order.", "captions"),
    )
    FUNCTION = "preview"

    def preview(self, dataset: VideoDataset, count, seed):
        from ..samplers.noise import seed_generator

        check_dataset(dataset, "sample")
        videos, captions, _ = dataset.sample(seed_generator(seed), count)  # (count, 3, t, h, w)
        images = (videos.permute(0, 2, 3, 4, 1).flatten(0, 1) + 1) / 2
        return {"ui": show_message(*captions), "result": (images, "\n".join(captions))}


def names(text: str) -> list[str] | None:
    """Subjects divided by commas or lines; None where none are named."""
    return [name for name in re.split(r"[,\n]", text) if name.strip()] or None


def describe(dataset: AnimationDataset) -> str:
    """What is in a dataset, and what is not."""
    subjects, combinations = len(dataset.subjects), len(dataset.combinations)
    return (
        f"{subjects} subjects, {combinations} combinations in {dataset.split!r}: {', '.join(dataset.subjects[:8])}"
        + (", ..." if subjects > 8 else ".")
        + "".join(f"\nleft out: {reason}" for reason in dataset.left_out)
    )


BLOCKS = (Animations, VideoFolderDataset, PreviewDataset)
