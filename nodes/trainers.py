"""Trainers: one for each family, with the same look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..samplers.names import MOST_STAGES
from ..training.presets import GAN_LOSSES, TIMESTEP_SAMPLINGS
from .block import Bool, Choice, Float, Text
from .trainer_base import WIRES, Trainer, trained_from
from .widget_validation import validation_result

if TYPE_CHECKING:
    from ..training.data.encoded_dataset import EncodedDataset
    from ..training.trainers.model import TrainedModel, TrainingPlan
    from ..training.trainers.model_source import ModelSource

TRAINING_WORDS = "train, training, trainer, fine-tune, from scratch, learn"


class TrainFlow(Trainer):
    FAMILY = "flow"
    ID, NAME = "PyramidVideoTrainFlow", "Train flow"
    DESCRIPTION = (
        "Trains a flow matching model, which learns the way from a noisy clip to the clean one. You can stop it at "
        "any time; run the graph again to continue."
    )
    ALIASES = f"{TRAINING_WORDS}, rectified flow, flow matching"
    REQUIRED = trained_from("flow")
    OPTIONAL = (
        *WIRES,
        Choice("times", TIMESTEP_SAMPLINGS, "logit_normal").tip(
            "Which noise levels are trained: uniform, or the middle ones more often (logit_normal), which are the "
            "hardest."
        ),
        Float("time_shift", 1.0, 0.1, 20.0, 0.1).tip(
            "Above 1, more noise is trained: for large clips, where much noise hides little."
        ),
    )

    def objective(self, source: ModelSource, times, time_shift):
        from ..training.objectives.draw import TimestepSampling
        from ..training.objectives.flow import FlowObjective

        return FlowObjective(TimestepSampling(times), time_shift)


class TrainDiffusion(Trainer):
    FAMILY = "diffusion"
    ID, NAME = "PyramidVideoTrainDiffusion", "Train diffusion"
    DESCRIPTION = (
        "Trains a diffusion model, which learns the noise in a clip at each of 1000 timesteps. You can stop it at "
        "any time; run the graph again to continue."
    )
    ALIASES = f"{TRAINING_WORDS}, ddpm, noise prediction, v prediction"
    REQUIRED = trained_from("diffusion")
    OPTIONAL = (
        *WIRES,
        Float("min_snr", 5.0, 0.0, 100.0, 0.5).tip(
            "Timesteps with little noise, where a clip hardly changes, get less weight: the signal-to-noise ratio "
            "counts only up to this. 5 is usual; 0 weights all alike."
        ),
    )

    def objective(self, source: ModelSource, min_snr):
        from ..samplers.noise_schedule import schedule_of
        from ..training.objectives.diffusion import DiffusionObjective

        return DiffusionObjective(schedule_of(source.family), min_snr or None)


class TrainGAN(Trainer):
    FAMILY = "gan"
    ID, NAME = "PyramidVideoTrainGAN", "Train GAN"
    DESCRIPTION = (
        "Trains the generator of a GAN against a discriminator that sees space and time; the generator makes clips "
        "in one pass. Start from a trained flow ('Load for training' with family gan); an untrained model needs far "
        "longer."
    )
    ALIASES = f"{TRAINING_WORDS}, generator, discriminator, adversarial, distill"
    REQUIRED = trained_from("gan")
    OPTIONAL = (
        *WIRES,
        Choice("game", GAN_LOSSES, "relativistic").tip(
            "The adversarial loss. relativistic compares each generated clip with a real one and keeps all modes; "
            "non_saturating is the classic loss, hinge a common alternative."
        ),
        Float("penalty", 1.0, 0.0, 1000.0, 0.1).tip(
            "Weight of the gradient penalties (R1 and R2), which keep the discriminator smooth. 0.1 to 10 are usual; "
            "without them training rarely settles."
        ),
        Bool("feature_discriminator", True).tip(
            "On: a second discriminator judges by what the model in the file sees in clips, best a flow. The generator "
            "learns faster, and a copy of the model takes memory. Off for runs that were begun without it."
        ),
    )

    def plan(self) -> TrainingPlan:
        """The generator's rate, which the discriminator has several times."""
        from ..training.run.train_settings import TrainSettings
        from ..training.trainers.model import TrainingPlan

        return TrainingPlan(TrainSettings(2000, 1e-4, precision="auto", ema_decay=0.99), batch_size=16)

    def start(
        self, source: ModelSource, encoded: EncodedDataset, folder: Path, plan: TrainingPlan, **settings: Any
    ) -> TrainedModel:
        from ..training.trainers.model import start_run

        return start_run(source, encoded, folder, plan.settings, settings["feature_discriminator"])

    def objective(self, source: ModelSource, game, penalty, feature_discriminator):
        from ..training.objectives.gan import GANObjective

        return GANObjective(game, penalty)


