"""A tiny model with random weights in a models folder, and tiny animations in an input folder."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from pyramid_video.models import checkpoints
from pyramid_video.models.causal_vae import CausalVideoVAE
from pyramid_video.models.causal_vae import init_weights as init_vae
from pyramid_video.models.causal_vae_config import CausalVAEConfig
from pyramid_video.models.latent_format import MINIFLUX
from pyramid_video.models.lora import LoRA, LoRASettings, lora_state, save_lora
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.miniflux import init_weights as init_transformer
from pyramid_video.models.text_encoder import TextEncoder, TextEncoderConfig, Tokenizer
from pyramid_video.models.text_encoder import init_weights as init_text

MODEL, VAE, TEXT = "tiny.safetensors", "tiny_vae.safetensors", "tiny_text.safetensors"
LORA = "tiny_lora.safetensors"
TEXT_WIDTH = 24


def make_models(folder: Path) -> Path:
    """Write transformer, VAE and text encoder below `folder`, laid out as ComfyUI's `models/`."""
    make_transformer(folder / "diffusion_models" / MODEL)
    make_vae(folder / "vae" / VAE)
    make_text_encoder(folder / "text_encoders" / TEXT)
    return folder


def make_animations(folder: Path) -> Path:
    """Draw a red ball and a green leaf, each of two pictures, in `folder`/animations."""
    place = folder / "animations"
    place.mkdir()
    for name, colour in (("ball", "red"), ("leaf", "green")):
        pictures = [Image.new("RGBA", (32, 32)) for _ in range(2)]
        for shift, picture in enumerate(pictures):
            ImageDraw.Draw(picture).ellipse((4 + shift, 4, 26 + shift, 26), fill=colour)
        pictures[0].save(place / f"{name}.webp", save_all=True, append_images=pictures[1:], duration=100)
    return folder


def make_transformer(path: Path, text_width: int = TEXT_WIDTH, heads: int = 2) -> None:
    config = MiniFluxConfig(
        in_channels=32,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=heads,
        joint_attention_dim=text_width,
        pooled_projection_dim=text_width,
        axes_dims_rope=(4, 6, 6),
    )
    network = MiniFluxTransformer(config)
    generator = torch.Generator().manual_seed(1)
    init_transformer(network, generator)
    for parameter in network.parameters():
        if not parameter.any():  # a fresh network answers zero and lets nothing through, which would hide mistakes
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    checkpoints.save(path, network, "miniflux", config, MINIFLUX)


def make_lora(path: Path, model: Path, targets: str = "all") -> None:
    """A LoRA for a transformer, on all linear layers of its blocks, that says something."""
    network, _ = checkpoints.load(model, ("miniflux", "mmdit"), dtype=torch.float32)
    generator = torch.Generator().manual_seed(4)
    lora = LoRA(network, LoRASettings(2, 1.0, targets), generator)
    for addition in lora.additions:
        torch.nn.init.normal_(addition.up, std=0.5, generator=generator)
    save_lora(path, lora_state(lora.parts(lora.state_dict())), {"kind": "lora", "config": {}})


def make_vae(path: Path, latent_channels: int = 8, width: int = 8) -> None:
    """A VAE that makes time 4 times smaller and space 8 times, half of that by its patches."""
    shrink = (True, True, False)
    config = CausalVAEConfig(
        encoder_out_channels=latent_channels,
        encoder_layers_per_block=(1, 1, 1),
        encoder_block_out_channels=(width,) * 3,
        encoder_spatial_down_sample=shrink,
        encoder_temporal_down_sample=shrink,
        encoder_norm_num_groups=2,
        decoder_in_channels=latent_channels,
        decoder_layers_per_block=(1, 1, 1),
        decoder_block_out_channels=(width,) * 3,
        decoder_spatial_up_sample=shrink,
        decoder_temporal_up_sample=shrink,
        decoder_norm_num_groups=2,
        patch_size=2,
    )
    network = CausalVideoVAE(config)
    init_vae(network, torch.Generator().manual_seed(2))
    checkpoints.save(path, network, "causal_vae", config)


def make_text_encoder(path: Path, width: int = TEXT_WIDTH, summary: int = 0) -> None:
    tokenizer = Tokenizer.train(["a tiger moves left", "a rabbit stays still"], 300, max_tokens=32)
    config = TextEncoderConfig(tokenizer.vocab_size, width, layers=1, heads=2, max_tokens=32, summary=summary)
    network = TextEncoder(config)
    init_text(network, torch.Generator().manual_seed(3))
    checkpoints.save(path, network, "text_encoder", config, extra={"tokenizer": tokenizer.to_json()})
