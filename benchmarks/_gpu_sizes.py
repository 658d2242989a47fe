"""The networks and pictures that `gpu.py` measures: on a card those of the released models, elsewhere toys."""

from __future__ import annotations

from dataclasses import dataclass

import _package  # noqa: F401
from pyramid_video.models.causal_vae_config import CausalVAEConfig
from pyramid_video.models.helios import HeliosConfig, HeliosTransformer
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.mmdit import MMDiTConfig, MMDiTTransformer


@dataclass(frozen=True)
class Sizes:
    """What is run: on a card the real sizes, elsewhere toys that take every path."""

    models: dict[str, tuple[type, object]]
    vae: CausalVAEConfig
    pictures: tuple[tuple[int, int], ...]  # width, height
    helios_picture: tuple[int, int]
    compiler: str


def full_sizes() -> Sizes:
    models = {
        "miniflux": (MiniFluxTransformer, MiniFluxConfig()),
        "sd3": (MMDiTTransformer, MMDiTConfig()),
        "helios": (HeliosTransformer, HeliosConfig()),
    }
    return Sizes(models, CausalVAEConfig(), ((640, 384), (1280, 768)), (640, 384), "inductor")


def tiny_sizes() -> Sizes:
    heads = dict(num_attention_heads=2, attention_head_dim=16, joint_attention_dim=32, pooled_projection_dim=24)
    models = {
        "miniflux": (
            MiniFluxTransformer,
            MiniFluxConfig(in_channels=16, num_layers=1, num_single_layers=1, axes_dims_rope=(4, 6, 6), **heads),
        ),
        "sd3": (
            MMDiTTransformer,
            MMDiTConfig(in_channels=4, caption_projection_dim=32, num_layers=1, pos_embed_max_size=24, **heads),
        ),
        "helios": (
            HeliosTransformer,
            HeliosConfig(num_attention_heads=1, attention_head_dim=128, text_dim=24, ffn_dim=64, num_layers=1),
        ),
    }
    narrow = dict(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    groups = dict(encoder_norm_num_groups=4, decoder_norm_num_groups=4)
    layers = dict(encoder_layers_per_block=(1,) * 4, decoder_layers_per_block=(1,) * 4)
    return Sizes(models, CausalVAEConfig(**narrow, **groups, **layers), ((64, 64),), (64, 64), "eager")
