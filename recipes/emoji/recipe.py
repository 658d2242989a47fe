"""The numbers of the two recipes, by picture size: 128 pixels, whose models are bundled, and 64 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...models.families import ModelFamily
from ...training.presets import SMALL_VAE_CONFIG
from ...training.run.train_settings import ModuleRate

SUBJECTS = (
    "tiger", "rabbit", "octopus", "snail", "penguin", "whale", "dolphin", "dragon", "pig", "cow", "elephant",
    "turtle", "honeybee", "baby chick", "racing car", "birthday cake", "christmas tree", "sun", "fish", "snake",
)  # fmt: skip
FAMILIES = {
    "pyramid": ModelFamily("pyramid"),
    "flow": ModelFamily("flow"),
    "diffusion": ModelFamily("diffusion", schedule="cosine", prediction="v", zero_terminal_snr=True),
    "gan": ModelFamily("gan"),
}
VAE_FILE = "vae/pyramid_video_small_vae.safetensors"  # in a models folder, as the others
TEXT_FILE = "text_encoders/pyramid_video_small_text.safetensors"
TRANSFORMER_FILES = {
    "pyramid": "diffusion_models/pyramid_video_small.safetensors",
    "flow": "diffusion_models/pyramid_video_small_flow.safetensors",
    "diffusion": "diffusion_models/pyramid_video_small_diffusion.safetensors",
    "gan": "diffusion_models/pyramid_video_small_gan.safetensors",
}


FAMILY_OF = {**{name: name for name in FAMILIES}, "history": "pyramid"}  # by the part of the recipe that trains it
EARLY = 0.2  # share of a run


@dataclass(frozen=True)
class Kind:
    """How many clips of a kind make a batch, and in which share of the steps; in the `EARLY` ones perhaps another.

    Kinds are "whole" clips, "some" of their tokens (see `some_tokens`), clips of "half" the size, and first frames,
    "stills".
    """

    batch: int
    share: float = 1.0
    early: float | None = None


@dataclass(frozen=True)
class Recipe:
    """What the models of one picture size are made of, and how each is trained.

    A part may begin with the transformer of the family in `begins_with`. It learns from batches of `kinds`, which
    are drawn from `clips` clips, and minimises its objective with the options in `objectives`, where there are any.
    `training` has the settings of every part, in the order in which the parts are trained; `families` says how the
    models are sampled.
    """

    vae: Mapping[str, Any]
    transformer: Mapping[str, Any]
    begins_with: Mapping[str, str]
    kinds: Mapping[str, Mapping[str, Kind]]
    clips: int
    training: Mapping[str, Mapping[str, Any]]
    objectives: Mapping[str, Mapping[str, Any]]
    families: Mapping[str, ModelFamily] = field(default_factory=lambda: FAMILIES)


@dataclass(frozen=True)
class TextRecipe:
    """The text encoder of all families, of both sizes.

    It has `sizes` and so many words in its `vocabulary` while it learns together with the pyramid of 64 pixels, and
    `new_words` says what is larger once it has learned other people's words.
    """

    sizes: Mapping[str, Any]
    vocabulary: int
    new_words: Mapping[str, int]


TEXT = TextRecipe(
    sizes={"width": 160, "layers": 2, "heads": 5, "max_tokens": 48, "summary": 4},
    vocabulary=512,
    new_words={"layers": 3, "vocab_size": 2048, "max_tokens": 64},
)
MUON = {"weight_decay": 1e-2, "optimizer": "muon", "precision": "auto", "ema_decay": 0.999}
FIGURE_VAE = {
    "learning_rate": 2e-3,
    "steps": 60000,
    "warmup_steps": 60,
    "betas": (0.9, 0.99),
    "optimizer": "muon",
    "precision": "auto",
}
FIGURE_DECODER = {
    "learning_rate": 4e-4,
    "steps": 10000,
    "warmup_steps": 60,
    "betas": (0.9, 0.99),
    "weight_decay": 0.0,
    "precision": "auto",
    "ema_decay": 0.995,
    "module_rates": {"vae": ModuleRate(waits=100)},  # until a discriminator of the first step tells something apart
}
FINISHED_DECODER = {
    **FIGURE_DECODER,
    "learning_rate": 2e-4,
    "steps": 4000,
    "ema_decay": 0.997,
    "module_rates": {"vae": ModuleRate(waits=300), "discriminator": ModuleRate(times=2.0)},
}
NEW_WORDS = {"steps": 6000, "learning_rate": 2e-3, "warmup_steps": 100, **MUON}
LATER = {"steps": 40000, "learning_rate": 8e-4, "warmup_steps": 60, **MUON}
HISTORY = {**LATER, "learning_rate": 1e-3, "steps": 3000, "ema_decay": 0.998}
GAN = {"learning_rate": 1e-4, "warmup_steps": 100, "ema_decay": 0.99}
ONE_SIZE = {"whole": Kind(32)}

RECIPES = {
    64: Recipe(
        vae=SMALL_VAE_CONFIG,
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
        begins_with={"flow": "pyramid", "diffusion": "flow", "gan": "flow", "history": "pyramid"},
        kinds={"flow": ONE_SIZE, "diffusion": ONE_SIZE, "gan": ONE_SIZE, "history": {"whole": Kind(64)}},
        clips=8000,
        training={
            "vae": {"steps": 750, "learning_rate": 3e-4, "warmup_steps": 50, "ema_decay": 0.998},
            "pyramid": {"steps": 20000, "learning_rate": 1.5e-3, "warmup_steps": 100, "ema_decay": 0.999},
            "decoder": {"steps": 1500, "learning_rate": 5e-4, "warmup_steps": 50, "ema_decay": 0.998},
            "flow": {"steps": 3000, "learning_rate": 1e-3, "warmup_steps": 100, "ema_decay": 0.999},
            "diffusion": {"steps": 1600, "learning_rate": 1e-3, "warmup_steps": 100, "ema_decay": 0.999},
            "gan": {"steps": 700, **GAN},
            "finish": FINISHED_DECODER,
            "history": HISTORY,
            "text": NEW_WORDS,
        },
        objectives={"pyramid": {"first_units": 0.4}},
    ),
    128: Recipe(
        vae={
            "patch_size": 4,
            "frame_blocks": True,
            "encoder_out_channels": 48,
            "encoder_block_out_channels": [96, 96],
            "encoder_layers_per_block": [2, 2],
            "encoder_spatial_down_sample": [True, False],
            "encoder_temporal_down_sample": [True, True],
            "encoder_norm_num_groups": 8,
            "decoder_in_channels": 48,
            "decoder_block_out_channels": [96, 96, 96],
            "decoder_layers_per_block": [3, 3, 3],
            "decoder_spatial_up_sample": [False, True, False],
            "decoder_temporal_up_sample": [True, True, False],
            "decoder_norm_num_groups": 8,
        },
        transformer={
            "in_channels": 192,
            "num_layers": 0,
            "num_single_layers": 8,
            "attention_head_dim": 64,
            "num_attention_heads": 4,
            "axes_dims_rope": [16, 24, 24],
            "joint_attention_dim": 160,
            "pooled_projection_dim": 160,
            "input_skip": True,
        },
        begins_with={"flow": "flow", "pyramid": "flow", "diffusion": "flow", "gan": "flow", "history": "pyramid"},
        kinds={
            "flow": {
                "stills": Kind(96, 0.1, early=0.45),
                "half": Kind(64, 0.1, early=0.4),
                "some": Kind(32, 0.55, early=0.15),
                "whole": Kind(16, 0.25, early=0.0),
            },
            # No clip of a pyramid is better than its first frame, which costs a fifth to learn. Eight columns each.
            "pyramid": {"stills": Kind(128, 0.5), "whole": Kind(64, 0.46), "half": Kind(128, 0.04)},
            "diffusion": {"whole": Kind(24, 0.8), "half": Kind(96, 0.2)},
            "gan": {"whole": Kind(12, 0.8), "half": Kind(48, 0.2)},
            "history": {"stills": Kind(128, 0.3), "whole": Kind(64, 0.67), "half": Kind(128, 0.03)},
        },
        clips=6000,
        training={
            "vae": FIGURE_VAE,
            "decoder": FIGURE_DECODER,
            "flow": {**LATER, "learning_rate": 1.5e-3},
            "pyramid": LATER,
            "diffusion": LATER,
            "gan": {"steps": 3000, **GAN, "precision": "auto"},
            "finish": FINISHED_DECODER,
            "history": HISTORY,
            "text": NEW_WORDS,
        },
        # What a picture will be is decided where nearly all is noise: from a share of 0.85 down the rest is easy.
        objectives={
            "pyramid": {"first_units": 0.05},  # beside the steps with stills
            "flow": {"mean": 2.0, "deviation": 1.4},
            "diffusion": {"shift": 4.0, "min_snr": None},
        },
        families={**FAMILIES, "flow": ModelFamily("flow", shift=3.0)},  # four of ten steps begin above that
    ),
}
