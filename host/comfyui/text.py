"""Text encoders in the host: our small one under the host's CLIP class, and how any CLIP encodes a prompt.

`encode` gives the numbers of the reference from any of them, and leaves a CLIP that other nodes share as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.sd
import comfy.supported_models_base
import torch
from torch import Tensor

from ...models import checkpoints
from ...models.official_text import UMT5_TOKENS
from ...models.prompt_weights import without_weights
from ...models.text_encoder import TextEncoder, TextEncoderConfig, Tokenizer
from .model import json_tensor
from .official_text import OfficialNetworks, first_tokens, host_key, load_official
from .patchers import PyramidCLIP, readable_again
from .umt5 import UMT5, load_umt5

OWN = "pyramid_video"  # the name of our tokens among a CLIP's
ENCODERS = {"l": "CLIP-L", "g": "CLIP-G", "t5xxl": "T5-XXL"}  # by the names of their tokens


def load_text_encoder(path: Path, **how: Any) -> comfy.sd.CLIP:
    """Read our own text encoder, or the official folder that holds `text_encoder`, and perhaps `text_encoder_2`, ...

    how: further arguments of the host's CLIP class.
    """
    info = checkpoints.inspect(path, checkpoints.TEXT_ENCODERS)
    if info.kind == "text_encoder":
        clip = load_own(info, **how)
    else:
        clip = load_umt5(path, **how) if info.kind == "official_text_helios" else load_official(path, info.kind, **how)
    readable_again(clip.patcher, (read_patcher, (path,)))
    return clip


def read_patcher(path: Path, **how: Any) -> Any:
    """The patcher of a text encoder, for a host that wants the same weights once more."""
    return load_text_encoder(path, **how).patcher


def load_own(info: checkpoints.CheckpointInfo, **how: Any) -> comfy.sd.CLIP:
    config, tokenizer = info.config, checkpoints.load_tokenizer(info)

    class Network(HostTextEncoder):
        def __init__(self, device: Any = None, dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
            super().__init__(config, ops=comfy.ops.manual_cast, device=device, dtype=dtype)
            self.dtypes = {dtype}

    class OwnTokenizer(HostTokenizer):
        def __init__(
            self, embedding_directory: str | None = None, tokenizer_data: dict[str, Any] | None = None
        ) -> None:
            super().__init__(tokenizer, config)

    state = checkpoints.load_state_dict(info, dtype=torch.float32)
    target = comfy.supported_models_base.ClipTarget(OwnTokenizer, Network)
    size = sum(tensor.numel() for tensor in state.values())
    clip = PyramidCLIP(target, parameters=size, model_options={"dtype": torch.float32}, **how)
    clip.load_sd(state)
    return clip


class HostTextEncoder(TextEncoder):
    """Our text encoder with the methods that the host's CLIP calls."""

    execution_device: Any = None

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Layers to skip mean nothing here; newer hosts say in this way where to compute."""
        self.execution_device = options.get("execution_device", self.execution_device)

    def reset_clip_options(self) -> None:
        self.execution_device = None

    def encode_token_weights(self, tokens: dict[str, list[Any]]) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Features `(1, n, width)` without padding and the pooled vector; weights of tokens are not used."""
        place = self.execution_device or self.tokens.weight.device
        ids = torch.tensor([[pair[0] for pair in row] for row in tokens[OWN]], device=place)
        features, pooled = self(ids)
        home = comfy.model_management.intermediate_device()
        return features.float().to(home), pooled.float().to(home), {}

    def load_sd(self, state: dict[str, Tensor]) -> Any:
        return self.load_state_dict(state)


