"""Blocks that train the VAE itself, and save it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..host import get_host
from .choices import model_names
from .notices import counting
from .train_run import NamesFile, NamesRun, check_run, output_file, run_folder, saved, stay_with_host
from .train_watch import Watch

if TYPE_CHECKING:
    from ..training.data.datasets import VideoDataset
    from ..training.objectives.vae import PerceptualTerm
    from ..training.trainer import TrainingPlan
    from ..training.vae_trainer import TrainedVAE, VAETrainee

NEW = ("new small", "new official")


class VAETraineeBlock:
    CATEGORY = "pyramid video/training"
    DESCRIPTION = "The VAE that is to be trained: a new one, or one from a file, whole or its decoder alone."
    SEARCH_ALIASES = [
        "fine-tune vae",
        "new vae",
        "load vae for training",
        "decoder",
        "autoencoder",
        "train",
        "training",
    ]
    RETURN_TYPES = ("VAE_TRAINEE",)
    RETURN_NAMES = ("trainee",)
    OUTPUT_TOOLTIPS = ("For 'Train VAE'.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "vae_name": (
                    [*NEW, *model_names("vae")],
                    {
                        "default": NEW[0],
                        "tooltip": "A new one that knows nothing (small: 5.9 million parameters, 24 channels, 8 times "
                        "smaller in space and 4 in time; official: the large network of Pyramid Flow), or a file.",
                    },
                ),
                "decoder_only": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Keep what makes latents and train the way back only: models that know these "
                        "latents go on working. For a VAE from a file.",
                    },
                ),
            }
        }

    def make(self, vae_name: str, decoder_only: bool):
        from ..training.vae_trainer import VAETrainee

        if vae_name in NEW:
            return (VAETrainee(vae_name.removeprefix("new "), None, decoder_only),)
        return (VAETrainee(weights=get_host().find_model("vae", vae_name), decoder_only=decoder_only),)


class TrainVAE(NamesRun):
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Trains a video VAE to give back clips and single pictures, if asked for with a discriminator that teaches it "
        "to look real. Stop it when you like; run the graph again and it goes on."
    )
    SEARCH_ALIASES = [
        "train",
        "training",
        "trainer",
        "autoencoder",
        "fine-tune vae",
        "vqgan",
        "causal vae",
        "reconstruction",
        "learn",
    ]
    RETURN_TYPES = ("TRAINING_RUN",)
    RETURN_NAMES = ("run",)
    OUTPUT_TOOLTIPS = ("For 'Save trained VAE' and 'Training curves'.",)
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "trainee": ("VAE_TRAINEE", {"tooltip": "From 'VAE to train'."}),
                "dataset": ("VIDEO_DATASET", {"tooltip": "Clips, from a dataset block; their captions are not read."}),
                "run_name": (
                    "STRING",
                    {
                        "default": "my_vae",
                        "tooltip": "The run is kept in output/training under this name, and goes on from there when "
                        "the graph is run again. Another name is another run.",
                    },
                ),
                "clips": (
                    "INT",
                    {
                        "default": 200,
                        "min": 1,
                        "max": 100_000,
                        "tooltip": "Clips that are drawn from the dataset once and kept in memory as bytes.",
                    },
                ),
                "frames": (
                    "INT",
                    {
                        "default": 9,
                        "min": 1,
                        "max": 241,
                        "tooltip": "Length of the pieces that are learned: the VAE's time compression times k, plus 1, "
                        "and not longer than the clips. Short pieces are quick, long ones teach motion.",
                    },
                ),
            },
            "optional": {
                "settings": (
                    "TRAINING_SETTINGS",
                    {"tooltip": "From 'Training settings': a batch of 2 to 8 and a learning rate of 3e-4 are usual."},
                ),
                "pictures_every": (
                    "INT",
                    {
                        "default": 4,
                        "min": 0,
                        "max": 1000,
                        "tooltip": "Every so many steps single pictures are learned, as many as the other steps have "
                        "frames. 0: never. The first frame of every clip is coded as a picture.",
                    },
                ),
                "kl": (
                    "FLOAT",
                    {
                        "default": 3e-4,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 1e-6,
                        "round": False,
                        "tooltip": "Pull of the latents towards a unit normal. 1e-6 hardly pulls; too much blurs.",
                    },
                ),
                "judge_from": (
                    "INT",
                    {
                        "default": -1,
                        "min": -1,
                        "max": 10_000_000,
                        "tooltip": "From this step on a discriminator (PatchGAN) teaches the VAE to look real, with an "
                        "adaptive weight. -1: never. Let the VAE learn its colours and shapes first.",
                    },
                ),
                "adversarial": (
                    "FLOAT",
                    {
                        "default": 0.5,
                        "min": 0.0,
                        "max": 10.0,
                        "step": 0.05,
                        "tooltip": "Weight of the discriminator once it has begun. High values invent detail.",
                    },
                ),
                "perceptual": (
                    "PERCEPTUAL_LOSS",
                    {"tooltip": "From 'Load perceptual loss': decoded clips shall also look like the true ones."},
                ),
            },
        }

    def train(
        self,
        trainee: VAETrainee,
        dataset: VideoDataset,
        run_name: str,
        clips: int,
        frames: int,
        settings: TrainingPlan | None = None,
        pictures_every: int = 4,
        kl: float = 3e-4,
        judge_from: int = -1,
        adversarial: float = 0.5,
        perceptual: PerceptualTerm | None = None,
    ):
        import torch

        from ..training.objectives.vae import VAELoss
        from ..training.run.loop import TrainSettings
        from ..training.run.run_description import earlier_description
        from ..training.run.run_lock import run_lock
        from ..training.trainer import TrainingPlan
        from ..training.vae_trainer import Pieces, draw_pool, start_vae_run, train_vae

        plan = settings or TrainingPlan(TrainSettings(2000, 3e-4), batch=2)
        stay_with_host()
        host, folder, pieces = get_host(), run_folder(run_name), Pieces(frames, plan.batch, pictures_every)
        if not callable(getattr(dataset, "sample", None)):
            raise ValueError(f"this VIDEO_DATASET is a {type(dataset).__name__}; wire a dataset block here")
        judged = judge_from >= 0
        key = f"{dataset.fingerprint()}-{clips}-{judged}"
        earlier_description(folder, {"seed": plan.settings.seed, "discriminator": judged, "data": key})
        with torch.inference_mode(False), torch.enable_grad(), run_lock(folder):
            with counting("drawing clips") as on_clip:
                pool = draw_pool(dataset, clips, plan.settings.seed, on_clip)
            host.free_memory()
            trained = start_vae_run(trainee, pool, pieces, folder, plan, judged, key)
            watch = Watch(trained.run)
            loss = VAELoss(kl=kl, adversarial=adversarial, perceptual=perceptual)
            with watch.saying_what_is_kept():
                train_vae(trained, pool, pieces, loss, judge_from if judged else None, watch)
        return watch.answer(trained)


class SaveTrainedVAE(NamesFile):
    KIND, WHAT = "vae", "VAE"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = "Saves the trained VAE with its averaged weights, where 'Load video VAE' finds it, and hands it on."
    SEARCH_ALIASES = ["save vae", "export vae", "safetensors", "train", "training"]
    RETURN_TYPES = ("VAE",)
    OUTPUT_TOOLTIPS = ("The saved VAE.",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "run": ("TRAINING_RUN", {"tooltip": "From 'Train VAE'."}),
                "name": (
                    "STRING",
                    {
                        "default": "my_video_vae",
                        "tooltip": "Name of the file in output/vae; beside an older one it gets a number.",
                    },
                ),
            }
        }

    def save(self, run: TrainedVAE, name: str):
        from ..training.vae_trainer import TrainedVAE

        check_run(run, TrainedVAE, "Save trained VAE")
        asked = output_file(self.KIND, name, self.WHAT)
        path = run.save(asked, replace=False)
        return saved(path, asked, get_host().load_vae(path))


NODES = {
    "PyramidVideoVAETrainee": VAETraineeBlock,
    "PyramidVideoTrainVAE": TrainVAE,
    "PyramidVideoSaveTrainedVAE": SaveTrainedVAE,
}
NAMES = {
    "PyramidVideoVAETrainee": "VAE to train",
    "PyramidVideoTrainVAE": "Train VAE",
    "PyramidVideoSaveTrainedVAE": "Save trained VAE",
}
