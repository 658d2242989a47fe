"""What a host is: all that blocks and the command line may call of ComfyUI, or of its stand-in.

What travels on wires belongs to the host that made it; nobody else looks inside, so its type here is Any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from ..models.model_in_training import ModelClip, ModelInTraining
    from ..models.model_info import ModelInfo, VAEInfo
    from ..models.text_encoder import Tokenizer
    from ..samplers.full_sequence import FullSequenceSampler
    from ..samplers.guidance import PyramidGuidance
    from ..samplers.history import History
    from ..samplers.spectral import PictureInfo
    from ..samplers.spectral_stages import SpectralStages
    from ..samplers.stages import PyramidStages

Model = Any  # a MODEL
VAE = Any
TextEncoder = Any  # a CLIP
Sampler = Any
Guider = Any
Conditioning = list[list[Any]]  # [[tokens (b, n, d) without padding, {"pooled_output": (b, p)}], ...]
Latent = dict[str, Any]  # {"samples": (b, c, t, h, w) in the VAE's scale, ...}
Prompts = tuple[Conditioning, Conditioning, float]  # positive, negative and cfg


class ProgressBar(Protocol):
    """The bar of the running node."""

    shows_pictures: bool  # whether `preview` is seen
    shows_pace: bool  # whether it shows speed and time left by itself

    def update(self, value: int, text: str | None = None, preview: Image | None = None) -> None:
        """Show that `value` steps are done, with a line of text and a picture. Raises the host's interrupt."""
        ...

    def close(self) -> None:
        """End it, however far it is."""
        ...