class HostTokenizer:
    """Our tokenizer with the methods that the host's CLIP calls."""

    def __init__(self, ours: Tokenizer, config: TextEncoderConfig) -> None:
        self.ours = ours
        self.config = config

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kw: Any) -> dict[str, list[Any]]:
        # Core's CLIPTextEncode hands over what was typed; `encode` below, and training, what is meant.
        ids = self.ours.encode(text if kw.get("disable_weights") else without_weights(text)[0])
        return {OWN: [[(token, 1.0, 0) if return_word_ids else (token, 1.0) for token in ids]]}

    def untokenize(self, pairs: list[tuple[Any, ...]]) -> list[tuple[tuple[Any, ...], str]]:
        return [(pair, self.ours.decode([pair[0]])) for pair in pairs]

    def clone(self) -> HostTokenizer:
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """What the host saves beside the weights: all that is needed to load the file again."""
        about = {"kind": "text_encoder", "config": self.config.to_dict(), "tokenizer": self.ours.to_json()}
        return {checkpoints.METADATA_KEY: json_tensor(about)}


def encode(clip: Any, text: str) -> list[list[Any]]:
    """CONDITIONING `[[tokens (1, n, d) without padding, {"pooled_output": (1, p)}]]` of a text of any length.

    Also right with core's UMT5 of type wan: the model reads its first 512 tokens, zeros after them are padding, and
    there is no pooled vector. And with core's FLUX and SD3 sets, from which it takes the first 128 tokens of T5 without
    padding (equal to padding under a mask) and the pooled vectors of CLIP's first 77: of CLIP-G projected, of CLIP-L
    not. That goes for SD3 too: the CLIP-L file that came with it has no projection. Diffusers puts the identity there,
    but core leaves whatever the memory held.
    """
    tokens = clip.tokenize(text, disable_weights=True, tokenizer_options={"t5xxl_min_length": 0})
    names = set(tokens) if isinstance(tokens, dict) else set()
    if OWN in names or isinstance(clip.cond_stage_model, OfficialNetworks):
        return conditioning(clip, tokens)
    if names == {UMT5}:
        return conditioning(clip, {UMT5: [first_tokens(tokens[UMT5], UMT5_TOKENS)]})
    if names not in ({"l", "t5xxl"}, {"l", "g", "t5xxl"}):
        raise ValueError(
            f"this CLIP reads {', '.join(sorted(names)) or 'something else'}, which no pyramid model reads: take "
            "'Load text encoder', or core's CLIPLoader of type wan (Helios), DualCLIPLoader of type flux (miniFLUX) or "
            "TripleCLIPLoader (SD3)"
        )
    check_complete(clip, names)
    tokens = {name: rows[:1] for name, rows in tokens.items()} | {"t5xxl": [first_tokens(tokens["t5xxl"])]}
    try:  # in SD3 core puts the CLIPs' tokens in front
        return conditioning(clip, tokens, unprojected="g" not in names, last=len(tokens["t5xxl"][0]))
    finally:
        clip.cond_stage_model.reset_clip_options()


def check_complete(clip: Any, names: set[str]) -> None:
    """Raise ValueError when a core set lacks an encoder: core would encode all the same, with zeros in its place."""
    parts = [name for name in ENCODERS if name in names]
    missing = [name for name in parts if getattr(clip.cond_stage_model, host_key(name), None) is None]
    if missing:
        raise ValueError(
            f"this CLIP has no {' and no '.join(ENCODERS[name] for name in missing)}, but the text of this kind of "
            f"model needs {', '.join(ENCODERS[name] for name in parts)}: load all of them with core's "
            "TripleCLIPLoader, or take 'Load text encoder'"
        )


def conditioning(
    clip: Any, tokens: dict[str, Any], unprojected: bool = False, last: int | None = None
) -> list[list[Any]]:
    """What a CLIP makes of tokens: features, all or the `last` of them, and the rest, which hooks stay with.

    Hooks with a schedule (SetClipHooks) give a pair for each part of the run, as in core's CLIPTextEncode.
    """
    encoded = clip.encode_from_tokens_scheduled(tokens, unprojected=unprojected)
    return [
        [
            features if last is None else features[:, features.shape[1] - last :],
            {key: value for key, value in extras.items() if key != "attention_mask"},
        ]
        for features, extras in encoded
    ]
