"""The vector of a whole text, fitted so that subject, background, motion and size weigh the same in it.

A text encoder that learns together with pictures says mostly what fills them: nine tenths of its features tell
backgrounds apart, a hundredth sizes. A transformer that begins with such texts learns subjects and sizes as slowly.
What a text says can still be read from its summary by a linear map, and that is what the vector becomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from ...models import text_encoder
from ...training.data.captions import BACKGROUNDS, MOTIONS, SIZES, Combination, caption
from .recipe import SUBJECTS
from .sentences import sentence

PARTS = {"subject": SUBJECTS, "background": tuple(BACKGROUNDS), "motion": tuple(MOTIONS), "size": tuple(SIZES)}
EMPTY = 200  # how many texts the empty one counts for, whose vector is to be 0
RIDGE = 1e-4  # keeps the map small where the summary hardly varies
BATCH = 256


@torch.no_grad()
def fit_pool(encoder: text_encoder.TextEncoder, tokenizer: text_encoder.Tokenizer, seed: int = 0) -> None:
    """Set the pooling of an `encoder` that makes a summary, by ridge regression on two texts of every combination.

    ValueError where its vector is too narrow to hold all there is to say.
    """
    known, width = sum(map(len, PARTS.values())), encoder.config.pooled_width
    if width < known:
        raise ValueError(
            f"the vector of a text has {width} features, and subjects, backgrounds, motions and sizes are {known} "
            f"together: give the text encoder a width of {known} or more"
        )
    generator = torch.Generator().manual_seed(seed)
    combinations = [Combination(*parts) for parts in product(*PARTS.values())]
    texts = [say(combination, generator) for say in (caption, sentence) for combination in combinations]
    summaries = summaries_of(encoder, tokenizer, [*texts, ""]).double()
    summaries = torch.cat((summaries[:-1], summaries[-1:].expand(EMPTY, -1)))
    said = indicators(combinations).double()
    wanted = torch.cat((said, said, said.new_zeros(EMPTY, said.shape[1])))
    middle, centre = summaries.mean(0), wanted.mean(0)
    moved = summaries - middle
    covariance = moved.T @ moved / len(moved) + RIDGE * torch.eye(len(middle), dtype=moved.dtype)
    slope = torch.linalg.solve(covariance, moved.T @ (wanted - centre) / len(moved))
    directions = spread(width, known, generator)
    encoder.pool.weight.copy_(directions @ slope.T)
    encoder.pool.bias.copy_(directions @ (centre - middle @ slope))


def summaries_of(encoder: text_encoder.TextEncoder, tokenizer: text_encoder.Tokenizer, texts: Sequence[str]) -> Tensor:
    """The summary of each text in one row."""
    parts = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    return torch.cat([text_encoder.encode_texts(encoder, tokenizer, part).tokens.flatten(1) for part in parts])


def indicators(combinations: Sequence[Combination]) -> Tensor:
    """Which subject, background, motion and size each is, (n, all there are): mean 0, variance 1 over all of them."""
    columns = []
    for name, known in PARTS.items():
        share = 1 / len(known)
        found = torch.tensor([[getattr(combination, name) == value for value in known] for combination in combinations])
        columns.append((found.float() - share) / (share * (1 - share)) ** 0.5)
    return torch.cat(columns, dim=1)


def spread(width: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` directions at right angles to each other, (width, count), so long that every feature has variance 1."""
    directions, _ = torch.linalg.qr(torch.randn(width, count, generator=generator).double())
    return directions * (width / count) ** 0.5