class TrainPyramid(Trainer):
    FAMILY = "pyramid"
    ID, NAME = "PyramidVideoTrainPyramid", "Train pyramid"
    DESCRIPTION = (
        "Trains a pyramidal flow as Pyramid Flow was trained: one latent frame after the other, at rising "
        "resolution, with a slightly noisy history. You can stop it at any time; run the graph again to continue."
    )
    ALIASES = f"{TRAINING_WORDS}, pyramid flow, autoregressive, flow matching"
    REQUIRED = trained_from("pyramid")
    OPTIONAL = (
        *WIRES,
        Text("stage_ratios", "1, 2, 1").tip(
            "How much of a batch each stage gets, coarsest first; one number per stage. The batch must be a multiple "
            "of their sum. 1, 2, 1 is official."
        ),
        Bool("autoregressive", True).tip(
            "On: one latent frame at a time, from the frames before it. Off: all frames at once, as for pictures and "
            "for the first phase of the official training."
        ),
        Float("history_noise", 0.333, 0.0, 1.0, 0.001).tip(
            "The most noise that is added to the history, so that mistakes in earlier frames do less harm. A third "
            "is official."
        ),
        Float("first_frames", 0.0, 0.0, 1.0, 0.05).tip(
            "Share of the steps that train first frames only, which have nothing but the text to go by. 0 is "
            "official; small models gain from 0.4."
        ),
        Bool("balance_stages", False).tip(
            "On: every stage is weighted by its remaining error, so that detail does not drown out the coarse "
            "stages, which decide where things are. Small models need it; off is official."
        ),
        Choice("times", TIMESTEP_SAMPLINGS, "uniform").tip(
            "Which noise levels of a stage are trained: uniform is official; logit_normal trains the beginning of "
            "each stage more often, where it is decided what the picture will be. Small models gain from it."
        ),
    )

    @classmethod
    def VALIDATE_INPUTS(cls, run_name: Any = None, stage_ratios: Any = None):
        named = super().VALIDATE_INPUTS(run_name)
        return named if named is not True else validation_result(lambda text: parse_ratios(str(text)), stage_ratios)

    def objective(
        self, source: ModelSource, stage_ratios, autoregressive, history_noise, first_frames, balance_stages, times
    ):
        from ..samplers.stages import make_stages
        from ..training.objectives.draw import UNIFORM
        from ..training.objectives.pyramid import BEGINNINGS, PyramidObjective, pyramid_loss, relative_loss

        ratios = parse_ratios(stage_ratios)
        return PyramidObjective(
            make_stages(len(ratios)),
            ratios,
            history_noise,
            first_units=first_frames,
            autoregressive=autoregressive,
            loss=relative_loss if balance_stages else pyramid_loss,
            timesteps=UNIFORM if times == "uniform" else BEGINNINGS,
        )


def parse_ratios(text: str) -> tuple[int, ...]:
    """Whole numbers divided by commas; ValueError says what was written instead."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if len(words) > MOST_STAGES:
        raise ValueError(f"stage_ratios has {len(words)} numbers, one a stage; {MOST_STAGES} stages are the most")
    if not words or not all(word.isdecimal() for word in words) or not any(int(word) for word in words):
        raise ValueError(f"stage_ratios is {text!r}; write whole numbers divided by commas, such as 1, 2, 1")
    return tuple(map(int, words))


BLOCKS = (TrainFlow, TrainDiffusion, TrainGAN, TrainPyramid)
