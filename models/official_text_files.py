"""Whether the files of official text encoders fit each other, checked before any library reads them.

What a config.json says is built as it says, whatever the weights hold: a billion layers would never end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoint_files import CheckpointError, Stored, read_json, scan, weight_files
from .network_config import LARGEST_SIZE, shown

LAYER_LIMIT = 1000  # where nothing but a pickle tells how many there are
LAYERS = ("num_layers", "num_hidden_layers")
LAYER = re.compile(r"(?:^|\.)encoder\.(?:layers|block)\.(\d+)\.")
WORDS = r"(embeddings\.token_embedding|^shared|encoder\.embed_tokens)\.weight$"
SIZES = (  # keys of a config whose product is the length of an axis of the tensors with such a name
    (("vocab_size",), WORDS, 0),
    (("hidden_size",), WORDS, 1),
    (("d_model",), WORDS, 1),
    (("max_position_embeddings",), r"embeddings\.position_embedding\.weight$", 0),
    (("intermediate_size",), r"encoder\.layers\.\d+\.mlp\.fc1\.weight$", 0),
    (("projection_dim",), r"^text_projection\.weight$", 0),
    (("d_ff",), r"encoder\.block\.\d+\.layer\.1\.DenseReluDense\.wi(_\d)?\.weight$", 0),
    (("num_heads", "d_kv"), r"encoder\.block\.\d+\.layer\.0\.SelfAttention\.q\.weight$", 0),
    (("relative_attention_num_buckets",), r"encoder\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias", 0),
    (("num_heads",), r"encoder\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias", 1),
)
COUNTED = {*LAYERS, "num_attention_heads", *(key for keys, _, _ in SIZES for key in keys)}


def check_encoder(folder: Path) -> None:
    """CheckpointError unless the config.json of a text encoder says what its weights are."""
    file = folder / "config.json"
    config = read_json(file)
    for key in COUNTED & config.keys():
        if type(config[key]) is not int or not 1 <= config[key] <= LARGEST_SIZE:
            raise CheckpointError(f"{file}: {key} is {shown(config[key])}; expected 1 to {LARGEST_SIZE:,}")
    plain = any(folder.glob("*.safetensors*"))  # pickles are not opened to look at their names
    tensors = scan(weight_files(folder)).tensors if plain else {}
    check_layers(file, config, tensors, plain)
    for keys, pattern, axis in SIZES:
        if not config.keys() >= set(keys):
            continue
        length = 1
        for key in keys:
            length *= config[key]
        for name, stored in tensors.items():
            if re.search(pattern, name) and (len(stored.shape) <= axis or stored.shape[axis] != length):
                raise CheckpointError(
                    f"{file}: {' x '.join(keys)} is {length}, but {name} in the weights has the shape "
                    f"{list(stored.shape)}: is it the config.json of another model?"
                )


def check_layers(file: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored], plain: bool) -> None:
    """CheckpointError unless there are as many layers as the config says."""
    there = len({match[1] for name in tensors if (match := LAYER.search(name))})
    for key in LAYERS:
        if key in config and (config[key] != there if plain else config[key] > LAYER_LIMIT):
            has = f"the weights have {there}" if plain else f"none has more than {LAYER_LIMIT}"
            raise CheckpointError(f"{file}: {key} is {config[key]}, but {has}: is it the config.json of another model?")


def check_tokenizer(folder: Path) -> None:
    """CheckpointError where a file of a tokenizer is no JSON object, with its name."""
    for file in sorted(folder.glob("*.json")):
        read_json(file)
