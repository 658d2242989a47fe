"""Tiny random models of the host's own classes, with prompts and empty latents for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import comfy.supported_models as supported
import comfy.utils
import torch

TEXT = 32  # features of a text token
WAN = {"dim": 48, "ffn_dim": 64, "freq_dim": 32, "text_dim": TEXT, "num_heads": 2, "num_layers": 2}
WAN |= {"image_model": "wan2.1", "text_len": 8}
LTX = {"attention_head_dim": 24, "num_attention_heads": 2, "num_layers": 2, "caption_channels": TEXT}
LTX |= {"cross_attention_dim": 48}
AV = {"audio_cross_attention_dim": 24, "audio_attention_head_dim": 12, "audio_num_attention_heads": 2}
HUNYUAN = {"image_model": "hunyuan_video", "in_channels": 65, "patch_size": [1, 1, 1], "out_channels": 32}
HUNYUAN |= {"vec_in_dim": None, "axes_dim": [4, 4, 4], "meanflow": False, "context_in_dim": TEXT, "hidden_size": 24}
HUNYUAN |= {"mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "theta": 256, "qkv_bias": True}
HUNYUAN |= {"byt5": False, "guidance_embed": False, "use_cond_type_embedding": True, "vision_in_dim": None}
HUNYUAN |= {"meanflow_sum": False}
H3 = {"image_model": "minimax_h3", "hidden_size": 48, "num_layers": 2, "token_refiner_num_layers": 1}
H3 |= {"num_attention_heads": 2, "attention_head_dim": 96, "ffn_hidden_size": 48, "text_dim": TEXT}
H3 |= {"timestep_input_dim": 32, "time_embed_hidden_size": 48, "time_embed_dim": 24}
FLUX = {"image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 16, "context_in_dim": TEXT}
FLUX |= {"hidden_size": 48, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "theta": 10000}
FLUX |= {"axes_dim": [8, 8, 8], "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": []}
SD3 = {"in_channels": 16, "pos_embed_scaling_factor": None, "patch_size": 2, "depth": 1, "input_size": None}
SD3 |= {"adm_in_channels": 16, "pos_embed_max_size": 32, "num_patches": 1024, "qk_norm": None, "context_size": TEXT}
SD3 |= {"context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": TEXT, "out_features": 64}}}
SDXL = {"model_channels": 32, "use_linear_in_transformer": True, "transformer_depth": [0, 0, 1, 1, 1, 1]}
SDXL |= {"context_dim": TEXT, "adm_in_channels": 1552, "use_temporal_attention": False, "in_channels": 4}
SDXL |= {"out_channels": 4, "num_res_blocks": [1, 1, 1], "channel_mult": [1, 2, 2], "num_head_channels": 16}
SDXL |= {"transformer_depth_output": [0, 0, 1, 1, 1, 1], "transformer_depth_middle": 1, "num_classes": "sequential"}
SDXL |= {"use_spatial_transformer": True, "image_size": 32, "legacy": False, "dtype": torch.float32}


@dataclass(frozen=True)
class Kind:
    """A model class of the host, the smallest network of it, and what its latents look like."""

    config: str  # class of comfy.supported_models
    network: dict[str, Any]
    latent: tuple[int, ...]  # channels, and frames of a video
    extras: Callable[[], dict[str, Any]] = field(default=dict)  # of the prompt
    sound: tuple[int, ...] = ()


def words_mask() -> dict[str, Any]:
    return {"attention_mask": torch.ones(1, 5, dtype=torch.long)}


KINDS = {
    "wan2.1 t2v": Kind("WAN21_T2V", {**WAN, "model_type": "t2v"}, (16, 3)),
    "wan2.1 i2v": Kind("WAN21_I2V", {**WAN, "model_type": "i2v", "in_dim": 36}, (16, 3)),
    "wan2.1 vace": Kind("WAN21_Vace", {**WAN, "model_type": "vace", "vace_layers": 2, "vace_in_dim": 96}, (16, 3)),
    "wan2.2 i2v": Kind("WAN21_T2V", {**WAN, "model_type": "t2v", "in_dim": 36}, (16, 3)),
    "wan2.2 5B": Kind("WAN22_T2V", {**WAN, "model_type": "t2v", "in_dim": 48, "out_dim": 48}, (48, 3)),
    "ltx": Kind("LTXV", {**LTX, "image_model": "ltxv"}, (128, 3), words_mask),
    "ltx2": Kind("LTXAV", {**LTX, **AV, "image_model": "ltxav"}, (128, 3), words_mask, (8, 10, 16)),
    "hunyuan1.5": Kind("HunyuanVideo15", HUNYUAN, (32, 3), lambda: {"pooled_output": noise(1, 16)}),
    "minimax h3": Kind("MiniMaxH3", H3, (24, 3), sound=(32, 2, 10)),
    "flux": Kind("Flux", FLUX, (16,), lambda: {"pooled_output": noise(1, 16), "guidance": 3.5}),
    "sd3": Kind("SD3", SD3, (16,), lambda: {"pooled_output": noise(1, 16)}),
    "sdxl": Kind("SDXL", SDXL, (4,), lambda: {"pooled_output": noise(1, 16)}),
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def known() -> list[str]:
    """The kinds that this host has."""
    return [name for name, kind in KINDS.items() if hasattr(supported, kind.config)]


def make_model(name: str, seed: int = 1) -> comfy.model_patcher.ModelPatcher:
    """A model with random weights; the same for the same seed."""
    kind = KINDS[name]
    network = dict(kind.network)
    if name == "flux":  # whose parameters grew over the years
        from comfy.ldm.flux.model import FluxParams

        network = {key: value for key, value in network.items() if key in (*FluxParams.__annotations__, "image_model")}
    config = getattr(supported, kind.config)(network)
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for parameter in (*model.diffusion_model.parameters(), *model.diffusion_model.buffers()):
        if parameter.is_floating_point():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15
    place = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=place, offload_device=place)


def make_quantised(name: str, seed: int = 1) -> comfy.model_patcher.ModelPatcher:
    """The same with the linear layers of its `blocks` in scaled fp8, as core's quantised files say it."""
    plain = make_model(name, seed).model.diffusion_model
    state = dict(plain.state_dict())
    for layer, module in plain.named_modules():
        if layer.startswith("blocks.") and isinstance(module, torch.nn.Linear):
            weight = state[f"{layer}.weight"]
            scale = weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
            about = json.dumps({"format": "float8_e4m3fn"}).encode()
            state[f"{layer}.weight"] = (weight / scale).to(torch.float8_e4m3fn)
            state |= {f"{layer}.weight_scale": scale, f"{layer}.comfy_quant": torch.tensor(list(about)).byte()}
    config = getattr(supported, KINDS[name].config)(dict(KINDS[name].network))
    config.set_inference_dtype(torch.float32, None)
    config.quant_config = comfy.utils.detect_layer_quantization(state, "")
    model, place = config.get_model(state, "", device="cpu"), torch.device("cpu")
    model.load_model_weights(state, "")
    return comfy.model_patcher.ModelPatcher(model, load_device=place, offload_device=place)


def prompt(name: str, seed: int = 2, **extras: Any) -> list:
    """CONDITIONING for a model."""
    width = 2 * TEXT if name == "ltx2" else TEXT  # one half for the picture, one for the sound
    return [[noise(1, 5, width, seed=seed), {**KINDS[name].extras(), **extras}]]


def empty(name: str, rows: int = 12, columns: int = 16, batch: int = 1) -> Any:
    """The samples of an empty latent, nested where the model makes sound."""
    kind = KINDS[name]
    picture = torch.zeros(batch, *kind.latent, rows, columns)
    if not kind.sound:
        return picture
    from comfy.nested_tensor import NestedTensor

    return NestedTensor([picture, torch.zeros(batch, *kind.sound)])
