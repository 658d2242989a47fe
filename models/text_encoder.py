"""The small text encoder of our own model, and the tokenizer that goes with it.

A pre-norm transformer (Vaswani et al. 2017; pre-norm: Xiong et al. 2020) without causal mask. The official checkpoints
use CLIP and T5 instead, see `official_text`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .knowledge import Vocabulary
from .network_config import check_sizes
from .text_features import TextFeatures, lengths_to_mask

PAD, END = 0, 1  # our own ids; the byte-pair vocabulary follows, so no text can ever spell them
RESERVED = 2
BYTES = 256


@dataclass(frozen=True)
class TextEncoderConfig:
    """The sizes of a `TextEncoder`."""

    vocab_size: int  # with padding and end token
    width: int
    layers: int
    heads: int
    max_tokens: int  # longest text, end token included
    pooled_width: int = 0  # 0 means the same as `width`
    summary: int = 0  # features that sum up a text of any length; 0 means one for every token

    def __post_init__(self) -> None:
        check_sizes(self)
        if not self.pooled_width:
            object.__setattr__(self, "pooled_width", self.width)
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} does not divide into {self.heads} heads")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TextEncoderConfig:
        """Read the sizes from a checkpoint; ValueError names what is unknown or missing."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown text encoder settings {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        if missing := sorted(known - set(values) - {"pooled_width", "summary"}):
            raise ValueError(f"text encoder settings lack {', '.join(missing)}")
        return cls(**values)

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


