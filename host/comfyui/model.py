"""Our transformers as a true ComfyUI MODEL: host layers, host memory, and a guard against other samplers."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.supported_models_base
import torch
from torch import Tensor

from ...models import checkpoints
from ...models.checkpoint_dtypes import FAST, LARGE, named_dtype
from ...models.latent_format import WAN, LatentFormat
from ...models.model_info import ModelInfo
from ...samplers.noise_schedule import schedule_of
from ..checks import check_text
from . import quantised
from .networks import HostNetwork, host_network
from .noise_levels import check_noise_levels
from .patchers import patcher_of

WrappersMP = comfy.patcher_extension.WrappersMP
AS_STORED = ("default", FAST)  # a quantised file stays as it is
DTYPES = (torch.bfloat16, torch.float32)  # float16 overflows in these networks
HOST_UNIT = 0.01 * 2**20  # of the host's factor of activations: bytes per byte of a latent cell
IN_STAGES = (
    "'{name}' is a pyramid model and cannot be run by {sampler}: it needs the block 'Sample pyramid', or the block "
    "'Pyramid sampler (part)' as the SAMPLER of SamplerCustomAdvanced"
)
ONE_STEP = (
    "'{name}' is the generator of a GAN and makes a clip in one step, not in several with {sampler}: use the block "
    "'Sample GAN', or 1 step and cfg 1"
)


class VideoModel(comfy.model_base.BaseModel):
    """A transformer of ours in the host, of the host's type for its family.

    Flows and GANs are FLOW: noise - data, sigma 1 to 0 (of a pyramid inside each stage). Diffusion models are EPS or
    V_PREDICTION, with the levels they were trained on.
    """

    def __init__(self, config: VideoConfig, network: type[HostNetwork], info: ModelInfo, device: str = "meta") -> None:
        schedule = schedule_of(info.family) if info.family.rules.has_noise_schedule else None
        types = comfy.model_base.ModelType
        kind = types.FLOW if schedule is None else {"epsilon": types.EPS, "v": types.V_PREDICTION}[schedule.prediction]
        super().__init__(config, kind, device=torch.device(device), unet_model=network)
        self.info = info
        if schedule is not None:
            self.model_sampling.set_sigmas(schedule.sigmas)
        self.trained_sampling = (self.model_sampling,)  # a tuple: another may take its place among the modules

    def apply_model(
        self, x: Tensor, t: Tensor, *args: Any, transformer_options: dict[str, Any] | None = None, **kw: Any
    ) -> Tensor:
        """The host's; what `PyramidSampler` put into `transformer_options` goes on to the network as an input.

        Newer hosts do not look at those options when they decide whether a compiled network fits a call.
        """
        options = {} if transformer_options is None else transformer_options
        with self.diffusion_model.prepared(self, x, options, kw) as inputs:
            return super().apply_model(x, t, *args, transformer_options=options, **inputs)

    def extra_conds(
        self, cross_attn: Tensor | None = None, pooled_output: Tensor | None = None, **kw: Any
    ) -> dict[str, Any]:
        """What the network gets of a CONDITIONING; ValueError where it does not read it."""
        check_text(self.info, cross_attn, pooled_output)
        # Once a run: the host would bring what lies elsewhere to the device in every step.
        text, pooled = (x if x is None else x.to(kw.get("device")) for x in (cross_attn, pooled_output))
        return self.diffusion_model.conds(text, pooled, kw.get("attention_mask"))

    def memory_required(self, input_shape: list[int], *args: Any, **kw: Any) -> float:
        """Bytes for activations: of a pyramid one unit at a time and the history that it sees."""
        if not self.info.family.rules.in_stages:
            return super().memory_required(input_shape, *args, **kw)
        batch, channels, frames, *size = input_shape
        at_once = self.diffusion_model.config.frames_at_once(frames)
        return super().memory_required([batch * at_once, channels, *size], *args, **kw)

    def state_dict_for_saving(self, *args: Any, **kw: Any) -> dict[str, Tensor]:
        """As the host saves a model, and its description as a tensor of JSON bytes, so that the file loads again."""
        about = {
            "kind": self.info.kind,
            "config": self.diffusion_model.config.to_dict(),
            "latent_format": self.info.latent_format.to_dict(),
            "family": self.info.family.to_dict(),
        }
        state = {key: quantised.as_stored(tensor) for key, tensor in super().state_dict_for_saving(*args, **kw).items()}
        return {**state, checkpoints.METADATA_KEY: json_tensor(about)}


class VideoConfig(comfy.supported_models_base.BASE):
    """What the host wants to know of a kind of model."""

    unet_extra_config: dict[str, Any] = {}
    supported_inference_dtypes = list(DTYPES)


class HostLatentFormat(comfy.latent_formats.LatentFormat):
    """Our latent format under the names that the host reads."""

    latent_dimensions = 3

    def __init__(self, ours: LatentFormat, channels: int) -> None:
        self.latent_channels = channels
        if ours == WAN:  # the host knows its colours, for pictures in -1..1
            theirs = comfy.latent_formats.Wan21()
            ours = replace(
                ours,
                rgb_factors=tuple((r / 2, g / 2, b / 2) for r, g, b in theirs.latent_rgb_factors),
                rgb_bias=tuple(value / 2 + 0.5 for value in theirs.latent_rgb_factors_bias),
            )
        self.ours = ours
        factors, bias = ours.colours(channels)
        self.latent_rgb_factors = [[2 * value for value in row] for row in factors]  # the host's pictures are in -1..1
        self.latent_rgb_factors_bias = [2 * value - 1 for value in bias]

    def process_in(self, latent: Tensor) -> Tensor:
        return self.ours.normalize(latent)

    def process_out(self, latent: Tensor) -> Tensor:
        return self.ours.denormalize(latent)


def load_model(
    path: Path, weight_dtype: str = "default", disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Read a transformer into a MODEL; `weight_dtype` is a key of `checkpoint_dtypes.WEIGHT_DTYPES`.

    disable_dynamic: as the host asks for it, see `patchers.patcher_of`.
    """
    info = checkpoints.inspect(path, checkpoints.TRANSFORMERS)
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    storage, compute = choose_dtypes(info, weight_dtype, load_device)

    config = VideoConfig({"network_config": info.config})
    config.sampling_settings = {"shift": info.family.shift}
    config.latent_format = HostLatentFormat(ModelInfo.of(info).latent_format, info.config.latent_channels)
    config.memory_usage_factor = info.config.live_numbers / HOST_UNIT
    config.set_inference_dtype(storage, compute)
    about, network = ModelInfo.of(info, config.latent_format.ours), host_network(info.kind)
    config.optimizations = {"fp8": weight_dtype == FAST}
    if info.quantised and weight_dtype in AS_STORED:
        quantised.prepare(config, info)
        model = VideoModel(config, network, about, "cpu")  # its layers put weights where they were made
        quantised.load_weights(model.diffusion_model, info, compute or storage, weight_dtype == FAST)
    else:  # made on the meta device, so the tensors of the file are the only copy
        model = VideoModel(config, network, about)
        model.diffusion_model.load_state_dict(checkpoints.load_state_dict(info, dtype=storage), assign=True)
    model.diffusion_model.eval().requires_grad_(False)
    model.device = offload_device

    again = load_model, (path, weight_dtype)
    patcher = patcher_of(model, model.diffusion_model, load_device, offload_device, again, disable_dynamic)
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "pyramid_video", refuse_what_does_not_fit)
    return patcher


