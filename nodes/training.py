"""Blocks for what is trained and how: a new model, one from a file, and the settings of a run."""

from __future__ import annotations

from typing import Any

from ..host import get_host
from ..models.families import FAMILIES
from ..samplers.seeds import LARGEST_SEED
from ..training.presets import NETWORK_SIZES, PRECISIONS
from .block import Block, Bool, Choice, Float, Int, Output
from .family_widgets import FAMILY, FAMILY_SETTINGS, family_of, validate_family
from .shared_inputs import MODEL_FILE_TEXT, ModelFile

AS_IT_IS = "as it is"


class NewModel(Block):
    ID, NAME = "PyramidVideoNewModel", "New model"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = "A new, untrained transformer of a family and a size."
    ALIASES = "from scratch, untrained model, init model, empty model, create model, transformer, dit, train, training"
    REQUIRED = (
        FAMILY,
        Choice("size", list(NETWORK_SIZES), "small").tip(
            "tiny (1.3 million parameters with the pack's VAE) is for trying things out; small (4.5) trains on a "
            "CPU; medium (71) and large (484) need a GPU."
        ),
    )
    OPTIONAL = FAMILY_SETTINGS
    OUTPUTS = (Output("VIDEO_TRAINEE", "For the trainer of its family.", "trainee"),)
    FUNCTION = "make"

    @classmethod
    def VALIDATE_INPUTS(
        cls, family: Any = None, schedule: Any = "cosine", prediction: Any = "v", zero_terminal_snr: Any = True
    ):
        return validate_family(family, schedule, prediction, zero_terminal_snr)

    def make(self, family, size, shift, schedule, prediction, zero_terminal_snr):
        from ..training.trainers.model_source import ModelSource

        return (ModelSource(family_of(family, shift, schedule, prediction, zero_terminal_snr), size),)


class LoadForTraining(Block):
    ID, NAME = "PyramidVideoLoadForTraining", "Load for training"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Loads a transformer to train it further, in float32. You can change its family: a flow model is a good "
        "start for a GAN, and a pyramid for a flow."
    )
    ALIASES = "fine-tune, finetune, continue training, resume, checkpoint, base model, train, training"
    REQUIRED = (
        ModelFile("model_name", "diffusion_models").tip(MODEL_FILE_TEXT),
        Choice("family", (AS_IT_IS, *FAMILIES), AS_IT_IS).tip(
            "What it is trained to be. 'as it is' keeps the family of the file and its settings; another family uses "
            "the settings below."
        ),
    )
    OPTIONAL = FAMILY_SETTINGS
    OUTPUTS = (Output("VIDEO_TRAINEE", "For the trainer of its family.", "trainee"),)
    FUNCTION = "load"

    @classmethod
    def VALIDATE_INPUTS(
        cls, family: Any = None, schedule: Any = "cosine", prediction: Any = "v", zero_terminal_snr: Any = True
    ):
        return family == AS_IT_IS or validate_family(family, schedule, prediction, zero_terminal_snr)

    def load(self, model_name, family, shift, schedule, prediction, zero_terminal_snr):
        from ..models import checkpoints
        from ..training.trainers.model_source import ModelSource

        path = get_host().find_model("diffusion_models", model_name)
        own = checkpoints.inspect(path, checkpoints.TRAINABLE).family
        wanted = family_of(family, shift, schedule, prediction, zero_terminal_snr) if family in FAMILIES else own
        return (ModelSource(wanted, weights=path),)


class TrainingSettings(Block):
    ID, NAME = "PyramidVideoTrainingSettings", "Training settings"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "How long and how fast a run trains. Every trainer takes it; without it, a trainer uses its own defaults."
    )
    ALIASES = (
        "optimizer, learning rate, adamw, ema, scheduler, warmup, batch size, gradient accumulation, "
        "hyperparameters, train, training"
    )
    REQUIRED = (
        Int("steps", 2000, 1, 10_000_000).tip(
            "Updates of the weights. 100 shows that it works, thousands make pictures. Raise it to continue a "
            "finished run."
        ),
        Int("batch", 32, 1, 4096).tip(
            "Clips per update. Small batches are noisy, large ones need memory; for a pyramid, use a multiple of the "
            "sum of its stage_ratios."
        ),
        Float("learning_rate", 1e-3, 1e-7, 0.1, 1e-6, exact=True).tip(
            "Size of the updates at its largest. 1e-3 for small new models; 1e-4 and less for large ones and for "
            "those that are already trained."
        ),
    )
    OPTIONAL = (
        Int("warmup", 100, 0, 100_000).tip(
            "Steps in which the learning rate rises to its largest value; after that it falls along a cosine."
        ),
        Float("average", 0.999, 0.0, 0.99999, 0.0001, exact=True).tip(
            "Decay of the averaged weights (EMA), which are what is saved. 0 keeps no average."
        ),
        Float("text_dropout", 0.1, 0.0, 1.0, 0.01).tip(
            "Share of the captions that are left empty; guidance needs a model that works without text. A GAN sees "
            "every caption."
        ),
        Int("accumulate", 1, 1, 1024).tip("Batches per update, one after the other: a large batch in little memory."),
        Float("clip_norm", 1.0, 0.01, 1000.0, 0.01).tip("Gradients longer than this are shortened to it."),
        Float("weight_decay", 1e-4, 0.0, 1.0, 1e-5, exact=True).tip(
            "How fast unused weights shrink. 0 turns it off; 0.01 and more is for large data sets."
        ),
        Choice("precision", PRECISIONS, "no").tip(
            "no: float32. bf16: mixed precision, less memory and 2 to 15 times faster on a GPU. auto: bf16 where the "
            "device computes in it, else float32."
        ),
        Bool("gradient_checkpointing", False).tip("Needs less memory and a third more time."),
        Int("run_seed", 0, 0, LARGEST_SEED).tip(
            "For the first weights, the order of the clips, and the noise. A run keeps the seed that it was started "
            "with; another seed needs another run name."
        ),
    )
    OUTPUTS = (Output("TRAINING_SETTINGS", "For a trainer.", "settings"),)
    FUNCTION = "make"

    def make(
        self,
        steps,
        batch,
        learning_rate,
        warmup,
        average,
        text_dropout,
        accumulate,
        clip_norm,
        weight_decay,
        precision,
        gradient_checkpointing,
        run_seed,
    ):
        from ..training.run.train_settings import TrainSettings
        from ..training.trainers.model import TrainingPlan

        settings = TrainSettings(
            steps,
            learning_rate,
            warmup_steps=warmup,
            ema_decay=average,
            gradient_accumulation_steps=accumulate,
            max_grad_norm=clip_norm,
            weight_decay=weight_decay,
            precision=precision,
            gradient_checkpointing=gradient_checkpointing,
            seed=run_seed,
        )
        return (TrainingPlan(settings, batch, text_dropout),)


BLOCKS = (NewModel, LoadForTraining, TrainingSettings)
