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

from ...samplers.names import ANY_MODEL_SCHEDULERS, ANY_MODEL_SOLVERS
from ..checks import expect
from ..folders import BUNDLED_INPUTS, ModelFolders, annotated, find_file, find_folder, list_files
from .devices import choose_device, stored_dtype, suited_dtype
from .progress import Bar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...models.model_info import ModelInfo, VAEInfo
    from ...models.text_encoder import Tokenizer
    from ...samplers.full_sequence import FullSequenceSampler
    from ...samplers.guidance import PyramidGuidance
    from ...samplers.history import History
    from ...samplers.pyramid import StepInfo
    from ...samplers.stages import PyramidStages
    from ..protocol import Conditioning, Latent, ModelTraining
    from .any_model import AnyModel
    from .sampling import Guider, PyramidSampler
    from .wires import VAE, Model, TextModel

MODELS_VARIABLE = "PYRAMID_VIDEO_MODELS"
OUTPUT = Path("output")  # of the folder in which a command is given


class StandaloneHost:
    """One run's surroundings. Folders: `models` as ComfyUI's `models/`, `inputs`, `output`; `silent` draws no bar."""

    sampler_names = ANY_MODEL_SOLVERS
    scheduler_names = ANY_MODEL_SCHEDULERS

    def __init__(
        self,
        models: Path | None = None,
        inputs: Path | None = None,
        output: Path = OUTPUT,
        device: str | None = None,
        silent: bool = False,
    ) -> None:
        named = os.environ.get(MODELS_VARIABLE)
        # What was trained lies in the usual folder, wherever this run's clips go.
        outputs = dict.fromkeys((Path(output), OUTPUT))
        self.folders = ModelFolders.below(models or (Path(named) if named else None), [*outputs])
        self.input_roots = [inputs or Path("input"), BUNDLED_INPUTS]
        self.output_dir = Path(output)
        self._device_name = device
        self.silent = silent
        self._bars: WeakSet[Bar] = WeakSet()

    @cached_property
    def temp_dir(self) -> Path:
        """Gone when the process ends."""
        folder = Path(tempfile.mkdtemp(prefix="pyramid_video_"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    @property
    def preview_colours(self) -> Path:
        return self.output_dir / "preview_colours"

    @cached_property
    def device(self) -> torch.device:
        """The one that was named, else the first accelerator there is, else the CPU."""
        return choose_device(self._device_name)

    def list_models(self, kind: str) -> list[str]:
        return self.folders.list(kind)

    def find_model(self, kind: str, name: str) -> Path:
        return self.folders.find(kind, name)

    def list_inputs(self, extensions: Sequence[str]) -> list[str]:
        return list_files(self.input_roots, extensions)

    def input_file(self, name: str) -> Path:
        """As every host; `a.png [output]` is a file that was made here."""
        plain, place = annotated(name)
        if place == "temp":
            raise FileNotFoundError(f"{name!r} lay in the temp folder of a ComfyUI; put the file into the input folder")
        if place == "output":
            return find_file([self.output_dir], plain, "output file")
        return find_file(self.input_roots, plain, "input file")

    def input_folder(self, name: str) -> Path:
        return find_folder(self.input_roots, name, "input folder")

    def load_model(self, path: Path, weight_dtype: str = "default") -> Model:
        """As every host; bfloat16 is for storing only on processors and cards that do not multiply in it."""
        import torch

        from ...models import checkpoints, skip_init
        from ...models.bf16 import only_stores_bf16
        from ...models.checkpoint_dtypes import FAST, named_dtype
        from . import fp8_layers
        from . import layers as casting_layers
        from .wires import Model

        info = checkpoints.inspect(path, checkpoints.TRANSFORMERS)
        suited = suited_dtype(info, self.device)
        stored = named_dtype(weight_dtype) or stored_dtype(info, self.device)
        slow = stored == torch.bfloat16 and only_stores_bf16(self.device)
        casting = slow or stored in checkpoints.FLOAT8
        ops = casting_layers if casting else skip_init
        if weight_dtype == FAST and fp8_layers.has_fp8_products(self.device):
            ops = fp8_layers
        network = checkpoints.build(info, ops=ops, dtype=stored)
        return Model(network, info, self.device, suited if casting else stored)

    def load_vae(self, path: Path) -> VAE:
        from ...models import checkpoints, skip_init
        from .wires import VAE

        info = checkpoints.inspect(path, checkpoints.VAES)
        return VAE(checkpoints.build(info, ops=skip_init, dtype=suited_dtype(info, self.device)), info, self.device)

    def load_text_encoder(self, path: Path) -> TextModel:
        import torch

        from ...models import checkpoints, skip_init
        from .wires import official_text_model, own_text_model

        info = checkpoints.inspect(path, checkpoints.TEXT_ENCODERS)
        if info.kind != "text_encoder":
            dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
            return official_text_model(path, self.device, dtype)
        network = checkpoints.build(info, ops=skip_init, dtype=torch.float32)
        return own_text_model(network, checkpoints.load_tokenizer(info), self.device)

    def model_info(self, model: Any) -> ModelInfo:
        from .wires import Model

        return expect(model, Model, "MODEL", "Load video model").info

    def vae_info(self, vae: Any) -> VAEInfo:
        from .wires import VAE

        return expect(vae, VAE, "VAE", "Load video VAE").info

    def shift_of(self, model: Model) -> float:
        return self.model_info(model).family.shift

    def tokenizer(self, clip: TextModel) -> Tokenizer | None:
        return clip.tokenizer

    def fingerprint(self, wire: VAE | TextModel) -> str:
        from ...models.fingerprint import fingerprint

        return fingerprint(*wire.networks)

    def encode_prompt(self, clip: Any, text: str) -> Conditioning:
        from .wires import TextModel

        return expect(clip, TextModel, "CLIP", "Load text encoder").encode(text)

    def encode(self, vae: VAE, images: Tensor) -> Tensor:
        chunk = 2 * self.vae_info(vae).time_compression  # the same latents as from all at once, in less memory
        return vae.encode(images, chunk)

    def decode(self, vae: VAE, samples: Tensor, chunk: int | None = None, tile: int | None = None) -> Tensor:
        self.vae_info(vae)
        bar: Bar | None = None

        def on_chunk(done: int, total: int) -> None:
            nonlocal bar
            if bar is not None and bar.total != total:  # memory was short, and the rest goes in smaller pieces
                bar.close()
                bar = None
            bar = bar or self.progress(total)
            bar.update(done, "decoding")

        try:
            return vae.decode(samples, chunk, tile, on_chunk).flatten(0, 1)
        finally:
            if bar is not None:
                bar.close()

    def make_sampler(self, stages: PyramidStages | None, history: History | None) -> PyramidSampler:
        from .sampling import PyramidSampler

        return PyramidSampler(stages, history)

    def make_guider(
        self, model: Model, positive: Conditioning, negative: Conditioning | None, guidance: PyramidGuidance
    ) -> Guider:
        from .sampling import Guider

        return Guider(model, positive, negative, guidance)

    def sample(self, guider: Guider, sampler: PyramidSampler, latent: Latent, seed: int) -> Latent:
        from .sampling import PyramidSampler, sample

        expect(sampler, PyramidSampler, "SAMPLER", "Pyramid sampler (part)")
        bar: Bar | None = None

        def callback(info: StepInfo, estimate: Tensor) -> None:
            nonlocal bar
            bar = bar or self.progress(info.total)
            bar.update(info.index + 1, f"unit {info.unit + 1}/{info.units} stage {info.stage + 1}/{info.stages}")

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
        latent: Latent,
        seed: int,
    ) -> Latent:
        from .sampling import sample_full_sequence

        bar = self.progress(sampler.calls)

        def callback(done: int, total: int, estimate: Tensor) -> None:
            bar.update(done, f"call {done}/{total}")

        try:
            return sample_full_sequence(model, sampler, (positive, negative, scale), latent, seed, callback)
        finally:
            bar.close()

    @property
    def model_training(self) -> ModelTraining:
        raise ValueError(
            "LoRAs for models of ComfyUI (Wan, LTX-2, HunyuanVideo and others) are trained in ComfyUI. For the models "
            "of this pack take 'Train LoRA'"
        )

    @property
    def any_model(self) -> AnyModel:
        from .any_model import AnyModel

        return AnyModel(self.progress)

    def unload_models(self) -> None:
        """Nothing: models leave the device as soon as they are done."""

    def show_note(self, text: str) -> None:
        """Nothing: the runner prints what a node has said when it has run."""

    def playing_clip(self) -> dict[str, Any]:
        return {}  # there is no page

    def progress(self, total: int) -> Bar:
        """A bar on stderr; silent where this is a part of work that has a bar."""
        bar = Bar(total, self.silent or any(other.is_drawn for other in self._bars))
        self._bars.add(bar)
        return bar

    def end_progress(self) -> None:
        for bar in list(self._bars):
            bar.close()
