"""Blocks that train the VAE itself, and save it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..host import get_host
from .block import Block, Bool, Float, Int, Output, Wire
from .compatibility import check_dataset
from .messages import counting
from .shared_inputs import ModelFile
from .trainer_base import SETTINGS, read_files, stay_with_host
from .training_files import NamesRun, RunName, Saver, leave_run, run_folder, saved, saver_inputs
from .training_progress import ProgressReporter

if TYPE_CHECKING:
    from ..training.data.datasets import VideoDataset
    from ..training.objectives.vae import PerceptualTerm
    from ..training.trainers.model import TrainingPlan
    from ..training.trainers.vae import TrainedVAE, VAESource

NEW = ("new small", "new official")


class VAETraineeBlock(Block):
    ID, NAME = "PyramidVideoVAETrainee", "VAE to train"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = "The VAE to train: a new one or one from a file, all of it or only its decoder."
    ALIASES = "fine-tune vae, new vae, load vae for training, decoder, autoencoder, train, training"
    REQUIRED = (
        ModelFile("vae_name", "vae", *NEW).tip(
            "A new, untrained one (small: 5.9 million parameters, 24 channels, 8 times smaller in space and 4 in "
            "time; official: the large network of Pyramid Flow), or a file."
        ),
        Bool("decoder_only", False).tip(
            "Keep the encoder and train only the decoder, so that models that use these latents keep working. For a "
            "VAE from a file."
        ),
    )
    OUTPUTS = (Output("VAE_TRAINEE", "For 'Train VAE'.", "trainee"),)
    FUNCTION = "make"

    def make(self, vae_name, decoder_only):
        from ..training.trainers.vae import VAESource

        if vae_name in NEW:
            return (VAESource(vae_name.removeprefix("new "), None, decoder_only),)
        return (VAESource(weights=get_host().find_model("vae", vae_name), decoder_only=decoder_only),)


class TrainVAE(NamesRun):
    ID, NAME = "PyramidVideoTrainVAE", "Train VAE"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Trains a video VAE to reconstruct clips and single pictures, optionally with a discriminator that makes "
        "them look real. You can stop it at any time; run the graph again to continue."
    )
    ALIASES = "train, training, trainer, autoencoder, fine-tune vae, vqgan, causal vae, reconstruction, learn"
    REQUIRED = (
        Wire("trainee", "VAE_TRAINEE").tip("From 'VAE to train'."),
        Wire("dataset", "VIDEO_DATASET").tip("Clips from a dataset block; their captions are not used."),
        RunName("my_vae"),
        Int("clips", 200, 1, 100_000).tip(
            "How many clips are drawn from the dataset once and kept in memory as bytes."
        ),
        Int("frames", 9, 1, 241).tip(
            "Length of the training pieces: a multiple of the VAE's time compression, plus 1, and not longer than "
            "the clips. Short pieces are quick, long ones teach motion."
        ),
    )
    OPTIONAL = (
        SETTINGS.tip("From 'Training settings': a batch of 2 to 8 and a learning rate of 3e-4 are usual."),
        Int("pictures_every", 4, 0, 1000).tip(
            "One step in this many trains on single pictures, as many as the other steps have frames. 0: never. The "
            "first frame of every clip is encoded as a picture."
        ),
        Float("kl", 0.0003, 0.0, 1.0, 1e-06, exact=True).tip(
            "How strongly the latents are pulled towards a unit normal distribution. 1e-6 hardly pulls; too much blurs."
        ),
        Int("judge_from", -1, -1, 10_000_000).tip(
            "The step from which a discriminator (PatchGAN) trains the VAE to look real, with an adaptive weight. "
            "-1: never. Let the VAE learn colours and shapes first."
        ),
        Float("adversarial", 0.5, 0.0, 10.0, 0.05).tip(
            "Weight of the discriminator once it has started. High values invent detail."
        ),
        Wire("perceptual", "PERCEPTUAL_LOSS").tip(
            "From 'Load perceptual loss': decoded clips must also look like the originals. Not connected: only the "
            "pixels count."
        ),
    )
    OUTPUTS = (Output("TRAINING_RUN", "For 'Save trained VAE' and 'Training curves'.", "run"),)
    FUNCTION = "train"
    OUTPUT_NODE = True

    def train(
        self,
        trainee: VAESource,
        dataset: VideoDataset,
        run_name,
        clips,
        frames,
        settings: TrainingPlan | None,
        pictures_every,
        kl,
        judge_from,
        adversarial,
        perceptual: PerceptualTerm | None,
    ):
        import torch

        from ..training.data.video_pool import VideoPieces, draw_pool
        from ..training.objectives.vae import VAEObjective
        from ..training.run.run_description import earlier_description
        from ..training.run.run_lock import run_lock
        from ..training.run.run_state import saying_what_is_kept
        from ..training.run.train_settings import TrainSettings
        from ..training.trainers.model import TrainingPlan
        from ..training.trainers.vae import start_vae_run, train_vae

        plan = settings or TrainingPlan(TrainSettings(2000, 3e-4, precision="auto"), batch_size=2)
        check_dataset(dataset, "sample")
        stay_with_host()
        host, folder, seed = get_host(), run_folder(run_name), plan.settings.seed
        has_discriminator = judge_from >= 0
        read_files(dataset)
        key = f"{dataset.fingerprint()}-{clips}-{has_discriminator}"
        earlier_description(folder, {"seed": seed, "discriminator": has_discriminator, "data": key})
        with torch.inference_mode(False), torch.enable_grad(), run_lock(folder), saying_what_is_kept(folder):
            with counting("drawing clips") as on_clip:
                pool = draw_pool(dataset, clips, torch.Generator().manual_seed(seed), on_clip)
            host.unload_models()
            pieces = VideoPieces(pool, frames, plan.batch_size, pictures_every)
            trained = start_vae_run(trainee, pieces, folder, plan.settings, has_discriminator, key)
            reporter = ProgressReporter(trained.run)
            objective = VAEObjective(kl=kl, adversarial=adversarial, perceptual=perceptual)
            with trained.run.leaving_device(), reporter.reporting_what_is_kept():
                train_vae(trained, pieces, objective, judge_from if has_discriminator else None, reporter)
        result = reporter.result(trained)
        leave_run(folder)
        return result


class SaveTrainedVAE(Saver):
    KIND, WHAT = "vae", "VAE"
    ID, NAME = "PyramidVideoSaveTrainedVAE", "Save trained VAE"
    DESCRIPTION = "Saves the trained VAE with its averaged weights where 'Load video VAE' finds it, and outputs it."
    ALIASES = "save vae, export vae, safetensors, train, training"
    REQUIRED = saver_inputs("'Train VAE'", "vae", "my_video_vae")
    OUTPUTS = (Output("VAE", "The saved VAE."),)

    def save(self, run: TrainedVAE, name):
        from ..training.trainers.vae import TrainedVAE

        self.check(run, TrainedVAE)
        wanted = self.file(name)
        path = run.save(wanted, replace=False)
        return saved(path, wanted, get_host().load_vae(path))


BLOCKS = (VAETraineeBlock, TrainVAE, SaveTrainedVAE)
