"""Blocks around a training run: validation while it trains, its curves, and its model as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..samplers.seeds import LARGEST_SEED
from .block import Block, Choice, Float, Int, Output, Text, Wire
from .messages import show_message
from .training_files import Saver, saved, saver_inputs
from .widget_validation import validation_result

if TYPE_CHECKING:
    from ..training.trainers.model import TrainedModel

TYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}  # of saved weights, as torch calls them


class Validation(Block):
    ID, NAME = "PyramidVideoValidation", "Validation"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Prompts that are turned into clips at regular intervals. The trainer shows them, and keeps them as animated "
        "webp files in the folder of the run."
    )
    ALIASES = "samples, sample prompts, preview while training, eval, test prompts, train, training"
    REQUIRED = (
        Text("prompts", "a tiger moving left on a blue background", multiline=True).tip(
            "One prompt per line, up to 16. Use some that the data do not contain."
        ),
        Int("every", 500, 1, 1000000).tip(
            "Steps between two validations; there is one more at the end. Frequent validation is slow."
        ),
    )
    OPTIONAL = (
        Int("steps", 0, 0, 1000).tip(
            "Sampling steps (for a pyramid: per stage). 0 takes the default of the family: flow 10, diffusion 50, "
            "pyramid 10; for a model of ComfyUI 20."
        ),
        Float("cfg", 3.0, 0.0, 30.0, 0.1).tip(
            "Guidance against an empty prompt; 1 is the prompt alone. A GAN has none."
        ),
        Int("first_seed", 0, 0, LARGEST_SEED).tip(
            "Seed of the first prompt's noise; the next ones use seed + 1, and so on. It is the same at every "
            "validation."
        ),
    )
    OUTPUTS = (Output("TRAINING_VALIDATION", "For a trainer.", "validation"),)
    FUNCTION = "make"

    @classmethod
    def VALIDATE_INPUTS(cls, prompts: Any = None):
        from ..training.run.validation import ValidationPlan

        return validation_result(lambda text: ValidationPlan(prompt_lines(str(text))), prompts)

    def make(self, prompts, every, steps, cfg, first_seed):
        from ..training.run.validation import ValidationPlan

        return (ValidationPlan(prompt_lines(prompts), every, steps, cfg, first_seed),)


def prompt_lines(text: str) -> tuple[str, ...]:
    """The prompts of a widget that takes one a line."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


class TrainingCurves(Block):
    ID, NAME = "PyramidVideoTrainingCurves", "Training curves"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = "Draws the losses of a run over its steps."
    ALIASES = "loss graph, plot loss, loss curve, tensorboard, training log, train, training"
    REQUIRED = (Wire("run", "TRAINING_RUN").tip("From a trainer."),)
    OUTPUTS = (
        Output("IMAGE", "The curves as a picture.", "curves"),
        Output("LOSS_MAP", "The loss of every step, for core's 'Plot Loss Graph'.", "loss_map"),
    )
    FUNCTION = "draw"

    def draw(self, run: TrainedModel):
        from ..drawings.curves import draw_curves
        from ..drawings.pen import as_image
        from ..training.run.loss_log import read_losses

        folder = run.run.folder
        curves = read_losses(folder)
        result = as_image(draw_curves(curves)), {"loss": [value for _, value in curves.get("loss", ())]}
        if curves:
            return result
        # They are only for people: what is saved and sampled behind this block does not need them.
        return {"ui": show_message(f"The run in {folder} has no losses that can be read."), "result": result}


class SaveTrained(Saver):
    KIND, WHAT = "diffusion_models", "model"
    ID, NAME = "PyramidVideoSaveTrained", "Save trained model"
    DESCRIPTION = (
        "Saves the trained model with its averaged weights where 'Load video model' finds it, and outputs it for "
        "sampling in the same graph."
    )
    ALIASES = "save model, save checkpoint, export checkpoint, safetensors, train, training"
    REQUIRED = saver_inputs("a trainer", "diffusion_models", "my_video_model")
    OPTIONAL = (
        Choice("precision", list(TYPES), "fp16").tip(
            "How numbers are stored. fp16 is half the size and loses nothing visible; bf16 is for models with large "
            "numbers (official ones); fp32 is exact."
        ),
    )
    OUTPUTS = (Output("MODEL", "The saved model, for the sampler of its family."),)

    def save(self, run: TrainedModel, name, precision):
        import torch

        from ..training.trainers.model import TrainedModel

        self.check(run, TrainedModel)
        wanted = self.file(name)
        path = run.save(wanted, getattr(torch, TYPES[precision]), replace=False)
        return saved(path, wanted, get_host().load_model(path))


BLOCKS = (Validation, TrainingCurves, SaveTrained)
