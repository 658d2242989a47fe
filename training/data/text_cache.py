"""Features of texts on disk: each text is encoded once, so that a large text encoder need not stay in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...models.near_names import near_or_known
from ...models.text_features import TextFeatures
from ..run.processes import ranks, together
from .cache_files import SUFFIX, check_key, digest, read_tensors, warn_damaged, write_tensors

EncodeText = Callable[[str], tuple[Tensor, Tensor]]  # text -> tokens (n, d) without padding, pooled (p,)
OnText = Callable[[int, int], None]  # (done, total), after each text that is encoded; may raise to stop
Features = tuple[Tensor, Tensor]
LAYOUT = 1  # raised when the files are laid out in another way
TEXTS_PER_FILE = 64
KINDS = ("tokens", "pooled")
NO_TEXT = ""  # what a dropped caption becomes


@dataclass(frozen=True, eq=False)
class TextSet:
    """Features of texts by the exact text; the empty one is always among them."""

    features: Mapping[str, Features]

    def batch(self, captions: Sequence[str]) -> TextFeatures:
        """The features of some captions, a row each, padded to the longest."""
        if not captions:
            raise ValueError("no captions were given; a batch has at least 1")
        found = [self._find(caption) for caption in captions]
        return TextFeatures.padded([tokens for tokens, _ in found], [pooled for _, pooled in found])

    def _find(self, caption: str) -> Features:
        if caption not in self.features:
            raise ValueError(
                f"no features were prepared for the text {caption!r}{near_or_known(caption, self.features)}. "
                "Texts must be the same letter by letter: prepare this one too"
            )
        return self.features[caption]


@torch.no_grad()
def prepare_texts(
    texts: Iterable[str],
    encode_text: EncodeText,
    folder: Path,
    encoder_key: str,
    on_text: OnText | None = None,
) -> TextSet:
    """Open the features of `texts` and of the empty text, after encoding those that `folder` does not hold yet.

    `encoder_key` is a key that changes with what `encode_text` makes, see `fingerprint`. What `on_text` raises ends
    the work; all that was encoded before is kept. Raises ValueError for features of a wrong shape, OSError when the
    disk is full. Several processes share the work; what is raised in one of them ends it in all.
    """
    check_key(encoder_key)
    if isinstance(texts, str):
        raise ValueError(f"texts is the one text {texts!r}; expected a list of texts, such as [{texts!r}]")
    wanted = list(dict.fromkeys((NO_TEXT, *texts)))
    place = Path(folder) / digest(["texts", LAYOUT, encoder_key])
    process, processes = ranks()
    known = together(lambda: read_all(place))  # so that nobody writes before all have read
    missing = [text for text in wanted if text not in known]
    for start in range(0, len(missing), TEXTS_PER_FILE * processes):

        def own_part(start: int = start) -> None:
            made: dict[str, Features] = {}
            turn = missing[start : start + TEXTS_PER_FILE * processes]
            try:
                for text in turn[process::processes]:
                    made[text] = check_features(encode_text(text), known or made, text)
                    if on_text is not None:
                        on_text(start + min(len(turn), len(made) * processes), len(missing))
            finally:
                write_features(place, made)

        together(own_part)
    if missing:
        known = read_all(place, verify=False)  # from here on they lie on disk, not in memory
    if lost := [text for text in wanted if text not in known]:
        raise OSError(f"features of {len(lost)} texts are not in {place}; it must be one folder for all processes")
    return TextSet({text: known[text] for text in wanted})


def check_features(features: Features, known: Mapping[str, Features], text: str) -> Features:
    """Refuse features that cannot be put in a batch with those there are."""
    tokens, pooled = features
    other_tokens, other_pooled = next(iter(known.values()), features)
    fits = tokens.ndim == 2 and len(tokens) and pooled.ndim == 1
    if not fits or tokens.shape[1] != other_tokens.shape[1] or pooled.shape != other_pooled.shape:
        wanted = f"({other_tokens.shape[1]} and {len(other_pooled)})" if known else "(n from 1 up)"
        raise ValueError(
            f"the encoder made tokens {tuple(tokens.shape)} and pooled {tuple(pooled.shape)} of {text[:60]!r}; "
            f"expected tokens (n, width) and pooled (width,), of the same widths for every text {wanted}"
        )
    if not (torch.isfinite(tokens).all() and torch.isfinite(pooled).all()):
        raise ValueError(f"the encoder made numbers that are not finite of {text[:60]!r}; use bfloat16 or float32")
    return tokens, pooled


def write_features(place: Path, made: Mapping[str, Features]) -> None:
    """Add one file to an encoder's folder. Files there are never changed, so whoever has them open may go on."""
    if made:
        tensors = {
            f"{kind}.{i}": t for i, pair in enumerate(made.values()) for kind, t in zip(KINDS, pair, strict=True)
        }
        write_tensors(place / f"{digest(list(made))}{SUFFIX}", tensors, list(made))


def read_all(place: Path, verify: bool = True) -> dict[str, Features]:
    """All features of an encoder's folder by text; a damaged file is logged and removed."""
    known: dict[str, Features] = {}
    for path in sorted(place.glob(f"[!.]*{SUFFIX}")):
        found = read_tensors(path, verify)
        try:
            if found is not None:
                tensors, texts = found
                known |= {text: tuple(tensors[f"{kind}.{i}"] for kind in KINDS) for i, text in enumerate(texts)}
                continue
        except (KeyError, TypeError) as error:
            warn_damaged(path, error)
        path.unlink(missing_ok=True)
    return known
