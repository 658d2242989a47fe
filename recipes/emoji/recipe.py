"""The numbers of the two recipes, by picture size: 64 pixels, whose models are bundled, and 128 pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ...models.families import ModelFamily
from ...training.data.captions import Combination, caption
from ...training.objectives.gan import BETAS
from ...training.presets import SMALL_VAE_CONFIG
from .sentences import sentence

SUBJECTS = (
    "tiger", "rabbit", "octopus", "snail", "penguin", "whale", "dolphin", "dragon", "pig", "cow", "elephant",
    "turtle", "honeybee", "baby chick", "racing car", "birthday cake", "christmas tree", "sun", "fish", "snake",
)  # fmt: skip
FAMILIES = {
    "pyramid": ModelFamily("pyramid"),
    "flow": ModelFamily("flow"),
    "flow_128": ModelFamily("flow"),
    "diffusion": ModelFamily("diffusion", schedule="cosine", prediction="v", zero_terminal_snr=True),
    "gan": ModelFamily("gan"),
}
VAE_FILE = "vae/pyramid_video_small_vae.safetensors"  # in a models folder, as the others
TEXT_FILE = "text_encoders/pyramid_video_small_text.safetensors"
TRANSFORMER_FILES = {
    "pyramid": "diffusion_models/pyramid_video_small.safetensors",
    "flow": "diffusion_models/pyramid_video_small_flow.safetensors",
    "flow_128": "diffusion_models/pyramid_video_small_flow_128.safetensors",
    "diffusion": "diffusion_models/pyramid_video_small_diffusion.safetensors",
    "gan": "diffusion_models/pyramid_video_small_gan.safetensors",
}


@dataclass(frozen=True)
class Recipe:
    """What the models of one picture size are made of, and how each is trained.

    `first` is the family whose transformer is trained together with the text encoder; the others share that and begin
    with the transformer of the family in `begins_with`. `training` has the settings of every part, in the order in
    which the parts are trained. `say` puts into words what a clip shows.
    """

    vae: Mapping[str, Any]
    text: Mapping[str, Any]
    vocabulary: int
    transformer: Mapping[str, Any]
    say: Callable[[Combination, torch.Generator], str]
    first: str
    begins_with: Mapping[str, str]
    training: Mapping[str, Mapping[str, Any]]
    two_sizes: tuple[str, ...] = ()  # families that learn clips of twice the size, too
    new_words: Mapping[str, int] = field(default_factory=dict)  # sizes of the text encoder that learns more words


MUON = {"weight_decay": 1e-2, "optimizer": "muon", "precision": "bf16", "ema_decay": 0.999}
FIGURE_VAE = {
    "learning_rate": 2e-3,
    "steps": 60000,
    "warmup_steps": 60,
    "betas": (0.9, 0.99),
    "optimizer": "muon",
    "precision": "bf16",
}
LATER = {"steps": 40000, "learning_rate": 1e-3, "warmup_steps": 100, **MUON}
GAN = {"learning_rate": 2e-4, "warmup_steps": 100, "ema_decay": 0.99, "betas": BETAS}

RECIPES = {
    64: Recipe(
        vae=SMALL_VAE_CONFIG,
        text={"width": 160, "layers": 2, "heads": 5, "max_tokens": 48, "summary": 4},
        vocabulary=512,
        transformer={
            "in_channels": 96,
            "num_layers": 2,
            "num_single_layers": 6,
            "attention_head_dim": 32,
            "num_attention_heads": 5,
            "axes_dims_rope": [8, 12, 12],
            "joint_attention_dim": 160,
            "pooled_projection_dim": 160,
            "input_skip": True,
        },
        say=caption,
        first="pyramid",
        begins_with={"flow": "pyramid", "flow_128": "flow", "diffusion": "flow", "gan": "flow"},
        training={
            "vae": {"steps": 750, "learning_rate": 3e-4, "warmup_steps": 50, "ema_decay": 0.998},
            "pyramid": {"steps": 20000, "learning_rate": 1.5e-3, "warmup_steps": 100, "ema_decay": 0.999},
            "decoder": {"steps": 1500, "learning_rate": 5e-4, "warmup_steps": 50, "ema_decay": 0.998},
            "flow": {"steps": 3000, "learning_rate": 1e-3, "warmup_steps": 100, "ema_decay": 0.999},
            "flow_128": {"steps": 4000, "learning_rate": 1e-3, "warmup_steps": 100, **MUON},
            "diffusion": {"steps": 1600, "learning_rate": 1e-3, "warmup_steps": 100, "ema_decay": 0.999},
            "gan": {"steps": 700, **GAN},
            "text": {"steps": 6000, "learning_rate": 2e-3, "warmup_steps": 100, **MUON},
        },
        two_sizes=("flow_128",),
        new_words={"layers": 3, "vocab_size": 2048, "max_tokens": 64},
    ),
    128: Recipe(
        vae={
            "patch_size": 4,
            "frame_blocks": True,
            "encoder_out_channels": 16,
            "encoder_block_out_channels": [96, 96],
            "encoder_layers_per_block": [1, 1],
            "encoder_spatial_down_sample": [True, False],
            "encoder_temporal_down_sample": [True, True],
            "encoder_norm_num_groups": 8,
            "decoder_in_channels": 16,
            "decoder_block_out_channels": [96, 96, 96],
            "decoder_layers_per_block": [1, 1, 2],
            "decoder_spatial_up_sample": [False, True, False],
            "decoder_temporal_up_sample": [True, True, False],
            "decoder_norm_num_groups": 8,
        },
        text={"width": 192, "layers": 3, "heads": 6, "max_tokens": 64, "summary": 4},
        vocabulary=2048,
        transformer={
            "in_channels": 64,
            "num_layers": 0,
            "num_single_layers": 7,
            "attention_head_dim": 64,
            "num_attention_heads": 4,
            "axes_dims_rope": [16, 24, 24],
            "joint_attention_dim": 192,
            "pooled_projection_dim": 192,
            "input_skip": True,
        },
        say=sentence,
        first="flow",
        begins_with={"pyramid": "flow", "diffusion": "flow", "gan": "flow"},
        training={
            "vae": FIGURE_VAE,
            "decoder": {**FIGURE_VAE, "learning_rate": 1e-3},
            "flow": {**LATER, "learning_rate": 1.5e-3},
            "pyramid": LATER,
            "diffusion": LATER,
            "gan": {"steps": 3000, **GAN, "precision": "bf16"},
        },
    ),
}
