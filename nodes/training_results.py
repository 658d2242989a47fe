"""Blocks around a training run: prompts that are watched while it learns, its curves, and its model as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..host import get_host
from ..samplers.seeds import LARGEST_SEED
from .literals import verdict
from .train_run import NamesFile, check_run, output_file, saved

if TYPE_CHECKING:
    from ..training.trainer import TrainedModel

RUN = ("TRAINING_RUN", {"tooltip": "From a trainer."})


class Validation:
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Prompts that are made into clips every so many steps. The trainer shows them, and keeps them as animated webp "
        "files beside its run."
    )
    SEARCH_ALIASES = [
        "samples",
        "sample prompts",
        "preview while training",
        "eval",
        "test prompts",
        "train",
        "training",
    ]
    RETURN_TYPES = ("TRAINING_VALIDATION",)
    RETURN_NAMES = ("validation",)
    OUTPUT_TOOLTIPS = ("For a trainer.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "prompts": (
                    "STRING",
                    {
                        "default": "a tiger moving left on a blue background",
                        "multiline": True,
                        "tooltip": "One prompt a line, up to 16. Take some that the data do not hold.",
                    },
                ),
                "every": (
                    "INT",
                    {
                        "default": 500,
                        "min": 1,
                        "max": 1_000_000,
                        "tooltip": "Steps between two looks, and one more at the end. Often is slow.",
                    },
                ),
            },
            "optional": {
                "steps": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 1000,
                        "tooltip": "Steps of sampling (of a pyramid: in each stage). 0 takes what is usual for the "
                        "family: flow 10, diffusion 50, pyramid 10.",
                    },
                ),
                "cfg": (
                    "FLOAT",
                    {
                        "default": 3.0,
                        "min": 0.0,
                        "max": 30.0,
                        "step": 0.1,
                        "tooltip": "Guidance against an empty prompt; 1 is the prompt alone. A GAN has none.",
                    },
                ),
                "first_seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": LARGEST_SEED,
                        "tooltip": "Noise of the first prompt; the next ones use seed + 1, ... The same at every look.",
                    },
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, prompts: Any = None):
        from ..training.run.validation import ValidationPlan

        return verdict(lambda text: ValidationPlan(prompt_lines(str(text))), prompts)

    def make(self, prompts: str, every: int, steps: int = 0, cfg: float = 3.0, first_seed: int = 0):
        from ..training.run.validation import ValidationPlan

        return (ValidationPlan(prompt_lines(prompts), every, steps, cfg, first_seed),)


def prompt_lines(text: str) -> tuple[str, ...]:
    """The prompts of a widget that takes one a line."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


class TrainingCurves:
    CATEGORY = "pyramid video/training"
    DESCRIPTION = "Draws the losses of a run over its steps."
    SEARCH_ALIASES = ["loss graph", "plot loss", "loss curve", "tensorboard", "training log", "train", "training"]
    RETURN_TYPES = ("IMAGE", "LOSS_MAP")
    RETURN_NAMES = ("curves", "loss_map")
    OUTPUT_TOOLTIPS = ("The curves as a picture.", "The loss of every step, for core's 'Plot Loss Graph'.")
    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"run": RUN}}

    def draw(self, run: TrainedModel):
        import numpy as np
        import torch

        from ..training.run.report import draw_curves, read_losses

        curves = read_losses(run.run.folder)
        if not curves:
            raise ValueError(f"the run in {run.run.folder} has no losses yet; let it take a step")
        pixels = torch.from_numpy(np.array(draw_curves(curves))).float() / 255
        return (pixels.unsqueeze(0), {"loss": [value for _, value in curves.get("loss", ())]})


class SaveTrained(NamesFile):
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Saves the trained model with its averaged weights, where 'Load video model' finds it, and hands it on for "
        "sampling in the same graph."
    )
    SEARCH_ALIASES = ["save model", "save checkpoint", "export checkpoint", "safetensors", "train", "training"]
    RETURN_TYPES = ("MODEL",)
    OUTPUT_TOOLTIPS = ("The saved model, for the sampler of its family.",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "run": RUN,
                "name": (
                    "STRING",
                    {
                        "default": "my_video_model",
                        "tooltip": "Name of the file in output/diffusion_models; beside an older one it gets a number.",
                    },
                ),
            },
            "optional": {
                "precision": (
                    ["fp16", "bf16", "fp32"],
                    {
                        "default": "fp16",
                        "tooltip": "How numbers are stored. fp16 is half the size and loses nothing that is seen; bf16 "
                        "for models with large numbers (official ones); fp32 is exact.",
                    },
                ),
            },
        }

    def save(self, run: TrainedModel, name: str, precision: str = "fp16"):
        import torch

        from ..training.trainer import TrainedModel

        check_run(run, TrainedModel, "Save trained model")
        types = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
        asked = output_file(self.KIND, name, self.WHAT)
        path = run.save(asked, types[precision], replace=False)
        return saved(path, asked, get_host().load_model(path))


NODES = {
    "PyramidVideoValidation": Validation,
    "PyramidVideoTrainingCurves": TrainingCurves,
    "PyramidVideoSaveTrained": SaveTrained,
}
NAMES = {
    "PyramidVideoValidation": "Validation",
    "PyramidVideoTrainingCurves": "Training curves",
    "PyramidVideoSaveTrained": "Save trained model",
}