def refuse_what_does_not_fit(
    executor: Any, noise: Tensor, latent_image: Any, sampler: Any, sigmas: Tensor, *rest: Any, **kw: Any
) -> Any:
    """Run a pyramid only with its sampler, a GAN in one step only, and all with the noise levels that they learned.

    Raises ValueError before anything is loaded.
    """
    patcher = executor.class_obj.model_patcher
    check_noise_levels(patcher)
    info = patcher.model.info
    rules = info.family.rules
    fits = rules.any_sampler or getattr(sampler, "family", None) == info.family.name
    if not fits and not (rules.one_step and len(sigmas) == 2):
        function = getattr(sampler, "sampler_function", sampler)
        name = getattr(function, "__name__", type(function).__name__).removeprefix("sample_")
        sentence = IN_STAGES if rules.in_stages else ONE_STEP
        raise ValueError(sentence.format(name=info.name, sampler=f"the sampler {name!r}"))
    if rules.in_stages:
        sampler.check(info, noise)
    return executor(noise, latent_image, sampler, sigmas, *rest, **kw)


def choose_dtypes(
    info: checkpoints.CheckpointInfo, wanted: str, device: torch.device
) -> tuple[torch.dtype, torch.dtype | None]:
    """How weights are kept, and what they are cast to for computing (None: not at all)."""
    # A small model gains nothing from half the memory, and in float32 a seed gives the same clip on every device.
    dtypes = list(DTYPES) if info.parameters >= LARGE else [torch.float32]
    storage = named_dtype(wanted) or comfy.model_management.unet_dtype(
        model_params=info.parameters,
        supported_dtypes=dtypes,
        weight_dtype=None if info.quantised else info.dtype,
    )
    if storage == torch.float16:  # a start-up option of the host may choose it
        logging.warning("Pyramid Video: this model overflows in float16; its weights are kept in bfloat16")
        storage = torch.bfloat16
    stored = None if info.quantised and wanted in AS_STORED else storage  # None: in neither of the types
    return storage, comfy.model_management.unet_manual_cast(stored, device, dtypes)


def json_tensor(values: dict[str, Any]) -> Tensor:
    """Text as bytes in a tensor: the host saves tensors only."""
    return torch.tensor(list(json.dumps(values).encode()), dtype=torch.uint8)
