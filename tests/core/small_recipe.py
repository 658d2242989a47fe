"""The recipe of 128 pixels in miniature: animations of two subjects, a narrow VAE, a text encoder of few words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from pyramid_video.models import causal_vae, checkpoints, text_encoder
from pyramid_video.recipes.emoji.recipe import RECIPES, TEXT_FILE, Kind
from pyramid_video.training.data.datasets import AnimationDataset

NARROW = {
    **RECIPES[128].vae,
    "encoder_block_out_channels": [8, 8],
    "encoder_layers_per_block": [1, 1],
    "decoder_block_out_channels": [8, 8, 8],
    "decoder_layers_per_block": [1, 1, 1],
}
SMALL = {"num_single_layers": 2, "num_attention_heads": 1, "joint_attention_dim": 32, "pooled_projection_dim": 32}
FEW = {  # all kinds alike; a pyramid has eight columns
    family: {name: Kind(8 if family in ("pyramid", "history") else 3) for name in kinds}
    for family, kinds in RECIPES[128].kinds.items()
}
RECIPE = replace(RECIPES[128], vae=NARROW, transformer={**RECIPES[128].transformer, **SMALL}, kinds=FEW)


def draw_animations(folder: Path) -> Path:
    """Draw a ball and a leaf in `folder`."""
    for name, colour in (("ball", "red"), ("leaf", "green")):
        pictures = [Image.new("RGBA", (32, 32)) for _ in range(2)]
        for shift, picture in enumerate(pictures):
            ImageDraw.Draw(picture).ellipse((4 + shift, 4, 26 + shift, 26), fill=colour)
        pictures[0].save(folder / f"{name}.webp", save_all=True, append_images=pictures[1:], duration=100)
    return folder


def drawn_dataset(folder: Path) -> AnimationDataset:
    """Clips of 9 frames of a ball and a leaf, drawn in `folder`."""
    return AnimationDataset(draw_animations(folder), frames=9)


def narrow_vae() -> causal_vae.CausalVideoVAE:
    vae = causal_vae.CausalVideoVAE(causal_vae.CausalVAEConfig.from_dict(NARROW))
    causal_vae.init_weights(vae, torch.Generator().manual_seed(0))
    return vae.eval()


def save_text_encoder(models: Path) -> None:
    """Put a text encoder into a models folder."""
    tokenizer = text_encoder.Tokenizer.train(["a red ball moving left", "a green leaf"], 300, 24)
    encoder = text_encoder.TextEncoder(
        text_encoder.TextEncoderConfig(tokenizer.vocab_size, 32, 1, 2, 24, pooled_width=32, summary=4)
    )
    text_encoder.init_weights(encoder, torch.Generator().manual_seed(1))
    extra = {"tokenizer": tokenizer.to_json()}
    checkpoints.save(models / TEXT_FILE, encoder.state_dict(), "text_encoder", encoder.config, extra=extra)