class TextEncoder(nn.Module):
    """Turn token ids into feature vectors, one per token or a fixed number, and one pooled vector per text.

    With `summary` the text is read by as many learned tokens, and they alone go on: what works with the features has
    less to look at, and always as much.
    """

    def __init__(self, config: TextEncoderConfig, ops: Any = nn, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.config = config
        factory_kwargs = {"device": device, "dtype": dtype}
        self.tokens = ops.Embedding(config.vocab_size, config.width, **factory_kwargs)
        self.positions = ops.Embedding(config.max_tokens, config.width, **factory_kwargs)
        self.summary = ops.Embedding(config.summary, config.width, **factory_kwargs) if config.summary else None
        self.layers = nn.ModuleList(
            Layer(config.width, config.heads, ops, **factory_kwargs) for _ in range(config.layers)
        )
        self.norm = ops.LayerNorm(config.width, **factory_kwargs)
        self.pool = ops.Linear(config.width * max(1, config.summary), config.pooled_width, **factory_kwargs)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return features `(b, n, width)`, or `(b, summary, width)`, and pooled vectors `(b, pooled_width)`.

        ids: `(b, n)` integers. mask: `(b, n)`, 1 for real tokens, or None when all are real. Padding changes nothing at
        real positions; features at padded positions mean nothing, and there are none with `summary`. The pooled vector
        is a Linear of the mean over real tokens, or of all the summary.
        """
        if ids.shape[1] > self.config.max_tokens:
            raise ValueError(f"{ids.shape[1]} tokens are too many for a text encoder of {self.config.max_tokens}")
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))  # (b, n, width)
        keep = None if mask is None else mask.bool()
        count = self.config.summary
        if self.summary is not None:
            readers = self.summary(torch.arange(count, device=ids.device))
            x = torch.cat((readers.expand(len(x), -1, -1), x), dim=1)
            keep = None if keep is None else torch.cat((keep.new_ones(len(x), count), keep), dim=1)
        visible = None if keep is None else keep[:, None, None, :]  # keys that every query may look at
        for layer in self.layers:
            x = layer(x, visible)
        x = self.norm(x)
        if count:
            summary = x[:, :count]
            return summary, self.pool(summary.flatten(1))
        if keep is None:
            return x, self.pool(x.mean(1))
        weight = keep[..., None].to(x)
        return x, self.pool((x * weight).sum(1) / weight.sum(1).clamp_min(1))


class Layer(nn.Module):
    """Self-attention and MLP, each behind a norm and added to its input."""

    def __init__(self, width: int, heads: int, ops: Any, device: Any, dtype: Any) -> None:
        super().__init__()
        factory_kwargs = {"device": device, "dtype": dtype}
        self.heads = heads
        self.norm_attention = ops.LayerNorm(width, **factory_kwargs)
        self.qkv = ops.Linear(width, 3 * width, **factory_kwargs)
        self.out = ops.Linear(width, width, **factory_kwargs)
        self.norm_mlp = ops.LayerNorm(width, **factory_kwargs)
        self.up = ops.Linear(width, 4 * width, **factory_kwargs)
        self.down = ops.Linear(4 * width, width, **factory_kwargs)

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        q, k, v = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)  # (b, heads, n, head)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x))))


@torch.no_grad()
def init_weights(network: TextEncoder, generator: torch.Generator | None = None) -> None:
    """Fill `network` for training from nothing; the branches start small so that depth does not add up."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Embedding):
            module.weight.normal_(0, 0.2, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            module.weight.fill_(1)
            module.bias.zero_()
        elif isinstance(module, nn.Linear):
            closing = name.endswith((".out", ".down"))
            depth = 2 * network.config.layers if closing else 1
            module.weight.normal_(0, (module.in_features * depth) ** -0.5, generator=generator)
            module.bias.zero_()


class Tokenizer:
    """Byte-level byte-pair tokens: any text can be written, letter case and spacing make no difference."""

    def __init__(self, bpe: Any) -> None:
        """bpe: a `tokenizers.Tokenizer` with its truncation set."""
        self._bpe = bpe
        self.vocabulary: Vocabulary | None = None  # what it knows, of bundled files
        self.max_tokens: int = bpe.truncation["max_length"] + 1  # and the end token
        self.vocab_size: int = bpe.get_vocab_size() + RESERVED
        longest = max(map(len, bpe.get_vocab()))
        # Enough characters to fill every token, even where NFKC joins several characters into one.
        self._useful_characters = 8 * self.max_tokens * longest

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, max_tokens: int = 64) -> Tokenizer:
        """Learn the commonest byte pairs of `texts`; fewer than `vocab_size` where the texts have no more."""
        from tokenizers import Tokenizer as Library
        from tokenizers import decoders, models, pre_tokenizers, trainers

        if vocab_size < BYTES + RESERVED:
            raise ValueError(f"a vocabulary of {vocab_size} is too small; bytes and two marks need {BYTES + RESERVED}")
        if max_tokens < 2:
            raise ValueError(f"max_tokens is {max_tokens}; a token and the end token need 2")
        bpe = Library(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        bpe.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - RESERVED, initial_alphabet=alphabet, special_tokens=[], show_progress=False
        )
        bpe.train_from_iterator(map(normalize_text, texts), trainer)
        bpe.enable_truncation(max_tokens - 1)
        return cls(bpe)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Read what `to_json` wrote."""
        from tokenizers import Tokenizer as Library

        return cls(Library.from_str(text))

    def to_json(self) -> str:
        return self._bpe.to_str()

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, the end token last; longer text is cut to `max_tokens`."""
        useful = " ".join(text.split())[: self._useful_characters]
        return [i + RESERVED for i in self._bpe.encode(normalize_text(useful)).ids] + [END]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` in lower case."""
        return self._bpe.decode([i - RESERVED for i in ids if i >= RESERVED]).strip()

    def split(self, text: str) -> tuple[str, str]:
        """What of a text is read, and what is cut, in lower case."""
        whole, read = normalize_text(text), self.decode(self.encode(text)).rstrip("\ufffd")  # half a character
        return read, whole[len(read) :].strip() if whole.startswith(read) else ""

    def batch(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask `(b, n)` (integers, 1 = real) of several texts, padded to the longest."""
        rows = [torch.tensor(self.encode(text)) for text in texts]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
        lengths = torch.tensor([len(row) for row in rows])
        return ids, lengths_to_mask(lengths, ids.shape[1])


def normalize_text(text: str) -> str:
    """One spelling for texts that read the same: NFKC, lower case, single spaces, no half surrogates."""
    readable = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(unicodedata.normalize("NFKC", readable).lower().split())


def encode_texts(network: TextEncoder, tokenizer: Tokenizer, texts: Sequence[str]) -> TextFeatures:
    """The features of several texts, a row each."""
    ids, mask = tokenizer.batch(texts)
    device = network.pool.weight.device
    features, pooled = network(ids.to(device), mask.to(device))
    return TextFeatures(features, None if network.config.summary else mask, pooled)
