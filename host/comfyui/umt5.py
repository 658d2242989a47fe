"""UMT5 from an official Helios folder, computed by the host's UMT5 under the host's CLIP class.

What core's CLIPLoader makes of type wan from a single file is the same class with the same tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd
import comfy.supported_models_base
import comfy.text_encoders.t5
import comfy.text_encoders.wan
import folder_paths
import torch
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer, SDClipModel

from ...models.checkpoint_files import CheckpointError, read_json
from .official_text import T5_MARKS, kept_dtype, read_weights, t5_sizes
from .patchers import PyramidCLIP

UMT5 = "umt5xxl"  # the host's name for it and its tokens
PIECES = "spiece.model"


def load_umt5(top: Path, **how: Any) -> comfy.sd.CLIP:
    """Read the encoder below an official top folder; CheckpointError when a tensor or the vocabulary is missing."""
    folder, pieces = top / "text_encoder", top / "tokenizer" / PIECES
    if not pieces.is_file():
        raise CheckpointError(f"{pieces.parent} lacks {PIECES}, which the host splits text with")
    config, state = read_json(folder / "config.json"), read_weights(folder)
    vocabulary = torch.frombuffer(bytearray(pieces.read_bytes()), dtype=torch.uint8)

    class Network(SDClipModel):
        def __init__(
            self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None, **kw: Any
        ) -> None:
            super().__init__(
                device=device,
                dtype=dtype,
                textmodel_json_config=t5_sizes({"model_type": "umt5", **config}),
                special_tokens=T5_MARKS,
                model_class=comfy.text_encoders.t5.T5,
                enable_attention_masks=True,
                zero_out_masked=True,
                model_options=model_options or {},
            )

    class Networks(SD1ClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
            kept, options = kept_dtype(state, dtype, device), model_options or {}
            super().__init__(device=device, dtype=kept, model_options=options, name=UMT5, clip_model=Network)

    class Tokenizers(SD1Tokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None) -> None:
            super().__init__(
                embedding_directory=embedding_directory,
                tokenizer_data={"spiece_model": vocabulary},
                clip_name=UMT5,
                tokenizer=comfy.text_encoders.wan.UMT5XXlTokenizer,
            )

    clip = PyramidCLIP(
        comfy.supported_models_base.ClipTarget(Tokenizers, Networks),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=sum(tensor.numel() for tensor in state.values()),
        **how,
    )
    if missing := clip.load_sd(state)[0]:
        raise CheckpointError(f"{folder} lacks {len(missing)} tensors of its model: {', '.join(sorted(missing)[:3])}")
    return clip
