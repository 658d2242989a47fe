"""A tiny Helios in the official folder layout, written by diffusers and transformers themselves."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from torch import nn

TEXT_WIDTH = 24
TRANSFORMER = {
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "rope_dim": [44, 42, 42],
    "text_dim": TEXT_WIDTH,
    "ffn_dim": 64,
    "num_layers": 2,
}
VAE = {"base_dim": 4, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1}
PROMPTS = ("a tiger", "a tiger runs through the snow", "a red ball on a table", "two birds in a tree", "rain at night")


def randomize(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight a value of its own, so that none may be lost or swapped."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            norm = "norm" in name and not name.endswith("bias")
            scale = 0.5 / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(1 + 0.1 * noise if norm else scale * noise)
    return network.eval()


def transformer(seed: int = 0, **changes) -> nn.Module:
    """Diffusers' network with weights of `seed`."""
    from diffusers import HeliosTransformer3DModel

    return randomize(HeliosTransformer3DModel(**TRANSFORMER | changes), seed)


def vae(seed: int = 1) -> nn.Module:
    """Diffusers' network with weights of `seed`."""
    from diffusers import AutoencoderKLWan

    return randomize(AutoencoderKLWan(**VAE), seed)


def write_transformer(folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, **changes) -> Path:
    """Write `folder`, in shards."""
    nn.Module.to(transformer(seed, **changes), dtype).save_pretrained(folder, max_shard_size="1MB")
    return folder


def write_vae(folder: Path) -> Path:
    vae().save_pretrained(folder)
    return folder


def write_text(top: Path) -> Path:
    """Write `text_encoder` and `tokenizer` below `top`: a small UMT5 and its sentence pieces."""
    import sentencepiece
    from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

    words = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(PROMPTS * 20),
        model_writer=words,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder = top / "tokenizer"
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(words.getvalue())
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": 512}
    settings |= {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = T5TokenizerFast.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = UMT5Config(
        vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2, is_gated_act=True
    )
    randomize(UMT5EncoderModel(config), 2).save_pretrained(top / "text_encoder")
    return top


def write_descriptions(top: Path, variant: str) -> Path:
    """Write `model_index.json` and `scheduler/`, which tell the variants apart, as the released folders have them."""
    from diffusers import HeliosDMDScheduler, HeliosScheduler

    stages = {"stages": 1, "stage_range": [0, 1]} if variant == "base" else {}
    solver = HeliosDMDScheduler() if variant == "distilled" else HeliosScheduler(**stages)
    solver.save_pretrained(top / "scheduler")
    index = {"_class_name": "HeliosPipeline" if variant == "base" else "HeliosPyramidPipeline"}
    if variant != "base":
        index |= {"is_cfg_zero_star": variant == "mid", "is_distilled": variant == "distilled"}
    (top / "model_index.json").write_text(json.dumps(index))
    return top


def write_helios(top: Path, variant: str = "distilled") -> Path:
    """Write a whole official folder."""
    write_transformer(top / "transformer")
    write_vae(top / "vae")
    write_text(top)
    return write_descriptions(top, variant)
