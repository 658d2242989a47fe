"""The official text encoders, read from their folders by transformers: CLIP for one vector per text, T5 for its tokens.

miniFLUX takes CLIP-L's unprojected vector; SD3 takes the projected vectors of CLIP-L and CLIP-G, joined; Helios takes
the tokens of UMT5 alone. Nothing is downloaded, no pickle is opened and no code of a checkpoint is run.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint_files import CheckpointError, read_json
from .official_text_files import check_encoder, check_tokenizer

T5_TOKENS = 128  # of Pyramid Flow: always padded to, longer text is cut
UMT5_TOKENS = 512  # likewise of Helios
CLIP_TOKENS = 77
LONGEST_TEXT = 50_000  # characters; both encoders have stopped reading long before
VOCABULARIES = ("tokenizer.json", "spiece.model", "vocab.json")  # without any of them transformers makes one up


@dataclass(frozen=True)
class EncoderSet:
    """What the encoders of one official model are, and how texts are read with them."""

    model: str  # what people call it
    parts: tuple[tuple[str, str, str], ...]  # tokenizer, encoder and class of each; T5 is the last
    tokens: int = T5_TOKENS
    pooled: str = ""  # attribute of CLIP's output
    joins_lines: bool = False  # HTML entities are resolved, and all white space becomes single spaces


ENCODER_SETS = {
    "official_text_miniflux": EncoderSet(
        "Pyramid Flow miniFLUX",
        (("tokenizer", "text_encoder", "CLIPTextModel"), ("tokenizer_2", "text_encoder_2", "T5EncoderModel")),
        pooled="pooler_output",
    ),
    "official_text_sd3": EncoderSet(
        "Pyramid Flow SD3",
        (
            ("tokenizer", "text_encoder", "CLIPTextModelWithProjection"),
            ("tokenizer_2", "text_encoder_2", "CLIPTextModelWithProjection"),
            ("tokenizer_3", "text_encoder_3", "T5EncoderModel"),
        ),
        pooled="text_embeds",
    ),
    "official_text_helios": EncoderSet(
        "Helios", (("tokenizer", "text_encoder", "UMT5EncoderModel"),), UMT5_TOKENS, joins_lines=True
    ),
}


@dataclass(frozen=True)
class Encoder:
    """A tokenizer and the network that reads its tokens."""

    tokenizer: Any
    network: Any

    def ids(self, text: str, length: int) -> tuple[Tensor, Tensor]:
        """Token ids and mask `(1, length)`, padded and cut to `length`."""
        tokens = self.tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        device = self.network.device
        return tokens.input_ids.to(device), tokens.attention_mask.to(device)


@dataclass(frozen=True)
class OfficialText:
    """The encoders of one official model."""

    kind: str
    clips: tuple[Encoder, ...]
    t5: Encoder

    @torch.no_grad()
    def encode(self, text: str) -> tuple[Tensor, Tensor | None]:
        """Return T5 features of the real tokens `(1, n, d)` and the pooled vector `(1, p)`, None without any CLIP.

        T5 runs on all 128 positions (UMT5 on 512) with their mask, as officially, so that even rounding is the same;
        what it makes of padding is left out. CLIP gets no mask.
        """
        text = text[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")
        rules = ENCODER_SETS[self.kind]
        if rules.joins_lines:
            text = " ".join(html.unescape(html.unescape(text)).split())
        ids, mask = self.t5.ids(text, rules.tokens)
        tokens = self.t5.network(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()][None]
        if not self.clips:
            return tokens, None
        length = self.clip_tokens
        pooled = [self.pool(clip.network(input_ids=clip.ids(text, length)[0])) for clip in self.clips]
        return tokens, torch.cat(pooled, dim=-1)

    @property
    def clip_tokens(self) -> int:
        """The first CLIP's length holds for both."""
        first = self.clips[0]
        return min(CLIP_TOKENS, first.tokenizer.model_max_length, first.network.config.max_position_embeddings)

    @property
    def networks(self) -> list[Any]:
        """All networks, T5 last."""
        return [encoder.network for encoder in (*self.clips, self.t5)]

    def pool(self, output: Any) -> Tensor:
        """The vector of a text in the output of a CLIP."""
        vector: Tensor = getattr(output, ENCODER_SETS[self.kind].pooled)
        return vector


