"""Trainers: one for each family, with the same look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..samplers.model_kinds import MOST_STAGES
from .literals import verdict
from .train_run import run_training
from .trainer_look import Trainer, trainer_inputs

if TYPE_CHECKING:
    from ..training.data.datasets import VideoDataset
    from ..training.model_source import Trainee
    from ..training.run.validation import ValidationPlan
    from ..training.trainer import TrainingPlan


class TrainFlow(Trainer):
    DESCRIPTION = (
        "Trains a flow matching model: what leads from a noisy clip to the clean one. Stop it when you like; run the "
        "graph again and it goes on."
    )
    SEARCH_ALIASES = [*Trainer.SEARCH_ALIASES, "rectified flow", "flow matching"]

    @classmethod
    def INPUT_TYPES(cls):
        return trainer_inputs(
            "flow",
            times=(
                ["logit_normal", "uniform"],
                {
                    "default": "logit_normal",
                    "tooltip": "Which noise levels are learned: all alike, or the middle ones, which are the hardest, "
                    "more often.",
                },
            ),
            time_shift=(
                "FLOAT",
                {
                    "default": 1.0,
                    "min": 0.1,
                    "max": 20.0,
                    "step": 0.1,
                    "tooltip": "Above 1 more noise is learned: for large clips, where much noise hides little.",
                },
            ),
        )

    def train(
        self,
        trainee: Trainee,
        dataset: VideoDataset,
        vae,
        clip,
        run_name: str,
        clips: int,
        settings: TrainingPlan | None = None,
        validation: ValidationPlan | None = None,
        times: str = "logit_normal",
        time_shift: float = 1.0,
    ):
        from ..training.objectives.flow import FlowObjective

        objective = FlowObjective(times, shift=time_shift)
        return run_training("flow", objective, trainee, dataset, vae, clip, run_name, clips, settings, validation)


class TrainDiffusion(Trainer):
    DESCRIPTION = (
        "Trains a diffusion model: the noise in a clip, at each of 1000 levels. Stop it when you like; run the graph "
        "again and it goes on."
    )
    SEARCH_ALIASES = [*Trainer.SEARCH_ALIASES, "ddpm", "noise prediction", "v prediction"]

    @classmethod
    def INPUT_TYPES(cls):
        return trainer_inputs(
            "diffusion",
            min_snr=(
                "FLOAT",
                {
                    "default": 5.0,
                    "min": 0.0,
                    "max": 100.0,
                    "step": 0.5,
                    "tooltip": "Levels with little noise, where a clip is hardly changed, count less: the ratio of "
                    "signal to noise counts up to this. 5 is usual, 0 lets all levels count alike.",
                },
            ),
        )

    def train(
        self,
        trainee: Trainee,
        dataset: VideoDataset,
        vae,
        clip,
        run_name: str,
        clips: int,
        settings: TrainingPlan | None = None,
        validation: ValidationPlan | None = None,
        min_snr: float = 5.0,
    ):
        from ..samplers.noise_schedule import schedule_of
        from ..training.objectives.diffusion import DiffusionObjective

        objective = DiffusionObjective(schedule_of(trainee.family), min_snr or None)
        return run_training("diffusion", objective, trainee, dataset, vae, clip, run_name, clips, settings, validation)


class TrainGAN(Trainer):
    DESCRIPTION = (
        "Trains the generator of a GAN against a discriminator that sees space and time: clips in one pass. Begin with "
        "a trained flow ('Load for training' with family gan); from nothing it needs far longer."
    )
    SEARCH_ALIASES = [*Trainer.SEARCH_ALIASES, "generator", "discriminator", "adversarial", "distill"]

    @classmethod
    def INPUT_TYPES(cls):
        return trainer_inputs(
            "gan",
            game=(
                ["relativistic", "non_saturating", "hinge"],
                {
                    "default": "relativistic",
                    "tooltip": "What the two play for. relativistic compares each made clip with a real one and keeps "
                    "all modes; non_saturating is the classical game, hinge a common other.",
                },
            ),
            penalty=(
                "FLOAT",
                {
                    "default": 1.0,
                    "min": 0.0,
                    "max": 1000.0,
                    "step": 0.1,
                    "tooltip": "Weight of the gradient penalties (R1 and R2) that keep the discriminator gentle. 0.1 "
                    "to 10 are usual; without it the game seldom settles.",
                },
            ),
        )

    def train(
        self,
        trainee: Trainee,
        dataset: VideoDataset,
        vae,
        clip,
        run_name: str,
        clips: int,
        settings: TrainingPlan | None = None,
        validation: ValidationPlan | None = None,
        game: str = "relativistic",
        penalty: float = 1.0,
    ):
        from ..training.objectives.gan import GANObjective

        objective = GANObjective(game, penalty)
        return run_training("gan", objective, trainee, dataset, vae, clip, run_name, clips, settings, validation)


class TrainPyramid(Trainer):
    DESCRIPTION = (
        "Trains a pyramidal flow as Pyramid Flow was: one latent frame after the other, at rising resolution, from a "
        "slightly noisy memory. Stop it when you like; run the graph again and it goes on."
    )
    SEARCH_ALIASES = [*Trainer.SEARCH_ALIASES, "pyramid flow", "autoregressive", "flow matching"]

    @classmethod
    def INPUT_TYPES(cls):
        return trainer_inputs(
            "pyramid",
            stage_ratios=(
                "STRING",
                {
                    "default": "1, 2, 1",
                    "tooltip": "How much of a batch each stage gets, coarsest first; as many numbers as the pyramid "
                    "has stages. The batch must divide into their sum. 1, 2, 1 is official.",
                },
            ),
            autoregressive=(
                "BOOLEAN",
                {
                    "default": True,
                    "tooltip": "On: one latent frame at a time, from what came before. Off: all frames at once, as for "
                    "pictures and the first phase of the official training.",
                },
            ),
            history_noise=(
                "FLOAT",
                {
                    "default": 0.333,
                    "min": 0.0,
                    "max": 1.0,
                    "step": 0.001,
                    "tooltip": "Most noise that the memory gets, so that mistakes of earlier frames do no harm. A "
                    "third is official.",
                },
            ),
            first_frames=(
                "FLOAT",
                {
                    "default": 0.0,
                    "min": 0.0,
                    "max": 1.0,
                    "step": 0.05,
                    "tooltip": "Share of the steps that learn first frames only, which alone have nothing but the text "
                    "to go by. 0 is official; small models gain from 0.4.",
                },
            ),
            balance_stages=(
                "BOOLEAN",
                {
                    "default": False,
                    "tooltip": "On: every stage counts by what it still lacks, so that the coarse ones, which decide "
                    "where things are, are not drowned out by detail. Small models need it; off is official.",
                },
            ),
        )

    @classmethod
    def VALIDATE_INPUTS(cls, run_name: Any = None, stage_ratios: Any = None):
        named = super().VALIDATE_INPUTS(run_name)
        return named if named is not True else verdict(lambda text: parse_ratios(str(text)), stage_ratios)

    def train(
        self,
        trainee: Trainee,
        dataset: VideoDataset,
        vae,
        clip,
        run_name: str,
        clips: int,
        settings: TrainingPlan | None = None,
        validation: ValidationPlan | None = None,
        stage_ratios: str = "1, 2, 1",
        autoregressive: bool = True,
        history_noise: float = 0.333,
        first_frames: float = 0.0,
        balance_stages: bool = False,
    ):
        from ..samplers.stages import make_stages
        from ..training.objectives.pyramid import PyramidObjective, pyramid_loss, relative_loss

        ratios = parse_ratios(stage_ratios)
        objective = PyramidObjective(
            make_stages(len(ratios)),
            ratios,
            history_noise,
            first_units=first_frames,
            autoregressive=autoregressive,
            loss=relative_loss if balance_stages else pyramid_loss,
        )
        return run_training("pyramid", objective, trainee, dataset, vae, clip, run_name, clips, settings, validation)


def parse_ratios(text: str) -> tuple[int, ...]:
    """Whole numbers divided by commas; ValueError says what was written instead."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if len(words) > MOST_STAGES:
        raise ValueError(f"stage_ratios has {len(words)} numbers, one a stage; {MOST_STAGES} stages are the most")
    if not words or not all(word.isdecimal() for word in words) or not any(int(word) for word in words):
        raise ValueError(f"stage_ratios is {text!r}; write whole numbers divided by commas, such as 1, 2, 1")
    return tuple(map(int, words))


NODES = {
    "PyramidVideoTrainFlow": TrainFlow,
    "PyramidVideoTrainDiffusion": TrainDiffusion,
    "PyramidVideoTrainGAN": TrainGAN,
    "PyramidVideoTrainPyramid": TrainPyramid,
}
NAMES = {
    "PyramidVideoTrainFlow": "Train flow",
    "PyramidVideoTrainDiffusion": "Train diffusion",
    "PyramidVideoTrainGAN": "Train GAN",
    "PyramidVideoTrainPyramid": "Train pyramid",
}
