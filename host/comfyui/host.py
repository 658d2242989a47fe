"""The host inside ComfyUI; the work is done by the files beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import folder_paths
import torch
from torch import Tensor

from ...models.fingerprint import fingerprint
from ...models.model_info import ModelInfo, VAEInfo
from ...models.text_encoder import Tokenizer
from ...samplers.full_sequence import FullSequenceSampler
from ...samplers.guidance import PyramidGuidance
from ...samplers.history import History
from ...samplers.noise import draw_noise
from ...samplers.stages import PyramidStages
from ..checks import check_no_mask, expect
from ..folders import BUNDLED, KINDS, OWN_KIND, WRAPPER_KIND, ModelFolders, find_file, find_folder, list_files
from ..protocol import Conditioning, Latent
from . import model as comfy_model
from . import text as comfy_text
from .any_model import AnyModel
from .full_sequence import HostFullSequenceSampler, PromptGuider, sampled_sigmas
from .model_training import ModelTraining
from .page import playing_clip, show_on_node
from .patchers import patches_digest
from .progress import Bar, SamplingProgress
from .sampling import PyramidGuider, PyramidSampler
from .vae import PyramidVAE
from .wan_vae import decode_units, encode_units, wan_info


class ComfyHost:
    """ComfyUI's folders, devices, memory, progress bar and wires."""

    def __init__(self) -> None:
        """Add a kind of folder for official models to the host's; the bundled weights stay in our own lists.

        The host's own loaders cannot open them: core's Load VAE, say, takes them and fails in the middle of a run.
        """
        folder_paths.add_model_folder_path(OWN_KIND, str(Path(folder_paths.models_dir) / OWN_KIND))

    @property
    def output_dir(self) -> Path:
        return Path(folder_paths.get_output_directory())

    @property
    def temp_dir(self) -> Path:
        return Path(folder_paths.get_temp_directory())

    @property
    def preview_colours(self) -> Path:
        return self.output_dir / "preview_colours"

    @property
    def folders(self) -> ModelFolders:
        """Read anew each time: a user's `extra_model_paths.yaml` and other packs add to the lists."""
        theirs = {kind: [Path(folder) for folder in folder_paths.get_folder_paths(kind)] for kind in KINDS}
        own = {kind: [*folders, BUNDLED / kind] for kind, folders in theirs.items()}
        # Official folders are not looked for among LoRAs, of which there may be thousands, and classifiers.
        shared = [folder for kind in ("diffusion_models", "vae", "text_encoders") for folder in theirs[kind]]
        usual = [str(Path(folder_paths.models_dir) / WRAPPER_KIND)]  # also where that pack is not there any more
        wrapper = folder_paths.folder_names_and_paths.get(WRAPPER_KIND, (usual,))[0]
        official = [Path(folder) for folder in (*folder_paths.get_folder_paths(OWN_KIND), *wrapper)]
        return ModelFolders(own, [*official, *shared])

    @property
    def device(self) -> torch.device:
        return comfy.model_management.get_torch_device()

    def list_models(self, kind: str) -> list[str]:
        return self.folders.list(kind)

    def find_model(self, kind: str, name: str) -> Path:
        return self.folders.find(kind, name)

    def list_inputs(self, extensions: Sequence[str]) -> list[str]:
        return list_files([Path(folder_paths.get_input_directory())], extensions)

    def input_file(self, name: str) -> Path:
        return find_file([Path(folder_paths.get_input_directory())], name, "input file")

    def input_folder(self, name: str) -> Path:
        return find_folder([Path(folder_paths.get_input_directory())], name, "input folder")

    def load_model(self, path: Path, weight_dtype: str = "default") -> Any:
        return comfy_model.load_model(path, weight_dtype)

    def load_vae(self, path: Path) -> PyramidVAE:
        return PyramidVAE(path)

    def load_text_encoder(self, path: Path) -> Any:
        return comfy_text.load_text_encoder(path)

    def encode_prompt(self, clip: Any, text: str) -> Conditioning:
        return comfy_text.encode(clip, text)

    def tokenizer(self, clip: Any) -> Tokenizer | None:
        return getattr(getattr(clip, "tokenizer", None), "ours", None)

    def model_info(self, model: Any) -> ModelInfo:
        network = getattr(model, "model", model)
        hint = "; models of other kinds run in KSampler"
        return expect(getattr(network, "info", None), ModelInfo, "MODEL", "Load video model", network, hint)

    def shift_of(self, model: Any) -> float:
        """As every host; a block between may have changed it."""
        family = self.model_info(model).family
        return float(getattr(model.get_model_object("model_sampling"), "shift", family.shift))

    def vae_info(self, vae: Any) -> VAEInfo:
        info = getattr(vae, "info", None) or wan_info(vae)
        return expect(info, VAEInfo, "VAE", "Load video VAE", getattr(vae, "first_stage_model", None) or vae)

    def make_sampler(self, stages: PyramidStages | None, history: History | None) -> PyramidSampler:
        return PyramidSampler(stages, history)

    def make_guider(
        self, model: Any, positive: Conditioning, negative: Conditioning | None, guidance: PyramidGuidance
    ) -> PyramidGuider:
        return PyramidGuider(model, positive, negative, guidance)

    def sample(self, guider: PyramidGuider, sampler: PyramidSampler, latent: Latent, seed: int) -> Latent:
        patcher = guider.model_patcher
        check_no_mask(self.model_info(patcher), latent.get("noise_mask"))
        empty = comfy.sample.fix_empty_latent_channels(patcher, latent["samples"])
        rows = latent.get("batch_index")
        samples = guider.sample(
            draw_noise(empty.shape, seed, rows),
            empty,
            sampler.of_rows(rows),
            torch.tensor([1.0, 0.0]),  # the host reads it; the pyramid has sigmas of its own
            callback=SamplingProgress(patcher),
            seed=seed,
        )
        return {**latent, "samples": samples.to(comfy.model_management.intermediate_device())}

    def sample_full_sequence(
        self,
        model: Any,
        sampler: FullSequenceSampler,
        positive: Conditioning,
        negative: Conditioning | None,
        scale: float,
        latent: Latent,
        seed: int,
    ) -> Latent:
        check_no_mask(self.model_info(model), latent.get("noise_mask"))
        empty = comfy.sample.fix_empty_latent_channels(model, torch.zeros_like(latent["samples"]))
        rows = latent.get("batch_index")
        samples = PromptGuider(model, positive, negative, scale, sampler.guidance).sample(
            draw_noise(empty.shape, seed, rows),
            empty,
            HostFullSequenceSampler(sampler, rows),
            sampled_sigmas(model, sampler),
            callback=SamplingProgress(model),
            seed=seed,
        )
        return {**latent, "samples": samples.to(comfy.model_management.intermediate_device())}

    @property
    def sampler_names(self) -> list[str]:
        return list(comfy.samplers.KSampler.SAMPLERS)

    @property
    def scheduler_names(self) -> list[str]:
        return list(comfy.samplers.KSampler.SCHEDULERS)

    @property
    def any_model(self) -> AnyModel:
        return AnyModel()

    @property
    def model_training(self) -> ModelTraining:
        return ModelTraining()

    def decode(self, vae: Any, samples: Tensor, chunk: int | None = None, tile: int | None = None) -> Tensor:
        self.vae_info(vae)
        ours = isinstance(vae, PyramidVAE)
        video = vae.decode(samples, chunk=chunk, tile=tile) if ours else decode_units(vae, samples, tile)
        return video.flatten(0, 1)

    def encode(self, vae: Any, images: Tensor) -> Tensor:
        self.vae_info(vae)
        return vae.encode(images) if isinstance(vae, PyramidVAE) else encode_units(vae, images)

    def fingerprint(self, wire: Any) -> str:
        network = getattr(wire, "first_stage_model", None)
        digest = fingerprint(wire.cond_stage_model if network is None else network)
        return digest + patches_digest(wire.patcher)

    def unload_models(self) -> None:
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()

    def show_note(self, text: str) -> None:
        """As every host; the node's output says it again for those that read only that."""
        show_on_node({"text": [text]})

    def playing_clip(self) -> dict[str, Any]:
        return playing_clip()

    def progress(self, total: int) -> Bar:
        return Bar(total)

    def end_progress(self) -> None:
        """Nothing: ComfyUI takes the bar away with the node."""