def check_folders(folder: Path) -> str:
    """Return the kind of an official top folder; CheckpointError names the folder that is missing or wrong."""
    first, second = (model_type(folder / name / "config.json") for name in ("text_encoder", "text_encoder_2"))
    third = any((folder / name).is_dir() for name in ("text_encoder_3", "tokenizer_3"))
    kind = "official_text_sd3" if second.startswith("clip") or third else "official_text_miniflux"
    if first == "umt5":
        kind = "official_text_helios"
    needed = [name for tokenizer, encoder, _ in ENCODER_SETS[kind].parts for name in (tokenizer, encoder)]
    if missing := [name for name in needed if not (folder / name).is_dir()]:
        raise CheckpointError(
            f"{folder} lacks {', '.join(missing)}; the text of {ENCODER_SETS[kind].model} needs {', '.join(needed)}"
        )
    for _, encoder, class_name in ENCODER_SETS[kind].parts:
        config = folder / encoder / "config.json"
        given, wanted = model_type(config), class_name[:2].lower()
        if not given.startswith(wanted):
            raise CheckpointError(f"{config} is of a {given[:60] or 'unnamed'} model; a {class_name} belongs here")
    for tokenizer, encoder, _ in ENCODER_SETS[kind].parts:
        check_tokenizer(folder / tokenizer)
        check_encoder(folder / encoder)
    return kind


def model_type(config: Path) -> str:
    """What a config.json calls its network, "" where there is none."""
    return str(read_json(config).get("model_type", "")) if config.is_file() else ""


def load_official_text(
    folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16
) -> OfficialText:
    """Load the encoders of an official top folder in `dtype` (officially bfloat16) on `device`.

    Raises CheckpointError for folders that are missing, incomplete or hold only pickles; ImportError when there is no
    transformers package.
    """
    folder = Path(folder)
    kind = check_folders(folder)
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "the official text encoders need the package transformers: pip install transformers sentencepiece"
        ) from error
    encoders = []
    for tokenizer, encoder, class_name in ENCODER_SETS[kind].parts:
        reads = "CLIPTokenizer" if class_name.startswith("CLIP") else "T5TokenizerFast"
        tokenizer_class: Any = getattr(transformers, reads)
        if not any((folder / tokenizer / name).is_file() for name in VOCABULARIES):
            raise CheckpointError(f"{folder / tokenizer} holds no vocabulary ({', '.join(VOCABULARIES)})")
        with readable(folder / tokenizer):
            reader = tokenizer_class.from_pretrained(folder / tokenizer, local_files_only=True)
            reader(
                "a", padding="max_length", max_length=int(min(CLIP_TOKENS, reader.model_max_length)), truncation=True
            )
        network = load_network(folder / encoder, getattr(transformers, class_name), dtype)
        if len(reader) > (rows := network.get_input_embeddings().num_embeddings):
            raise CheckpointError(
                f"{folder / tokenizer} knows {len(reader)} words, and {folder / encoder} has numbers for {rows}: they "
                "belong to two models"
            )
        encoders.append(Encoder(reader, network.to(device).eval().requires_grad_(False)))
    return OfficialText(kind, tuple(encoders[:-1]), encoders[-1])


def load_network(folder: Path, network_class: Any, dtype: torch.dtype) -> Any:
    """Read one encoder from safetensors; CheckpointError when a tensor is missing."""
    if not any(folder.glob("*.safetensors*")):
        raise CheckpointError(f"{folder} holds no safetensors weights; pickles (.bin) are not opened for text encoders")
    with readable(folder):
        network, report = network_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **{dtype_argument(): dtype}
        )
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"{folder} lacks {len(missing)} tensors of a {network_class.__name__}: {', '.join(missing[:3])}"
        )
    return network


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn whatever libraries say about a damaged folder into one sentence."""
    try:
        yield
    except (CheckpointError, ImportError, MemoryError, torch.cuda.OutOfMemoryError):
        raise  # an ImportError names the package that is missing
    except Exception as error:  # loaders raise whatever the bytes of the files lead them to
        raise CheckpointError(
            f"{folder} cannot be loaded: a file in it is missing, damaged or of another model. Download or copy the "
            "folder again"
        ) from error


def dtype_argument() -> str:
    """What `from_pretrained` calls the type: renamed in transformers 4.56."""
    import transformers

    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"
