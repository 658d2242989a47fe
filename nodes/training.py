"""Blocks that say what is trained and how: a new model, one from a file, and the settings of a run."""

from __future__ import annotations

from typing import Any

from ..host import get_host
from ..models.families import FAMILIES
from ..samplers.seeds import LARGEST_SEED
from .choices import model_names
from .family_widgets import FAMILY, FAMILY_SETTINGS, family_of, family_verdict

AS_IT_IS = "as it is"


class NewModel:
    CATEGORY = "pyramid video/training"
    DESCRIPTION = "A new transformer that knows nothing yet, of a family and a size."
    SEARCH_ALIASES = [
        "from scratch",
        "untrained model",
        "init model",
        "empty model",
        "create model",
        "transformer",
        "dit",
        "train",
        "training",
    ]
    RETURN_TYPES = ("VIDEO_TRAINEE",)
    RETURN_NAMES = ("trainee",)
    OUTPUT_TOOLTIPS = ("For the trainer of its family.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "family": FAMILY,
                "size": (
                    ["tiny", "small", "medium", "large"],
                    {
                        "default": "small",
                        "tooltip": "tiny (1.3 million parameters with the pack's VAE) to try things out; small "
                        "(4.4) learns on a CPU; medium (71) and large (484) want a GPU.",
                    },
                ),
            },
            "optional": FAMILY_SETTINGS,
        }

    @classmethod
    def VALIDATE_INPUTS(
        cls, family: Any = None, schedule: Any = "cosine", prediction: Any = "v", zero_terminal_snr: Any = True
    ):
        return family_verdict(family, schedule, prediction, zero_terminal_snr)

    def make(
        self,
        family: str,
        size: str,
        shift: float = 1.0,
        schedule: str = "cosine",
        prediction: str = "v",
        zero_terminal_snr: bool = True,
    ):
        from ..training.model_source import Trainee

        return (Trainee(family_of(family, shift, schedule, prediction, zero_terminal_snr), size),)


class LoadForTraining:
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Opens a transformer to train it further, in float32. It may change its family: a flow makes a good start for "
        "a GAN, and a pyramid for a flow."
    )
    SEARCH_ALIASES = [
        "fine-tune",
        "finetune",
        "continue training",
        "resume",
        "checkpoint",
        "base model",
        "train",
        "training",
    ]
    RETURN_TYPES = ("VIDEO_TRAINEE",)
    RETURN_NAMES = ("trainee",)
    OUTPUT_TOOLTIPS = ("For the trainer of its family.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model_name": (
                    model_names("diffusion_models"),
                    {"tooltip": "The first ones come with the pack; the others lie in your models folders."},
                ),
                "family": (
                    [AS_IT_IS, *FAMILIES],
                    {
                        "default": AS_IT_IS,
                        "tooltip": "What it is trained to be. 'as it is' keeps the family of the file, with its "
                        "settings; another family takes the settings below.",
                    },
                ),
            },
            "optional": FAMILY_SETTINGS,
        }

    @classmethod
    def VALIDATE_INPUTS(
        cls, family: Any = None, schedule: Any = "cosine", prediction: Any = "v", zero_terminal_snr: Any = True
    ):
        return family == AS_IT_IS or family_verdict(family, schedule, prediction, zero_terminal_snr)

    def load(
        self,
        model_name: str,
        family: str,
        shift: float = 1.0,
        schedule: str = "cosine",
        prediction: str = "v",
        zero_terminal_snr: bool = True,
    ):
        from ..models import checkpoints
        from ..training.model_source import Trainee

        path = get_host().find_model("diffusion_models", model_name)
        own = checkpoints.inspect(path, checkpoints.TRAINABLE).family
        asked = family_of(family, shift, schedule, prediction, zero_terminal_snr) if family in FAMILIES else own
        return (Trainee(asked, weights=path),)


