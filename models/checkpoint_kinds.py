"""What a checkpoint is, by the names and shapes of its tensors: our kinds, their sizes, and common foreign models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from .helios_variant import helios_variant
from .latent_format import MINIFLUX, SD3, WAN, LatentFormat


@dataclass(frozen=True)
class Kind:
    """All that depends on the kind of a network and on nothing else."""

    title: str  # what people call it
    place: str  # what belongs where it is taken
    signature_keys: tuple[str, ...] = ()  # keys that no other model has together
    classes: tuple[str, str, str] | None = None  # module, config class, network class; None: read by transformers
    official_class: str = ""  # in its official config.json
    loader_config: Mapping[str, Any] = field(default_factory=dict)  # what the official loader sets whatever that says
    latent_format: LatentFormat | None = None  # of official transformers
    trainable: bool = False
    variant: Callable[[Path], str] | None = None  # finds out which of several models with one network it is

    def __str__(self) -> str:
        return self.title


PYRAMID_FLOW_PLACE = (
    "a Pyramid Flow transformer: a folder such as diffusion_transformer_768p with config.json and weights,"
    " or one safetensors file of it"
)
TEXT_PLACE = (
    "a text encoder saved by Pyramid Video, or the official top folder with text_encoder, text_encoder_2"
    " and their tokenizers"
)
CAUSAL = {"use_flash_attn": False, "use_temporal_causal": True, "interp_condition_pos": True}

TRANSFORMERS = {
    "miniflux": Kind(
        "Pyramid Flow transformer (miniFLUX)",
        PYRAMID_FLOW_PLACE,
        ("x_embedder.weight", "context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight"),
        ("miniflux", "MiniFluxConfig", "MiniFluxTransformer"),
        "PyramidFluxTransformer",
        CAUSAL,
        MINIFLUX,
        trainable=True,
    ),
    "mmdit": Kind(
        "Pyramid Flow transformer (SD3 MMDiT)",
        PYRAMID_FLOW_PLACE,
        ("pos_embed.proj.weight", "transformer_blocks.0.attn.norm_add_q.weight"),
        ("mmdit", "MMDiTConfig", "MMDiTTransformer"),
        "PyramidDiffusionMMDiT",
        {**CAUSAL, "use_t5_mask": True, "add_temp_pos_embed": True, "temp_pos_embed_type": "rope"},
        SD3,
        trainable=True,
    ),
    "helios": Kind(
        "Helios transformer",
        "a Helios transformer: the folder transformer with config.json and shards, or one safetensors file",
        ("patch_short.weight", "patch_long.weight", "condition_embedder.time_embedder.linear_1.weight"),
        ("helios", "HeliosConfig", "HeliosTransformer"),
        "HeliosTransformer3DModel",
        latent_format=WAN,
        variant=helios_variant,
    ),
}
VAES = {
    "wan_vae": Kind(
        "Wan video VAE",
        "the folder vae of Helios (in ComfyUI the file wan_2.1_vae goes into core's 'Load VAE')",
        ("encoder.conv_in.weight", "decoder.mid_block.attentions.0.norm.gamma", "post_quant_conv.weight"),
        ("wan_vae", "WanVAEConfig", "WanVAE"),
        "AutoencoderKLWan",
    ),
    "causal_vae": Kind(
        "causal video VAE",
        "a causal video VAE: the folder causal_video_vae, or one safetensors file of it",
        ("encoder.conv_in.conv.weight", "decoder.conv_in.conv.weight", "quant_conv.conv.weight"),
        ("causal_vae", "CausalVAEConfig", "CausalVideoVAE"),
        "CausalVideoVAE",
        {"interpolate": False},
    ),
}
TEXT_ENCODERS = {
    "text_encoder": Kind(
        "text encoder of Pyramid Video",
        TEXT_PLACE,
        ("tokens.weight", "positions.weight", "layers.0.qkv.weight", "pool.weight"),
        ("text_encoder", "TextEncoderConfig", "TextEncoder"),
    ),
    "official_text_miniflux": Kind("set of official text encoders (CLIP-L and T5)", TEXT_PLACE),
    "official_text_sd3": Kind("set of official text encoders (CLIP-L, CLIP-G and T5)", TEXT_PLACE),
    "official_text_helios": Kind("official text encoder of Helios (UMT5)", TEXT_PLACE),
}
KINDS: Mapping[str, Kind] = {**TRANSFORMERS, **VAES, **TEXT_ENCODERS}
TRAINABLE = {name: kind for name, kind in KINDS.items() if kind.trainable}
OFFICIAL_CLASSES = {kind.official_class for kind in KINDS.values() if kind.official_class}
KNOWN_PREFIXES = {"dit", "vae", "model", "diffusion_model", "module", "_orig_mod", "transformer", "first_stage_model"}
HOST_MARKS = ("v_pred", "ztsnr")  # empty tensors by which ComfyUI knows a diffusion model that it saved
IGNORED_PREFIXES = (
    *("vae.", "text_encoder", "dit.", "loss.", "first_stage_model.", "cond_stage_model.", "model_ema."),
    *HOST_MARKS,
)
FOREIGN_MODELS = (  # a pattern of a key, and what has such keys; the first match speaks
    (r"lora_(A|B|up|down)\b|\.hada_w1|\.lokr_w", "a LoRA, which goes on top of a model"),
    (r"control_model\.|controlnet_(blocks|cond)|input_hint_block", "a ControlNet"),
    (r"motion_modules\.", "an AnimateDiff motion module"),
    (r"time_text_embed\.guidance_embedder\.", "a FLUX.1 transformer"),
    (r"double_blocks\.0\.img_attn\.qkv\.", "a FLUX.1 transformer in its original layout"),
    (r"double_blocks\.0\.img_attn_qkv\.", "a HunyuanVideo transformer"),
    (r"joint_blocks\.0\.", "a Stable Diffusion 3 checkpoint in its original layout"),
    (r"blocks\.0\.self_attn\.norm_q\.|condition_embedder\.time_embedder\.", "a Wan transformer"),
    (r"(patchify_proj|transformer_blocks\.0\.scale_shift_table)", "an LTX-Video or PixArt transformer"),
    (r"blocks\.0\.attn\.qkv_x\.", "a Mochi transformer"),
    (r"transformer_blocks\.0\.attn1\.norm_q\.", "a CogVideoX transformer"),
    (r"input_blocks\.0\.0\.weight", "a Stable Diffusion checkpoint"),
    (r"(decoder\.middle\.0\.residual|encoder\.downsamples)\.", "a Wan VAE"),
    (r"decoder\.up_blocks\.0\.resnets\.0\.norm1\.conv_y\.", "a CogVideoX VAE"),
    (r"(encoder|decoder)\.(down|up)\.0\.block\.0\.", "an image VAE (Stable Diffusion or FLUX.1)"),
    (r"encoder\.down_blocks\.0\.resnets\.0\.conv1\.conv\.", "a HunyuanVideo or other video VAE"),
    (r"encoder\.down_blocks\.0\.resnets\.0\.conv1\.weight", "an image VAE (Stable Diffusion or FLUX.1)"),
    (r"down_blocks\.0\.resnets\.0\.", "a Stable Diffusion UNet"),
    (r"encoder\.block\.0\.layer\.0\.SelfAttention\.", "a T5 text encoder alone"),
    (r"text_model\.encoder\.layers\.0\.|transformer\.resblocks\.0\.", "a CLIP text encoder alone"),
    (r"model\.layers\.0\.self_attn\.", "a language model"),
    (r"transformer_blocks\.0\.attn\.", "an image transformer (Stable Diffusion 3 or a relative)"),
)


def wanted(expected: Iterable[str]) -> str:
    """Say what belongs where only `expected` kinds are taken."""
    taken = set(expected)
    return "; or ".join(dict.fromkeys(kind.place for name, kind in KINDS.items() if name in taken))


def article(kind: Kind) -> str:
    """What people call a kind, with its article."""
    return f"{'an' if kind.title[0] in 'aeiou' else 'a'} {kind.title}"


def network_classes(name: str) -> tuple[Any, Any]:
    """The config class and the network class of a kind, imported when needed."""
    classes = KINDS[name].classes
    if classes is None:
        raise ValueError(f"a {KINDS[name]} is not a network of this pack; `load_official_text` reads it")
    module, config_class, network_class = classes
    found = import_module(f".{module}", __package__)
    return getattr(found, config_class), getattr(found, network_class)


def recognize(keys: Iterable[str]) -> dict[str, str]:
    """Return `{kind: prefix}` for every model of ours among the keys, transformers first."""
    keys = set(keys)
    found: dict[str, str] = {}
    for name, kind in KINDS.items():
        if not kind.signature_keys:
            continue
        first, *others = kind.signature_keys
        prefixes = sorted((key[: -len(first)] for key in keys if key.endswith(first)), key=len)
        for prefix in prefixes:
            known = not prefix or (prefix.endswith(".") and set(prefix[:-1].split(".")) <= KNOWN_PREFIXES)
            if known and all(prefix + other in keys for other in others):
                found.setdefault(name, prefix)
    if any(re.search(pattern, key) for pattern, _ in FOREIGN_MODELS[:4] for key in keys):
        return {}  # additions to a model, or a relative of ours with parts that ours has not
    return found


def foreign_model(keys: Iterable[str]) -> str:
    """Say in a few words what tensors with these names look like."""
    keys = list(keys)
    for pattern, meaning in FOREIGN_MODELS:
        if any(re.search(pattern, key) for key in keys):
            return meaning
    return f"an unknown model (its {len(keys)} tensors begin with {', '.join(sorted(keys)[:3])})"


def own_keys(keys: Iterable[str], prefix: str) -> dict[str, str]:
    """Map the network's own key to the key in the file; parts of other models that ride along are left out.

    Keys outside the prefix that belong to no known passenger stay, so that a strict comparison finds them.
    """
    inside = {key[len(prefix) :]: key for key in keys if key.startswith(prefix)}
    outside = {key: key for key in keys if not key.startswith(prefix)}
    kept = inside if prefix else {key: name for key, name in inside.items() if not key.startswith(IGNORED_PREFIXES)}
    return kept | {key: name for key, name in outside.items() if not key.startswith(IGNORED_PREFIXES)}
