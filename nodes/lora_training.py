"""Blocks that train a LoRA for a video model, and save it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..training.presets import AUTO, BASE_DTYPES, NOISY_CLIPS
from .block import Choice, Float, Int, Output, Wire
from .trainer_base import SETTINGS, VALIDATION, Trainer
from .training_files import RunName, Saver, saved, saver_inputs

if TYPE_CHECKING:
    from ..models.families import ModelFamily
    from ..training.trainers.lora import LoRARun
    from ..training.trainers.model_source import ModelSource

CLIPS_TEXT = (
    "How many clips are drawn from the dataset once and kept as latents; with more than there are files, each file "
    "gives several excerpts."
)
ALPHA_TEXT = (
    "The strength of the LoRA is alpha divided by rank. Keep it equal to rank, or at a fixed number while you try "
    "other ranks."
)


def objective_of(family: ModelFamily, time_shift: float = 0.0) -> Any:
    """The usual loss of a family; a flow learns the noise levels of its shift, where no other is given."""
    from ..samplers.noise_schedule import schedule_of
    from ..samplers.stages import make_stages
    from ..training.objectives.diffusion import DiffusionObjective
    from ..training.objectives.draw import TimestepSampling
    from ..training.objectives.flow import FlowObjective
    from ..training.objectives.pyramid import PyramidObjective

    if family.name == "flow":
        return FlowObjective(TimestepSampling("logit_normal"), time_shift or family.shift)
    if family.name == "diffusion":
        return DiffusionObjective(schedule_of(family), shift=time_shift or 1.0)
    return PyramidObjective(make_stages())


class TrainLoRA(Trainer):
    ID, NAME = "PyramidVideoTrainLoRA", "Train LoRA"
    DESCRIPTION = (
        "Trains a LoRA: a small file that teaches a model new subjects or a style from a few clips. The model itself "
        "does not change. It works for the pack's flow, diffusion and pyramid models and for the official ones."
    )
    ALIASES = "lora, train, training, trainer, fine-tune, finetune, dreambooth, style, character, subject, low rank"
    REQUIRED = (
        Wire("trainee", "VIDEO_TRAINEE").tip(
            "The model for the LoRA, from 'Load for training' with family 'as it is'."
        ),
        Wire("dataset", "VIDEO_DATASET").tip("Captioned clips, from a dataset block; 10 to 50 are enough."),
        Wire("vae", "VAE").tip("The VAE that belongs to the model."),
        Wire("clip", "CLIP").tip("The text encoder that belongs to the model."),
        RunName("my_lora"),
        Int("clips", 200, 1, 1000000).tip(CLIPS_TEXT),
        Int("rank", 8, 1, 1024).tip(
            "How much the LoRA can hold: 4 for a style, 8 to 32 for subjects; more is a larger file that learns by "
            "heart sooner."
        ),
        Float("alpha", 8.0, 0.01, 1024.0, 0.01).tip(ALPHA_TEXT),
        Choice("targets", ["attention", "mlp", "all"], "attention").tip(
            "Which layers are adapted. attention is usual; all holds more and is larger."
        ),
    )
    OPTIONAL = (
        SETTINGS.tip("From 'Training settings'. Not connected: 500 steps of 4 clips, learning rate 1e-3."),
        VALIDATION,
        Choice("base_dtype", BASE_DTYPES, AUTO).tip(
            "How the model itself is kept in memory. auto: in the type that training computes in, which changes no "
            "number. bf16 takes half of float32, fp8_e4m3fn a quarter, slightly rounded. The LoRA always learns in "
            "float32."
        ),
        Float("token_share", 1.0, 0.05, 1.0, 0.05).tip(
            "Share of each clip that a step looks at, mostly where there is more than background. 0.25 takes a "
            "quarter of the time and learns as much a step. 1 is the whole clip, and all that pyramids can do."
        ),
        Float("time_shift", 0.0, 0.0, 20.0, 0.1).tip(
            "Above 1, more noise is learned, where it is decided what a clip shows; 10 is good for new subjects of the "
            "bundled flow. 0 takes the shift of the model, and pyramids have none."
        ),
    )
    OUTPUTS = (Output("TRAINING_RUN", "For 'Save trained LoRA' and 'Training curves'.", "run"),)

    def check(self, source: ModelSource, token_share: float = 1.0, time_shift: float = 0.0, **_: Any) -> None:
        """Any family that `objective_of` knows, with settings that are for it."""
        from ..training.trainers.lora import check_base

        check_base(source)
        if source.family.name in NOISY_CLIPS:
            return
        if token_share < 1:
            raise ValueError(
                f"token_share is {token_share}, and {source.name} learns from whole clips: only flow and diffusion "
                "models can learn from some of their tokens. Set it to 1"
            )
        if time_shift:
            raise ValueError(
                f"time_shift is {time_shift}, and {source.name} learns all noise levels of its stages alike: only flow "
                "and diffusion models have a shift. Set it to 0"
            )

    def plan(self):
        from ..training.run.train_settings import TrainSettings
        from ..training.trainers.model import TrainingPlan

        return TrainingPlan(TrainSettings(500, 1e-3, precision="auto"), batch_size=4)

    def objective(self, source: ModelSource, rank, alpha, targets, base_dtype, token_share, time_shift):
        from ..training.objectives.some_tokens import SomeTokensObjective

        objective = objective_of(source.family, time_shift)
        return objective if token_share == 1 else SomeTokensObjective(objective, token_share)

    def start(self, source, encoded, folder, plan, rank, alpha, targets, base_dtype, **_):
        from ..training.trainers.lora import LoRASettings, start_lora_run

        return start_lora_run(source, LoRASettings(rank, alpha, targets), encoded, folder, plan.settings, base_dtype)


class SaveTrainedLoRA(Saver):
    KIND, WHAT = "loras", "LoRA"
    ID, NAME = "PyramidVideoSaveTrainedLoRA", "Save trained LoRA"
    DESCRIPTION = "Saves the trained LoRA with its averaged weights where LoRA loaders find it, and outputs it."
    ALIASES = "save lora, export lora, safetensors, train, training"
    REQUIRED = saver_inputs("'Train LoRA' or 'Train LoRA (any model)'", "loras", "my_video_lora")
    OUTPUTS = (Output("LORA_MODEL", "The LoRA, for core's 'Load LoRA Model'; any LoRA loader can load its file."),)

    def save(self, run: LoRARun, name):
        from ..models.lora import lora_state
        from ..training.trainers.lora import LoRARun

        self.check(run, LoRARun)
        wanted = self.file(name)
        return saved(run.save(wanted, replace=False), wanted, lora_state(run.parts()))


BLOCKS = (TrainLoRA, SaveTrainedLoRA)