class Host(Protocol):
    """The surroundings of a run: folders, device, models, sampling, and what the user sees meanwhile."""

    @property
    def output_dir(self) -> Path:
        """Where finished files go."""
        ...

    @property
    def temp_dir(self) -> Path:
        """Where pictures go that are shown and then forgotten."""
        ...

    @property
    def preview_colours(self) -> Path:
        """Where fitted colours of previews are kept."""
        ...

    @property
    def device(self) -> torch.device:
        """Where models run. ValueError for one that was named and is not there."""
        ...

    def list_models(self, kind: str) -> list[str]:
        """Return the names of the models of a kind, one of `folders.KINDS`."""
        ...

    def find_model(self, kind: str, name: str) -> Path:
        """Return the path of a listed model. FileNotFoundError names the nearest."""
        ...

    def list_inputs(self, extensions: Sequence[str]) -> list[str]:
        """Return the names of the input files with one of the extensions, in lower case with their dot."""
        ...

    def input_file(self, name: str) -> Path:
        """Return the path of an input file. ValueError when it leaves its folder, FileNotFoundError without one."""
        ...

    def input_folder(self, name: str) -> Path:
        """Return the path of a folder below the input folder; errors as for `input_file`."""
        ...

    def load_model(self, path: Path, weight_dtype: str = "default") -> Model:
        """Open a transformer; `weight_dtype` is a key of `WEIGHT_DTYPES`. CheckpointError says what is wrong."""
        ...

    def load_vae(self, path: Path) -> VAE:
        """Open a video VAE. CheckpointError says what is wrong."""
        ...

    def load_text_encoder(self, path: Path) -> TextEncoder:
        """Open a text encoder: our own file, or an official folder. CheckpointError says what is wrong."""
        ...

    def model_info(self, model: Model) -> ModelInfo:
        """Describe a model. ValueError when it is none of ours."""
        ...

    def vae_info(self, vae: VAE) -> VAEInfo:
        """Describe a VAE. ValueError when it is none that our models belong to."""
        ...

    def shift_of(self, model: Model) -> float:
        """Return the shift of a flow's noise levels where its sampler sets none."""
        ...

    def tokenizer(self, clip: TextEncoder) -> Tokenizer | None:
        """Return the tokenizer of our own text encoder, which says what of a text is read; None for others."""
        ...

    def fingerprint(self, wire: VAE | TextEncoder) -> str:
        """Return a digest of the weights of a VAE or text encoder."""
        ...

    def encode_prompt(self, clip: TextEncoder, text: str) -> Conditioning:
        """Encode a text of any length as the model was trained with: tokens `(1, n, d)`, pooled vector `(1, p)`.

        No pooled vector for models that read none.
        """
        ...

    def encode(self, vae: VAE, images: Tensor) -> Tensor:
        """Return latents `(1, c, t, h, w)`, in the VAE's scale, of pictures `(frames, h, w, 3)` in 0..1."""
        ...

    def decode(self, vae: VAE, samples: Tensor, chunk: int | None = None, tile: int | None = None) -> Tensor:
        """Return pictures `(b * frames, h, w, 3)` in 0..1 of latents `(b, c, t, h, w)`.

        `chunk` latent frames and tiles of `tile` pixels are decoded at once; None: as much as there is memory for.
        """
        ...

    def make_sampler(self, stages: PyramidStages | None, history: History | None) -> Sampler:
        """Return a SAMPLER that goes through `stages`; None for either: what the model is sampled with."""
        ...

    def make_guider(
        self, model: Model, positive: Conditioning, negative: Conditioning | None, guidance: PyramidGuidance
    ) -> Guider:
        """Return a GUIDER that calls `model`; without a negative prompt there is no guidance."""
        ...

    def sample(self, guider: Guider, sampler: Sampler, latent: Latent, seed: int) -> Latent:
        """Make the clip whose size and length `latent` says, unit by unit."""
        ...

    def sample_full_sequence(
        self,
        model: Model,
        sampler: FullSequenceSampler,
        positive: Conditioning,
        negative: Conditioning | None,
        scale: float,
        latent: Latent,
        seed: int,
    ) -> Latent:
        """Make all frames of the clip at once; guidance `scale` 1 is the positive prompt alone."""
        ...

    @property
    def sampler_names(self) -> Sequence[str]:
        """The samplers that `any_model` takes, for widgets."""
        ...

    @property
    def scheduler_names(self) -> Sequence[str]:
        """The schedules that `any_model` takes, for widgets."""
        ...

    @property
    def any_model(self) -> AnyModel:
        """The pyramid for models that were made for one size."""
        ...

    @property
    def model_training(self) -> ModelTraining:
        """What trains LoRAs for models that are not ours. ValueError where the host has no such models."""
        ...

    def unload_models(self) -> None:
        """Take all models off the device: what follows needs it for itself."""
        ...

    def show_note(self, text: str) -> None:
        """Show a text on the running node at once, where there is one."""
        ...

    def playing_clip(self) -> dict[str, Any]:
        """Return what the running node shows of its clip, as its `ui` says it; empty where nothing plays."""
        ...

    def progress(self, total: int) -> ProgressBar:
        """Return a bar on the running node for a piece of work of `total` steps."""
        ...

    def end_progress(self) -> None:
        """End the bars that a node left open when it failed or was stopped."""
        ...


