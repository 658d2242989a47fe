"""A text encoder that learns new words for what the transformers know already: by distillation, without a clip.

The transformers know a combination by the features of one text encoder. Another one learns to give those
features for any wording, so that all families understand it and no transformer is trained again. Its loss is

    L = |f(sentence) - E_caption f_old(caption)|^2 / Var_combination E_caption f_old(caption)

with f the summary of a text. An empty text, and what a negative prompt lists, give that of an empty text. The vector of
the whole text is a linear map of the summary, fitted in the end by `equal_parts.fit_pool`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from ...models import checkpoints, text_encoder
from ...models.files import write_beside
from ...training.batch import Losses
from ...training.data.captions import BACKGROUNDS, MOTIONS, SIZES, Combination, caption
from ...training.run.loop import OnStep, TrainingRun
from ...training.run.train_settings import TrainSettings
from .equal_parts import fit_pool, summaries_of
from .recipe import SUBJECTS, TEXT, TEXT_FILE, TextRecipe
from .sentences import flaws, sentence, unfinished
from .texts import averaged_encoder, kept_tokenizer, save_text_encoder

LEARNED_FROM = "learned_from.safetensors"  # in the folder of a run
CAPTIONS = 16  # of each combination, over which the old features are averaged; they hardly differ
TEXTS = 30000  # that the tokenizer has read
SHARES = {"sentence": 0.72, "caption": 0.15, "unfinished": 0.08, "flaws": 0.04, "empty": 0.01}


@dataclass(frozen=True, eq=False)
class KnownFeatures:
    """What the transformers know: a row of features for each combination, and that of an empty text."""

    rows: dict[Combination, Tensor]
    empty: Tensor
    variance: Tensor  # between the combinations

    @classmethod
    @torch.no_grad()
    def of(
        cls, encoder: text_encoder.TextEncoder, tokenizer: text_encoder.Tokenizer, generator: torch.Generator
    ) -> KnownFeatures:
        """Of a text encoder that has read the captions of `captions.caption`."""
        rows = {}
        for combination in (Combination(*parts) for parts in product(SUBJECTS, BACKGROUNDS, MOTIONS, SIZES)):
            texts = [caption(combination, generator) for _ in range(CAPTIONS)]
            rows[combination] = summaries_of(encoder, tokenizer, texts).mean(0)
        empty = summaries_of(encoder, tokenizer, [""])[0]
        return cls(rows, empty, torch.stack(list(rows.values())).var(0).mean())

    def draw(self, count: int, generator: torch.Generator) -> tuple[list[str], Tensor]:
        """Texts in new words, and the features that they are to have, (count, features)."""
        texts, wanted = zip(*(self._draw_one(generator) for _ in range(count)), strict=True)
        return list(texts), torch.stack(wanted)

    def _draw_one(self, generator: torch.Generator) -> tuple[str, Tensor]:
        known = list(self.rows)
        combination = known[int(torch.randint(len(known), (), generator=generator))]
        kind = list(SHARES)[int(torch.multinomial(torch.tensor(list(SHARES.values())), 1, generator=generator))]
        if kind == "sentence":
            return sentence(combination, generator), self.rows[combination]
        if kind == "caption":
            return caption(combination, generator), self.rows[combination]
        if kind == "unfinished":
            text, combination = unfinished(combination, generator)
            return text, self.rows[combination]
        return flaws(generator) if kind == "flaws" else "", self.empty


@dataclass(frozen=True)
class TrainedText:
    """A run of a text encoder alone."""

    run: TrainingRun
    tokenizer: text_encoder.Tokenizer

    def export(self, folder: Path) -> tuple[Path]:
        """Write the averaged text encoder into a models folder, in float16."""
        encoder = averaged_encoder(self.run)
        fit_pool(encoder, self.tokenizer)
        return (save_text_encoder(encoder, self.tokenizer, folder),)


def train_text(
    models: Path,
    folder: Path,
    settings: TrainSettings,
    batch_size: int = 128,
    begin_from: Path | None = None,
    on_step: OnStep | None = None,
    recipe: TextRecipe = TEXT,
) -> TrainedText:
    """Train a text encoder on the features of that in the folder `begin_from`, or in `models` itself.

    The run keeps a copy of it, because its result takes the place of that file.
    """
    learned_from = folder / LEARNED_FROM
    if not learned_from.exists():
        with write_beside(learned_from) as part:
            shutil.copyfile((begin_from or models) / TEXT_FILE, part)
    info = checkpoints.inspect(learned_from, ["text_encoder"])
    old = checkpoints.build(info, dtype=torch.float32)
    generator = torch.Generator().manual_seed(settings.seed + 1)
    known = KnownFeatures.of(old.eval(), checkpoints.load_tokenizer(info), generator)
    sizes = {**old.config.to_dict(), **recipe.new_words}
    tokenizer = kept_tokenizer(
        folder,
        lambda: text_encoder.Tokenizer.train(
            known.draw(TEXTS, generator)[0], sizes["vocab_size"], max_tokens=sizes["max_tokens"]
        ),
    )
    sizes["vocab_size"] = tokenizer.vocab_size
    encoder = text_encoder.TextEncoder(text_encoder.TextEncoderConfig(**sizes))
    text_encoder.init_weights(encoder, torch.Generator().manual_seed(settings.seed + 3))
    run = TrainingRun({"text_encoder": encoder}, settings, folder)
    run.resume()

    def training_step(step: int, generator: torch.Generator) -> Losses:
        texts, wanted = known.draw(batch_size, generator)
        found = summaries_of(run.modules["text_encoder"], tokenizer, texts)
        return {"loss": mse_loss(found, wanted.to(found.device)) / known.variance.to(found.device)}

    run.train(training_step, on_step=on_step)
    return TrainedText(run, tokenizer)
