"""The official text encoders from their folders, computed by the host's CLIP and T5, under the host's CLIP class.

Unlike core's own sets for FLUX and SD3 this one gives what the transformers were trained with whichever block encodes:
T5's features of at most 128 tokens without padding, and the pooled vectors alone of CLIP-L (miniFLUX, before its
projection) or of CLIP-L and CLIP-G (SD3, after it).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.supported_models_base
import comfy.text_encoders.t5
import comfy.utils
import folder_paths
import torch
from comfy.sd1_clip import SDClipModel, SDTokenizer
from torch import Tensor

from ...models.checkpoint_files import CheckpointError, read_json, weight_files
from ...models.official_text import CLIP_TOKENS, ENCODER_SETS, LONGEST_TEXT, T5_TOKENS
from .patchers import PyramidCLIP

HOST_NAMES = {"official_text_miniflux": ("l", "t5xxl"), "official_text_sd3": ("l", "g", "t5xxl")}
HOST_GELU = {"gelu_new": "gelu_pytorch_tanh"}  # the same function under the host's name
T5_MARKS = {"end": 1, "pad": 0}
HOST_VOCABULARY = 49408  # rows of the host's CLIP embeddings, whatever the config says
LARGE = 2_000_000_000  # bytes
CLIP_PREFIX = "text_model."
EMBEDDING = f"{CLIP_PREFIX}embeddings.token_embedding.weight"
PROJECTION = "text_projection.weight"
UNUSED = {"official_text_miniflux": {PROJECTION}, "official_text_sd3": set()}  # tensors that a folder may lack


def load_official(top: Path, kind: str, **how: Any) -> comfy.sd.CLIP:
    """Read the encoders below an official top folder; CheckpointError when a tensor is missing."""
    folders = {name: part for name, part in zip(HOST_NAMES[kind], ENCODER_SETS[kind].parts, strict=True)}
    configs = {name: read_json(top / encoder / "config.json") for name, (_, encoder, _) in folders.items()}
    states = {name: read_weights(top / encoder) for name, (_, encoder, _) in folders.items()}

    class Networks(OfficialNetworks):
        def __init__(self, device: Any = None, dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
            kept = {name: kept_dtype(state, dtype, device) for name, state in states.items()}
            super().__init__(configs, kept, kind == "official_text_sd3", device, model_options or {})

    class Tokenizers(OfficialTokenizers):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None) -> None:
            paths = {name: top / tokenizer for name, (tokenizer, _, _) in folders.items()}
            super().__init__(paths, configs, embedding_directory)

    size = sum(tensor.numel() for state in states.values() for tensor in state.values())
    target = comfy.supported_models_base.ClipTarget(Tokenizers, Networks)
    embeddings = folder_paths.get_folder_paths("embeddings")
    clip = PyramidCLIP(target, embedding_directory=embeddings, parameters=size, **how)
    clip.cond_stage_model.take_marks(clip.tokenizer)
    for name, state in states.items():
        missing = set(clip.load_sd({name: state})) - UNUSED[kind]
        if missing:
            folder = top / folders[name][1]
            raise CheckpointError(
                f"{folder} lacks {len(missing)} tensors of its model: {', '.join(sorted(missing)[:3])}"
            )
    return clip


class OfficialNetworks(torch.nn.Module):
    """CLIP-L, CLIP-G where there is one, and T5, with the methods that the host's CLIP calls."""

    def __init__(
        self,
        configs: dict[str, dict[str, Any]],
        kept: dict[str, torch.dtype],
        projected: bool,
        device: Any,
        model_options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.dtypes = set(kept.values())
        for name, config in configs.items():
            options = {"device": device, "dtype": kept[name], "model_options": model_options}
            network = t5_network(config, options) if name == "t5xxl" else clip_network(config, projected, options)
            self.add_module(host_key(name), network)
        self.clips = tuple(name for name in configs if name != "t5xxl")

    def take_marks(self, tokenizers: OfficialTokenizers) -> None:
        """Set the token that ends a text in the CLIPs: that is where they pool. Old configs are wrong about it."""
        for name in self.clips:
            own = tokenizers.tokenizers[name]
            marks = {"start": own.start_token, "end": own.end_token, "pad": own.pad_token}
            self.encoder(name).special_tokens = marks

    def encoder(self, name: str) -> Any:
        """The host's network of an encoder."""
        return getattr(self, host_key(name))

    def encoders(self) -> list[Any]:
        return list(self.children())

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Newer hosts say in this way where to compute; other layers or vectors than the official ones have no use."""
        place = {key: value for key, value in options.items() if key == "execution_device"}
        for network in self.encoders():
            network.set_clip_options(place)

    def reset_clip_options(self) -> None:
        for network in self.encoders():
            network.reset_clip_options()

    def encode_token_weights(self, tokens: dict[str, list[Any]]) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Features `(1, n, d)` of T5 and the joined pooled vectors `(1, p)`."""
        features = self.encoder("t5xxl").encode_token_weights(tokens["t5xxl"])[0]
        pooled = [self.encoder(name).encode_token_weights(tokens[name])[1] for name in self.clips]
        return features, torch.cat(pooled, dim=-1), {}

    def load_sd(self, named: dict[str, dict[str, Tensor]]) -> list[str]:
        """Load `{name: state dict}`; returns the keys that are missing."""
        missing = []
        for name, state in named.items():
            missing += self.encoder(name).load_sd(state)[0]
        return missing


class OfficialTokenizers:
    """The tokenizers of the official folders, with the methods that the host's CLIP calls."""

    def __init__(self, paths: dict[str, Path], configs: dict[str, dict[str, Any]], embedding_directory: Any) -> None:
        t5 = {
            "tokenizer_class": import_module("transformers").T5TokenizerFast,
            "has_start_token": False,
            "pad_to_max_length": False,
        }
        self.tokenizers = {}
        for name, path in paths.items():
            is_t5 = name == "t5xxl"
            self.tokenizers[name] = SDTokenizer(
                str(path),
                max_length=10**8
                if is_t5
                else min(CLIP_TOKENS, configs[name].get("max_position_embeddings", CLIP_TOKENS)),
                pad_with_end=name == "l",
                embedding_directory=embedding_directory,
                embedding_size=configs[name].get("d_model" if is_t5 else "hidden_size"),
                embedding_key=host_key(name),
                **(t5 if is_t5 else {}),
            )

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kw: Any) -> dict[str, list[Any]]:
        """As much of the text as the encoders read: one row of tokens for each."""
        readable = text[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")
        rows = {
            name: tokenizer.tokenize_with_weights(readable, return_word_ids, **kw)
            for name, tokenizer in self.tokenizers.items()
        }
        return {name: [first_tokens(found) if name == "t5xxl" else found[0]] for name, found in rows.items()}

    def untokenize(self, pairs: list[tuple[Any, ...]]) -> list[tuple[tuple[Any, ...], str]]:
        return self.tokenizers["l"].untokenize(pairs)

    def clone(self) -> OfficialTokenizers:
        return self

    def state_dict(self) -> dict[str, Tensor]:
        return {}


def host_key(name: str) -> str:
    """What the host calls an encoder in weights, LoRAs and embeddings."""
    return name if name == "t5xxl" else f"clip_{name}"


def kept_dtype(state: dict[str, Tensor], host_dtype: torch.dtype, device: Any) -> torch.dtype:
    """Small encoders keep their precision, large ones as little as the file has or the host's settings want."""
    largest = max(state.values(), key=Tensor.numel)
    if sum(tensor.nbytes for tensor in state.values()) < LARGE:
        return largest.dtype
    return comfy.model_management.pick_weight_dtype(largest.dtype, host_dtype, device)


def clip_network(config: dict[str, Any], projected: bool, options: dict[str, Any]) -> SDClipModel:
    sizes = {"eos_token_id": 49407, "max_position_embeddings": CLIP_TOKENS, "hidden_act": "quick_gelu", **config}
    return SDClipModel(textmodel_json_config=sizes, return_projected_pooled=projected, **options)


def t5_network(config: dict[str, Any], options: dict[str, Any]) -> SDClipModel:
    network, sizes = comfy.text_encoders.t5.T5, t5_sizes(config)
    return SDClipModel(textmodel_json_config=sizes, model_class=network, special_tokens=T5_MARKS, **options)


def t5_sizes(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a T5 as the host reads it."""
    act = config.get("dense_act_fn", "gelu_new")
    return {"is_gated_act": True, **config, "dense_act_fn": HOST_GELU.get(act, act)}


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, under the names that the host knows."""
    state: dict[str, Tensor] = {}
    for file in weight_files(folder):
        state.update(comfy.utils.load_torch_file(str(file), safe_load=True))
    if "encoder.embed_tokens.weight" in state:  # T5's embedding under the name of its second use
        state.setdefault("shared.weight", state.pop("encoder.embed_tokens.weight"))
    if EMBEDDING.removeprefix(CLIP_PREFIX) in state:  # CLIP as transformers 5 writes it
        state = {key if key == PROJECTION else CLIP_PREFIX + key: value for key, value in state.items()}
    if EMBEDDING in state:
        state[EMBEDDING] = torch.nn.functional.pad(state[EMBEDDING], (0, 0, 0, HOST_VOCABULARY - len(state[EMBEDDING])))
    return state


def first_tokens(rows: list[list[tuple[Any, ...]]], count: int = T5_TOKENS) -> list[tuple[Any, ...]]:
    """The first `count` tokens of a text, the last of them its end mark, or all of a shorter one."""
    row = [pair for part in rows for pair in part]
    return row if len(row) <= count else [*row[: count - 1], row[-1]]
