"""Tiny models in the official folder layout, with random weights, made where a test wants them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from pyramid_video.models.causal_vae import CausalVAEConfig, CausalVideoVAE
from pyramid_video.models.causal_vae import init_weights as init_vae
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.miniflux import init_weights as init_miniflux
from pyramid_video.models.mmdit import MMDiTConfig, MMDiTTransformer
from pyramid_video.models.mmdit import init_weights as init_mmdit
from safetensors.torch import save_file
from torch import Tensor

TEXT_WIDTH, CLIP_WIDTH, CLIP_G_WIDTH = 32, 24, 40

MINIFLUX = {
    "_class_name": "PyramidFluxTransformer",
    "_diffusers_version": "0.30.3",
    "attention_head_dim": 16,
    "axes_dims_rope": [4, 6, 6],
    "in_channels": 16,
    "interp_condition_pos": True,
    "joint_attention_dim": TEXT_WIDTH,
    "num_attention_heads": 2,
    "num_layers": 1,
    "num_single_layers": 2,
    "patch_size": 1,
    "pooled_projection_dim": CLIP_WIDTH,
    "use_flash_attn": False,
    "use_gradient_checkpointing": False,
    "use_temporal_causal": True,
}
MMDIT = {
    "_class_name": "PyramidDiffusionMMDiT",
    "attention_head_dim": 16,
    "caption_projection_dim": 32,
    "in_channels": 4,
    "joint_attention_dim": TEXT_WIDTH,
    "max_num_frames": 200,
    "num_attention_heads": 2,
    "num_layers": 2,
    "patch_size": 2,
    "pooled_projection_dim": CLIP_WIDTH + CLIP_G_WIDTH,
    "pos_embed_max_size": 24,
    "pos_embed_type": "sincos",
    "qk_norm": "rms_norm",
    "sample_size": 128,
    "use_flash_attn": True,  # the official loader turns it off
    "use_gradient_checkpointing": True,
    "gradient_checkpointing_ratio": 0.6,
    "use_temporal_causal": True,
}
VAE = {
    "_class_name": "CausalVideoVAE",
    "add_post_quant_conv": True,
    "downsample_scale": 8,
    "interpolate": True,  # the official loader turns it off
    "sample_size": 256,
    "scaling_factor": 0.13025,
    **{
        f"{half}_{key}": value
        for half in ("encoder", "decoder")
        for key, value in {
            "act_fn": "silu",
            "block_dropout": [0.0] * 4,
            "block_out_channels": [8, 8, 16, 16],
            "layers_per_block": [1, 1, 1, 1],
            "norm_num_groups": 4,
            "type": "causal_vae_conv",
        }.items()
    },
    "encoder_double_z": True,
    "encoder_down_block_types": ["DownEncoderBlockCausal3D"] * 4,
    "encoder_in_channels": 3,
    "encoder_out_channels": 4,
    "encoder_spatial_down_sample": [True, True, True, False],
    "encoder_temporal_down_sample": [True, True, True, False],
    "decoder_in_channels": 4,
    "decoder_out_channels": 3,
    "decoder_spatial_up_sample": [True, True, True, False],
    "decoder_temporal_up_sample": [True, True, True, False],
    "decoder_up_block_types": ["UpDecoderBlockCausal3D"] * 4,
}
CONFIGS = {"miniflux": MINIFLUX, "mmdit": MMDIT, "causal_vae": VAE}
WEIGHTS = "diffusion_pytorch_model"


def network(kind: str, seed: int = 0) -> torch.nn.Module:
    """A small network of a kind; weights that start at zero are random too, so that every one of them matters."""
    config_class, network_class, init = {
        "miniflux": (MiniFluxConfig, MiniFluxTransformer, init_miniflux),
        "mmdit": (MMDiTConfig, MMDiTTransformer, init_mmdit),
        "causal_vae": (CausalVAEConfig, CausalVideoVAE, init_vae),
    }[kind]
    values = CONFIGS[kind] | ({"use_flash_attn": False} if kind == "mmdit" else {"interpolate": False})
    values = {key: value for key, value in values.items() if kind == "causal_vae" or key != "interpolate"}
    made = network_class(config_class.from_dict(values))
    generator = torch.Generator().manual_seed(seed)
    init(made, generator)
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return made.eval()


def state_of(kind: str, seed: int = 0) -> dict[str, Tensor]:
    return {key: value.contiguous() for key, value in network(kind, seed).state_dict().items()}


def write_component(folder: Path, kind: str, state: dict[str, Tensor] | None = None, form: str = "safetensors") -> Path:
    """Write config.json and weights; `form` is safetensors, shards, bin or bin shards."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS[kind]))
    state = state_of(kind) if state is None else state
    suffix = "bin" if form.startswith("bin") else "safetensors"
    write = torch.save if suffix == "bin" else save_file
    if not form.endswith("shards"):
        write(state, folder / f"{WEIGHTS}.{suffix}")
        return folder
    names = [f"{WEIGHTS}-{number:05}-of-00003.{suffix}" for number in (1, 2, 3)]
    table = {key: names[position % 3] for position, key in enumerate(state)}
    for name in names:
        write({key: state[key] for key in state if table[key] == name}, folder / name)
    (folder / f"{WEIGHTS}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return folder


def write_text_folders(root: Path, kind: str) -> Path:
    """Write tiny CLIP and T5 encoders with their tokenizers, as `text_encoder*` and `tokenizer*`."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)  # transformers initialises from the global generator
    if kind == "miniflux":
        write_clip(root, "", CLIPTextModel, CLIP_WIDTH)
        write_t5(root, "_2")
    else:
        write_clip(root, "", CLIPTextModelWithProjection, CLIP_WIDTH)
        write_clip(root, "_2", CLIPTextModelWithProjection, CLIP_G_WIDTH)
        write_t5(root, "_3")
    return root


def write_clip(root: Path, number: str, model_class, width: int) -> None:
    from transformers import CLIPTextConfig

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "ti", "ti</w>", "er</w>"]
    marks = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: position for position, word in enumerate([*words, *marks])}
    folder = root / f"tokenizer{number}"
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nt i\ne r</w>\n")
    settings = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "unk_token": marks[1]}
    settings |= {"bos_token": marks[0], "eos_token": marks[1], "pad_token": "a" if number else marks[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=vocabulary[marks[0]],
        eos_token_id=vocabulary[marks[1]],
        pad_token_id=vocabulary[settings["pad_token"]],
    )
    model_class(config).save_pretrained(root / f"text_encoder{number}")


def write_t5(root: Path, number: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import T5Config, T5EncoderModel

    letters = [(chr(code), -5.0) for code in range(ord("a"), ord("z") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("▁tiger", -2.0), *letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder = root / f"tokenizer{number}"
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": 512}
    settings |= {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = T5Config(
        vocab_size=len(pieces), d_model=TEXT_WIDTH, d_kv=8, d_ff=48, num_layers=2, num_heads=4, is_gated_act=True
    )
    T5EncoderModel(config).save_pretrained(root / f"text_encoder{number}")
