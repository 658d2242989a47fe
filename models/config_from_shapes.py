"""The sizes of a network, worked out from the shapes of its tensors: for weights without their config.json."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from .checkpoint_files import CheckpointError

log = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]

HELIOS_HEAD = 128  # features of an attention head in all released models


def config_from_shapes(kind: str, title: str, shapes: Shapes) -> dict[str, Any]:
    """Work out the sizes of a network of `kind`, which people call `title`; keys are without prefix.

    What shapes do not show has the official value (rotary axes, position scale) or a logged guess (norm groups).
    CheckpointError when a tensor that shows a size is missing or has too few axes.
    """
    try:
        return READERS[kind](shapes)
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"the sizes of this {title} cannot be known without the tensor {error}") from error
    except (IndexError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"the tensors of this {title} have shapes that make no sense") from error


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
        raise CheckpointError(f"a Helios transformer {width} wide needs its config.json, which gives the heads")
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
