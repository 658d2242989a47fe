"""Tiny random models of the host's own classes, with prompts and empty latents for them."""

from __future__ import annotations

import inspect
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
AV = {
    "image_model": "ltxav",
    "audio_cross_attention_dim": 24,
    "audio_attention_head_dim": 12,
    "audio_num_attention_heads": 2,
}
LTX2_3 = {"caption_proj_before_connector": True, "cross_attention_adaln": True, "apply_gated_attention": True}
LTX2_5 = {**LTX2_3, "cross_attention_adaln": False, "use_prompt_adaln_single": False}
LTX2_5 |= {"ff_bias": False, "audio_ff_bias": False, "use_keyframes_abs_pos_embedding": True}
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
SD15 = {"context_dim": TEXT, "model_channels": 32, "use_linear_in_transformer": False, "adm_in_channels": None}
SD15 |= {"in_channels": 4, "out_channels": 4, "num_res_blocks": [1, 1, 1], "channel_mult": [1, 2, 2], "num_heads": 2}
SD15 |= {"num_head_channels": -1, "use_temporal_attention": False, "use_spatial_transformer": True, "image_size": 32}
SD15 |= {"transformer_depth": [1, 1, 0], "transformer_depth_output": [1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1}
SD15 |= {"legacy": False, "dtype": torch.float32}
QWEN = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 2, "attention_head_dim": 24}
QWEN |= {"num_attention_heads": 2, "joint_attention_dim": TEXT, "axes_dims_rope": [8, 8, 8]}
Z_IMAGE = {"image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 256, "cap_feat_dim": TEXT}
Z_IMAGE |= {"n_layers": 1, "n_refiner_layers": 1, "qk_norm": True, "n_heads": 8, "n_kv_heads": 8, "rope_theta": 256.0}
Z_IMAGE |= {"axes_dims": [8, 12, 12], "axes_lens": [64, 64, 64], "ffn_dim_multiplier": 0.1, "multiple_of": 16}
Z_IMAGE |= {"z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32}
FLUX2 = {**FLUX, "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1, "vec_in_dim": None}
FLUX2 |= {"axes_dim": [6, 6, 6, 6], "theta": 2000, "global_modulation": True, "mlp_silu_act": True, "qkv_bias": False}
FLUX2 |= {"ops_bias": False, "default_ref_method": "index", "ref_index_scale": 10.0, "txt_ids_dims": [3]}
CHROMA = {**FLUX, "image_model": "chroma", "in_channels": 64, "out_channels": 64, "vec_in_dim": None, "in_dim": 64}
CHROMA |= {"out_dim": 48, "hidden_dim": 32, "n_layers": 2}
HUNYUAN1 = {**HUNYUAN, "in_channels": 16, "out_channels": 16, "patch_size": [1, 2, 2], "vec_in_dim": 16}
HUNYUAN1 |= {"guidance_embed": True, "use_cond_type_embedding": False}
KANDINSKY = {"image_model": "kandinsky5", "model_dim": 48, "time_dim": 32, "ff_dim": 64, "axes_dims": (8, 8, 8)}
KANDINSKY |= {"in_text_dim": TEXT, "in_text_dim2": 16, "num_text_blocks": 1, "num_visual_blocks": 2}
MOCHI = {"image_model": "mochi_preview", "depth": 2, "patch_size": 2, "num_heads": 2, "hidden_size_x": 24}
MOCHI |= {"hidden_size_y": 32, "mlp_ratio_x": 512.0, "mlp_ratio_y": 2.0, "learn_sigma": False, "in_channels": 12}
MOCHI |= {"qk_norm": True, "qkv_bias": False, "out_bias": True, "patch_embed_bias": True, "timestep_mlp_bias": True}
MOCHI |= {"timestep_scale": 1000.0, "use_t5": True, "t5_feat_dim": TEXT, "t5_token_length": 8, "rope_theta": 10000.0}
COSMOS = {"image_model": "cosmos_predict2", "max_img_h": 32, "max_img_w": 32, "max_frames": 8, "out_channels": 16}
COSMOS |= {"patch_spatial": 2, "patch_temporal": 1, "model_channels": 48, "concat_padding_mask": True, "num_heads": 2}
COSMOS |= {"crossattn_emb_channels": TEXT, "pos_emb_cls": "rope3d", "pos_emb_learnable": True, "num_blocks": 2}
COSMOS |= {"use_adaln_lora": True, "adaln_lora_dim": 8, "rope_enable_fps_modulation": False}
COSMOS1 = {"image_model": "cosmos", "max_img_h": 64, "max_img_w": 64, "max_frames": 8, "in_channels": 16}
COSMOS1 |= {"out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": 48, "num_blocks": 1}
COSMOS1 |= {"block_config": "FA-CA-MLP", "num_heads": 2, "concat_padding_mask": True, "crossattn_emb_channels": TEXT}
COSMOS1 |= {"pos_emb_cls": "rope3d", "block_x_format": "THWBD", "affline_emb_norm": True, "use_adaln_lora": True}
COSMOS1 |= {"adaln_lora_dim": 8, "extra_per_block_abs_pos_emb": True}
COSMOS1 |= {"extra_per_block_abs_pos_emb_type": "learnable"}
PIXART = {"image_model": "pixart_sigma", "num_heads": 2, "hidden_size": 32, "depth": 1, "input_size": None}
PIXART |= {"in_channels": 4, "caption_channels": TEXT, "model_max_length": 8, "micro_condition": False}
PIXART |= {"pe_interpolation": 1.0}
COGVIDEOX = {"image_model": "cogvideox", "num_attention_heads": 2, "attention_head_dim": 16, "time_embed_dim": 32}
COGVIDEOX |= {"num_layers": 2, "text_embed_dim": TEXT, "use_rotary_positional_embeddings": True}
HIDREAM = {"image_model": "hidream", "attention_head_dim": 24, "axes_dims_rope": [8, 8, 8], "in_channels": 16}
HIDREAM |= {"caption_channels": [TEXT, TEXT], "max_resolution": [32, 32], "llama_layers": [0, 1], "out_channels": 16}
HIDREAM |= {"num_attention_heads": 2, "num_routed_experts": 4, "num_activated_experts": 2, "num_layers": 1}
HIDREAM |= {"num_single_layers": 1, "patch_size": 2, "text_emb_dim": 16}

ERNIE = {"image_model": "ernie", "hidden_size": 48, "num_attention_heads": 2, "num_layers": 2, "text_in_dim": TEXT}
ERNIE |= {"ffn_hidden_size": 64, "rope_axes_dim": (8, 8, 8)}
JOY = {"image_model": "joyimage", "hidden_size": 256, "num_attention_heads": 2, "num_layers": 2, "text_dim": TEXT}

KREA = {"image_model": "krea2", "features": 48, "tdim": 16, "txtdim": TEXT, "heads": 2, "kvheads": 1, "multiplier": 2}
KREA |= {"layers": 2, "txtlayers": 1, "txtheads": 2, "txtkvheads": 2}
MAGE = {"image_model": "mage_flow", "num_layers": 2, "attention_head_dim": 24, "num_attention_heads": 2}
MAGE |= {"joint_attention_dim": TEXT, "axes_dims_rope": (8, 8, 8)}


@dataclass(frozen=True)
class Kind:
    """A model class of the host, the smallest network of it, and what its latents look like."""

    config: str  # class of comfy.supported_models
    network: dict[str, Any]
    latent: tuple[int, ...]  # channels, and frames of a video
    extras: Callable[[], dict[str, Any]] = field(default=dict)  # of the prompt
    sound: tuple[int, ...] = ()
    spread: float = 0.15  # of the weights
    text: int = TEXT  # features of a token of the prompt


def words_mask() -> dict[str, Any]:
    return {"attention_mask": torch.ones(1, 5, dtype=torch.long)}


KINDS = {
    "wan2.1 t2v": Kind("WAN21_T2V", {**WAN, "model_type": "t2v"}, (16, 3)),
    "wan2.1 i2v": Kind("WAN21_I2V", {**WAN, "model_type": "i2v", "in_dim": 36}, (16, 3)),
    "wan2.1 vace": Kind("WAN21_Vace", {**WAN, "model_type": "vace", "vace_layers": 2, "vace_in_dim": 96}, (16, 3)),
    "wan2.2 i2v": Kind("WAN21_T2V", {**WAN, "model_type": "t2v", "in_dim": 36}, (16, 3)),
    "wan2.2 5B": Kind("WAN22_T2V", {**WAN, "model_type": "t2v", "in_dim": 48, "out_dim": 48}, (48, 3)),
    "ltx": Kind("LTXV", {**LTX, "image_model": "ltxv"}, (128, 3), words_mask),
    "ltx2": Kind("LTXAV", {**LTX, **AV}, (128, 3), words_mask, (8, 10, 16), text=2 * TEXT),
    "ltx2.3": Kind("LTXAV", {**LTX, **AV, **LTX2_3}, (128, 3), words_mask, (8, 10, 16), text=48 + 24),
    "ltx2.5": Kind("LTXAV", {**LTX, **AV, **LTX2_5}, (128, 3), words_mask, (8, 10, 16), text=48 + 24),
    "hunyuan1.5": Kind("HunyuanVideo15", HUNYUAN, (32, 3), lambda: {"pooled_output": noise(1, 16)}),
    "minimax h3": Kind("MiniMaxH3", H3, (24, 3), sound=(32, 2, 10)),
    "flux": Kind("Flux", FLUX, (16,), lambda: {"pooled_output": noise(1, 16), "guidance": 3.5}),
    "sd3": Kind("SD3", SD3, (16,), lambda: {"pooled_output": noise(1, 16)}),
    "sdxl": Kind("SDXL", SDXL, (4,), lambda: {"pooled_output": noise(1, 16)}),
    "sd1.5": Kind("SD15", SD15, (4,), spread=0.12),
    "qwen-image": Kind("QwenImage", QWEN, (16, 1)),
    "z-image": Kind("ZImage", Z_IMAGE, (16,), words_mask, spread=0.07),
    "flux.2": Kind("Flux2", FLUX2, (128,), lambda: {"pooled_output": None, "guidance": 3.5}),
    "chroma": Kind("Chroma", CHROMA, (16,), lambda: {"pooled_output": None}),
    "hunyuan video": Kind("HunyuanVideo", HUNYUAN1, (16, 3), lambda: {"pooled_output": noise(1, 16)}),
    "kandinsky 5": Kind("Kandinsky5", KANDINSKY, (16, 3), lambda: {"pooled_output": noise(1, 16)}),
    "mochi": Kind("GenmoMochi", MOCHI, (12, 3), words_mask),
    "cosmos predict2 t2i": Kind("CosmosT2IPredict2", {**COSMOS, "in_channels": 16}, (16, 1)),
    "cosmos predict2 video": Kind("CosmosI2VPredict2", {**COSMOS, "in_channels": 17}, (16, 3)),
    "cosmos": Kind("CosmosT2V", COSMOS1, (16, 3)),
    "pixart": Kind("PixArtSigma", PIXART, (4,)),
    "cogvideox": Kind("CogVideoX_T2V", COGVIDEOX, (16, 3)),
    "ernie": Kind("ErnieImage", ERNIE, (128,), spread=0.2),
    "joyimage": Kind("JoyImage", JOY, (16, 1), spread=0.07),
    "krea 2": Kind("Krea2", KREA, (16, 1)),
    "mage flow": Kind("MageFlow", MAGE, (128,)),
    "hidream": Kind(
        "HiDream", HIDREAM, (16,), lambda: {"pooled_output": noise(1, 16), "conditioning_llama3": noise(1, 2, 5, TEXT)}
    ),
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def known() -> list[str]:
    """The kinds that this host has."""
    newest = {"ltx2.3": "cross_attention_adaln", "ltx2.5": "use_prompt_adaln_single"}  # of the same class as ltx2
    there = [name for name, kind in KINDS.items() if hasattr(supported, kind.config)]
    return [name for name in there if name not in newest or newest[name] in parameters_of_ltx2()]


def parameters_of_ltx2() -> set[str]:
    from comfy.ldm.lightricks.av_model import LTXAVModel

    return set(inspect.signature(LTXAVModel.__init__).parameters)


def parameters_of(config: str) -> set[str]:
    """What a network takes in this host, of those whose parameters grew over the years."""
    from comfy.ldm.chroma.model import ChromaParams
    from comfy.ldm.flux.model import FluxParams
    from comfy.ldm.hunyuan_video.model import HunyuanVideoParams

    grown = {"Flux": FluxParams, "Flux2": FluxParams, "Chroma": ChromaParams, "HunyuanVideo": HunyuanVideoParams}
    return {*grown[config].__annotations__, "image_model"} if config in grown else set()


def make_model(name: str, seed: int = 1, dtype: torch.dtype = torch.float32) -> comfy.model_patcher.ModelPatcher:
    """A model with random weights; the same for the same seed, but for rounding to `dtype`."""
    kind = KINDS[name]
    network = dict(kind.network)
    known_here = parameters_of(kind.config)
    if known_here:
        network = {key: value for key, value in network.items() if key in known_here}
    config = getattr(supported, kind.config)(network)
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for parameter in (*model.diffusion_model.parameters(), *model.diffusion_model.buffers()):
        if parameter.is_floating_point():
            numbers = torch.randn(parameter.shape, generator=generator) * kind.spread
            parameter.data = numbers.to(parameter.dtype)
    place = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=place, offload_device=place)


def quantised(weight: torch.Tensor, form: str) -> dict[str, torch.Tensor]:
    """What core's files hold of a weight in one of its forms, by the last part of the names."""
    import comfy.quant_ops

    turned = {"convrot": True, "convrot_groupsize": 16} if form == "int8_tensorwise" else {}
    how = {**turned, "per_channel": True} if turned else {}
    kept = comfy.quant_ops.QuantizedTensor.from_float(
        weight, comfy.quant_ops.QUANT_ALGOS[form]["comfy_tensor_layout"], scale="recalculate", **how
    )
    about = json.dumps({"format": form, **turned}).encode()
    return {**kept.state_dict("weight"), "comfy_quant": torch.tensor(list(about)).byte()}


def make_quantised(name: str, form: str = "float8_e4m3fn", seed: int = 1) -> comfy.model_patcher.ModelPatcher:
    """The same with the linear layers of its `blocks` in one of the forms of core's quantised files."""
    plain = make_model(name, seed).model.diffusion_model
    state = dict(plain.state_dict())
    for layer, module in plain.named_modules():
        if layer.startswith("blocks.") and isinstance(module, torch.nn.Linear):
            state |= {f"{layer}.{part}": each for part, each in quantised(state[f"{layer}.weight"], form).items()}
    config = getattr(supported, KINDS[name].config)(dict(KINDS[name].network))
    config.set_inference_dtype(torch.float32, None)
    config.quant_config = comfy.utils.detect_layer_quantization(state, "")
    model, place = config.get_model(state, "", device="cpu"), torch.device("cpu")
    model.load_model_weights(state, "")
    return comfy.model_patcher.ModelPatcher(model, load_device=place, offload_device=place)


class Packed(torch.Tensor):
    """Weights of few bits in a class of tensors of their own, as packs have it that load GGUF files."""

    def __new__(cls, numbers: torch.Tensor, scale: float) -> Packed:
        return torch.Tensor._make_subclass(cls, numbers)

    def __init__(self, numbers: torch.Tensor, scale: float) -> None:
        self.scale = scale

    def detach(self) -> Packed:
        return self


class PackedLinear(torch.nn.Module):
    """Multiplies with what it unpacks in every forward, which has to be a plain tensor by then."""

    def __init__(self, plain: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = plain.in_features, plain.out_features, plain.bias
        scale = float(plain.weight.abs().max()) / 127
        numbers = Packed((plain.weight.detach() / scale).round().to(torch.int8), scale)
        self.weight = torch.nn.Parameter(numbers, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.to(x.dtype) * self.weight.scale
        return torch.nn.functional.linear(x, torch.Tensor(weight), self.bias)


def make_packed(name: str, seed: int = 1) -> comfy.model_patcher.ModelPatcher:
    """A model whose linear layers in blocks are `PackedLinear`."""
    model = make_model(name, seed)
    network = model.model.diffusion_model
    for layer, module in list(network.named_modules()):
        if layer.startswith("blocks.") and isinstance(module, torch.nn.Linear):
            network.set_submodule(layer, PackedLinear(module))
    return model


def prompt(name: str, seed: int = 2, **extras: Any) -> list:
    """CONDITIONING for a model."""
    return [[noise(1, 5, KINDS[name].text, seed=seed), {**KINDS[name].extras(), **extras}]]


def empty(name: str, rows: int = 12, columns: int = 16, batch: int = 1) -> Any:
    """The samples of an empty latent, nested where the model makes sound."""
    kind = KINDS[name]
    picture = torch.zeros(batch, *kind.latent, rows, columns)
    if not kind.sound:
        return picture
    from comfy.nested_tensor import NestedTensor

    return NestedTensor([picture, torch.zeros(batch, *kind.sound)])
