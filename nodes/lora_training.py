"""Blocks that train a LoRA for a video model, and save it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .train_run import NamesFile, NamesRun, check_run, output_file, run_lessons, saved

if TYPE_CHECKING:
    from ..models.families import ModelFamily
    from ..training.data.datasets import VideoDataset
    from ..training.lora_trainer import TrainedLoRA
    from ..training.model_source import Trainee
    from ..training.run.validation import ValidationPlan
    from ..training.trainer import TrainingPlan


def objective_of(family: ModelFamily) -> Any:
    """What a model of this family learned from, with its usual settings."""
    from ..samplers.noise_schedule import schedule_of
    from ..samplers.stages import make_stages
    from ..training.objectives.diffusion import DiffusionObjective
    from ..training.objectives.flow import FlowObjective
    from ..training.objectives.pyramid import PyramidObjective

    if family.name == "flow":
        return FlowObjective("logit_normal", shift=family.shift)
    if family.name == "diffusion":
        return DiffusionObjective(schedule_of(family))
    return PyramidObjective(make_stages())


class TrainLoRA(NamesRun):
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Trains a LoRA: a small file that teaches a model new subjects or a look, from few clips. The model itself "
        "stays as it is. For the pack's flow, diffusion and pyramid models and for the official ones."
    )
    SEARCH_ALIASES = [
        "lora",
        "train",
        "training",
        "trainer",
        "fine-tune",
        "finetune",
        "dreambooth",
        "style",
        "character",
        "subject",
        "low rank",
    ]
    RETURN_TYPES = ("TRAINING_RUN",)
    RETURN_NAMES = ("run",)
    OUTPUT_TOOLTIPS = ("For 'Save trained LoRA' and 'Training curves'.",)
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "trainee": (
                    "VIDEO_TRAINEE",
                    {"tooltip": "The model that the LoRA is for, from 'Load for training' with family 'as it is'."},
                ),
                "dataset": (
                    "VIDEO_DATASET",
                    {"tooltip": "Captioned clips, from a dataset block; 10 to 50 will do."},
                ),
                "vae": ("VAE", {"tooltip": "The VAE that belongs to the model."}),
                "clip": ("CLIP", {"tooltip": "The text encoder that belongs to the model."}),
                "run_name": (
                    "STRING",
                    {
                        "default": "my_lora",
                        "tooltip": "The run is kept in output/training under this name, and goes on from there when "
                        "the graph is run again. Another name is another run.",
                    },
                ),
                "clips": (
                    "INT",
                    {
                        "default": 200,
                        "min": 1,
                        "max": 1_000_000,
                        "tooltip": "Clips that are drawn from the dataset once and kept as latents: more than there "
                        "are files gives each file several beginnings.",
                    },
                ),
                "rank": (
                    "INT",
                    {
                        "default": 8,
                        "min": 1,
                        "max": 1024,
                        "tooltip": "How much the LoRA can hold. 4 for a look, 8 to 32 for subjects; more is a larger "
                        "file that learns by heart sooner.",
                    },
                ),
                "alpha": (
                    "FLOAT",
                    {
                        "default": 8.0,
                        "min": 0.01,
                        "max": 1024.0,
                        "step": 0.01,
                        "tooltip": "Alpha divided by rank is the strength of what is learned. Keep it at the rank, or "
                        "at a number of yours when you try other ranks.",
                    },
                ),
                "targets": (
                    ["attention", "mlp", "all"],
                    {
                        "default": "attention",
                        "tooltip": "Which layers get additions. attention is usual; all holds more and is larger.",
                    },
                ),
            },
            "optional": {
                "settings": (
                    "TRAINING_SETTINGS",
                    {"tooltip": "From 'Training settings'. Left open: 500 steps of 4 clips, learning rate 1e-3."},
                ),
                "validation": (
                    "TRAINING_VALIDATION",
                    {"tooltip": "From 'Validation': prompts that are made into clips while it learns."},
                ),
            },
        }

    def train(
        self,
        trainee: Trainee,
        dataset: VideoDataset,
        vae,
        clip,
        run_name: str,
        clips: int,
        rank: int,
        alpha: float,
        targets: str,
        settings: TrainingPlan | None = None,
        validation: ValidationPlan | None = None,
    ):
        from ..training.lora_trainer import LoRASettings, start_lora_run
        from ..training.run.loop import TrainSettings
        from ..training.trainer import TrainingPlan

        lora, plan = LoRASettings(rank, alpha, targets), settings or TrainingPlan(TrainSettings(500, 1e-3), batch=4)
        return run_lessons(
            trainee,
            lambda material, folder, plan: start_lora_run(trainee, lora, material, folder, plan.settings),
            objective_of(trainee.family),
            dataset,
            vae,
            clip,
            run_name,
            clips,
            plan,
            validation,
        )


class SaveTrainedLoRA(NamesFile):
    KIND, WHAT = "loras", "LoRA"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = "Saves the trained LoRA with its averaged weights, where LoRA loaders find it, and hands it on."
    SEARCH_ALIASES = ["save lora", "export lora", "safetensors", "train", "training"]
    RETURN_TYPES = ("LORA_MODEL",)
    OUTPUT_TOOLTIPS = ("The LoRA, for core's 'Load LoRA Model'; from its file any LoRA loader takes it.",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "run": ("TRAINING_RUN", {"tooltip": "From 'Train LoRA'."}),
                "name": (
                    "STRING",
                    {
                        "default": "my_video_lora",
                        "tooltip": "Name of the file in output/loras; beside an older one it gets a number.",
                    },
                ),
            }
        }

    def save(self, run: TrainedLoRA, name: str):
        from ..models.lora import lora_state
        from ..training.lora_trainer import TrainedLoRA

        check_run(run, TrainedLoRA, "Save trained LoRA")
        asked = output_file(self.KIND, name, self.WHAT)
        return saved(run.save(asked, replace=False), asked, lora_state(run.parts()))


NODES = {"PyramidVideoTrainLoRA": TrainLoRA, "PyramidVideoSaveTrainedLoRA": SaveTrainedLoRA}
NAMES = {"PyramidVideoTrainLoRA": "Train LoRA", "PyramidVideoSaveTrainedLoRA": "Save trained LoRA"}
