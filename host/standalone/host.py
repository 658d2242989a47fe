"""The host where there is no ComfyUI: its folders, its device, and models loaded straight from their files."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ...models.checkpoint_dtypes import LARGE, named_dtype
from ...models.model_info import ModelInfo, VAEInfo
from ..folders import BUNDLED_INPUTS, ModelFolders, annotated, find_file, find_folder, list_files
from .devices import choose_device
from .progress import Bar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...models.checkpoints import CheckpointInfo
    from ...models.knowledge import Vocabulary
    from ...samplers.full_sequence import FullSequenceSampler
    from ...samplers.guidance import PyramidGuidance
    from ...samplers.history import History
    from ...samplers.stages import PyramidStages
    from .any_model import AnyModel
    from .sampling import Guider, PyramidSampler
    from .wires import VAE, Conditioning, Model, TextModel

MODELS_VARIABLE = "PYRAMID_VIDEO_MODELS"


class StandaloneHost:
    """One run's surroundings. Folders: `models` as ComfyUI's `models/`, `inputs`, `output`; `silent` draws no bar."""

    name = "standalone"
    sampler_names = ("euler", "heun")  # for widgets, as ComfyUI calls them
    scheduler_names = ("simple",)

    def __init__(
        self,
        models: Path | None = None,
        inputs: Path | None = None,
        output: Path = Path("output"),
        device: str | None = None,
        silent: bool = False,
    ) -> None:
        named = os.environ.get(MODELS_VARIABLE)
        self.folders = ModelFolders.below(models or (Path(named) if named else None), Path(output))
        self.input_roots = [inputs or Path("input"), BUNDLED_INPUTS]
        self.output_dir = Path(output)
        self._device_name = device
        self.silent = silent
        self._bars: WeakSet[Bar] = WeakSet()

    @cached_property
    def temp_dir(self) -> Path:
        """A folder for previews, gone when the process ends."""
        folder = Path(tempfile.mkdtemp(prefix="pyramid_video_"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    @property
    def preview_colours(self) -> Path:
        """Where the fitted colours of previews are kept."""
        return self.output_dir / "preview_colours"

    @cached_property
    def device(self) -> torch.device:
        """Where the work is done: as asked, else the first accelerator there is, else the CPU."""
        return choose_device(self._device_name)

    def list_models(self, kind: str) -> list[str]:
        """Names of the models of a kind, one of `folders.KINDS`."""
        return self.folders.list(kind)

    def find_model(self, kind: str, name: str) -> Path:
        """The path of a listed model; FileNotFoundError names the nearest."""
        return self.folders.find(kind, name)

    def list_inputs(self, extensions: Sequence[str]) -> list[str]:
        """Names of the input files with one of the extensions."""
        return list_files(self.input_roots, extensions)

    def input_file(self, name: str) -> Path:
        """The path of an input file, or of one made here (`a.png [output]`).

        ValueError when it leaves the folder, FileNotFoundError when it is not there.
        """
        plain, place = annotated(name)
        if place == "temp":
            raise FileNotFoundError(f"{name!r} lay in the temp folder of a ComfyUI; put the file into the input folder")
        if place == "output":
            return find_file([self.output_dir], plain, "output file")
        return find_file(self.input_roots, plain, "input file")

    def input_folder(self, name: str) -> Path:
        """The path of a folder below the input folder; errors as for `input_file`."""
        return find_folder(self.input_roots, name, "input folder")

    def load_model(self, path: Path, weight_dtype: str = "default") -> Model:
        """Open a transformer; `weight_dtype` is a key of `WEIGHT_DTYPES` (float8 only stores)."""
        from ...models import checkpoints, skip_init
        from . import layers as standalone_layers
        from .wires import Model

        info = checkpoints.inspect(path, checkpoints.TRANSFORMERS)
        stored = named_dtype(weight_dtype) or self.suited_dtype(info)
        casting = stored in checkpoints.FLOAT8
        network = checkpoints.build(info, ops=standalone_layers if casting else skip_init, dtype=stored)
        return Model(network, info, self.device, self.suited_dtype(info) if casting else stored)

    def apply_lora(self, model: Model, lora: Path | dict[str, Tensor], strength: float) -> Model:
        """A MODEL with a LoRA, a file or its tensors, in its weights; the one that is given stays as it is."""
        from ...models.lora import load_lora, lora_parts, merge_lora
        from .wires import Model

        expect(model, Model, "MODEL", "Load video model")
        parts = load_lora(lora) if isinstance(lora, Path) else lora_parts(lora, "this LORA_MODEL")
        return model.with_network(merge_lora(model.network, parts, strength, model.dtype))

    def load_vae(self, path: Path) -> VAE:
        """Open a video VAE."""
        from ...models import checkpoints, skip_init
        from .wires import VAE

        info = checkpoints.inspect(path, checkpoints.VAES)
        return VAE(checkpoints.build(info, ops=skip_init, dtype=self.suited_dtype(info)), info, self.device)

    def load_text_encoder(self, path: Path) -> TextModel:
        """Open a text encoder: our own file, or an official folder."""
        import torch

        from ...models import checkpoints, skip_init
        from .wires import official_text_model, own_text_model

        info = checkpoints.inspect(path, checkpoints.TEXT_ENCODERS)
        if info.kind != "text_encoder":
            dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
            return official_text_model(path, self.device, dtype)
        network = checkpoints.build(info, ops=skip_init, dtype=torch.float32)
        return own_text_model(network, checkpoints.load_tokenizer(info), self.device)

    def suited_dtype(self, info: CheckpointInfo) -> torch.dtype:
        """bfloat16 for what is large on an accelerator, else float32: small models and CPUs gain nothing from less."""
        import torch

        size = sum(stored.size for stored in info.weights.tensors.values())
        return torch.bfloat16 if size >= LARGE and self.device.type != "cpu" else torch.float32

    def encode_prompt(self, clip: TextModel, text: str) -> Conditioning:
        """CONDITIONING `[[tokens (1, n, d) without padding, {"pooled_output": (1, p)}]]` of a text of any length.

        No pooled vector for Helios.
        """
        from .wires import TextModel

        return expect(clip, TextModel, "CLIP", "Load text encoder").encode(text)

    def most_tokens(self, clip: TextModel) -> int | None:
        """How many tokens of a text our own text encoder reads; None for others, whose features tell."""
        return clip.most_tokens

    def vocabulary(self, clip: TextModel) -> Vocabulary | None:
        """What the text encoder that comes with the pack can be asked for; None for all others."""
        return clip.vocabulary

    def model_info(self, model: Model) -> ModelInfo:
        """The numbers of a MODEL; ValueError when something else is wired there."""
        from .wires import Model

        return expect(model, Model, "MODEL", "Load video model").info

    def shift_of(self, model: Model) -> float:
        """How far a flow shifts its noise levels as a rule."""
        return self.model_info(model).family.shift

    def vae_info(self, vae: VAE) -> VAEInfo:
        """The numbers of a VAE; ValueError when something else is wired there."""
        from .wires import VAE

        return expect(vae, VAE, "VAE", "Load video VAE").info

    def make_sampler(self, stages: PyramidStages | None, history: History | None) -> PyramidSampler:
        """SAMPLER that plays `stages`."""
        from .sampling import PyramidSampler

        return PyramidSampler(stages, history)

    def make_guider(
        self, model: Model, positive: Conditioning, negative: Conditioning | None, guidance: PyramidGuidance
    ) -> Guider:
        """GUIDER that asks `model`; without a negative prompt there is no guidance."""
        from .sampling import Guider

        return Guider(model, positive, negative, guidance)

    def sample(self, guider: Guider, sampler: PyramidSampler, latent: dict[str, Any], seed: int) -> dict[str, Any]:
        """Make the clip whose size and length `latent` says; its samples are in the VAE's scale."""
        from .sampling import PyramidSampler, sample

        expect(sampler, PyramidSampler, "SAMPLER", "Pyramid sampler (part)")
        bar: Bar | None = None

        def callback(call, estimate) -> None:
            nonlocal bar
            bar = bar or self.progress(call.total)
            bar.update(call.index + 1, f"unit {call.unit + 1}/{call.units} stage {call.stage + 1}/{call.stages}")

        try:
            return sample(guider, sampler, latent, seed, callback)
        finally:
            if bar is not None:
                bar.close()

    def sample_full_sequence(
        self,
        model: Model,
        sampler: FullSequenceSampler,
        positive: Conditioning,
        negative: Conditioning | None,
        scale: float,
        latent: dict[str, Any],
        seed: int,
    ) -> dict[str, Any]:
        """Make all frames of the clip at once; guidance `scale` 1 is the positive prompt alone."""
        from .sampling import sample_full_sequence

        bar = self.progress(sampler.calls)
        try:
            return sample_full_sequence(
                model,
                sampler,
                (positive, negative, scale),
                latent,
                seed,
                lambda done, total, clean: bar.update(done, f"call {done}/{total}"),
            )
        finally:
            bar.close()

    @property
    def any_model(self) -> AnyModel:
        """The pyramid for models of one size."""
        from .any_model import AnyModel

        return AnyModel(self.progress)

    def decode(self, vae: VAE, samples: Tensor, chunk: int | None = None, tile: int | None = None) -> Tensor:
        """Pictures `(frames, h, w, 3)` in 0..1 of latents `(b, c, t, h, w)`; the clips of a batch follow each other."""
        self.vae_info(vae)
        bar: Bar | None = None

        def on_chunk(done: int, total: int) -> None:
            nonlocal bar
            bar = bar or self.progress(total)
            bar.update(done, "decoding")

        try:
            return vae.decode(samples, chunk, tile, on_chunk).flatten(0, 1)
        finally:
            if bar is not None:
                bar.close()

    def encode(self, vae: VAE, images: Tensor) -> Tensor:
        """Latents `(1, c, t, h, w)`, in the VAE's scale, of pictures `(frames, h, w, 3)` in 0..1."""
        chunk = 2 * self.vae_info(vae).time_compression  # the same latents as from all at once, in less memory
        return vae.encode(images, chunk)

    def fingerprint(self, wire: VAE | TextModel) -> str:
        """A word that tells the weights of a VAE or text encoder from others."""
        from ...models.fingerprint import fingerprint

        return fingerprint(*wire.networks)

    def free_memory(self) -> None:
        """Nothing: models leave the device as soon as they are done."""

    def show_note(self, text: str) -> None:
        """Nothing: the runner prints what a node has said when it has run."""

    def progress(self, total: int) -> Bar:
        """A bar on stderr for a piece of work of `total` steps; silent where that is a part of work that has a bar."""
        bar = Bar(total, self.silent or any(other.is_drawn for other in self._bars))
        self._bars.add(bar)
        return bar

    def end_progress(self) -> None:
        """End the lines of bars that a node left behind when it failed or was stopped."""
        for bar in list(self._bars):
            bar.close()


def expect(value: Any, kind: type, wire: str, source: str) -> Any:
    """Give back what a wire carries, or say what was wired instead."""
    if not isinstance(value, kind):
        raise ValueError(f"this {wire} is {describe(value)}, not one that '{source}' makes; wire that node here")
    return value


def describe(value: Any) -> str:
    """A few words for anything that may come over a wire."""
    model_info = getattr(value, "info", None)
    return str(model_info) if model_info is not None else f"a {type(value).__name__}"
