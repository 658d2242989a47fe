"""What a checkpoint is, by the names and shapes of its tensors: our kinds, their sizes, and common foreign models."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .checkpoint_files import CheckpointError

log = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]

KINDS = {  # kind: what people call it
    "miniflux": "Pyramid Flow transformer (miniFLUX)",
    "mmdit": "Pyramid Flow transformer (SD3 MMDiT)",
    "helios": "Helios transformer",
    "causal_vae": "causal video VAE",
    "wan_vae": "Wan video VAE",
    "text_encoder": "text encoder of Pyramid Video",
    "official_text_miniflux": "set of official text encoders (CLIP-L and T5)",
    "official_text_sd3": "set of official text encoders (CLIP-L, CLIP-G and T5)",
    "official_text_helios": "official text encoder of Helios (UMT5)",
}
TRANSFORMERS = {"miniflux", "mmdit", "helios"}
TRAINABLE = {"miniflux", "mmdit"}
VAES = {"causal_vae", "wan_vae"}
TEXT_KINDS = {"text_encoder", "official_text_miniflux", "official_text_sd3", "official_text_helios"}
WANTED = (  # kinds, and what belongs where they are taken
    (
        TRAINABLE,
        "a Pyramid Flow transformer: a folder such as diffusion_transformer_768p with config.json and weights,"
        " or one safetensors file of it",
    ),
    ({"helios"}, "a Helios transformer: the folder transformer with config.json and shards, or one safetensors file"),
    ({"causal_vae"}, "a causal video VAE: the folder causal_video_vae, or one safetensors file of it"),
    ({"wan_vae"}, "the folder vae of Helios (in ComfyUI the file wan_2.1_vae goes into core's 'Load VAE')"),
    (
        TEXT_KINDS,
        "a text encoder saved by Pyramid Video, or the official top folder with text_encoder, text_encoder_2"
        " and their tokenizers",
    ),
)
SIGNATURE_KEYS = {  # kind: keys that no other model has together
    "miniflux": ("x_embedder.weight", "context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight"),
    "mmdit": ("pos_embed.proj.weight", "transformer_blocks.0.attn.norm_add_q.weight"),
    "helios": ("patch_short.weight", "patch_long.weight", "condition_embedder.time_embedder.linear_1.weight"),
    "wan_vae": ("encoder.conv_in.weight", "decoder.mid_block.attentions.0.norm.gamma", "post_quant_conv.weight"),
    "causal_vae": ("encoder.conv_in.conv.weight", "decoder.conv_in.conv.weight", "quant_conv.conv.weight"),
    "text_encoder": ("tokens.weight", "positions.weight", "layers.0.qkv.weight", "pool.weight"),
}
HELIOS_HEAD = 128  # features of an attention head in all released models
KNOWN_PREFIXES = {"dit", "vae", "model", "diffusion_model", "module", "_orig_mod", "transformer", "first_stage_model"}
HOST_MARKS = ("v_pred", "ztsnr")  # empty tensors by which ComfyUI knows a diffusion model that it saved
IGNORED_PREFIXES = (
    *("vae.", "text_encoder", "dit.", "loss.", "first_stage_model.", "cond_stage_model.", "model_ema."),
    *HOST_MARKS,
)
FOREIGN_MODELS = (  # a pattern of a key, and what has such keys; the first match speaks
    (r"lora_(A|B|up|down)\b|\.hada_w1|\.lokr_w", "a LoRA, which goes on top of a model"),
    (r"(^|\.)scaled_fp8$|\.scale_weight$", "a model in scaled fp8, which needs its scales; take bf16 or plain fp8"),
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
    return "; or ".join(text for kinds, text in WANTED if kinds & set(expected))


def article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def recognize(keys: Iterable[str]) -> dict[str, str]:
    """Return `{kind: prefix}` for every model of ours among the keys, transformers first."""
    keys = set(keys)
    found = {}
    for kind, (first, *others) in SIGNATURE_KEYS.items():
        prefixes = sorted((key[: -len(first)] for key in keys if key.endswith(first)), key=len)
        for prefix in prefixes:
            known = not prefix or (prefix.endswith(".") and set(prefix[:-1].split(".")) <= KNOWN_PREFIXES)
            if known and all(prefix + other in keys for other in others):
                found.setdefault(kind, prefix)
    if any(re.search(pattern, key) for pattern, _ in FOREIGN_MODELS[:5] for key in keys):
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


def config_from_shapes(kind: str, shapes: Shapes) -> dict[str, Any]:
    """Work out a network's sizes from the shapes of its tensors, keys without prefix.

    What shapes cannot tell has the official value (rotary axes, position scale) or a logged guess (norm groups).
    CheckpointError when a tensor that tells a size is missing or has too few axes.
    """
    try:
        return READERS[kind](shapes)
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"the sizes of this {KINDS[kind]} cannot be known without the tensor {error}") from error
    except (IndexError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"the tensors of this {KINDS[kind]} have shapes that make no sense") from error


def count(shapes: Shapes, prefix: str) -> int:
    """Count the numbered parts below a prefix."""
    return len({key[len(prefix) :].split(".")[0] for key in shapes if key.startswith(prefix)})


def rotary_axes(head: int) -> list[int]:
    """Share a head among time, rows and columns as the official [16, 24, 24] of 64 does."""
    space = 2 * round(head * 3 / 16)
    return [head - 2 * space, space, space]


def read_transformer(shapes: Shapes) -> dict[str, Any]:
    width, text = shapes["context_embedder.weight"][:2]
    head = shapes["transformer_blocks.0.attn.norm_q.weight"][0]
    return {
        "num_layers": count(shapes, "transformer_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": text,
        "pooled_projection_dim": shapes["time_text_embed.text_embedder.linear_1.weight"][1],
        "use_temporal_causal": True,
        "interp_condition_pos": True,
    }


def read_miniflux(shapes: Shapes) -> dict[str, Any]:
    common = read_transformer(shapes)
    return common | {
        "patch_size": 1,
        "in_channels": shapes["x_embedder.weight"][1],
        "num_single_layers": count(shapes, "single_transformer_blocks."),
        "axes_dims_rope": rotary_axes(common["attention_head_dim"]),
    }


def read_helios(shapes: Shapes) -> dict[str, Any]:
    width, channels = shapes["patch_embedding.weight"][:2]
    scales = shapes.get("blocks.0.attn1.history_key_scale", (0,))[0]
    if width % HELIOS_HEAD:
        raise CheckpointError(f"a Helios transformer {width} wide needs its config.json, which tells the heads")
    return {
        "num_layers": count(shapes, "blocks."),
        "num_attention_heads": width // HELIOS_HEAD,
        "attention_head_dim": HELIOS_HEAD,
        "in_channels": channels,
        "out_channels": channels,
        "text_dim": shapes["condition_embedder.text_embedder.linear_1.weight"][1],
        "ffn_dim": shapes["blocks.0.ffn.net.0.proj.weight"][0],
        "is_amplify_history": scales > 0,
        "history_scale_mode": "scalar" if scales == 1 < width // HELIOS_HEAD else "per_head",
    }


def read_mmdit(shapes: Shapes) -> dict[str, Any]:
    width, channels, patch, _ = shapes["pos_embed.proj.weight"]
    return read_transformer(shapes) | {
        "patch_size": patch,
        "in_channels": channels,
        "caption_projection_dim": width,
        "pos_embed_max_size": math.isqrt(shapes["pos_embed.pos_embed"][1]),
        "sample_size": 128,  # only the position table depends on it, and that comes with the checkpoint
        "max_num_frames": 200,
        "pos_embed_type": "sincos",
        "temp_pos_embed_type": "rope",
        "qk_norm": "rms_norm",
        "add_temp_pos_embed": True,
        "use_t5_mask": True,
    }


def read_wan_vae(shapes: Shapes) -> dict[str, Any]:
    return {"base_dim": shapes["encoder.conv_in.weight"][0], "z_dim": shapes["post_quant_conv.weight"][0]}


def read_vae(shapes: Shapes) -> dict[str, Any]:
    down, up = "encoder.down_blocks.", "decoder.up_blocks."
    downs, ups = count(shapes, down), count(shapes, up)
    narrow = [shapes[f"{down}{i}.resnets.0.conv1.conv.weight"][0] for i in range(downs)]
    wide = [shapes[f"{up}{i}.resnets.0.conv1.conv.weight"][0] for i in reversed(range(ups))]
    patch = math.isqrt(shapes["encoder.conv_in.conv.weight"][1] // 3)  # pixels unshuffled into channels
    return {
        "encoder_in_channels": 3,
        "encoder_out_channels": shapes["encoder.conv_out.conv.weight"][0] // 2,
        "encoder_block_out_channels": narrow,
        "encoder_layers_per_block": [count(shapes, f"{down}{i}.resnets.") for i in range(downs)],
        "encoder_spatial_down_sample": [f"{down}{i}.downsamplers.0.conv.conv.weight" in shapes for i in range(downs)],
        "encoder_temporal_down_sample": [
            f"{down}{i}.temporal_downsamplers.0.conv.conv.weight" in shapes for i in range(downs)
        ],
        "encoder_norm_num_groups": norm_groups(narrow),
        "decoder_in_channels": shapes["decoder.conv_in.conv.weight"][1],
        "decoder_out_channels": 3,
        "decoder_block_out_channels": wide,
        "decoder_layers_per_block": [count(shapes, f"{up}{i}.resnets.") for i in range(ups)],
        "decoder_spatial_up_sample": [f"{up}{i}.upsamplers.0.conv.conv.weight" in shapes for i in range(ups)],
        "decoder_temporal_up_sample": [f"{up}{i}.temporal_upsamplers.0.conv.conv.weight" in shapes for i in range(ups)],
        "decoder_norm_num_groups": norm_groups(wide),
        "block_shortcut": "encoder_shortcut.rest.weight" in shapes,
    } | ({"patch_size": patch} if patch > 1 else {})


def norm_groups(widths: list[int]) -> int:
    """The official 32 groups, or the most that divide all widths: tensors do not show groups."""
    groups = math.gcd(32, *widths)
    if groups != 32:
        log.warning("a VAE of widths %s without its config.json: %d norm groups are a guess", widths, groups)
    return groups


def read_text_encoder(shapes: Shapes) -> dict[str, Any]:
    raise CheckpointError("a text encoder without the description that Pyramid Video saves with it has no tokenizer")


READERS: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "miniflux": read_miniflux,
    "mmdit": read_mmdit,
    "helios": read_helios,
    "wan_vae": read_wan_vae,
    "causal_vae": read_vae,
    "text_encoder": read_text_encoder,
}