class AnyModel(Protocol):
    """The pyramid for models that were made for one size: all of ComfyUI's, of our own those without stages."""

    def info(self, model: Model) -> PictureInfo:
        """Return what a pyramid has to know of a model. ValueError where it cannot be sampled so."""
        ...

    def sigmas(self, model: Model, steps: int, scheduler: str, denoise: float = 1.0) -> Tensor:
        """Return the schedule `(steps + 1,)` that KSampler would take, noise first."""
        ...

    def free_memory(self) -> int:
        """Return how many bytes of the computer's memory are free."""
        ...

    def picture(self, latent: Latent) -> Tensor:
        """Return the samples of a latent without its sound."""
        ...

    def fitted(self, model: Model, latent: Latent) -> Latent:
        """Return a latent as a model is sampled with it: an empty one with its channels and size."""
        ...

    def encode(self, vae: VAE, images: Tensor, model: Model | None = None) -> Tensor:
        """Return latents `(n, c, [t,] h, w)` of pictures `(frames, h, w, 3)`, in the scale of `model` or the VAE."""
        ...

    def make_sampler(self, stages: SpectralStages, sampler: Sampler) -> Sampler:
        """Return a SAMPLER that goes through `stages` with a core SAMPLER. ValueError where there are none."""
        ...

    def sample(
        self,
        model: Model,
        prompts: Prompts,
        sampler_name: str,
        stages: SpectralStages,
        sigmas: Tensor,
        latent: Latent,
        seed: int,
    ) -> Latent:
        """Make the clips of a batch along `sigmas`, going through `stages`."""
        ...

    def draft(
        self,
        model: Model,
        prompts: Prompts,
        sampler_name: str,
        stages: SpectralStages,
        sigmas: Tensor,
        latent: Latent,
        seeds: list[int],
        jump: int,
    ) -> tuple[Latent, Latent]:
        """Make one draft for each seed, which stops before jump 1, 2, ..., and what they show at their size."""
        ...

    def finish_draft(self, model: Model, prompts: Prompts, sampler_name: str, latent: Latent) -> Latent:
        """Go on with every draft of a latent where it stopped. ValueError where another model made it."""
        ...

    def finish_clip(
        self,
        model: Model,
        prompts: Prompts,
        sampler_name: str,
        sigmas: Tensor,
        clip: Latent,
        latent: Latent,
        seed: int,
    ) -> Latent:
        """Bring a clean clip to the size of `latent`, with the model's own detail from the first of `sigmas` on."""
        ...


class ModelTraining(Protocol):
    """LoRAs for the host's own models."""

    def check(self, model: Model) -> None:
        """Raise ValueError where none can be trained for a model through its host."""
        ...

    def check_sizes(self, vae: VAE, model: Model, sizes: Iterable[tuple[int, int]]) -> None:
        """Raise ValueError where a model does not read latents of pictures of one of `sizes` (height, width).

        Also where the VAE is for pictures and the model for videos, or the other way round.
        """
        ...

    def encode_prompt(self, clip: TextEncoder, text: str) -> Conditioning:
        """Encode a text as the host's own block does; it stays in the computer's memory."""
        ...

    def encode(self, vae: VAE, images: Tensor, model: Model) -> Tensor:
        """Return the latent `(1, c, t, h, w)`, in the VAE's scale, of pictures `(frames, h, w, 3)` in 0..1.

        ValueError where the model does not read such latents.
        """
        ...

    def check_clip(self, model: Model, clip: ModelClip) -> None:
        """Call a model once with a clip; ValueError where it does not read its text."""
        ...

    def starts_in_place(self, model: Model) -> bool:
        """Whether a model takes the first frame of its own latent for the start picture, by a mask."""
        ...

    def start_latent(self, vae: VAE, images: Tensor, model: Model) -> Tensor:
        """Return what an image-to-video model is shown of `images`: the first. ValueError where it is shown none."""
        ...

    def whole(self, model: Model) -> Model:
        """Return a clone that can be learned from: with whole weights, also where the host would stream them.

        ValueError where it cannot be.
        """
        ...

    def train(
        self, model: Model, shape: Sequence[int], prompt: Conditioning, learn: Callable[[ModelInTraining], None]
    ) -> None:
        """Call `learn` with a `whole` model on its device, open to gradients.

        It is loaded for latents of `shape` (c, t, h, w), and lent for as long as `learn` runs. Where memory runs out in
        there, weights make way for what a step needs and `learn` is called again. ValueError where none are left.
        """
        ...

    def sample(
        self, model: Model, lora: Mapping[str, Tensor], clips: Sequence[ModelClip], negative: Conditioning, cfg: float,
        steps: int, seed: int,
    ) -> list[Tensor]:  # fmt: skip
        """Return what a model with the tensors of a LoRA file makes of the texts and start pictures of `clips`.

        Latents of the shape and in the scale of theirs, `(1, c, t, h, w)`; clip i has the noise of seed + i.
        """
        ...

    def decode(self, vae: VAE, latent: Tensor) -> Tensor:
        """Return the pictures `(frames, h, w, 3)` in 0..1 of a latent `(1, c, t, h, w)` in the VAE's scale."""
        ...