class TrainingSettings:
    CATEGORY = "pyramid video/training"
    DESCRIPTION = "How long and how fast a run learns. Every trainer takes it; left open, its defaults count."
    SEARCH_ALIASES = [
        "optimizer",
        "learning rate",
        "adamw",
        "ema",
        "scheduler",
        "warmup",
        "batch size",
        "gradient accumulation",
        "hyperparameters",
        "train",
        "training",
    ]
    RETURN_TYPES = ("TRAINING_SETTINGS",)
    RETURN_NAMES = ("settings",)
    OUTPUT_TOOLTIPS = ("For a trainer.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "steps": (
                    "INT",
                    {
                        "default": 2000,
                        "min": 1,
                        "max": 10_000_000,
                        "tooltip": "Updates of the weights. 100 shows that it works, thousands make pictures. A run "
                        "that is done goes on when this is raised.",
                    },
                ),
                "batch": (
                    "INT",
                    {
                        "default": 32,
                        "min": 1,
                        "max": 4096,
                        "tooltip": "Clips per update. Small batches are noisy, large ones need memory; a pyramid wants "
                        "a multiple of its columns.",
                    },
                ),
                "learning_rate": (
                    "FLOAT",
                    {
                        "default": 1e-3,
                        "min": 1e-7,
                        "max": 0.1,
                        "step": 1e-6,
                        "round": False,
                        "tooltip": "Size of the updates at their largest. 1e-3 for small new models, 1e-4 and less for "
                        "large ones and for those that know something already.",
                    },
                ),
            },
            "optional": {
                "warmup": (
                    "INT",
                    {
                        "default": 100,
                        "min": 0,
                        "max": 100_000,
                        "tooltip": "Steps in which the rate climbs to its largest; then it falls along a cosine.",
                    },
                ),
                "average": (
                    "FLOAT",
                    {
                        "default": 0.999,
                        "min": 0.0,
                        "max": 0.99999,
                        "step": 0.0001,
                        "round": False,
                        "tooltip": "Memory of the averaged weights (EMA), which are what is saved. 0 keeps none.",
                    },
                ),
                "text_dropout": (
                    "FLOAT",
                    {
                        "default": 0.1,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "Share of the texts that are left empty: guidance needs a model that can do "
                        "without. A GAN sees every text.",
                    },
                ),
                "accumulate": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 1024,
                        "tooltip": "Batches per update, one after the other: a large batch in little memory.",
                    },
                ),
                "clip_norm": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.01,
                        "max": 1000.0,
                        "step": 0.01,
                        "tooltip": "Longer gradients are cut to this length.",
                    },
                ),
                "weight_decay": (
                    "FLOAT",
                    {
                        "default": 1e-4,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 1e-5,
                        "round": False,
                        "tooltip": "How fast unused weights shrink. 0 turns it off, 0.01 and more for large data.",
                    },
                ),
                "precision": (
                    ["no", "bf16"],
                    {
                        "default": "no",
                        "tooltip": "no: float32. bf16: mixed precision, half the memory and faster on a GPU.",
                    },
                ),
                "gradient_checkpointing": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "Less memory, a third more time."},
                ),
                "run_seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": LARGEST_SEED,
                        "tooltip": "Weights to begin with, order of the clips, noise. Another seed is another run, and "
                        "is refused under the name of one that has begun.",
                    },
                ),
            },
        }

    def make(
        self,
        steps: int,
        batch: int,
        learning_rate: float,
        warmup: int = 100,
        average: float = 0.999,
        text_dropout: float = 0.1,
        accumulate: int = 1,
        clip_norm: float = 1.0,
        weight_decay: float = 1e-4,
        precision: str = "no",
        gradient_checkpointing: bool = False,
        run_seed: int = 0,
    ):
        from ..training.run.loop import TrainSettings
        from ..training.trainer import TrainingPlan

        settings = TrainSettings(
            steps,
            learning_rate,
            warmup=warmup,
            average=average,
            accumulate=accumulate,
            clip_norm=clip_norm,
            weight_decay=weight_decay,
            precision=precision,
            gradient_checkpointing=gradient_checkpointing,
            seed=run_seed,
        )
        return (TrainingPlan(settings, batch, text_dropout),)


NODES = {
    "PyramidVideoNewModel": NewModel,
    "PyramidVideoLoadForTraining": LoadForTraining,
    "PyramidVideoTrainingSettings": TrainingSettings,
}
NAMES = {
    "PyramidVideoNewModel": "New model",
    "PyramidVideoLoadForTraining": "Load for training",
    "PyramidVideoTrainingSettings": "Training settings",
}
